"""Certificates: checks of whether an engine's numbers are those of the model it was given."""
