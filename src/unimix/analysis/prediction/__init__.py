"""Predictions, simulation and posterior draws."""
