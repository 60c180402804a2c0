"""Fit many models in several processes or on a cluster."""
