"""Intervals of parameters: Wald, profile likelihood, bootstrap, posterior quantiles."""
