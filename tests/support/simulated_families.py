"""Data drawn from models of six families, and the p values of tests of their simulated residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

import unimix as um

G = np.repeat(np.arange(25), 8)
Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
Effects = Literal["new", "drawn", "kept"]

# name: responses of linear predictors eta, shape (200,), and the arguments of the fit
FAMILIES: dict[str, tuple[Draw, dict[str, Any]]] = {
    "gaussian": (lambda rng, eta: eta + rng.normal(size=len(eta)), {}),
    "poisson": (lambda rng, eta: rng.poisson(np.exp(eta)), {"family": "poisson"}),
    "binomial": (lambda rng, eta: rng.binomial(1, special.expit(eta - 0.6)), {"family": "binomial"}),
    "negative binomial": (
        lambda rng, eta: rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, len(eta))),
        {"family": "negative_binomial"},
    ),
    "cumulative": (
        lambda rng, eta: np.digitize(eta + rng.logistic(size=len(eta)), [0, 1, 2]),
        {"family": "cumulative"},
    ),
    "zero-inflated": (
        lambda rng, eta: rng.poisson(np.exp(eta)) * (rng.random(len(eta)) > 0.3),
        {"family": "poisson", "ziformula": "~ 1"},
    ),
}


def drawn(draw: Draw, rng: np.random.Generator) -> pd.DataFrame:
    """25 groups of 8 rows, with a slope of 0.4 and a standard deviation of 0.5 between groups."""
    x = rng.normal(size=len(G))
    eta = 0.6 + 0.4 * x + 0.5 * rng.normal(size=25)[G]
    return pd.DataFrame({"y": draw(rng, eta), "x": x, "g": [f"g{k}" for k in G]})


def p_values(family: str, effects: Effects, n_sets: int, *, n: int = 99, seed: int = 7) -> pd.DataFrame:
    """P values of all tests of data sets whose model is right: one row per data set, one column per test."""
    draw, arguments = FAMILIES[family]
    rng, rows = np.random.default_rng(seed), []
    for k in range(n_sets):
        fit = um.fit("y ~ x + (1 | g)", drawn(draw, rng), **arguments)
        found = fit.simulated_residuals(n, effects=effects, seed=k)
        in_time = found.test_autocorrelation(np.arange(len(G))).table["p_value"].item()
        place = rng.random((2, len(G)))
        in_space = found.test_spatial(*place).table["p_value"].item()
        rows.append(found.table["p_value"].to_dict() | {"time": in_time, "space": in_space})
    return pd.DataFrame(rows)
