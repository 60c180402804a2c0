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
    Cumulative,
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

cumulative = Cumulative
"""The family of ordered categories, under the name that ``family="cumulative"`` has."""

__all__ = [
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Cumulative",
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
    "cumulative",
]
