"""Posterior distributions with the group effects integrated out."""
