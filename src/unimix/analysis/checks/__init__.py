"""Checks of the assumptions of a model."""
