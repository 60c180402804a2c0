"""The scale of the response: inverse links, and transformed responses turned back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.analysis.means.contrasts import RATIOS
from unimix.analysis.prediction.over_groups import OverGroups, averaged_note
from unimix.design.typed_columns import as_numbers
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.random_responses import mean_of
from unimix.errors import DataError, OptionError, UnsupportedModelError
from unimix.fitted.model import has_design
from unimix.formula.inverse import Inverse, inverse_of
from unimix.formula.parser import Name, render

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
NODES = 61
"""Nodes of the Gauss-Hermite quadrature over the distribution of responses."""


@dataclass(frozen=True)
class Scale:
    """A monotone function from linear predictors to the scale of the response.

    Attributes:
        mean: The function, NaN where it is not defined.
        slope: Its derivative.
        name: Name of the scale, such as ``response`` or the column that was turned back.
        ratio: Name of exp of a difference of linear predictors, ratio or odds_ratio; empty if it is neither.
        unit: Factor from differences of the linear predictor to natural logarithms, for ratios.
        is_identity: Whether the scale is that of the linear predictor itself.
        note: What a reader must know of the scale; empty for an inverse link.
        plain: The function without an adjustment of means, if there is one.
        over: The rows whose responses are averaged over the groups, if they are.
    """

    mean: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    name: str = "response"
    ratio: str = ""
    unit: float = 1.0
    is_identity: bool = False
    note: str = ""
    plain: Callable[[FloatArray], FloatArray] | None = None
    over: OverGroups | None = None

    def take(self, rows: npt.NDArray[np.int64]) -> Scale:
        """The scale of some of the rows."""
        return self if self.over is None else Scale.over_groups(self.over.take(rows))

    def of_draws(self, eta: FloatArray) -> FloatArray:
        """Values for posterior draws of linear predictors (S, n), in their shape."""
        return self.mean(eta) if self.over is None else self.over.mean_of_draws(eta)

    @classmethod
    def over_groups(cls, rows: OverGroups) -> Scale:
        """The scale of expected responses that are averaged over the groups."""
        said = averaged_note(sampled=rows.sampled is not None)
        if rows.family.link == "identity":
            return replace(cls.of_family(rows.family), note=f"The mean over the groups: {said}.")
        sd = rows.sd
        alike = rows.family.link == "log" and bool(np.ptp(sd) <= 1e-9 * max(float(sd.max(initial=0.0)), 1e-300))
        ratio = "ratio" if alike else ""
        return cls(rows.mean, rows.slope, ratio=ratio, note=f"The mean response {said}.", over=rows)

    def interval(self, ends: FloatArray, at: FloatArray, *, quantiles: bool = False) -> tuple[FloatArray, FloatArray]:
        """Lower and upper ends, shapes (m,), of intervals (m, 2) of the linear predictor about ``at``, shape (m,).

        Args:
            ends: Ends on the scale of the linear predictor.
            at: Estimates there, which decide whether the function rises or falls.
            quantiles: Whether the ends are quantiles of responses, without the adjustment of means.
        """
        turned = ((self.plain or self.mean) if quantiles else self.mean)(ends.T).T
        falls = self.slope(at) < 0
        return np.where(falls, turned[:, 1], turned[:, 0]), np.where(falls, turned[:, 0], turned[:, 1])

    @classmethod
    def of_family(cls, family: Family) -> Scale:
        """The scale of a family's expected response."""
        link = LINKS[family.link]
        return cls(
            lambda eta: mean_of(family, eta),
            link.slope,
            ratio=RATIOS.get(family.link, ""),
            is_identity=family.link == "identity",
        )

    @classmethod
    def of(cls, fit: FittedModel, kind: str, bias_adjust: bool | float = False, spread: float | None = None) -> Scale:
        """The scale on which estimates of a fit are shown.

        Args:
            fit: The result.
            kind: link, or response, which turns a transformed response such as ``log(y)`` back, too.
            bias_adjust: Whether to give the mean of the response that was turned back, instead of the response at the
                mean of the transformed one; a number is the standard deviation of the transformed response to use.
            spread: Standard deviation of the transformed response about its mean that ``bias_adjust=True`` uses; None
                takes that of a new level of every grouping factor.

        Raises:
            OptionError: If a response cannot be turned back, or ``bias_adjust`` is not for this scale.
        """
        if kind != "response" or not is_transformed(fit):
            if bias_adjust is not False:
                raise OptionError(
                    "bias_adjust= is for a transformed response that is turned back, such as log(y) with "
                    f"kind='response'; here the response is {fit.model.response} and kind={kind!r}. Leave it out."
                )
            return cls.of_family(fit.family)
        inverse, text = inverse_of(fit.spec.response), render(fit.spec.response)
        if inverse is None:
            raise OptionError(
                f"kind='response': how {text} is turned back is not known. Use kind='link', which stays on its scale."
            )
        _check_branch(fit, inverse)
        same = f"Turned back from {text}"
        if bias_adjust is False:
            note = f"{same}: {inverse.column} at the mean of {text}, which is its median if {text} is symmetric"
            return cls(inverse.value, inverse.slope, inverse.column, inverse.ratio, inverse.unit, note=f"{note}.")
        sd = _spread(fit, bias_adjust, spread)
        nodes, weights = special.roots_hermitenorm(NODES)
        weights = weights / weights.sum()

        def averaged(function: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
            """E f(eta + sd Z) for a standard normal Z."""

            def average(eta: FloatArray) -> FloatArray:
                eta = np.asarray(eta, dtype=np.float64)
                values = sum(w * function(eta + sd * z) for z, w in zip(nodes, weights, strict=True))
                if np.isnan(values[~np.isnan(eta)]).any():
                    raise DataError(
                        f"bias_adjust=: the mean of {inverse.column} does not exist, because {text} cannot have all "
                        "values of a normal distribution. Leave bias_adjust= out."
                    )
                return np.asarray(values)

            return average

        note = f"{same}: means of {inverse.column}, for normal {text} with SD {sd:.4g}"
        return cls(
            averaged(inverse.value),
            averaged(inverse.slope),
            inverse.column,
            "ratio" if inverse.ratio == "ratio" else "",  # a ratio of means is exp of the difference, too; odds are not
            inverse.unit,
            note=f"{note}.",
            plain=inverse.value,
        )


def _check_branch(fit: FittedModel, inverse: Inverse) -> None:
    """Refuse a response whose inverse does not give back the column that was fitted.

    Raises:
        OptionError: If it does not, as for the square of negative numbers.
        DataError: If the data are needed to tell, and the result does not hold them.
    """
    if not inverse.one_branch and not has_design(fit):
        return
    column = fit.design().columns.get(inverse.column)
    if column is None:
        return
    given = np.asarray(as_numbers(column), dtype=np.float64)
    if not np.allclose(inverse.value(np.asarray(fit.rows.observed)), given, rtol=1e-6, atol=1e-9 * np.abs(given).max()):
        raise OptionError(
            f"kind='response': {inverse.column} cannot be told from {fit.model.response}, because several values of it "
            "have the same one. Use kind='link', which stays on its scale."
        )


def is_transformed(fit: FittedModel) -> bool:
    """Whether the response is a function of a column, such as ``log(y)``, which ``kind="response"`` turns back."""
    return fit.family.link == "identity" and not isinstance(fit.spec.response, Name)


def _spread(fit: FittedModel, bias_adjust: bool | float, spread: float | None) -> float:
    """Standard deviation of the transformed response about its mean."""
    if bias_adjust is not True:
        number = isinstance(bias_adjust, int | float) and not isinstance(bias_adjust, bool)
        if not number or not 0 <= bias_adjust < np.inf:
            raise OptionError(f"bias_adjust={bias_adjust!r}: give True, or the standard deviation to use.")
        return float(bias_adjust)
    return total_sd(fit, [True] * len(fit.random)) if spread is None else spread


def total_sd(fit: FittedModel, groups: list[bool]) -> float:
    """Standard deviation of the response about its mean: of the residual, and of the effects of some blocks.

    The variance of a random slope differs between rows, and is averaged over the rows that were fitted.

    Args:
        fit: A result whose family is Gaussian with the identity link.
        groups: For each block, whether its variance counts.

    Raises:
        UnsupportedModelError: If the residual is not normal with one variance.
    """
    if not fit.family.is_linear or "dispersion" in fit.parts or fit.residual_part is not None:
        raise UnsupportedModelError(
            "bias_adjust=True needs a normal residual with one variance. Give the standard deviation, bias_adjust=0.3."
        )
    if (fit.model.sigma is not None and fit.model.weighted) or fit.model.related:
        raise UnsupportedModelError(
            "bias_adjust=True needs one variance for all rows, which known variances (sigma= with weights=) and "
            "relationship= do not give. Give the standard deviation, bias_adjust=0.3."
        )
    variance = fit.sigma**2
    if any(groups):
        for block, reported, counts in zip(fit.design().blocks, fit.random, groups, strict=True):
            if counts:
                variance += (
                    float(np.einsum("ni,ij,nj->", block.z, np.asarray(reported.covariance), block.z)) / fit.n_obs
                )
    return float(np.sqrt(variance))


__all__ = ["Scale", "is_transformed", "total_sd"]
