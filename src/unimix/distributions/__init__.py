"""Families, links, log densities, sampling and priors."""
