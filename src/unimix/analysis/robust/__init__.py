"""Cluster-robust standard errors."""
