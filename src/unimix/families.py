"""Families of distributions of the response, for the argument ``family=``.

Example:
    >>> import unimix as um
    >>> sleep = um.load_dataset("sleepstudy")
    >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep, family=um.families.Gamma(link="log"))
    >>> fit.model.link
    'log'
"""

from __future__ import annotations

from unimix.distributions.family import (
    Beta,
    BetaBinomial,
    Binomial,
    Exponential,
    Family,
    Gamma,
    Gaussian,
    GeneralisedPoisson,
    InverseGaussian,
    LogNormal,
    NegativeBinomial,
    Poisson,
    SkewNormal,
    StudentT,
    TruncatedNegativeBinomial,
    TruncatedPoisson,
    Tweedie,
)

__all__ = [
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Exponential",
    "Family",
    "Gamma",
    "Gaussian",
    "GeneralisedPoisson",
    "InverseGaussian",
    "LogNormal",
    "NegativeBinomial",
    "Poisson",
    "SkewNormal",
    "StudentT",
    "TruncatedNegativeBinomial",
    "TruncatedPoisson",
    "Tweedie",
]
