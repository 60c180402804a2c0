"""Certificates: whether the numbers of a fit are those of its model."""
