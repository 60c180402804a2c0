"""Simulated responses of every family, with known parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import unimix as um
from unimix.backends.family_support import all_families
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.formula.interpreter import parse
from unimix.testing.simulated_responses import simulate_response

FAMILIES = [family for family in all_families() if family.response != "ordered"]
TRUTH = {"sigma": 0.5, "nu": 5.0, "theta": 3.0, "alpha": 0.8, "precision": 12.0, "dispersion": 0.1,
         "skewness": 0.5, "power": 1.5}  # fmt: skip
# eta = intercept + slope x + effect, so that the mean stays inside its range
PREDICTORS = {
    "identity": (6.0, 0.5, 0.5),
    "log": (1.0, 0.3, 0.4),
    "sqrt": (2.5, 0.3, 0.2),
    "inverse": (0.8, 0.08, 0.08),
    "inverse_squared": (0.8, 0.08, 0.08),
}


def by_statsmodels(formula: str, data: Any, **arguments: Any) -> um.FitResult:
    return um.fit(formula, data, backend="statsmodels", **arguments)


def design_by_arguments(formula: str, data: Any, arguments: dict[str, Any]) -> Any:
    kept = {k: v for k, v in arguments.items() if k in ("weights", "offset", "family")}
    return build_design(parse(formula), data, **kept)


def predictor(family: Family) -> tuple[float, float, float]:
    return PREDICTORS.get(family.link, (0.3, 0.5, 0.6))


def parameters_of(family: Family) -> list[float]:
    wide = {"inverse_gaussian": {"dispersion": 0.02}, "generalised_poisson": {"dispersion": 1.6}}.get(family.name, {})
    wide |= {"dispersion": 0.7} if family.name == "tweedie" else {}
    return [{**TRUTH, **wide}[n] for n in family.parameters]


def respond(family: Family, eta: np.ndarray, trials: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw responses; proportions for the binomial."""
    mu, p = LINKS[family.link].inverse(eta), parameters_of(family)
    match family.label:
        case "gaussian":
            return rng.normal(mu, p[0])
        case "student_t":
            return mu + p[0] * rng.standard_t(p[1], len(mu))
        case "binomial":
            return rng.binomial(trials, mu) / trials
        case "poisson":
            return rng.poisson(mu)
        case "gamma":
            return rng.gamma(1 / p[0], mu * p[0])
        case "inverse_gaussian":
            return rng.wald(mu, 1 / p[0])
        case "negative_binomial":
            return rng.negative_binomial(p[0], p[0] / (p[0] + mu))
        case "negative_binomial_1":
            return rng.negative_binomial(mu / p[0], 1 / (1 + p[0]))
        case "beta":
            return np.clip(rng.beta(mu * p[0], (1 - mu) * p[0]), 1e-6, 1 - 1e-6)
        case label:
            return simulate_response(label, mu, p, trials, rng)


def simulate(family: Family, *, groups: int = 12, rows: int = 10, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.uniform(-1, 1, len(g))
    intercept, slope, sd = predictor(family)
    effects = stats.norm.ppf((np.arange(groups) + 0.5) / groups) * sd
    eta = intercept + slope * x + rng.permutation(effects)[g]
    trials = rng.integers(3, 9, len(g))
    return pd.DataFrame(
        {
            "y": respond(family, eta, trials, rng),
            "x": x,
            "g": [f"g{i:02d}" for i in g],
            "h": [f"h{i % 4}" for i in range(len(g))],
            "trials": trials,
            "w": rng.choice([1.0, 2.0], len(g)),
            "o": 0.05 * rng.uniform(-1, 1, len(g)),
        }
    )


def design_of(family: Family, formula: str, data: pd.DataFrame | None = None, *, extras: bool = True) -> Design:
    """A design with an offset, and weights or trials."""
    data = simulate(family, groups=5, rows=6) if data is None else data
    weights = "trials" if family.response == "binomial" else "w" if extras else None
    offset = "o" if extras and not family.is_linear else None
    return build_design(parse(formula), data, family=family, weights=weights, offset=offset)


_RNG = np.random.default_rng(12)
ROWS = 60
RESPONSES = pd.DataFrame(
    {
        "x": _RNG.normal(size=ROWS),
        "g": np.repeat([f"g{k}" for k in range(12)], 5),
        "count": _RNG.poisson(3, ROWS),
        "yes": _RNG.integers(0, 2, ROWS),
        "answer": _RNG.choice(["no", "yes"], ROWS),
        "three": _RNG.choice(["a", "b", "c"], ROWS),
        "trials": _RNG.integers(3, 9, ROWS),
        "size": _RNG.gamma(2, 1, ROWS),
        "share": _RNG.beta(2, 3, ROWS),
        "exposure": _RNG.uniform(1, 4, ROWS),
    }
)
RESPONSES["hits"] = _RNG.binomial(RESPONSES["trials"], 0.4)
RESPONSES["misses"] = RESPONSES["trials"] - RESPONSES["hits"]
RESPONSES["rate"] = RESPONSES["hits"] / RESPONSES["trials"]
RESPONSES["flag"] = RESPONSES["yes"] == 1
