"""Posteriors by backend="bayes", which needs no package beside it: each is sampled once in a process."""

from __future__ import annotations

import functools

import unimix as um

SLOPES = "Reaction ~ Days + (1 + Days | Subject)"
HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@functools.cache
def sleepstudy() -> um.FitResult:
    """Reaction times, 180 rows of 18 subjects, with correlated intercepts and slopes; 4,000 draws."""
    return um.fit(SLOPES, um.load_dataset("sleepstudy"), "bayes", seed=1)


@functools.cache
def herds() -> um.FitResult:
    """Shares of infected cattle, 56 rows of 15 herds; 4,000 draws."""
    return um.fit(HERDS, um.load_dataset("cbpp"), "bayes", family="binomial", seed=1)
