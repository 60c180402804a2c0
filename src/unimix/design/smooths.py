"""Smooths of a design: their columns among the fixed effects, and the mixed model that estimates them.

A design holds the columns of every smooth ``s(x)`` among its fixed effects, because a curve is part of the mean: means,
predictions and slopes include it. Its likelihood is that of a mixed model, in which the straight line is a fixed effect
and the other columns have independent normal effects with one variance (:func:`mixed_design`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unimix.design.arrays import Design, RandomBlock, Smooth
from unimix.errors import DataError, listing
from unimix.formula.parser import name_of, render
from unimix.formula.smooth_terms import smooth_calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from unimix.formula.terms import ModelSpec

CURVE = "curve"
"""Name of the effects of a smooth in tables of standard deviations."""


def smooths_of(
    spec: ModelSpec, names: Sequence[str], kept: Sequence[int], states: Mapping[str, Mapping[str, Any]]
) -> tuple[Smooth, ...]:
    """Find the columns of each smooth.

    Args:
        spec: Parsed formula.
        names: Names of all columns of the fixed part.
        kept: Indices of the columns that were kept.
        states: What calls learnt from the data, by canonical text of the call.

    Raises:
        DataError: If penalised columns of a smooth are combinations of other columns.
    """
    found = []
    for call in smooth_calls(spec.fixed):
        term, state = name_of(call), states[render(call)]
        own = [j for j, name in enumerate(names) if name.startswith(f"{term}[") and name.endswith("]")]
        line, *curved = own
        place = {j: i for i, j in enumerate(kept)}
        if any(j not in place for j in curved):
            raise DataError(
                f"The curve of {term} is a combination of other terms of the formula, so that the data cannot tell "
                "them apart: leave one of them out, or write a smaller k=."
            )
        found.append(
            Smooth(
                term=term,
                basis=str(state["bs"]),
                range=(float(state["range"][0]), float(state["range"][1])),
                line=place.get(line),
                curved=tuple(place[j] for j in curved),
            )
        )
    return tuple(found)


def mixed_design(design: Design) -> Design:
    """The mixed model of a design with smooths; it is made once. A design without smooths is returned as it is.

    The blocks of the smooths come after those of the formula, and have one level: all rows.
    """
    if not design.smooths:
        return design
    return design.keep("mixed model of smooths", lambda: _mixed(design))


def unpenalised(smooths: Sequence[Smooth], p: int) -> list[int]:
    """Indices of the fixed effects, among p, that are no coefficients of curves."""
    curved = {j for smooth in smooths for j in smooth.curved}
    return [j for j in range(p) if j not in curved]


def _mixed(design: Design) -> Design:
    kept = unpenalised(design.smooths, design.p)
    blocks = [
        RandomBlock(
            group=smooth.term,
            factors=(),
            terms=tuple(design.fixed_names[j] for j in smooth.curved),
            z=np.ascontiguousarray(design.x[:, list(smooth.curved)]),
            codes=np.zeros(design.n, dtype=np.int64),
            levels=(CURVE,),
            structure="homdiag",
            is_smooth=True,
        )
        for smooth in design.smooths
    ]
    return replace(
        design,
        x=np.ascontiguousarray(design.x[:, kept]),
        fixed_names=tuple(design.fixed_names[j] for j in kept),
        blocks=(*design.blocks, *blocks),
        smooths=(),
    )


def smooths_fault(design: Design, df_method: str) -> str:
    """Message that a part of the model, or a method, is not there beside a smooth; empty if everything is."""
    if not design.smooths:
        return ""
    if df_method == "kenward-roger":
        return "df_method='kenward-roger' is not computed beside a smooth: use 'satterthwaite'."
    terms = listing(s.term for s in design.smooths)
    if design.parts:
        names = " and ".join({"zero": "ziformula=", "dispersion": "dispformula="}[n] for n in design.parts)
        return f"{terms} beside {names} is not fitted: leave {names} out, or use bs(x) or ns(x) in place of the smooth."
    if design.family.response == "ordered":
        return f"{terms} is not fitted for ordered categories: use bs(x) or ns(x) in place of the smooth."
    if design.residual is not None or design.related:
        what = "relationship=" if design.related else f"residual={design.residual.text!r}"  # type: ignore[union-attr]
        return f"{terms} beside {what} is not fitted: leave one of them out, or use bs(x) or ns(x) in place of it."
    return ""


__all__ = ["CURVE", "mixed_design", "smooths_fault", "smooths_of", "unpenalised"]
