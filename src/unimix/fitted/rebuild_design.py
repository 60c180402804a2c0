"""The design of a saved result, from the result and its data."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock
from unimix.design.design import with_dot
from unimix.design.grouping_factors import level_codes
from unimix.design.response import SUCCESS
from unimix.design.transform import NewRows, design_rows, response_values, used_columns
from unimix.distributions.family import as_family
from unimix.errors import DataError
from unimix.fitted.model import FittedModel
from unimix.formula.interpreter import parse

FloatArray = npt.NDArray[np.float64]
SAME = 1e-6
"""Relative difference of linear predictors above which data are not those that were fitted."""

Model = TypeVar("Model", bound=FittedModel)


def with_data(fit: Model, data: Any) -> Model:
    """The same result with the data that were fitted: for a result that was loaded or unpickled.

    Args:
        data: The frame that was fitted, in any form that ``fit`` takes.

    Returns:
        A result whose analyses need no further data.

    Raises:
        DataError: If these are other data.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> loaded = um.FitResult.from_json(fit.to_json())
        >>> float(loaded.with_data(sleep).anova()["den_df"].iloc[0].round(3))
        161.0
    """
    made = fit.model_copy()
    made._design = rebuild_design(fit, data)
    return made


def rebuild_design(fit: FittedModel, data: Any) -> Design:
    """The design that a result belongs to; weights, trials and an offset given as an array are the result's own.

    Args:
        fit: A result without a formula of the dispersion.

    Raises:
        DataError: If they are other data.
    """
    if "dispersion" in fit.parts:
        raise DataError(
            "A loaded result does not know the columns of its dispersion: fit the model again to the frame."
        )
    recipe = fit.model.recipe.model_copy(update={"offset_given": False})
    spec = with_dot(parse(recipe.formula, recipe.ziformula), recipe.dot_columns)
    made = design_rows(recipe, data, with_groups=bool(fit.random))
    place = np.full(len(made.complete), -1)
    place[made.complete] = np.arange(int(made.complete.sum()))
    index = np.asarray(fit.rows.index, dtype=np.int64)
    if index.max(initial=-1) >= len(place) or (place[index] < 0).any():
        raise DataError(
            f"These are not the data that were fitted: the fit used rows up to number {index.max()}, and the data have "
            f"{int(made.complete.sum())} complete rows of {len(place)}. Give the frame that fit() was given."
        )
    at = place[index]
    x = made.x[at]
    offset = made.offset[at]
    fixed = np.asarray(fit.rows.population_predictor)
    given = fixed - x @ fit.fixed.estimate
    if fit.model.recipe.offset_given:
        offset = given
    eta = x @ fit.fixed.estimate + offset
    blocks = []
    for block, z, labels, own in zip(fit.random, made.z, made.labels, recipe.blocks, strict=True):
        codes = level_codes(block.levels, [labels[i] for i in at])
        if (codes < 0).any():
            raise DataError(f"These are not the data that were fitted: {block.group} has levels that the fit has not.")
        eta = eta + np.einsum("nq,nq->n", z[at], np.asarray(block.modes)[codes])
        blocks.append(
            RandomBlock(
                block.group,
                (block.group,),
                block.terms,
                np.ascontiguousarray(z[at]),
                codes,
                block.levels,
                spec.random[own.term].structure,
            )
        )
    size = float(np.abs(fit.rows.linear_predictor).max())
    if np.abs(eta - fit.rows.linear_predictor).max() > SAME * max(size, 1e-300):
        raise DataError(
            "These are not the data that were fitted: fixed and group effects do not give the fitted values with them. "
            "Give the frame that fit() was given."
        )
    zero = _zero_part(fit, made, at)
    rows = fit.rows
    observed = response_values(fit.model.recipe, data)
    if observed is not None and not np.allclose(observed[index], rows.observed, rtol=SAME, atol=0.0):
        raise DataError(
            "These are not the data that were fitted: the response differs. Give the frame that fit() was given."
        )
    return Design(
        spec=spec,
        y=np.asarray(rows.observed, dtype=np.float64),
        x=np.ascontiguousarray(x),
        fixed_names=fit.fixed.terms,
        blocks=tuple(blocks),
        weights=None if rows.weights is None else np.asarray(rows.weights),
        offset=offset if np.any(offset != 0) else None,
        rows=index,
        n_rows=len(place),
        dropped=fit.model.missing,
        aliased=fit.model.aliased,
        notes=tuple(note for note in fit.notes if SUCCESS in note),
        recipe=fit.model.recipe,
        family=as_family(f"{fit.model.family}({fit.model.link})"),
        trials=None if rows.trials is None else np.asarray(rows.trials),
        columns=used_columns(fit.model.recipe, data, index),
        zero=zero,
    )


def _zero_part(fit: FittedModel, made: NewRows, at: npt.NDArray[np.int64]) -> AuxiliaryDesign | None:
    """Columns of the zero inflation, checked against the probabilities that were fitted."""
    if "zero" not in fit.parts or made.zero is None or fit.rows.zero_probability is None:
        return None
    own = fit.parts["zero"]
    x = np.ascontiguousarray(made.zero[at])
    if not np.allclose(special.expit(x @ own.estimate), fit.rows.zero_probability, rtol=SAME, atol=SAME):
        raise DataError(
            "These are not the data that were fitted: the probabilities of structural zeros differ. Give the frame "
            "that fit() was given."
        )
    return AuxiliaryDesign(x, own.terms, fit.model.recipe.zero_kept)
