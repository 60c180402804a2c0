"""Marginal means with the rows that were fitted: observed responses, or partial residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors, level_text
from unimix.analysis.means.emmeans import emmeans
from unimix.analysis.means.scales import Scale, is_transformed
from unimix.design.typed_columns import FactorColumn, NumericColumn, as_factor, as_numbers
from unimix.distributions.links import LINKS
from unimix.distributions.ordered import refuse_categories
from unimix.errors import OptionError, UnsupportedModelError

if TYPE_CHECKING:
    from unimix.analysis.means.marginal_means import MarginalMeans
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
POINTS = ("response", "partial", None)


def means_and_points(
    fit: FittedModel,
    specs: str | Sequence[str],
    grid: Mapping[str, Any],
    *,
    kind: Literal["response", "link"],
    points: str | None,
    ci_level: float | None,
) -> pd.DataFrame:
    """The means of a picture, and the rows that are drawn under them.

    Args:
        fit: The result.
        specs: Predictors, as in :func:`unimix.analysis.means.emmeans.emmeans`.
        grid: The arguments ``by``, ``at`` and ``weights`` of the means.
        kind: Scale, response or link.
        points: response, partial or None.
        ci_level: Probability of the intervals.

    Returns:
        Columns kind (mean or data), one per predictor, y, lower, upper (of means only); the attributes ``names`` and
        ``notes`` go with it.

    Raises:
        OptionError: If the points are not on the scale of the means, or rows cannot be assigned to means.
        DataError: If the result was loaded without its data.
    """
    if points not in POINTS:
        raise OptionError(f"points={points!r}: choose 'response', 'partial' or None.")
    asked = emmeans(fit, specs, **grid, kind=kind, ci_level=ci_level)
    names = [*asked.names, *asked.by]
    if taken := [n for n in names if n in ("kind", "y")]:
        raise OptionError(f"The data of this picture have a column {taken[0]!r} of their own: rename the predictor.")
    table = asked.table.rename(columns={"estimate": "y"})[[*names, "y", "lower", "upper"]]
    notes = list(asked.notes)
    frame = table.assign(kind="mean")
    if points is not None:
        _check_points(fit, points, kind)
        design = fit.design()
        shown = _assigned(fit, design, asked, names)
        rows = pd.DataFrame({n: list(shown[n]) for n in names}, index=range(design.n))
        if points == "response":
            rows["y"] = _turned_back(fit, kind, design.y)
        else:
            rows["y"] = _turned_back(fit, kind, _partial(fit, design, specs, names, shown, grid))
        kept = np.all([s.notna() for s in shown.values()], axis=0) if names else np.ones(design.n, dtype=bool)
        rows = rows[kept & rows["y"].notna().to_numpy()]
        notes.append(_points_note(fit, points, len(rows), design.n))
        if points == "response" and design.offset is not None:
            notes.append("Each point has the offset of its row, such as its exposure, and the means the mean offset.")
        frame = pd.concat([frame, rows.assign(kind="data")], ignore_index=True)
    frame = frame[["kind", *names, "y", "lower", "upper"]]
    frame.attrs = {"names": names, "notes": notes, "scale": asked.scale_name, "title": asked.title}
    return frame


def _check_points(fit: FittedModel, points: str, kind: str) -> None:
    linear = fit.family.link == "identity"
    if points == "response" and kind == "link" and not linear:
        raise OptionError(
            f"points='response' are observed responses, and kind='link' is the scale of the {fit.model.link} link: "
            "take kind='response', points='partial' or points=None."
        )
    if points == "partial":
        refuse_categories(fit.family, "points='partial'")
        if fit.parts:
            raise UnsupportedModelError(
                f"Partial residuals of a model with a part for {' and '.join(fit.parts)} have no accepted definition: "
                "take points='response'."
            )
        if kind == "response" and not linear:
            raise OptionError(
                f"Partial residuals belong to the linear predictor: with the {fit.model.link} link take kind='link', "
                "or points='response'."
            )


def _assigned(
    fit: FittedModel, design: Design, asked: MarginalMeans, names: Sequence[str]
) -> dict[str, pd.Series[Any]]:
    """For each predictor, the shown value of each row, shape (n,); missing where the row's value is not shown.

    Numbers along the axis, the first predictor, are the row's own.

    Raises:
        OptionError: If a number in colours or panels is not one of those shown.
    """
    known = Predictors.of(fit, design).levels
    assigned: dict[str, pd.Series[Any]] = {}
    for i, name in enumerate(names):
        column = design.columns[name]
        if isinstance(column, NumericColumn) and name not in known:
            own = pd.Series(as_numbers(column))
            values = pd.unique(asked.levels[name])
            if i and not own.isin(values).all():
                raise OptionError(
                    f"points=: {int((~own.isin(values)).sum())} of {len(own)} rows have another value of "
                    f"{name} than those shown, so that they belong to no mean. Take points=None, or put {name} first, "
                    "on the axis."
                )
            assigned[name] = own
            continue
        factor = column if isinstance(column, FactorColumn) else as_factor(column, name)
        shown = {level_text(v): v for v in asked.levels[name]}
        of_level = [shown.get(level_text(v)) for v in factor.levels]
        assigned[name] = pd.Series([of_level[c] for c in factor.codes], dtype=object)
    return assigned


def _turned_back(fit: FittedModel, kind: Literal["response", "link"], values: FloatArray) -> FloatArray:
    """Values on the scale of a linear response, turned back where the means are."""
    turned = kind == "response" and is_transformed(fit)
    return np.asarray(Scale.of(fit, kind).mean(values) if turned else values)


def _partial(
    fit: FittedModel,
    design: Design,
    specs: str | Sequence[str],
    names: Sequence[str],
    shown: Mapping[str, pd.Series[Any]],
    grid: Mapping[str, Any],
) -> FloatArray:
    """Partial residuals of the linear predictor, shape (n,): the mean at a row's values plus its residual.

    The residual is that of the linear predictor with group effects; with a link other than the identity it is the
    working residual (y - mu) / (d mu / d eta). NaN for rows at values that are not shown.

    Source: Landwehr, Pregibon & Shoemaker (1984), J. Am. Stat. Assoc. 79:61-71.
    """
    eta, link = np.asarray(fit.rows.linear_predictor), LINKS[fit.family.link]
    residual = (design.y - link.inverse(eta)) / link.slope(eta)
    numeric = [n for n in names[:1] if shown[n].dtype.kind == "f"]
    at = {**(grid["at"] or {}), **{n: sorted(shown[n].unique()) for n in numeric}}
    means = emmeans(fit, specs, by=grid["by"], at=at, weights=grid["weights"]).table
    keys = [tuple(map(level_text, row)) for row in means[list(names)].itertuples(index=False)] if names else [()]
    of_cell = dict(zip(keys, means["estimate"], strict=True))
    cells = zip(*(shown[n].map(level_text) for n in names), strict=True) if names else [()] * design.n
    predictor = np.array([of_cell.get(cell, np.nan) for cell in cells])
    return predictor + residual


def _points_note(fit: FittedModel, points: str, shown: int, n: int) -> str:
    of = f"{shown} rows" if shown == n else f"{shown} of {n} rows, those at the values shown"
    if points == "partial":
        what = "working residual" if fit.family.link != "identity" else "residual"
        return f"Points: partial residuals of {of}, the mean plus the row's {what} after group effects."
    return f"Points: observed responses of {of}."


__all__ = ["means_and_points"]
