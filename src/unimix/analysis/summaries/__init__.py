"""Summaries of a fit: fitted rows, variance components, R2, effect sizes, pooling and reports."""
