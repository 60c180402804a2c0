"""The scale of the response: inverse links, and transformed responses turned back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.analysis.means.contrasts import RATIOS
from unimix.analysis.prediction.draws import coefficient_draws
from unimix.analysis.prediction.over_groups import OverGroups
from unimix.analysis.prediction.variance_error import STEP, VarianceError, variance_error, variances_note
from unimix.design.typed_columns import as_numbers
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.distributions.random_responses import mean_of
from unimix.errors import DataError, OptionError, UnsupportedModelError, listing
from unimix.fitted.model import has_design, is_sampled
from unimix.formula.inverse import Inverse, inverse_of
from unimix.formula.parser import Name, render

if TYPE_CHECKING:
    from unimix.analysis.means.linear_functions import FixedInference
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
        variances: The error of the variances on which the function depends; None if it depends on none, or it is not
            known.
        sd_of_draws: Standard deviation of the transformed response about its mean under each of S posterior draws, for
            means of a response that is turned back, shape (S, 1); else None.
        by_variances: Derivatives of the function with respect to the k variance parameters at linear predictors (n,),
            shape (n, k).
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
    variances: VarianceError | None = None
    sd_of_draws: FloatArray | None = None
    by_variances: Callable[[FloatArray], FloatArray] | None = None

    def with_variances(
        self, inference: FixedInference, weights: FloatArray, offset: FloatArray
    ) -> tuple[FixedInference, FloatArray]:
        """Inference about the fixed effects and the variances, if the scale depends on these.

        Args:
            inference: Inference about the p fixed effects.
            weights: Linear predictors as functions of the fixed effects, shape (m, p).
            offset: Constants added to them, shape (m,).

        Returns:
            The inference, and the weights, shape (m, p + k): the changes of the linear predictors that move the
            response as a change of a variance does.
        """
        moved = self.moved(weights @ inference.beta + offset)
        if self.variances is None or moved is None:
            return inference, weights
        return inference.with_variances(self.variances.joint), np.hstack([weights, moved])

    def moved(self, eta: FloatArray) -> FloatArray | None:
        """The changes of linear predictors (n,) that move the response as each variance parameter does, shape (n, k).

        None if the scale depends on no variance whose error is known.
        """
        if self.variances is None or self.by_variances is None:
            return None
        slope, moved = self.slope(eta)[:, None], self.by_variances(eta)
        return np.divide(moved, slope, out=np.zeros_like(moved), where=np.abs(slope) > 0)

    def take(self, rows: npt.NDArray[np.int64]) -> Scale:
        """The scale of some of the rows."""
        return self if self.over is None else Scale.over_groups(self.over.take(rows))

    def of_draws(self, eta: FloatArray) -> FloatArray:
        """Values for posterior draws of linear predictors (S, n), in their shape."""
        if self.over is not None:
            return self.over.mean_of_draws(eta)
        if self.sd_of_draws is not None and self.plain is not None:
            return _averaged(self.plain, eta, self.sd_of_draws)
        return self.mean(eta)

    @property
    def moves_with_draws(self) -> bool:
        """Whether each posterior draw has a function of its own, because its variances differ."""
        return self.over is not None or self.sd_of_draws is not None

    @classmethod
    def over_groups(cls, rows: OverGroups) -> Scale:
        """The scale of expected responses that are averaged over the groups."""
        if rows.family.link == "identity":
            return replace(
                cls.of_family(rows.family), note="The mean over the groups is that of group effects of zero."
            )
        sd = rows.sd
        alike = rows.family.link == "log" and bool(np.ptp(sd) <= 1e-9 * max(float(sd.max(initial=0.0)), 1e-300))
        ratio = "ratio" if alike else ""
        return cls(
            rows.mean,
            rows.slope,
            ratio=ratio,
            note=f"The mean response {rows.note}.",
            over=rows,
            variances=rows.error,
            by_variances=rows.by_variances,
        )

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
    def of(
        cls, fit: FittedModel, kind: str, bias_adjust: bool | float = False, groups: Sequence[bool] | None = None
    ) -> Scale:
        """The scale on which estimates of a fit are shown.

        Args:
            fit: The result.
            kind: link, or response, which turns a transformed response such as ``log(y)`` back, too.
            bias_adjust: Whether to give the mean of the response that was turned back, instead of the response at the
                mean of the transformed one; a number is the standard deviation of the transformed response to use.
            groups: Whether the variance of each random term counts for ``bias_adjust=True``; None counts all, as for a
                new level of every grouping factor.

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
        variance, error, why, moves = _variance_about_mean(fit, bias_adjust, groups)
        sd = float(np.sqrt(variance))

        def averaged(
            function: Callable[[FloatArray], FloatArray], spread: float = sd
        ) -> Callable[[FloatArray], FloatArray]:
            def average(eta: FloatArray) -> FloatArray:
                values = _averaged(function, eta, spread)
                if np.isnan(values[~np.isnan(np.asarray(eta, dtype=np.float64))]).any():
                    raise DataError(
                        f"bias_adjust=: the mean of {inverse.column} does not exist, because {text} cannot have all "
                        "values of a normal distribution. Leave bias_adjust= out."
                    )
                return np.asarray(values)

            return average

        def by_variances(eta: FloatArray) -> FloatArray:
            """The derivative with respect to the variance, by central differences, times those of the variance."""
            ends = [averaged(inverse.value, float(np.sqrt(variance * (1 + s))))(eta) for s in (STEP, -STEP)]
            return np.asarray(((ends[0] - ends[1]) / (2 * STEP * variance))[:, None] * moves)

        sampled = bias_adjust is True and is_sampled(fit)
        known = "" if bias_adjust is not True else "within each draw" if sampled else variances_note(error, why)
        note = f"{same}: means of {inverse.column}, for normal {text} with SD {sd:.4g}{f', {known}' if known else ''}"
        return cls(
            averaged(inverse.value),
            averaged(inverse.slope),
            inverse.column,
            "ratio" if inverse.ratio == "ratio" else "",  # a ratio of means is exp of the difference, too; odds are not
            inverse.unit,
            note=f"{note}.",
            plain=inverse.value,
            variances=error,
            by_variances=by_variances,
            sd_of_draws=_sd_of_draws(fit, groups) if sampled else None,
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


def _averaged(function: Callable[[FloatArray], FloatArray], eta: FloatArray, spread: float | FloatArray) -> FloatArray:
    """E f(eta + spread Z) for a standard normal Z, in the shape of eta, by Gauss-Hermite quadrature."""
    nodes, weights = special.roots_hermitenorm(NODES)
    eta = np.asarray(eta, dtype=np.float64)
    total = sum(w * function(eta + spread * z) for z, w in zip(nodes, weights / weights.sum(), strict=True))
    return np.asarray(total)


def _sd_of_draws(fit: FittedModel, groups: Sequence[bool] | None) -> FloatArray:
    """Standard deviation of the response about its mean under each of S posterior draws, shape (S, 1)."""
    counted = [True] * len(fit.random) if groups is None else list(groups)
    total_variance(fit, counted)  # refuses what has no variance
    draws = coefficient_draws(fit, fit.status.n_draws or 1)
    variance = draws.parameters[:, 0] ** 2 if fit.model.sigma is None else np.full(len(draws.beta), fit.sigma**2)
    for covariances, counts in zip(draws.covariances, counted, strict=True):
        if counts:
            variance = variance + covariances[:, 0, 0]
    return np.asarray(np.sqrt(variance))[:, None]


def _variance_about_mean(
    fit: FittedModel, bias_adjust: bool | float, groups: Sequence[bool] | None
) -> tuple[float, VarianceError | None, str, FloatArray]:
    """Variance of the transformed response about its mean, with the error of variances and its derivatives.

    Returns:
        The variance; the error of the fit's variance parameters, or None and the reason in words why it is not known;
        and the derivatives, shape (k,).
    """
    if bias_adjust is not True:
        number = isinstance(bias_adjust, int | float) and not isinstance(bias_adjust, bool)
        if not number or not 0 <= bias_adjust < np.inf:
            raise OptionError(f"bias_adjust={bias_adjust!r}: give True, or the standard deviation to use.")
        return float(bias_adjust) ** 2, None, "", np.zeros(0)
    counted = [True] * len(fit.random) if groups is None else list(groups)
    variance = total_variance(fit, counted)
    error, why = variance_error(fit)
    if error is None:
        return variance, None, why, np.zeros(0)
    covariances = tuple(np.asarray(b.covariance) for b in fit.random)
    between = error.gradient(lambda c: np.array([_variance_of_groups(counted, c)]), covariances)[0]
    return variance, error, "", between + error.residual


def total_variance(fit: FittedModel, groups: Sequence[bool]) -> float:
    """Variance of the response about its mean: of the residual, and of the effects of some blocks.

    Args:
        fit: A result whose family is Gaussian with the identity link.
        groups: For each block, whether its variance counts.

    Raises:
        UnsupportedModelError: If the residual is not normal, or the variance differs between rows.
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
    slopes = [b.group for b, counts in zip(fit.random, groups, strict=True) if counts and [*b.terms] != ["Intercept"]]
    if fit.model.weighted or slopes:
        why = f"random slopes over {listing(dict.fromkeys(slopes))}" if slopes else "weights="
        raise UnsupportedModelError(
            f"bias_adjust=True needs one variance for all rows, which {why} do not give. Give the standard deviation "
            "of the rows that you ask for, bias_adjust=0.3."
        )
    return fit.sigma**2 + _variance_of_groups(groups, tuple(np.asarray(b.covariance) for b in fit.random))


def _variance_of_groups(groups: Sequence[bool], covariances: tuple[FloatArray, ...]) -> float:
    """Variance of the effects of some blocks of random intercepts."""
    return sum(float(c[0, 0]) for c, counts in zip(covariances, groups, strict=True) if counts)


__all__ = ["Scale", "is_transformed", "total_variance"]
