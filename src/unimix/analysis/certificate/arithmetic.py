"""Checks that a result is consistent with itself and its design: names, tables and criteria that can be recomputed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Check
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.weights import counted_rows
from unimix.stats.inference import correlation, information_criteria, wald_interval, wald_test

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
EXACT = 1e-6
"""Largest relative difference between a number and its recomputed value."""


def arithmetic(fit: FittedModel, design: Design) -> Check:
    """Check names, statistics, intervals, SDs, fitted values and criteria against recomputed values."""
    wrong = [name for name, check in _CHECKS.items() if not check(fit, design)]
    if not wrong:
        return Check(
            name="arithmetic", passed=True, said="tables, fitted values and criteria follow from the estimates"
        )
    return Check(name="arithmetic", passed=False, said=f"{', '.join(wrong)} do not follow from the rest", numbers={})


def _same(a: object, b: object, scale: object = None) -> bool:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape:
        return False
    size = np.abs(right) if scale is None else np.asarray(scale, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(left - right) <= EXACT * size + 1e-300
    return bool(np.all(close | (left == right) | (np.isnan(left) & np.isnan(right))))


def _names(fit: FittedModel, design: Design) -> bool:
    blocks = [(b.group, tuple(b.terms), tuple(map(str, b.levels))) for b in fit.random]
    wanted = [(b.group, tuple(b.terms), tuple(map(str, b.levels))) for b in design.blocks]
    return tuple(fit.fixed.terms) == tuple(design.fixed_names) and blocks == wanted


def _tests(fit: FittedModel, _design: Design) -> bool:
    fixed = fit.fixed
    if fixed.interval == "credible":
        return True
    endless = fixed.is_unbounded(np.eye(len(fixed.terms)))
    finite = bool((np.isfinite(fixed.std_error) != endless).all() and np.isfinite(fixed.estimate).all())
    df = None if np.isinf(fixed.df).all() else np.asarray(fixed.df)
    statistic, p_value = wald_test(np.asarray(fixed.estimate), np.asarray(fixed.std_error), df)
    lower, upper = wald_interval(np.asarray(fixed.estimate), np.asarray(fixed.std_error), df, fixed.level)
    ends = _same(fixed.lower, lower, np.asarray(fixed.std_error)) and _same(fixed.upper, upper, fixed.std_error)
    return finite and _same(fixed.statistic, statistic) and _same(fixed.p_value, p_value) and ends


def _covariance(fit: FittedModel, _design: Design) -> bool:
    fixed = fit.fixed
    if fixed.interval == "credible" or fixed.std_error_kind == "Kenward-Roger":
        return True
    own = np.asarray(fixed.covariance)
    std_error = np.sqrt(np.maximum(np.diag(own), 0.0))
    std_error[fixed.is_unbounded(np.eye(len(own)))] = np.inf
    return _same(std_error, fixed.std_error) and bool(np.allclose(own, own.T, rtol=1e-6))


def _random(fit: FittedModel, design: Design) -> bool:
    if fit.fixed.interval == "credible":
        return True
    for block, arrays in zip(fit.random, design.blocks, strict=True):
        own = np.asarray(block.covariance)
        sd = np.sqrt(np.diag(own))
        modes = np.sqrt(np.maximum(np.einsum("lii->li", np.asarray(block.mode_covariance)), 0.0))
        good = _same(block.sd, sd, np.maximum(sd, 1e-300)) and _same(block.mode_sd, modes)
        unit = column_scale(arrays.z)
        good &= _same(block.correlation, correlation(own.copy(), unit), np.ones_like(own)) and _same(block.unit, unit)
        if not good:
            return False
    return True


def _fitted(fit: FittedModel, design: Design) -> bool:
    eta = design.x @ fit.fixed.estimate + (0.0 if design.offset is None else design.offset)
    scale = np.full(design.n, float(np.abs(fit.rows.linear_predictor).max(initial=0.0)))
    good = _same(fit.rows.population_predictor, eta, np.maximum(scale, np.abs(eta).max(initial=0.0)))
    for block, arrays in zip(fit.random, design.blocks, strict=True):
        eta = eta + np.einsum("nq,nq->n", arrays.z, np.asarray(block.modes)[arrays.codes])
    return good and _same(fit.rows.linear_predictor, eta, scale) and _same(fit.rows.observed, design.y)


def _criteria(fit: FittedModel, design: Design) -> bool:
    if np.isnan(fit.log_likelihood):
        return True
    cells = sum(b.q * (b.q + 1) // 2 for b in design.blocks)
    k = design.p + cells + max(len(fit.criteria.parameters), len(design.family.parameters))
    n = counted_rows(design.family, design.n, design.weights)
    aic, bic = information_criteria(fit.log_likelihood, k, n)
    good = fit.criteria.n_parameters == k and _same(fit.aic, aic) and _same(fit.bic, bic)
    return good and _same(fit.deviance, -2 * fit.log_likelihood)


_CHECKS: dict[str, Callable[[FittedModel, Design], bool]] = {
    "names of terms or levels": _names,
    "tests and intervals": _tests,
    "the covariance matrix of the fixed effects": _covariance,
    "SDs and correlations": _random,
    "fitted or observed values": _fitted,
    "information criteria": _criteria,
}
