"""Intervals by profile likelihood and bootstrap."""
