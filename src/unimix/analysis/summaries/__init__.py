"""Variance components, R2, effect sizes and reports."""
