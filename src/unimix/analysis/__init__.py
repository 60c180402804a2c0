"""Analyses of a fitted model: tests, marginal means, intervals, predictions, checks, summaries."""
