"""Posteriors that many tests look at: each is sampled once in a process.

Short chains, which leave a Monte Carlo error of about a twentieth of a standard deviation: for what is made of draws,
not for whether they are the right ones.
"""

from __future__ import annotations

import functools

import unimix as um

SLOPES = "Reaction ~ Days + (1 + Days | Subject)"
INTERCEPTS = "Reaction ~ Days + (1 | Subject)"
HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SHORT = um.backends.PyMC(sampler="pymc", draws=400, tune=300, chains=2, cores=1, retry=False)


@functools.cache
def sleepstudy(formula: str = SLOPES) -> um.FitResult:
    """Reaction times, 180 rows of 18 subjects; 800 draws.

    Args:
        formula: :data:`SLOPES` or :data:`INTERCEPTS`.
    """
    return um.fit(formula, um.load_dataset("sleepstudy"), SHORT, seed=1)


@functools.cache
def cbpp() -> um.FitResult:
    """Shares of infected cattle, 56 rows of 15 herds; 800 draws."""
    return um.fit(HERDS, um.load_dataset("cbpp"), SHORT, family="binomial", seed=1)
