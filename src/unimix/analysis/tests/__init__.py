"""Tests of terms and hypotheses."""
