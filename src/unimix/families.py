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
