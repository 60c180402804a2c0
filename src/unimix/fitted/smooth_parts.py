"""The parts of a result of a model with smooths, from the estimates of its mixed model; and the way back.

A result holds the coefficients of every curve among its fixed effects, with the Bayesian covariance of fixed effects
and curves, so that means, predictions and slopes include the curve. Whatever follows from the likelihood follows from
the mixed model, :func:`mixed_form`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.design.smooths import mixed_design, unpenalised
from unimix.fitted.derived_parts import assembled
from unimix.fitted.model import FittedModel, Model
from unimix.fitted.schema import FixedPartResult, Part, SmoothPartResult
from unimix.likelihood.curves import curves_at
from unimix.stats.inference import wald_interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BY_COEFFICIENT = ("estimate", "std_error", "df", "statistic", "p_value", "lower", "upper")


def assembled_with_smooths(
    design: Design, estimates: Estimates, *, method: str, ci_level: float
) -> dict[str, Part | tuple[Part, ...] | dict[str, FixedPartResult] | None]:
    """Compute the parts of a result as :func:`.assembled` does, with the curves among the fixed effects.

    Args:
        design: The model, with or without smooths, in the units of the user's data.
        estimates: Estimates of its mixed model, in the units of the user's data.
        method: Criterion of the estimates.
        ci_level: Probability of the intervals.
    """
    mixed = mixed_design(design)
    parts: dict[str, Any] = assembled(mixed, estimates, method=method, ci_level=ci_level)
    if not design.smooths:
        return parts
    curves = curves_at(
        mixed,
        estimates.beta,
        estimates.beta_cov,
        estimates.covariances,
        estimates.modes,
        estimates.sigma,
        estimates.parameters,
    )
    kept, p = unpenalised(design.smooths, design.p), design.p
    curved = [j for smooth in design.smooths for j in smooth.curved]
    beta, covariance = np.empty(p), np.empty((p, p))
    beta[kept], beta[curved] = estimates.beta, curves.coefficients
    covariance[np.ix_(kept, kept)], covariance[np.ix_(curved, curved)] = estimates.beta_cov, curves.covariance
    covariance[np.ix_(kept, curved)], covariance[np.ix_(curved, kept)] = curves.cross, curves.cross.T
    fixed = _with_curves(parts["fixed"], design.fixed_names, kept, curved, beta, covariance)
    blocks, n_own = parts["random"], len(design.blocks)
    smooths = tuple(
        SmoothPartResult(
            term=smooth.term,
            basis=smooth.basis,
            k=len(smooth.curved) + 2,
            range=smooth.range,
            columns=tuple(design.fixed_names[j] for j in smooth.columns),
            edf=edf + len(smooth.columns) - len(smooth.curved),
            curve=block,
        )
        for smooth, edf, block in zip(design.smooths, curves.edf, blocks[n_own:], strict=True)
    )
    rows = parts["rows"]
    population = design.x @ beta + (0.0 if design.offset is None else design.offset)
    return parts | {
        "fixed": fixed,
        "random": blocks[:n_own],
        "smooths": smooths,
        "rows": rows.model_copy(update={"population_predictor": population}),
        "model": parts["model"].model_copy(update={"groups": design.groups, "fingerprint": design.fingerprint()}),
    }


def _with_curves(
    own: FixedPartResult,
    names: tuple[str, ...],
    kept: list[int],
    curved: list[int],
    beta: FloatArray,
    covariance: FloatArray,
) -> FixedPartResult:
    """Fixed effects and coefficients of curves together; the latter have no tests."""
    p = len(names)
    columns = {name: np.full(p, np.nan) for name in BY_COEFFICIENT}
    for name in BY_COEFFICIENT:
        columns[name][kept] = getattr(own, name)
    std_error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    lower, upper = wald_interval(beta, std_error, None, own.level)
    for name, values in {"estimate": beta, "std_error": std_error, "lower": lower, "upper": upper}.items():
        columns[name][curved] = values[curved]
    columns["df"][curved] = np.inf
    unbounded = np.zeros((len(own.unbounded), p)) if own.unbounded.size else np.empty((0, 0))
    if own.unbounded.size:
        unbounded[:, kept] = own.unbounded
    return own.model_copy(update={"terms": names, "covariance": covariance, "unbounded": unbounded, **columns})


def mixed_columns(fit: FittedModel, x: FloatArray) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[IntArray, ...]]:
    """Columns of the fixed effects, shape (n, p), as those of the mixed model of a result with smooths.

    Returns:
        Columns of the mixed model's fixed effects; those of each curve; and the level of each row, which is always 0.
    """
    place = {name: j for j, name in enumerate(fit.fixed.terms)}
    curves = [[place[name] for name in smooth.curve.terms] for smooth in fit.smooths]
    curved = {j for own in curves for j in own}
    kept = [j for j in range(len(place)) if j not in curved]
    levels = np.zeros(len(x), dtype=np.int64)
    return np.ascontiguousarray(x[:, kept]), tuple(x[:, own] for own in curves), (levels,) * len(curves)


def mixed_form(fit: Model) -> Model:
    """The result of the mixed model that a result with smooths stands for; any other result is returned as it is.

    Its fixed effects lack the coefficients of the curves, which are group effects of one level. It holds the design of
    the mixed model if the result holds its design.
    """
    return fit._keep("mixed form", lambda: _mixed_form(fit)) if fit.smooths else fit


def _mixed_form(fit: Model) -> Model:
    curved = {name for smooth in fit.smooths for name in smooth.curve.terms}
    kept = [j for j, name in enumerate(fit.fixed.terms) if name not in curved]
    fixed = fit.fixed.model_copy(
        update={
            "terms": tuple(fit.fixed.terms[j] for j in kept),
            "covariance": fit.fixed.covariance[np.ix_(kept, kept)],
            "unbounded": fit.fixed.unbounded[:, kept] if fit.fixed.unbounded.size else fit.fixed.unbounded,
            **{name: getattr(fit.fixed, name)[kept] for name in BY_COEFFICIENT},
        }
    )
    design = fit._unsaved.design
    mixed = None if design is None else mixed_design(design)
    model, rows = fit.model, fit.rows
    if mixed is not None:
        model = model.model_copy(update={"groups": mixed.groups, "fingerprint": mixed.fingerprint()})
        population = mixed.x @ fixed.estimate + (0.0 if mixed.offset is None else mixed.offset)
        rows = rows.model_copy(update={"population_predictor": population})
    return replace(
        fit,
        model=model,
        fixed=fixed,
        random=(*fit.random, *(smooth.curve for smooth in fit.smooths)),
        smooths=(),
        rows=rows,
        _unsaved=replace(fit._unsaved, design=mixed),
    )


__all__ = ["assembled_with_smooths", "mixed_form"]
