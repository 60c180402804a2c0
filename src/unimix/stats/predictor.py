"""Linear predictors under draws, and expectations and predictive densities of responses that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import Design
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.log_density import Pointwise
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import mean_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CELLS = 200_000
"""Number of linear predictors, draws times rows, that are averaged at once, so that they stay in the cache."""
WIDE, NARROW = 161, 161
"""Numbers of nodes within eight standard errors of the linear predictor, and within ten widths of the integrand."""
_ROUNDS, _HALVINGS = 60, 30


def linear_predictors(design: Design, beta: FloatArray, effects: Sequence[FloatArray]) -> FloatArray:
    """Linear predictors X beta + Z b + offset of every row for S sets of coefficients, shape (S, n).

    Args:
        design: The model and its data.
        beta: Fixed effects, shape (S, p).
        effects: Group effects of each block, shapes (S, L, q); an empty sequence omits group effects.
    """
    return PredictorRows.of(design, groups=len(effects) > 0).under(beta, effects)


@dataclass(frozen=True)
class PredictorRows:
    """n rows of a linear predictor X beta + Z b + offset.

    Attributes:
        x: Columns of the fixed effects, shape (n, p).
        offset: Offset, shape (n,), or 0.
        z: Columns of the group effects of each block, shapes (n, q).
        codes: Level of each row in each block, shapes (n,); effects of levels that were not fitted (-1) are zero.
    """

    x: FloatArray
    offset: FloatArray | float
    z: Sequence[FloatArray] = ()
    codes: Sequence[IntArray] = ()

    @classmethod
    def of(cls, design: Design, *, groups: bool = True) -> PredictorRows:
        """The rows of a design, with or without the group effects."""
        blocks = design.blocks if groups else ()
        offset = 0.0 if design.offset is None else design.offset
        return cls(design.x, offset, [b.z for b in blocks], [b.codes for b in blocks])

    def under(self, beta: FloatArray, effects: Sequence[FloatArray]) -> FloatArray:
        """Linear predictors under S draws of the fixed effects (S, p) and the group effects (S, L, q), shape (S, n)."""
        eta = beta @ self.x.T + self.offset
        for z, codes, own in zip(self.z, self.codes, effects, strict=True):
            known = np.flatnonzero(codes >= 0)
            whole = len(known) == len(codes)
            for j in range(z.shape[1]):
                if whole:
                    effect = np.take(own[:, :, j], codes, axis=1)
                    eta += effect if (z[:, j] == 1.0).all() else effect * z[:, j]
                else:
                    eta[:, known] += np.take(own[:, :, j], codes[known], axis=1) * z[known, j]
        return np.asarray(eta)


def mean_over_draws(
    family: Family,
    rows: PredictorRows,
    beta: FloatArray,
    effects: Sequence[FloatArray] = (),
    *,
    dispersion: FloatArray | None = None,
) -> FloatArray:
    """Posterior mean of the expected response, the average of g^-1(eta) over S draws, shape (n,).

    Under a curved link g this is not g^-1 of the average linear predictor. It is NaN for rows whose mean does not exist
    in some draw, as under an inverse link.

    Args:
        family: Family of the response, with its link.
        rows: The rows.
        beta: Draws of the fixed effects, shape (S, p).
        effects: Draws of the group effects of each block, shapes (S, L, q).
        dispersion: Draws of the dispersion parameters, shape (S, k), for a family whose expected response depends on
            them.
    """
    total, step = np.zeros(len(rows.x)), max(1, CELLS // max(len(rows.x), 1))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(beta), step):
            part = slice(first, first + step)
            parameters = None if dispersion is None else dispersion[part].T[..., None]
            total += mean_of(family, rows.under(beta[part], [e[part] for e in effects]), parameters).sum(axis=0)
    return total / len(beta)


def expected_response(
    family: Family, centre: FloatArray, sd: FloatArray, parameters: FloatArray | None = None
) -> FloatArray:
    """Expected response for eta ~ N(centre, sd^2), shape (n,), E g^-1(eta) for all families but the truncated ones.

    The expectation has a closed form for the identity, log and sqrt links, and is computed by Gauss-Hermite quadrature
    for links with bounded means and for truncated families. For inverse links it does not exist; the result is the
    response at the centre.

    Args:
        family: Distribution and link.
        centre: Means of the linear predictors, shape (n,).
        sd: Standard deviations of the linear predictors, shape (n,).
        parameters: Dispersion parameters, shape (k,), for a family whose expected response depends on them.
    """
    refuse_categories(family)
    plain = DISTRIBUTIONS[family.label].expectation is None
    match family.link if plain else "":
        case "identity":
            return centre
        case "log":
            with np.errstate(over="ignore"):
                return np.asarray(np.exp(centre + sd**2 / 2))
        case "sqrt":
            return np.asarray(centre**2 + sd**2)
        case "inverse" | "inverse_squared":
            return mean_of(family, centre)
        case _:
            nodes, weights = special.roots_hermitenorm(101)
            total = sum(w * mean_of(family, centre + sd * z, parameters) for z, w in zip(nodes, weights, strict=True))
            return np.asarray(total / weights.sum())


def expected_slope(family: Family, centre: FloatArray, sd: FloatArray) -> FloatArray:
    """Derivative of :func:`expected_response` with respect to ``centre``, E d g^-1(eta) / d eta, in its shape."""
    refuse_categories(family)
    link = LINKS[family.link]
    match family.link:
        case "log":
            return expected_response(family, centre, sd)
        case "identity" | "sqrt" | "inverse" | "inverse_squared":
            return link.slope(centre)
        case _:
            nodes, weights = special.roots_hermitenorm(101)
            total = sum(w * link.slope(centre + sd * z) for z, w in zip(nodes, weights, strict=True))
            return np.asarray(total / weights.sum())


def expected_curvature(family: Family, centre: FloatArray, sd: FloatArray) -> tuple[FloatArray, FloatArray]:
    """E h''(eta) and E Z h''(eta) for h = g^-1, eta = centre + sd Z and a standard normal Z, in the shape of centre.

    The first is the second derivative of :func:`expected_response` with respect to ``centre``, and half of it the first
    with respect to the variance; the second is the derivative of :func:`expected_slope` with respect to ``sd``.
    """
    refuse_categories(family)
    curvature = LINKS[family.link].curvature
    match family.link:
        case "log":
            value = expected_response(family, centre, sd)
            return value, sd * value
        case "identity" | "sqrt":
            return curvature(centre), np.zeros_like(centre)
        case _:
            nodes, weights = special.roots_hermitenorm(101)
            pairs = [(z, w / weights.sum() * curvature(centre + sd * z)) for z, w in zip(nodes, weights, strict=True)]
            return np.asarray(sum(c for _, c in pairs)), np.asarray(sum(z * c for z, c in pairs))


def predictive_log_density(rows: Callable[[FloatArray], Pointwise], centre: FloatArray, sd: FloatArray) -> FloatArray:
    """Logarithm of the integral of p(y | eta) N(eta; centre, sd^2) over eta, shape (n,).

    The integral is computed by the trapezoidal rule on nodes that cover the normal distribution and, more densely, the
    mode of each row's integrand, which lies elsewhere if the response is informative.

    Args:
        rows: Function of the linear predictor (n,) that returns the log density per row and its derivatives.
        centre: Means of the linear predictors, shape (n,).
        sd: Standard deviations of the linear predictors, shape (n,); zero gives the density at the centre.
    """
    spread = np.where(sd > 0, sd, 1.0)

    def height(eta: FloatArray) -> tuple[FloatArray, Pointwise]:
        likelihood = rows(eta)
        return likelihood.value - 0.5 * ((eta - centre) / spread) ** 2, likelihood

    eta = np.array(centre, dtype=np.float64)
    value, at = height(eta)
    for _ in range(_ROUNDS):
        usable = np.isfinite(at.observed) & (at.observed + spread**-2.0 > 0)
        bend = np.where(usable, at.observed, np.maximum(np.nan_to_num(at.expected), 0.0)) + spread**-2.0
        step = np.nan_to_num((at.score - (eta - centre) / spread**2) / bend)
        size = np.ones_like(eta)
        for _ in range(_HALVINGS):
            moved, there = height(eta + size * step)
            worse = ~(moved >= value - 1e-12 * np.abs(value))
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        else:
            size = np.where(worse, 0.0, size)
            moved, there = height(eta + size * step)
        eta, value, at = eta + size * step, moved, there
        if np.abs(size * step).max(initial=0.0) < 1e-9 * (1.0 + np.abs(eta).max(initial=0.0)):
            break
    bend = np.where(at.observed + spread**-2.0 > 0, at.observed, np.maximum(at.expected, 0.0)) + spread**-2.0
    width = 1.0 / np.sqrt(bend)
    nodes = np.concatenate(
        [
            centre + spread * np.linspace(-8, 8, WIDE)[:, None],
            eta + width * np.linspace(-10, 10, NARROW)[:, None],
        ]
    )
    nodes = np.sort(nodes, axis=0)
    gaps = np.diff(nodes, axis=0)
    weights = np.concatenate([gaps[:1], gaps[:-1] + gaps[1:], gaps[-1:]]) / 2
    with np.errstate(divide="ignore"):
        parts = np.stack([height(x)[0] for x in nodes]) + np.log(weights)
    log_density = special.logsumexp(parts, axis=0) - np.log(spread) - 0.5 * np.log(2 * np.pi)
    return np.where(sd > 0, log_density, rows(centre).value)
