"""Families of the response, for ``family=``: ``unimix.families.Gamma(link="log")``."""

from __future__ import annotations

from unimix.distributions.family import (
    Beta,
    Binomial,
    Family,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
)

__all__ = [
    "Beta",
    "Binomial",
    "Family",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
]
