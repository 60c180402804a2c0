"""Columns of the formula of the dispersion, for new rows of a fitted model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.level_means import mean_calls
from unimix.design.model_matrix import build_columns
from unimix.design.new_data import match_levels, match_number
from unimix.design.typed_columns import column_labels, read_columns
from unimix.errors import DataError, UnsupportedModelError, did_you_mean, listing
from unimix.formula.allowed import part_variables
from unimix.formula.interpreter import parse

if TYPE_CHECKING:
    from unimix.design.encoding import Encoding
    from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]


def dispersion_variables(encoding: Encoding) -> tuple[str, ...]:
    """Columns of the data that the formula of the dispersion needs."""
    part = None if encoding.dispersion is None else with_dispersion(encoding).dispersion
    return () if part is None else tuple(dict.fromkeys(part_variables(part)))


def with_dispersion(encoding: Encoding) -> ModelSpec:
    """The parsed formula of an encoding, with that of the dispersion if there is any."""
    spec, own = encoding.spec, encoding.dispersion
    if own is None:
        return spec
    of_dispersion = parse(encoding.formula, None, own.text).dispersion
    return replace(spec, dispersion=of_dispersion, texts=(*spec.texts, ("dispersion", own.text)))


def dispersion_columns(encoding: Encoding, data: Any) -> FloatArray:
    """Columns of the log dispersion of every row, shape (n, k); NaN in rows where one of its variables is missing.

    Args:
        encoding: Encoding of a fitted model whose dispersion has a formula.
        data: New rows, in any form that ``fit`` takes.

    Raises:
        DataError: If a variable is absent or has levels that were not fitted.
        UnsupportedModelError: If the formula has means of levels, which a result does not keep.
    """
    spec = with_dispersion(encoding)
    part, kept = spec.dispersion, () if encoding.dispersion is None else encoding.dispersion.kept
    assert part is not None  # noqa: S101  its text has terms
    if set(mean_calls(spec)) - set(mean_calls(spec.without_dispersion())):
        raise UnsupportedModelError(
            "A result does not keep the means of between() and within() in dispformula=: make columns of them first."
        )
    names = dispersion_variables(encoding)
    labels = column_labels(data)
    if absent := [n for n in names if n not in labels]:
        raise DataError(
            f"The new data lack {listing(absent)}, on which the residual variance depends (dispformula=)."
            f"{did_you_mean(absent[0], labels)}"
        )
    columns = {
        n: match_number(n, c) if n in encoding.numeric else match_levels(n, c, encoding.levels[n])
        for n, c in read_columns(data, names).items()
    }
    complete = ~np.any([c.missing for c in columns.values()], axis=0)
    rows = np.flatnonzero(complete)
    env = encoding.environment({n: c.take(rows) for n, c in columns.items()})
    x = build_columns(part, env, encoding.contrasts, len(rows))[0]
    whole = np.full((len(complete), len(kept)), np.nan)
    whole[complete] = x[:, list(kept)]
    return whole


__all__ = ["dispersion_columns", "dispersion_variables", "with_dispersion"]
