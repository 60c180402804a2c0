"""Likelihoods of mixed models and their derivatives, as functions of arrays."""
