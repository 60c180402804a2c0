"""One model of each kind that a certificate can be made of, with data that tell all its parameters apart."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

import unimix as um


@functools.cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    n, levels = 160, 16
    g = np.repeat(np.arange(levels), n // levels)
    x, u = rng.normal(size=n), rng.normal(size=(levels, 2)) * [0.6, 0.5] @ [[1.0, 0.5], [0.0, 1.0]]
    frame = pd.DataFrame(
        {
            "x": x,
            "f": np.array(list("abc"))[rng.integers(0, 3, n)],
            "g": [f"g{i}" for i in g],
            "o": 0.1 * rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    eta = 0.7 + 0.4 * x + u[g, 0] + u[g, 1] * x + frame["o"]
    p = 1 / (1 + np.exp(-eta))
    frame = frame.assign(
        y=eta + 0.7 * rng.normal(size=n),
        flat=rng.normal(size=n),
        count=rng.poisson(np.exp(eta)),
        hits=(hits := rng.binomial(5, p)),
        misses=5 - hits,
        spread=rng.negative_binomial(2, 2 / (2 + np.exp(eta))),
        size=rng.gamma(3, np.exp(eta) / 3),
        share=np.clip(rng.beta(4 * p, 4 * (1 - p)), 1e-3, 1 - 1e-3),
    )
    steps = np.subtract.outer(eta.to_numpy() + rng.logistic(size=n), [-0.5, 0.7, 2.0]) > 0
    return frame.assign(
        rating=1 + steps.sum(axis=1),
        zeros=frame["count"] * (rng.random(n) < 1 / (1 + np.exp(-0.8 - 0.8 * x))),
        wave=eta + 2 * np.sin(3 * x) + 0.5 * np.random.default_rng(9).normal(size=n),
        occasion=np.tile(np.arange(n // levels), levels),
    )


_LEVELS = [f"g{i}" for i in range(16)]
RELATED = pd.DataFrame(0.5 * np.eye(16) + 0.5 * np.kron(np.eye(8), np.ones((2, 2))), index=_LEVELS, columns=_LEVELS)
"""Eight pairs of sisters: correlation 0.5."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "REML, offset": ("y ~ x + f + (1 + x | g)", {"offset": "o"}),
    "Kenward-Roger, weights": ("y ~ x + f + (1 + x | g)", {"weights": "w", "df_method": "kenward-roger"}),
    "ML, arrays": (
        "y ~ x + f + (1 + x | g)",
        {"method": "ML", "weights": data().w.to_numpy(), "offset": data().o.to_numpy()},
    ),
    "least squares": ("y ~ x + f", {}),
    "poisson": ("count ~ x + f + (1 + x | g)", {"family": "poisson", "offset": "o"}),
    "binomial": ("cbind(hits, misses) ~ x + f + (1 | g)", {"family": "binomial"}),
    "probit, quadrature": ("cbind(hits, misses) ~ x + f + (1 | g)", {"family": "binomial(probit)", "method": "AGQ"}),
    "negative binomial": ("spread ~ x + f + (1 | g)", {"family": "negative_binomial"}),
    "gamma": ("size ~ x + f + (1 | g)", {"family": "gamma(log)"}),
    "beta": ("share ~ x + f + (1 | g)", {"family": "beta"}),
    "correlated residuals": ("y ~ x + f", {"residual": "ar1(occasion | g)"}),
    "known residual SD": ("y ~ x + f + (1 | g)", {"sigma": 0.7}),
    "related levels": ("y ~ x + f + (1 + x | g)", {"relationship": {"g": RELATED}}),
    "ratings": ("rating ~ x + f + (1 | g)", {"family": "cumulative"}),
    "zero inflation": ("zeros ~ x + f + (1 | g)", {"family": "poisson", "ziformula": "~ x"}),
    "dispersion": ("spread ~ x + f + (1 | g)", {"family": "negative_binomial", "dispformula": "~ x"}),
    "curve": ("wave ~ s(x) + f + (1 | g)", {}),
    "curve of counts": ("count ~ s(x) + f + (1 | g)", {"family": "poisson"}),
    "variances by formula": ("y ~ x + f + (1 | g)", {"dispformula": "~ x"}),
    "poisson without groups": ("count ~ x + f", {"family": "poisson"}),
    "gamma without groups": ("size ~ x + f", {"family": "gamma(log)"}),
}
POSTERIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "posterior": ("y ~ x + f + (1 + x | g)", {"offset": "o", "priors": {"x": um.priors.Normal(0, 3)}}),
    "posterior without groups": ("y ~ x + f", {}),
    "posterior of counts": ("count ~ x + f + (1 | g)", {"family": "poisson"}),
}


@functools.cache
def fitted(name: str) -> um.FitResult:
    """The model by unimix's own engines, which need no package beside it."""
    if name in POSTERIORS:
        formula, more = POSTERIORS[name]
        return um.fit(formula, data(), "bayes", seed=1, **more)
    formula, more = MODELS[name]
    return um.fit(formula, data(), "pls", **more)
