"""Estimated marginal means and linear functions."""
