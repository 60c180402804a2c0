"""Tests of terms, and of hypotheses about coefficients."""
