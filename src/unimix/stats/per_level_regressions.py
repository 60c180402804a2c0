"""Separate regressions for the levels of a grouping factor: no pooling, for comparison with other kinds of pooling.

The method is that of nlme's and lme4's ``lmList`` (Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section
4.1): each level has its own coefficients, and the residual variance is pooled over the levels.

The regression of a level has the columns that are linearly independent in its rows. A column that depends on earlier
ones in a level (such as a predictor that is constant in it) is part of their coefficients there.
``LevelRegressions.turned`` converts coefficients of other models of the same columns accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.design.aliasing import independent_columns
from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.parameter_scales import to_free
from unimix.likelihood.glmm.optimise import covariance_of, search_laplace
from unimix.likelihood.glmm.separation import separated_terms

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """Linearly independent columns that span those of the fixed effects and of some blocks of group effects.

    Attributes:
        array: Columns, shape (n, k): X, then the columns of group effects that do not depend on earlier ones.
        names: Names of the k columns.
        maps: Coefficients of each block's columns as combinations of these, shapes (k, q).
    """

    array: FloatArray
    names: tuple[str, ...]
    maps: tuple[FloatArray, ...]


@dataclass(frozen=True)
class LevelRegressions:
    """Regressions of L levels on k columns.

    Attributes:
        estimate: Coefficients, shape (L, k); NaN for columns without a coefficient in a level.
        covariance: Covariance matrices of the coefficients, shape (L, k, k); NaN as in ``estimate``.
        n: Number of rows of each level, shape (L,).
        sigma: Residual standard deviation, pooled over the levels, for a linear model; NaN for others.
        df: Degrees of freedom of ``sigma``.
        parameters: Dispersion parameters of each level's regression, shape (L, d); ``sigma`` for a linear model.
        turned: Matrices that convert coefficients of all columns to coefficients of a level's own columns, shape
            (L, k, k).
        own: Mask of the columns that have a coefficient in each level, shape (L, k).
        why: Reason why the regression of a level cannot be fitted, by index of the level.
    """

    estimate: FloatArray
    covariance: FloatArray
    n: IntArray
    sigma: float
    df: int
    parameters: FloatArray
    turned: FloatArray
    own: npt.NDArray[np.bool_]
    why: dict[int, str]


def all_columns(design: Design, blocks: Sequence[RandomBlock]) -> Columns:
    """Join the columns of the fixed effects and of some blocks."""
    names = [*design.fixed_names, *(t for b in blocks for t in b.terms)]
    whole = np.concatenate([design.x, *(b.z for b in blocks)], axis=1)
    kept = list(independent_columns(whole))
    array = whole[:, kept]
    scale = np.maximum(np.abs(array).max(axis=0, initial=0.0), 1e-300)
    maps = []
    for block in blocks:
        coefficients = np.linalg.lstsq(array / scale, block.z)[0] / scale[:, None]
        size = np.abs(coefficients * scale[:, None])
        maps.append(np.where(size > 1e-9 * size.max(axis=0, initial=0.0), coefficients, 0.0))
    unique: list[str] = []
    for j in kept:
        unique.append(names[j] if names[j] not in unique else f"{names[j]} ({len(unique)})")
    return Columns(array, tuple(unique), tuple(maps))


def new_columns(columns: Columns, x: FloatArray, z: Sequence[FloatArray]) -> FloatArray:
    """Columns for new rows, shape (n, k), from those of the fixed effects (n, p) and of the blocks, shapes (n, q).

    The map of a block's column that was kept has a single entry, 1.
    """
    p, k = x.shape[1], len(columns.names)
    array = np.zeros((len(x), k))
    array[:, :p] = x
    for values, turn in zip(z, columns.maps, strict=True):
        for j in range(turn.shape[1]):
            at = np.flatnonzero(turn[:, j])
            if len(at) == 1 and at[0] >= p:
                array[:, at[0]] = values[:, j] / turn[at[0], j]
    return array


def follow(values: FloatArray, levels: LevelRegressions, codes: IntArray) -> npt.NDArray[np.bool_]:
    """Mask, shape (n,), of rows whose columns have the same linear dependences as the fitted rows of their level.

    The regression of a level does not determine predictions for other rows.

    Args:
        values: Columns that :func:`new_columns` returned, shape (n, k).
        levels: Regressions of the levels.
        codes: Level index of each row, shape (n,).
    """
    implied = np.einsum("ni,nij->nj", values * levels.own[codes], levels.turned[codes])
    size = 1e-8 * np.maximum(np.abs(values), np.abs(implied)).max(axis=0, initial=0.0)
    return np.asarray((np.abs(values - implied) <= size).all(axis=1))


def regressions(design: Design, columns: Columns, codes: IntArray, n_levels: int) -> LevelRegressions:
    """Fit one regression per level.

    Args:
        design: Design that holds the response, weights, offset and family.
        columns: Columns that :func:`all_columns` returned.
        codes: Level index of each row, shape (n,).
        n_levels: Number of levels L.
    """
    k = columns.array.shape[1]
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes, minlength=n_levels))[:-1])
    kept = [independent_columns(columns.array[r]) if len(r) else () for r in rows]
    whole = max((len(c) for c in kept), default=0)
    example = next((c for c in kept if len(c) == whole), ())
    n_parameters = 1 if design.is_linear else len(design.family.parameters)
    estimate, covariance = np.full((n_levels, k), np.nan), np.full((n_levels, k, k), np.nan)
    parameters = np.full((n_levels, n_parameters), np.nan)
    turned, in_level = np.zeros((n_levels, k, k)), np.zeros((n_levels, k), dtype=bool)
    why: dict[int, str] = {}
    squares, df = 0.0, 0
    for level, (r, c) in enumerate(zip(rows, kept, strict=True)):
        turned[level], in_level[level] = _turn(columns.array[r], c, example)
        if len(c) < whole:
            why[level] = _shortage(len(r), c, example, columns.names, whole)
            continue
        if design.is_linear:
            coefficients, inverse, rest = _least_squares(design, columns.array[:, list(c)], r)
            squares, df = squares + rest, df + len(r) - len(c)
        else:
            estimates = _generalised(design, columns, r, c)
            if isinstance(estimates, str):
                why[level] = estimates
                continue
            coefficients, inverse, parameters[level] = estimates
        at = np.array(c)
        estimate[level, at] = coefficients
        covariance[level, at[:, None], at] = inverse
    sigma = float(np.sqrt(squares / df)) if df > 0 else float("nan")
    if design.is_linear:
        covariance = covariance * sigma**2
        parameters[:] = sigma
    n = np.array([len(r) for r in rows], dtype=np.int64)
    return LevelRegressions(
        estimate, covariance, n, sigma if design.is_linear else np.nan, df, parameters, turned, in_level, why
    )


def _turn(x: FloatArray, kept: tuple[int, ...], example: tuple[int, ...]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Matrix from coefficients of all columns to those of one level's own columns, and the mask of these columns."""
    k = x.shape[1]
    in_level = np.zeros(k, dtype=bool)
    # A level with too few rows keeps the columns of other levels, because it has no regression in any case.
    in_level[[*kept, *(example if len(kept) < len(example) else ())]] = True
    turn: FloatArray = np.diag(in_level.astype(np.float64))
    others = np.flatnonzero(~in_level)
    if kept and len(others):
        at = list(kept)
        turn[np.array(at)[:, None], others] = np.linalg.lstsq(x[:, at], x[:, others])[0]
    return turn, in_level


def _shortage(n: int, kept: tuple[int, ...], example: tuple[int, ...], names: tuple[str, ...], whole: int) -> str:
    rows = f"{n} row{'s' if n != 1 else ''}"
    if n < whole:
        return f"{rows} for {whole} coefficients"
    lost = [names[j] for j in example if j not in kept]
    return f"{', '.join(lost)} cannot be distinguished from the other columns in its {rows}"


def _least_squares(design: Design, x: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray, float]:
    """Coefficients, (X'WX)^-1 and the weighted residual sum of squares."""
    y = design.y[rows] if design.offset is None else design.y[rows] - design.offset[rows]
    x = x[rows]
    if design.weights is not None:
        root = np.sqrt(design.weights[rows])
        x, y = root[:, None] * x, root * y
    q, r = np.linalg.qr(x)
    inverse = np.linalg.solve(r, np.eye(len(r)))
    beta = inverse @ (q.T @ y)
    beta = beta + inverse @ (q.T @ (y - x @ beta))
    return beta, inverse @ inverse.T, float(np.sum((y - x @ beta) ** 2))


def regression_design(design: Design, values: FloatArray, names: tuple[str, ...], rows: IntArray) -> Design:
    """Design of some rows without group effects, with given columns of full rank, shape (n, k)."""

    def part(array: FloatArray | None) -> FloatArray | None:
        return None if array is None else array[rows]

    return replace(
        design,
        y=design.y[rows],
        x=np.ascontiguousarray(values[rows]),
        fixed_names=names,
        blocks=(),
        weights=part(design.weights),
        offset=part(design.offset),
        trials=part(design.trials),
        rows=design.rows[rows],
        zero=None,
        dispersion=None,
        labels=None,
    )


def _generalised(
    design: Design, columns: Columns, rows: IntArray, kept: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, FloatArray] | str:
    """Maximum-likelihood coefficients, covariance and dispersion of one level, or the reason why there are none."""
    at = list(kept)
    regression = regression_design(design, columns.array[:, at], tuple(columns.names[j] for j in at), rows)
    endless = separated_terms(regression)
    if endless:
        return f"separated: the estimate of {', '.join(endless)} is infinite"
    if regression.family.parameters and len(rows) <= len(at):
        return f"{len(rows)} rows for {len(at)} coefficients and {', '.join(regression.family.parameters)}"
    scale = np.abs(regression.x).max(axis=0)
    estimates = _search(replace(regression, x=regression.x / scale))
    if isinstance(estimates, str):
        return estimates
    beta, cov, parameters = estimates
    return beta / scale, cov / np.outer(scale, scale), parameters


def _search(design: Design) -> tuple[FloatArray, FloatArray, FloatArray] | str:
    try:
        optimum = search_laplace(design)
    except FloatingPointError as error:
        return str(error)
    cov, lost, fault = covariance_of(optimum, design)
    if fault or len(lost):
        return fault or "its rows do not determine the estimates"
    with np.errstate(divide="ignore"):
        far = np.abs(to_free(design.family, optimum.point.parameters))
    if (far > 15).any():
        return f"{', '.join(design.family.parameters)} diverges: its rows do not determine an estimate"
    return optimum.point.beta, cov, optimum.point.parameters
