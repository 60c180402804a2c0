"""Adapter for statsmodels."""
