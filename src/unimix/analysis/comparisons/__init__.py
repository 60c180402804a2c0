"""Comparisons of predictions and slopes."""
