"""Calibration of posteriors by simulation: parameters from their priors, data from them, and ranks among the draws.

If a posterior is right, the rank of the true value among independent draws is uniform, for every parameter and any
number of rows (Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

import unimix as um
from unimix.backends.sampling.priors import resolve_priors
from unimix.design.design import build_design
from unimix.distributions.family import Family, as_family
from unimix.distributions.prior_draws import draw_correlations, draw_prior
from unimix.distributions.priors import Prior
from unimix.formula.interpreter import parse
from unimix.stats.correlation_pairs import below_diagonal
from unimix.stats.simulation import Simulator

FloatArray = npt.NDArray[np.float64]

GROUPS, ROWS, TRIALS = 10, 4, 3
"""Numbers of levels, of rows per level, and of trials per row of a binomial response."""
THINNED = 99
"""Number of draws among which the true value is ranked: 100 ranks are possible."""


@dataclass(frozen=True)
class Calibration:
    """A model whose posteriors are to be calibrated.

    Attributes:
        family: Distribution and link of the response.
        priors: Priors of all parameters by name. The sampler is given the same.
        formula: Formula with the columns y, x and g.
    """

    family: str | Family
    priors: Mapping[str, Prior]
    formula: str = "y ~ x + (1 | g)"

    def ranks(self, backend: Any, data_sets: int, seed: int) -> pd.DataFrame:
        """Ranks of true values, between 0 and 1: one row for each data set, one column for each parameter.

        Half a rank is random, so that the values are uniform, and not merely uniform on a grid.

        Args:
            backend: Backend of ``um.fit``, with its options.
            data_sets: Number of data sets.
            seed: Seed of the parameters, the data and the sampler.
        """
        rng = np.random.default_rng(seed)
        return pd.DataFrame([self._once(backend, rng) for _ in range(data_sets)])

    def _once(self, backend: Any, rng: np.random.Generator) -> dict[str, float]:
        g = np.repeat(np.arange(GROUPS), ROWS)
        family = as_family(self.family)
        weights = "n" if family.response == "binomial" else None
        # any response of the family: it is replaced below
        some = np.array([1.0, 2.0]) / (TRIALS if family.response in ("binomial", "unit") else 1)
        data = pd.DataFrame({"y": np.resize(some, len(g)), "x": rng.normal(size=len(g)), "g": g, "n": TRIALS})
        design = build_design(parse(self.formula), data, family=family, weights=weights)
        table = resolve_priors(design, self.priors)
        beta = np.array([draw_prior(p, 1, rng)[0] for p in table.fixed])
        dispersion = np.array([draw_prior(p, 1, rng)[0] for p in table.dispersion])
        block, sds = design.blocks[0], np.array([draw_prior(p, 1, rng)[0] for p in table.sds[0]])
        lkj = table.correlations[0]
        correlation = np.eye(1) if lkj is None else draw_correlations(lkj.eta, block.q, 1, rng)[0]
        root = sds[:, None] * np.linalg.cholesky(correlation)
        effects = rng.standard_normal((block.n_levels, block.q)) @ root.T
        y = Simulator(design, beta, (root @ root.T,), dispersion, effects=(effects,)).draw(rng)
        fit = um.fit(
            self.formula, data.assign(y=y), backend, family=family, weights=weights, priors=dict(self.priors),
            seed=int(rng.integers(2**31)), progress=False,
        )  # fmt: skip
        truth = {
            "fixed": beta, "sd(g)": sds, **dict(zip(family.parameters, dispersion[:, None], strict=True)),
            "effects(g)": effects[:1],
        }  # fmt: skip
        if lkj is not None:
            truth["cor(g)"] = below_diagonal(correlation[None])[0]
        found: dict[str, float] = {}
        for name, values in truth.items():
            drawn = fit.posterior.posterior[name].to_numpy()
            drawn = drawn.reshape(drawn.shape[0] * drawn.shape[1], -1)
            drawn = drawn[np.linspace(0, len(drawn) - 1, THINNED).round().astype(int)]
            for k, value in enumerate(np.ravel(values)):
                found[f"{name}[{k}]"] = (np.sum(drawn[:, k] < value) + rng.uniform()) / (THINNED + 1)
        return found


def p_values(ranks: pd.DataFrame) -> pd.Series:
    """P-values of the Kolmogorov-Smirnov test that ranks are uniform, by parameter."""
    return pd.Series({name: float(stats.kstest(ranks[name], "uniform").pvalue) for name in ranks})


_FIXED = {"Intercept": um.priors.Normal(0, 0.5), "x": um.priors.Normal(0, 0.5), "sd(g)": um.priors.HalfNormal(0.5)}
_SLOPES = {
    "Intercept": um.priors.Normal(0, 2), "x": um.priors.Normal(1, 1), "sd(g: Intercept)": um.priors.HalfNormal(1.5),
    "sd(g: x)": um.priors.Exponential(1), "cor(g)": um.priors.LKJ(2), "sigma": um.priors.HalfStudentT(4, 1),
}  # fmt: skip

CALIBRATIONS: dict[str, Calibration] = {
    "gaussian": Calibration("gaussian", _SLOPES, "y ~ x + (1 + x | g)"),
    "binomial": Calibration("binomial", _FIXED | {"sd(g)": um.priors.HalfNormal(1)}),
    "poisson": Calibration("poisson", _FIXED),
    "negative_binomial": Calibration("negative_binomial", _FIXED | {"theta": um.priors.LogNormal(1, 0.5)}),
    "negative_binomial_1": Calibration("negative_binomial_1", _FIXED | {"alpha": um.priors.LogNormal(0, 0.5)}),
    "gamma": Calibration("gamma", _FIXED | {"dispersion": um.priors.LogNormal(-1, 0.4)}),
    "inverse_gaussian": Calibration("inverse_gaussian", _FIXED | {"dispersion": um.priors.LogNormal(-1.5, 0.4)}),
    "beta": Calibration("beta", _FIXED | {"precision": um.priors.LogNormal(2.5, 0.3)}),
    "student_t": Calibration("student_t", _FIXED | {"sigma": um.priors.HalfNormal(1), "nu": um.priors.Gamma(8, 1)}),
}
"""A model of every family that has posteriors, by the family's name."""

__all__ = ["CALIBRATIONS", "Calibration", "p_values"]
