"""The result of a fit."""
