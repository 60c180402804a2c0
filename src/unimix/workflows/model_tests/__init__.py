"""Tests and criteria that compare one model with another."""
