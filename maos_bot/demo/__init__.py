"""A made-up team's history: believable runs, for `maos demo-data`, for tests and for pictures. All of it is labelled."""
