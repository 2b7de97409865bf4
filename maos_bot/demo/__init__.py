"""A made-up team's history, labelled as such: for `maos demo-data`, for tests and for pictures."""
