"""Functions that take or make several fits: comparisons of engines, model tests, validation, tables."""
