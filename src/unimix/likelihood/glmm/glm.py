"""Starting values: fixed effects of a generalised linear model by Fisher scoring, and moderate other parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.cumulative import threshold_parameters
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import Cumulative
from unimix.distributions.links import LINKS
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]


def fisher_scoring(design: Design, rounds: int = 30) -> FloatArray:
    """Coefficients of the model without group effects at a moderate dispersion.

    The method is that of McCullagh & Nelder (1989), section 2.5. A step that leaves the range of the link or lowers the
    likelihood is halved.

    Args:
        design: Design of a generalised model, of full rank.
        rounds: Maximum number of iterations.

    Returns:
        Coefficients, shape (p,). They are finite; for separated data, which have no maximum, they are not the optimum.
    """
    family = design.family
    parameters = moderate_dispersion(design)
    if design.zero is not None:  # the counts that are certainly no structural zeros, and half of the others
        at_zero = design.y == 0
        weights = np.where(at_zero, 1e-9 if family.is_truncated else 0.5, 1.0)
        counts = np.where(at_zero & family.is_truncated, 1.0, design.y)
        weights = weights if design.weights is None else weights * design.weights
        design = replace(design, y=counts, zero=None, weights=weights)
    if isinstance(family, Cumulative):
        return _climbed(design, parameters, np.zeros(design.p), rounds)
    offset = np.zeros(design.n) if design.offset is None else design.offset
    link, y = LINKS[family.link], design.y
    if family.response in ("binomial", "unit"):
        trials = np.ones(design.n) if design.trials is None else design.trials
        guess = (y * trials + 0.5) / (trials + 1.0)
    elif family.response == "real" and family.link == "identity":
        guess = y
    else:
        floor = 0.1 * float(np.abs(y).mean() or 1.0)
        guess = np.maximum(y, floor)
    candidates = [
        _regress(design.x, link.forward(guess) - offset),
        _regress(design.x, link.forward(np.full(design.n, float(guess.mean()))) - offset),
    ]

    def value(at: FloatArray) -> float:
        return float(row_log_likelihood(design, parameters, design.x @ at + offset).value.sum())

    beta = max(candidates, key=value)
    return _climbed(design, parameters, beta, rounds) if np.isfinite(value(beta)) else candidates[1]


def _climbed(design: Design, parameters: FloatArray, beta: FloatArray, rounds: int) -> FloatArray:
    """Coefficients after steps of Fisher scoring at fixed parameters, shape (p,)."""
    offset = np.zeros(design.n) if design.offset is None else design.offset

    def value(at: FloatArray) -> float:
        return float(row_log_likelihood(design, parameters, design.x @ at + offset).value.sum())

    here = value(beta)
    for _ in range(rounds):
        rows = row_log_likelihood(design, parameters, design.x @ beta + offset)
        root = np.sqrt(np.maximum(rows.expected, 1e-12))
        if not np.isfinite(np.append(root, rows.score)).all():
            break
        step = _regress(root[:, None] * design.x, rows.score / root)
        size = 1.0
        while size > 1e-6 and not value(beta + size * step) >= here:
            size /= 2
        if size <= 1e-6:
            break
        beta = beta + size * step
        there = value(beta)
        if there - here < 1e-10 * (abs(here) + 1):
            break
        here = there
    return beta


def moderate_dispersion(design: Design) -> FloatArray:
    """Moderate values of the dispersion parameters, from which a search starts, shape (k,).

    A parameter named sigma of an identity link has the unit of the response, and is the standard deviation of the
    least-squares residuals. A skewness has their sign.
    """
    family = design.family
    if isinstance(family, Cumulative):
        return _marginal_thresholds(design, family)
    parameters = np.array(DISTRIBUTIONS[family.label].start, dtype=np.float64)
    if family.response != "real" or family.name == "gaussian":
        return parameters
    offset = 0.0 if design.offset is None else design.offset
    y = design.y - offset if family.link == "identity" else design.y
    residuals = y - design.x @ _regress(design.x, y)
    spread = float(np.sqrt(np.mean(residuals**2))) or 1.0
    parameters[0] *= spread
    if "skewness" in family.parameters:
        g = float(np.mean(residuals**3)) / spread**3
        parameters[1] = np.copysign(np.clip(abs(g), 0.1, 0.7), g)
    return parameters


def moderate_parts(design: Design) -> dict[str, FloatArray]:
    """Coefficients of the zero inflation and of the dispersion from which a search starts, shapes (k,).

    The dispersion is the moderate one in all rows, as far as its columns allow. The probability of a structural zero is
    half the share of zeros in all rows; in a hurdle model, where all zeros are structural, it is the whole share.
    """
    parts = {}
    if design.zero is not None:
        share = float(np.mean(design.y == 0)) * (1.0 if design.family.is_truncated else 0.5)
        share = min(max(share, 0.01), 0.99)
        parts["zero"] = _regress(design.zero.x, np.full(design.n, np.log(share / (1 - share))))
    if design.dispersion is not None:
        level = np.log(moderate_dispersion(design)[0])
        parts["dispersion"] = _regress(design.dispersion.x, np.full(design.n, level))
    return parts


def _marginal_thresholds(design: Design, family: Cumulative) -> FloatArray:
    """Threshold parameters of the model without predictors: theta_j is the link of the share of responses up to j."""
    counts = np.bincount(design.y.astype(np.int64), design.weights, len(family.categories)) + 0.5
    shares = np.cumsum(counts)[:-1] / counts.sum()
    return threshold_parameters(family.threshold, LINKS[family.link].forward(shares))


def _regress(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(x, y)[0])
