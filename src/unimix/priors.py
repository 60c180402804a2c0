"""Prior distributions, for ``priors=``: ``{"x": um.priors.Normal(0, 10), "sd(g)": um.priors.HalfNormal(5)}``."""

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
