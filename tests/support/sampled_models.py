"""Posteriors that many tests look at: each is sampled once in a process.

They are posteriors by ``bayes``, which samples them in tenths of a second, with a Monte Carlo error of about a
twentieth of a standard deviation: for what is made of draws, whichever engine they are from.
"""

from __future__ import annotations

import functools

import unimix as um

SLOPES = "Reaction ~ Days + (1 + Days | Subject)"
INTERCEPTS = "Reaction ~ Days + (1 | Subject)"
HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SHORT = um.backends.Bayes(draws=1000, chains=2)


@functools.cache
def sleepstudy(formula: str = SLOPES) -> um.FitResult:
    """Reaction times, 180 rows of 18 subjects; 2,000 draws.

    Args:
        formula: :data:`SLOPES` or :data:`INTERCEPTS`.
    """
    return um.fit(formula, um.load_dataset("sleepstudy"), SHORT, seed=1)


@functools.cache
def cbpp() -> um.FitResult:
    """Shares of infected cattle, 56 rows of 15 herds; 2,000 draws."""
    return um.fit(HERDS, um.load_dataset("cbpp"), SHORT, family="binomial", seed=1)
