"""Several fits: comparisons of engines, model tests, validation, tables."""
