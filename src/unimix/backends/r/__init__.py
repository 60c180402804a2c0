"""Engines that run in R."""
