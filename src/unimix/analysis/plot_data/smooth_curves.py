"""``fit.plot.smooths``: the curve of every smooth with its band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unimix.analysis.means.linear_functions import fixed_inference
from unimix.errors import DataError
from unimix.fitted.model import interval_level
from unimix.formula.functions import decode_state
from unimix.formula.parser import name_of, render
from unimix.formula.smooth_terms import smooth_calls
from unimix.formula.smooths import smooth_columns
from unimix.stats.inference import checked_level

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

GRID = 101
"""Number of points of a curve."""


def smooth_curves(fit: FittedModel, ci_level: float) -> pd.DataFrame:
    """The curve of every smooth over its fitted range, on the scale of the linear predictor.

    Args:
        fit: A result with smooths.
        ci_level: Probability of the band, at each point.

    Returns:
        Columns term, x, estimate, std_error, lower, upper; the mean of a curve over the rows is zero.

    Raises:
        DataError: If the model has no smooths.
    """
    checked_level(ci_level)
    if not fit.smooths:
        raise DataError(f"{fit.model.reading} has no smooths: s(x) in a formula is one.")
    inference = fixed_inference(fit)
    calls = {name_of(call): call for call in smooth_calls(fit.spec.fixed)}
    place = {name: j for j, name in enumerate(fit.fixed.terms)}
    parts = []
    for smooth in fit.smooths:
        call = calls[smooth.term]
        x = np.linspace(*smooth.range, GRID)
        columns = smooth_columns(x, decode_state(fit.model.encoding.states[render(call)]), {})
        weights = np.zeros((GRID, len(place)))
        weights[:, [place[name] for name in smooth.columns]] = columns[:, -len(smooth.columns) :]
        table = inference.functions(weights).table(ci_level)
        parts.append(table[["estimate", "std_error", "lower", "upper"]].assign(term=smooth.term, x=x))
    frame = pd.concat(parts, ignore_index=True)[["term", "x", "estimate", "std_error", "lower", "upper"]]
    frame.attrs["x"] = {term: name_of(call.arguments[0]) for term, call in calls.items()}
    frame.attrs["edf"] = {smooth.term: smooth.edf for smooth in fit.smooths}
    return frame


class SmoothPlots:
    """The pictures of smooths.

    Args:
        fit: The result.
    """

    def __init__(self, fit: FittedModel) -> None:
        self._fit = fit

    def smooths(self, *, ci_level: float | None = None, columns: int = 3, draw: bool = True) -> Any:
        """The curve of every smooth ``s(x)`` with its band, on the scale of the linear predictor, about its mean.

        The band holds the errors of the straight line and the curve together, at the estimated variances; its
        probability holds on average over the curve (Marra & Wood 2012).

        Args:
            ci_level: Probability of the band; None takes that of the fit.
            columns: Number of panels per row.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The matplotlib Axes, one per smooth. With ``draw=False`` columns term, x, estimate, std_error, lower, upper.

        Raises:
            DataError: If the model has no smooths.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Weight ~ s(Time) + (1 | Pig)", um.load_dataset("dietox"))
            >>> fit.plot.smooths(draw=False)[["x", "estimate"]].iloc[[0, -1]].round(1)
                    x  estimate
            0     1.0     -35.3
            100  12.0      39.2
        """
        level = interval_level(self._fit, ci_level)
        data = smooth_curves(self._fit, level)
        if not draw:
            return data
        from unimix.plots.smooths import draw_smooths

        return draw_smooths(data, columns=columns, title=self._fit.formula, note=f"Bands: {100 * level:g}%, pointwise")


__all__ = ["SmoothPlots", "smooth_curves"]
