"""The statsmodels engine."""
