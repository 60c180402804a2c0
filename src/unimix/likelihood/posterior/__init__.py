"""Posteriors with effects integrated out."""
