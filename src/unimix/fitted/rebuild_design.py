"""The design of a saved result, from the result and its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock
from unimix.design.dispersion_columns import dispersion_columns, dispersion_variables, with_dispersion
from unimix.design.encoding import CHANGED
from unimix.design.new_data import NewRows
from unimix.design.residual_block import residual_block
from unimix.design.response import SUCCESS
from unimix.design.smooths import smooths_of
from unimix.design.structured_times import coordinates_of
from unimix.design.typed_columns import column_labels, read_columns
from unimix.errors import DataError, listing
from unimix.fitted.model import FittedModel, Model
from unimix.fitted.no_rows import has_no_rows
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.reduction.reduced import Reduced

FloatArray = npt.NDArray[np.float64]
REBUILT = "made of a saved result and its data"
"""Name under which a rebuilt design keeps that it was rebuilt: its numbers may differ from those fitted by rounding."""
SAME = 1e-6
"""Relative difference of predictors or responses above which the data differ from those that were fitted."""
OTHER = "These are not the data that were fitted: {}. Give the frame that fit() was given."


def with_data(fit: Model, data: Any) -> Model:
    """Give a result that was loaded or unpickled the data it was fitted to.

    Args:
        data: The data that were fitted, in any form that ``um.fit`` takes, or their reduction if one was fitted.

    Returns:
        The same result with its data, so that all analyses work.

    Raises:
        DataError: If the data differ from those that were fitted.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> loaded = um.FitResult.from_json(fit.to_json())
        >>> float(loaded.with_data(sleep).anova()["den_df"].iloc[0].round(3))
        161.0
    """
    if has_no_rows(fit) and not isinstance(data, Reduced):
        raise DataError(
            "The model was fitted to reduced rows: give the result their reduction, fit.with_data(um.reduce(source, "
            "formula)) or fit.with_data(um.load_reduced(path))."
        )
    rebuilt = design_of_reduction(fit, data) if isinstance(data, Reduced) else rebuild_design(fit, data)
    return replace(fit, _unsaved=replace(fit._unsaved, design=rebuilt))


def design_of_reduction(fit: FittedModel, reduced: Reduced) -> Design:
    """Arrays of a reduction to which a result was fitted.

    Raises:
        DataError: If the result was fitted to other data: its fixed effects or its likelihood are not those that the
            reduction gives at its variances.
    """
    if not has_no_rows(fit):
        raise DataError("The model was fitted to rows, not to a reduction of rows: give the frame that was fitted.")
    design = reduced.design(fit.model.formula)
    levels = [(b.group, b.terms, b.levels) for b in design.blocks]
    same = fit.n_obs == design.n_obs and fit.fixed.terms == design.fixed_names
    if same and levels == [(b.group, b.terms, b.levels) for b in fit.random] and design.blocks:
        criterion, reml = LinearCriterion.of(design), fit.criteria.criterion == "REML"
        at = criterion.at([np.asarray(b.covariance) for b in fit.random], fit.sigma, reml=reml)
        apart = np.abs(criterion.beta(at) - fit.fixed.estimate) / np.sqrt(np.diag(fit.fixed.covariance))
        away = abs(criterion.value(at) - fit.log_likelihood) / max(1.0, abs(fit.log_likelihood))
        same = bool((apart <= SAME).all() and away <= SAME)
    elif design.blocks or fit.random:
        same = False
    if not same:
        raise DataError(OTHER.format("the reduction gives other estimates, or has other levels or rows"))
    return design


def rebuild_design(fit: FittedModel, data: Any, *, used_only: bool = False) -> Design:
    """Rebuild the design of a result from its data; weights, trials and offset are taken from the result.

    Everything that was fitted is compared: predictors, grouping factors, response, weights and offset by their digests
    (:mod:`unimix.design.digests`), and the fitted values that follow from the fixed and group effects.

    Args:
        fit: A result.
        data: The data that were fitted.
        used_only: Whether the data hold only the rows that were used.

    Raises:
        DataError: If the data differ from those that were fitted.
    """
    if fit.model.related:
        raise DataError(
            f"A saved result does not hold the relationship matrix of {listing(fit.model.related)}: fit the model "
            "again to the data, with relationship=."
        )
    encoding, rows = fit.model.encoding, fit.rows
    coded = encoding.without_given_offset().transform(data, with_groups=bool(fit.random), strict=False)
    given = np.asarray(rows.index, dtype=np.int64)
    index = np.arange(fit.model.n_obs) if used_only else given
    _check_rows(fit, coded, index, fit.model.n_obs if used_only else fit.model.n_obs + fit.model.n_dropped)
    names, aliased = _check_names(fit, coded)
    at = (np.cumsum(coded.complete) - 1)[index]
    columns = encoding.columns(data, index)
    blocks = tuple(
        RandomBlock(
            group=block.group,
            factors=fit.spec.random[encoded.term].factors,
            terms=block.terms,
            z=np.ascontiguousarray(z[at]),
            codes=levels.among(block.levels)[at],
            levels=block.levels,
            structure=fit.spec.random[encoded.term].structure,
            coordinates=coordinates_of(fit.spec.random[encoded.term], columns),
        )
        for block, z, levels, encoded in zip(fit.random, coded.z, coded.levels, encoding.blocks, strict=True)
    )
    strange = [b.group for b in blocks if (b.codes < 0).any()]
    if strange:
        raise DataError(OTHER.format(f"{strange[0]} has levels that the fit does not have"))
    differing = encoding.data.differing(encoding.digest(data, index, {b.group: b.codes for b in blocks}), len(index))
    if differing:
        raise DataError(OTHER.format(f"{listing(differing)} {'differs' if len(differing) == 1 else 'differ'}"))
    x = np.ascontiguousarray(coded.x[at])
    _check_predictor(fit, x, blocks)
    observed = encoding.response(data)
    if observed is not None and not np.allclose(observed[index], rows.observed, rtol=SAME, atol=0.0):
        raise DataError(OTHER.format("the response differs"))
    of_residuals = encoding.residual_columns(data, index)
    of_terms = encoding.columns(data, index)
    design = Design(
        spec=with_dispersion(encoding),
        y=np.asarray(rows.observed, dtype=np.float64),
        x=x,
        fixed_names=names,
        blocks=blocks,
        weights=None if rows.weights is None else np.asarray(rows.weights),
        offset=None if rows.offset is None else np.asarray(rows.offset),
        rows=given,
        n_rows=fit.model.n_obs + fit.model.n_dropped,
        dropped=dict(fit.model.missing) if used_only else _dropped(fit, data, index),
        aliased=aliased,
        notes=tuple(note for note in fit.notes if SUCCESS in note),
        encoding=encoding,
        labels=fit.rows.labels,
        family=fit.family,
        trials=None if rows.trials is None else np.asarray(rows.trials),
        columns={**of_terms, **of_residuals, **encoding.named(data, index, dispersion_variables(encoding))},
        zero=_zero_part(fit, coded, at),
        dispersion=_dispersion_part(fit, data, index),
        column_terms=encoding.column_terms(of_terms),
        residual=None
        if fit.residual_part is None or fit.spec.residual is None
        else residual_block(fit.spec.residual, of_residuals, of_residuals, fit.residual_part.form),
        sigma=fit.model.sigma,
        smooths=smooths_of(fit.spec, coded.names[0], encoding.kept, encoding.environment(columns).states),
    )
    if [(s.term, s.columns) for s in fit.smooths] != [
        (s.term, tuple(names[j] for j in s.columns)) for s in design.smooths
    ]:
        raise DataError(CHANGED.format("its smooths are not those of its formula"))
    design.keep(REBUILT, lambda: True)
    return design


def _check_names(fit: FittedModel, rows: NewRows) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns kept and left out; refuse a result whose names are not those of the data's columns."""
    fixed, *blocks = rows.names
    kept = fit.model.encoding.kept
    names = tuple(fixed[j] for j in kept)
    encoded = fit.model.encoding.blocks if fit.random else ()
    groups = [(fit.spec.random[block.term].group, terms) for block, terms in zip(encoded, blocks, strict=True)]
    fitted = [(b.group, b.terms) for b in fit.random]
    if fit.fixed.terms != names or fitted != groups:
        shown = listing(name for part in (names, *blocks) for name in part)
        raise DataError(CHANGED.format(f"its formula has the columns {shown}"))
    return names, tuple(name for j, name in enumerate(fixed) if j not in set(kept))


def _dropped(fit: FittedModel, data: Any, index: npt.NDArray[np.int64]) -> dict[str, int]:
    """Missing values per column among the rows left out, counted again in the columns that the data have."""
    stated = fit.model.missing
    columns = read_columns(data, [name for name in stated if name in column_labels(data)])
    left_out = np.ones(fit.model.n_obs + fit.model.n_dropped, dtype=bool)
    left_out[index] = False
    counted = {name: int(column.missing[left_out].sum()) for name, column in columns.items()}
    known = {*fit.model.encoding.numeric, *fit.model.encoding.levels, "weights=", "offset="}
    return {name: counted.get(name, n) for name, n in stated.items() if name in known}


def _check_rows(fit: FittedModel, rows: NewRows, index: npt.NDArray[np.int64], n_fitted: int) -> None:
    """Refuse data of a different length, or in which a row that was fitted is incomplete."""
    n = len(rows.complete)
    if n != n_fitted:
        raise DataError(OTHER.format(f"they have {n} rows, and the model was fitted to data of {n_fitted} rows"))
    if len(np.unique(index)) != len(fit.rows.index) or index.min(initial=0) < 0 or index.max(initial=0) >= n:
        raise DataError(
            f"This result was changed: its {len(index)} rows are not different rows of the {n} in the data."
        )
    lacking = int((~rows.complete[index]).sum())
    if lacking:
        raise DataError(OTHER.format(f"{lacking} of the {fit.model.n_obs} rows that were used have missing values"))


def _check_predictor(fit: FittedModel, x: FloatArray, blocks: tuple[RandomBlock, ...]) -> None:
    """Refuse columns that do not reproduce the fitted values: a function in the formula now computes something else."""
    eta = x @ fit.fixed.estimate + (0.0 if fit.rows.offset is None else fit.rows.offset)
    for block, reported in zip(blocks, fit.random, strict=True):
        eta = eta + np.einsum("nq,nq->n", block.z, np.asarray(reported.modes)[block.codes])
    size = float(np.abs(fit.rows.linear_predictor).max())
    if np.abs(eta - fit.rows.linear_predictor).max() > SAME * max(size, 1e-300):
        raise DataError(OTHER.format("fixed and group effects do not give the fitted values with them"))


def _zero_part(fit: FittedModel, rows: NewRows, at: npt.NDArray[np.int64]) -> AuxiliaryDesign | None:
    """Columns of the zero-inflation model, checked against the probabilities that were fitted."""
    if "zero" not in fit.parts or rows.zero is None or fit.rows.zero_probability is None:
        return None
    reported = fit.parts["zero"]
    x = np.ascontiguousarray(rows.zero[at])
    if not np.allclose(special.expit(x @ reported.estimate), fit.rows.zero_probability, rtol=SAME, atol=SAME):
        raise DataError(OTHER.format("the probabilities of structural zeros differ"))
    return AuxiliaryDesign(x, reported.terms, fit.model.encoding.zero_kept)


def _dispersion_part(fit: FittedModel, data: Any, index: npt.NDArray[np.int64]) -> AuxiliaryDesign | None:
    """Columns of the log dispersion, checked against the dispersions that were fitted."""
    encoded = fit.model.encoding.dispersion
    if encoded is None or "dispersion" not in fit.parts or fit.rows.dispersion is None:
        return None
    x = np.ascontiguousarray(dispersion_columns(fit.model.encoding, data)[index])
    reported = fit.parts["dispersion"]
    if not np.allclose(np.exp(x @ reported.estimate), fit.rows.dispersion, rtol=SAME, atol=0.0):
        raise DataError(OTHER.format("the dispersions differ"))
    return AuxiliaryDesign(x, reported.terms, encoded.kept)
