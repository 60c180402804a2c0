"""Simulated data with known true parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Truth:
    """The true parameters of simulated responses.

    Attributes:
        fixed: Fixed effects by term.
        sd: Standard deviations of intercept and slope over ``g``.
        correlation: Correlation of intercept and slope over ``g``.
        sigma: Residual standard deviation.
    """

    fixed: dict[str, float]
    sd: tuple[float, float]
    correlation: float
    sigma: float


SLOPES = Truth({"Intercept": 2.0, "x": 0.8}, (1.2, 0.6), 0.4, 1.0)


def simulate_slopes(seed: int = 0, n_groups: int = 40, n_per_group: int = 12, truth: Truth = SLOPES) -> pd.DataFrame:
    """Simulate data of ``y ~ x + (1 + x | g)``.

    Args:
        seed: Seed of NumPy's default generator.
        n_groups: Number of levels of g.
        n_per_group: Number of rows per level.
        truth: True parameters.

    Returns:
        A table with the columns y, x and g, n_groups * n_per_group rows.
    """
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), n_per_group)
    x = rng.normal(size=len(codes))
    off = truth.sd[0] * truth.sd[1] * truth.correlation
    effects = rng.multivariate_normal([0, 0], [[truth.sd[0] ** 2, off], [off, truth.sd[1] ** 2]], size=n_groups)
    mean = truth.fixed["Intercept"] + truth.fixed["x"] * x + effects[codes, 0] + effects[codes, 1] * x
    return pd.DataFrame(
        {"y": mean + truth.sigma * rng.normal(size=len(codes)), "x": x, "g": [f"g{c:03d}" for c in codes]}
    )


def simulate_rich(seed: int = 1, n_groups: int = 14, n_per_group: int = 18) -> pd.DataFrame:
    """Simulate data with columns for every feature of the formula language.

    Args:
        seed: Seed of NumPy's default generator.
        n_groups: Number of levels of g.
        n_per_group: Number of rows per level of g.

    Returns:
        A table with the columns y, the response of linear models; x, u, v, numeric predictors; f, a factor (lo, mid,
        hi); g, h (crossed with g) and sub (nested in g), grouping factors; w, precision weights; off, an offset;
        success, a 0/1 response; count, a count with too many zeros; t, time points, each three times per level of g;
        series, a response whose group effects are autoregressive over t.
    """
    rng = np.random.default_rng(seed)
    n = n_groups * n_per_group
    g = np.repeat(np.arange(n_groups), n_per_group)
    sub = np.tile(np.repeat(np.arange(3), n_per_group // 3), n_groups)
    h = rng.permutation(np.arange(n) % 9)
    f = rng.integers(0, 3, size=n)
    x, u, v = rng.normal(size=(3, n))
    w = rng.uniform(0.5, 2.0, size=n)
    slopes = rng.multivariate_normal(np.zeros(2), [[1.4, 0.3], [0.3, 0.5]], size=n_groups)
    others = rng.multivariate_normal(np.zeros(2), [[0.6, -0.2], [-0.2, 0.4]], size=n_groups)
    y = 3.0 + 0.7 * x + np.array([0.0, 0.5, -0.4])[f] + slopes[g, 0] + slopes[g, 1] * x
    y += others[g, 0] * u + others[g, 1] * v + rng.normal(size=9)[h] + 0.8 * rng.normal(size=(n_groups, 3))[g, sub]
    y += rng.normal(size=n) / np.sqrt(w)
    off = rng.normal(size=n)
    eta = 0.6 * x + slopes[g, 0]
    success = rng.uniform(size=n) < 1 / (1 + np.exp(-eta))
    count = rng.poisson(np.exp(1.2 + eta / 2)) * (rng.uniform(size=n) > 0.2)
    steps = rng.normal(size=(n_groups, n_per_group // 3))
    for k in range(1, steps.shape[1]):  # first-order autoregression over t
        steps[:, k] = 0.6 * steps[:, k - 1] + 0.8 * steps[:, k]
    time = np.arange(n) % steps.shape[1]
    series = 1.0 + 0.5 * x + 1.5 * steps[g, time] + rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": y, "series": series, "x": x, "u": u, "v": v, "w": w, "off": off,
            "success": success.astype(int), "count": count,
            "f": pd.Categorical(np.array(["lo", "mid", "hi"])[f], categories=["lo", "mid", "hi"]),
            "g": [f"g{c:02d}" for c in g], "h": [f"h{c}" for c in h], "sub": [f"s{c}" for c in sub],
            "t": [f"t{k}" for k in time],
        }
    )  # fmt: skip
