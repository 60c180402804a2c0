"""Randomised quantile residuals from simulated responses, and statistics of them.

Sources: Dunn & Smyth (1996), J. Comput. Graph. Stat. 5:236-244, for the randomised quantile residual; Hartig's DHARMa
for its computation from simulations and the list of tests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def randomised_ranks(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Quantile residual of every response among all responses of its row, shape (m, n).

    With b responses below and e responses equal to it (itself included), a response has the residual
    (b + U e) / m with U uniform on (0, 1). If the m responses of a row are exchangeable, each residual is uniform on
    (0, 1), for discrete responses too.

    Args:
        values: m responses of each of n rows, shape (m, n).
        rng: Random number generator of U and of the order of ties.
    """
    m = len(values)
    # a random order within ties gives each of them one of the e places, and U / m spreads it over that place
    order = np.lexsort((rng.random(values.shape), values), axis=0)
    ranks = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.arange(m)[:, None], axis=0)
    return np.asarray((ranks + rng.random(values.shape)) / m)


def kolmogorov_distance(residuals: FloatArray) -> FloatArray:
    """Largest distance of the empirical distribution of each row from the uniform one, shape (m,).

    Args:
        residuals: Numbers between 0 and 1, shape (m, n).
    """
    ordered = np.sort(residuals, axis=-1)
    n = ordered.shape[-1]
    steps = np.arange(n + 1) / n
    # D = max_i max(i / n - u_(i), u_(i) - (i - 1) / n)
    return np.asarray(np.maximum((steps[1:] - ordered).max(axis=-1), (ordered - steps[:-1]).max(axis=-1)))


def kolmogorov_p(distance: float, n: int) -> float:
    """P value of the Kolmogorov distance of n independent uniform numbers from the uniform distribution."""
    from scipy.stats import kstwo  # a first fit does not need scipy.stats

    return float(kstwo.sf(distance, n))


def spread_ratios(values: FloatArray) -> FloatArray:
    """Variance of each response about the rows' mean response, divided by its mean over the simulations, shape (m,).

    Args:
        values: The observed response and m - 1 simulated ones of each of n rows, shape (m, n).
    """
    spread = np.var(values - values.mean(axis=0), axis=1)
    mean = spread[1:].mean()
    return np.asarray(spread / mean) if mean > 0 else np.ones(len(values))


def outside(values: FloatArray) -> FloatArray:
    """Number of rows in which a response is smaller or larger than all others of its row, shape (m,).

    Args:
        values: m responses of each of n rows, shape (m, n).
    """
    two = np.partition(values, [0, 1, -2, -1], axis=0) if len(values) > 3 else np.sort(values, axis=0)
    # the smallest response lies outside if the second smallest is larger
    low = (values == two[0]) & (two[1] > two[0])
    high = (values == two[-1]) & (two[-2] < two[-1])
    return np.asarray((low | high).sum(axis=1), dtype=np.float64)


def lag_one(residuals: FloatArray, order: IntArray, first: npt.NDArray[np.bool_]) -> FloatArray:
    """Correlation of successive residuals within series, shape (m,).

    Args:
        residuals: Numbers between 0 and 1, shape (m, n).
        order: Rows sorted by series and time, shape (n,).
        first: Whether each sorted row begins a series, shape (n,).
    """
    e = residuals[:, order] - 0.5
    # r = (sum of e_t e_(t-1) / pairs) / (sum of e_t^2 / n)
    pairs = (~first[1:]).sum()
    return np.asarray((e[:, 1:] * e[:, :-1])[:, ~first[1:]].sum(axis=1) / pairs / (e**2).mean(axis=1))


def moran(residuals: FloatArray, weights: FloatArray) -> FloatArray:
    """Moran's I of each row, shape (m,) (Moran 1950, Biometrika 37:17-23).

    Args:
        residuals: Numbers per place, shape (m, k).
        weights: Weights of pairs of places, with a zero diagonal, shape (k, k).
    """
    e = residuals - residuals.mean(axis=1, keepdims=True)
    # I = k sum_ij w_ij e_i e_j / (sum_ij w_ij sum_i e_i^2)
    return np.asarray(((e @ weights) * e).sum(axis=1) * e.shape[1] / (weights.sum() * (e**2).sum(axis=1)))


def monte_carlo_p(statistics: FloatArray, alternative: str = "two-sided") -> float:
    """P value of the first of m statistics that are exchangeable if the model is right.

    The one-sided values are (1 + number of others as extreme) / m (Davison & Hinkley 1997, Bootstrap Methods and their
    Application, section 4.2.5); the two-sided one is twice the smaller of them.

    Args:
        statistics: The observed statistic, and those of the simulations, shape (m,).
        alternative: Direction in which a statistic is extreme: greater, less or two-sided.
    """
    own, others = statistics[0], statistics[1:]
    # equal statistics differ by rounding
    slack = 1e-12 * max(abs(own), 1e-300)
    greater = (1 + int(np.sum(others >= own - slack))) / len(statistics)
    less = (1 + int(np.sum(others <= own + slack))) / len(statistics)
    return {"greater": greater, "less": less}.get(alternative, min(1.0, 2 * min(greater, less)))


__all__ = [
    "kolmogorov_distance",
    "kolmogorov_p",
    "lag_one",
    "monte_carlo_p",
    "moran",
    "outside",
    "randomised_ranks",
    "spread_ratios",
]
