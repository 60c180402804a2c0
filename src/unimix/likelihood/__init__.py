"""Likelihoods of mixed models and their derivatives: free functions on arrays."""
