"""Expected responses averaged over the groups: integrals over the distribution of the random effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.prediction.draws import coefficient_draws
from unimix.analysis.prediction.variance_error import VarianceError, variance_error, variances_note
from unimix.design.typed_columns import FactorColumn, as_numbers
from unimix.distributions.family import Family
from unimix.distributions.ordered import refuse_categories
from unimix.errors import OptionError, UnsupportedModelError
from unimix.fitted.model import is_sampled
from unimix.stats.predictor import expected_response, expected_slope

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

GROUPS = "groups"
NOTE = "averaged over the groups"


@dataclass(frozen=True)
class OverGroups:
    """Rows of predictors whose expected response is averaged over groups with effects b ~ N(0, Cov).

    The linear predictor of a row is x'beta + z'b, normal with the variance s^2 = sum_k z_k' Cov_k z_k, so that the mean
    over groups is E g^-1(x'beta + s Z) for a standard normal Z.

    Attributes:
        family: Family of the response.
        z: Columns of each block, shapes (n, q).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        sampled: Covariance matrices under posterior draws, shapes (S, q, q); None without draws, where ``covariances``
            are used with draws of the coefficients.
        found: Function that finds the error of the covariance matrices' parameters, as :func:`.variance_error` returns
            it. Means without errors need none.
    """

    family: Family
    z: tuple[FloatArray, ...]
    covariances: tuple[FloatArray, ...]
    sampled: tuple[FloatArray, ...] | None
    found: Callable[[], tuple[VarianceError | None, str]]

    @classmethod
    def of(cls, fit: FittedModel, frame: pd.DataFrame) -> OverGroups:
        """Make the rows from predictors.

        Args:
            fit: The result.
            frame: Rows of predictors; columns that only random slopes need stand at their means if they are absent.

        Raises:
            OptionError: If the model has no random effects, or a factor that random slopes need is absent.
            UnsupportedModelError: If there is no mean over the groups, as for inverse links, or it has two parts.
        """
        check_over_groups(fit)
        sampled = coefficient_draws(fit, fit.status.n_draws or 1).covariances if is_sampled(fit) else None
        covariances = tuple(np.asarray(b.covariance) for b in fit.random)
        return cls(fit.family, group_columns(fit, frame), covariances, sampled, partial(variance_error, fit))

    def averaged(self, turn: FloatArray) -> OverGroups:
        """Rows that are weighted averages of these, by weights (m, n)."""
        return replace(self, z=tuple(turn @ z for z in self.z))

    def take(self, rows: npt.NDArray[np.int64]) -> OverGroups:
        """Some of the rows."""
        return replace(self, z=tuple(z[rows] for z in self.z))

    def at_known_variances(self, covariances: tuple[FloatArray, ...], why: str) -> OverGroups:
        """The rows at given covariance matrices, shapes (q, q), that have no error, for a reason in words."""
        return replace(self, covariances=covariances, found=lambda: (None, why))

    @property
    def error(self) -> VarianceError | None:
        """The error of the covariance matrices' parameters; None if it is not known."""
        return self.found()[0]

    @property
    def sd(self) -> FloatArray:
        """Standard deviation s of each row's linear predictor between groups, shape (n,)."""
        return _sd(self.z, self.covariances)

    def covariances_of_draws(self, which: slice) -> tuple[FloatArray, ...]:
        """Covariance matrices of each block's effects under some of the posterior draws, shapes (S, q, q)."""
        if self.sampled is None:  # a posterior that is known by its normal distribution has no draws of them
            return tuple(c[None] for c in self.covariances)
        return tuple(c[which] for c in self.sampled)

    def sd_of_draws(self, which: slice) -> FloatArray:
        """Standard deviations between groups under some of the posterior draws, shape (S, n)."""
        variance = np.zeros(1)
        for z, c in zip(self.z, self.covariances_of_draws(which), strict=True):
            variance = variance + np.einsum("ni,sij,nj->sn", z, c, z, optimize=True)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def mean(self, eta: FloatArray, sd: FloatArray | None = None) -> FloatArray:
        """Mean response over the groups for linear predictors (..., n), in their shape."""
        return expected_response(self.family, eta, self.sd if sd is None else sd)

    @property
    def note(self) -> str:
        """Words on the average over the groups, and on the variances that it takes."""
        return _averaged_note(self.found, sampled=self.sampled is not None)

    def by_variances(self, eta: FloatArray) -> FloatArray:
        """Derivatives of :meth:`mean` with respect to the k variance parameters for predictors (n,), shape (n, k)."""
        error = self.error
        if error is None:
            return np.zeros((len(eta), 0))
        return error.gradient(lambda c: self.mean(eta, _sd(self.z, c)), self.covariances)

    def slope(self, eta: FloatArray) -> FloatArray:
        """Derivative of :meth:`mean` with respect to the linear predictor, in its shape."""
        return expected_slope(self.family, eta, self.sd)

    def mean_of_draws(self, eta: FloatArray) -> FloatArray:
        """Mean response under each posterior draw for linear predictors (S, n), shape (S, n)."""
        step = max(1, 200_000 // max(eta.shape[1], 1))
        parts = [slice(i, i + step) for i in range(0, len(eta), step)]
        return np.concatenate([self.mean(eta[part], self.sd_of_draws(part)) for part in parts])


def check_over_groups(fit: FittedModel) -> None:
    """Refuse a fit without a mean response over its groups.

    Raises:
        OptionError: If the model has no random effects.
        UnsupportedModelError: If there is no mean over the groups, or it has two parts.
    """
    if not fit.random:
        raise OptionError("average='groups' averages over random effects, and the model has none. Leave it out.")
    if fit.family.link in ("inverse", "inverse_squared"):
        raise UnsupportedModelError(
            f"average='groups': with the {fit.family.link} link the mean over the groups does not exist, because a "
            "normal linear predictor is sometimes zero or negative."
        )
    refuse_categories(fit.family, "average='groups'")
    if fit.parts:
        raise UnsupportedModelError(
            f"average='groups' is not defined here for a model with a part for {' and '.join(fit.parts)}."
        )


def averaged_note(fit: FittedModel) -> str:
    """Words on the average over the groups, and on the variances that it takes."""
    return _averaged_note(partial(variance_error, fit), sampled=is_sampled(fit))


def _averaged_note(found: Callable[[], tuple[VarianceError | None, str]], *, sampled: bool) -> str:
    return f"{NOTE} {'within each posterior draw' if sampled else variances_note(*found())}"


def _sd(z: tuple[FloatArray, ...], covariances: tuple[FloatArray, ...]) -> FloatArray:
    variance = sum(np.einsum("ni,ij,nj->n", zk, c, zk) for zk, c in zip(z, covariances, strict=True))
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)), dtype=np.float64)


def group_columns(fit: FittedModel, frame: pd.DataFrame) -> tuple[FloatArray, ...]:
    """Columns z of each random term at rows of predictors, for groups of any name, shapes (n, q)."""
    encoding = fit.model.encoding.without_given_offset()
    factors = {f for term in fit.spec.random for f in term.factors}
    wanted = [n for n in encoding.variables if not {*encoding.needed([n], frame)} <= {*frame.columns}]
    added: dict[str, Any] = {n: "(new)" for n in factors if n in wanted}
    for name in (n for n in wanted if n not in factors):
        column = fit.design().columns[name]
        if isinstance(column, FactorColumn):
            raise OptionError(f"average='groups': {name} is part of a random effect. Give its level, {name}=...")
        added[name] = float(as_numbers(column).mean())
    return encoding.transform(frame.assign(**added) if added else frame, with_groups=True).z


__all__ = ["GROUPS", "NOTE", "OverGroups", "averaged_note", "check_over_groups", "group_columns"]
