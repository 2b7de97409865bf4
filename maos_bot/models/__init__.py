"""Model providers behind one small protocol: turns, errors, prices, budget, routing."""
