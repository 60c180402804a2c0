"""Prior distributions of parameters, for the argument ``priors=`` of samplers.

Example:
    >>> import unimix as um
    >>> priors = {"Days": um.priors.Normal(0, 10), "sd(Subject)": um.priors.HalfNormal(50)}
    >>> sleep = um.load_dataset("sleepstudy")
    >>> um.recommend("Reaction ~ Days + (1 | Subject)", sleep, priors=priors).call
    "um.fit('Reaction ~ Days + (1 | Subject)', data, backend='bayes', priors=priors)"
"""

from __future__ import annotations

from unimix.distributions.prior_base import Prior
from unimix.distributions.priors import (
    LKJ,
    Cauchy,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Normal,
    StudentT,
    Uniform,
)

__all__ = [
    "LKJ",
    "Cauchy",
    "Exponential",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "InverseGamma",
    "LogNormal",
    "Normal",
    "Prior",
    "StudentT",
    "Uniform",
]
