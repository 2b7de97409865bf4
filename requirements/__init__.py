"""What maintainers run: locks, prices, the package and a release."""
