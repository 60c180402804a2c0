"""Rows that do not fit into memory: sources read in batches, and their reduction to what a linear model needs."""
