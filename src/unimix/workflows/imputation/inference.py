"""Inference about linear functions of the fixed effects, pooled over imputed data sets.

The coefficients of the m fits stand below each other in one vector b = (b_1, ..., b_m). A function with the rows L_i in
the columns of fit i has the weights w = (L_1, ..., L_m) / m, so that w b is its pooled estimate, and with

    within  = m diag(V_1, ..., V_m)
    between = m^2 / (m - 1) D (I - 11'/m) D',   D = diag(b_1, ..., b_m), one column per fit,

w within w' = mean(L_i V_i L_i') and w between w' is the covariance matrix of L_i b_i between fits: the two parts of
Rubin's rules. Columns may differ between fits, as those of ``scale(x)`` do; means, slopes, contrasts and tests need to
know nothing of imputations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from unimix.analysis.means.linear_functions import FixedInference, fixed_inference
from unimix.errors import UnsupportedModelError
from unimix.result import FitResult
from unimix.stats.rubin import barnard_rubin_df, joint_wald

FloatArray = npt.NDArray[np.float64]
METHOD = "Barnard-Rubin"


@dataclass(frozen=True, kw_only=True)
class PooledInference(FixedInference):
    """The fixed effects of m fits, prepared for pooled inference; arrays are those of the module's description.

    Attributes:
        each: Inference of each fit.
        within: Covariance matrix within imputations, shape (m p, m p).
        between: Covariance matrix between imputations, shape (m p, m p).
    """

    each: tuple[FixedInference, ...]
    within: FloatArray
    between: FloatArray

    def rows(self, weights: FloatArray) -> list[FloatArray]:
        """The rows L_i of each fit, shapes (k, p), of weights (k, m p)."""
        m = len(self.each)
        return [m * part for part in np.split(weights, m, axis=1)]

    def df_complete(self, weights: FloatArray) -> FloatArray:
        """Degrees of freedom of functions if no value had been missing, means over the fits, shape (k,)."""
        rows = self.rows(weights)
        return np.asarray(np.mean([one.df_of(row) for one, row in zip(self.each, rows, strict=True)], axis=0))

    @property
    def joint_words(self) -> str:
        """The distribution of joint F tests in words."""
        return "pooled over imputations (D1, Reiter's degrees of freedom)"

    def joint_test(self, weights: FloatArray) -> tuple[float, float, float, float]:
        """Test that all rows of w b are zero by D1: statistic, numerator and denominator df, p value."""
        if self.lacks(weights).any():
            return np.nan, float(np.linalg.matrix_rank(weights)), np.nan, np.nan
        statistic, numerator, denominator, _ = self._joint(weights)
        if np.isinf(denominator):
            p_value = float(scipy.special.chdtrc(numerator, statistic * numerator))
        else:
            p_value = float(scipy.stats.f.sf(statistic, numerator, denominator))
        return statistic, numerator, denominator, p_value

    def relative_increase(self, weights: FloatArray) -> float:
        """Mean relative increase in variance of functions w b, the r of D1."""
        return self._joint(weights)[3]

    def _joint(self, weights: FloatArray) -> tuple[float, float, float, float]:
        complete = [one.joint_test(row)[2] for one, row in zip(self.each, self.rows(weights), strict=True)]
        return joint_wald(
            len(self.each),
            weights @ self.beta,
            weights @ self.within @ weights.T,
            weights @ self.between @ weights.T,
            float(np.mean(complete)),
        )


def pooled_inference(fits: Sequence[FitResult], df_method: str | None = None) -> PooledInference:
    """Prepare pooled inference about the fixed effects of fits of one model to m imputed data sets.

    Args:
        fits: The fits, with the same coefficients.
        df_method: Method of the degrees of freedom of each fit; None takes that of the fits.

    Raises:
        UnsupportedModelError: If estimates of a fit tend to infinity.
    """
    return pooled(tuple(fixed_inference(fit, df_method) for fit in fits))


def pooled(each: tuple[FixedInference, ...]) -> PooledInference:
    """Pool the inference of m fits of one model, about the same functions in each.

    Raises:
        UnsupportedModelError: If estimates of a fit tend to infinity.
    """
    endless = [k + 1 for k, one in enumerate(each) if one.unbounded.size]
    if endless:
        raise UnsupportedModelError(
            f"Separation in imputation {endless[0]}: some estimates tend to infinity, and have no standard error that "
            "could be pooled. Look at that fit: imputed.fits."
        )
    m, size = len(each), len(each) * len(each[0].beta)
    within = m * scipy.linalg.block_diag(*(one.covariance for one in each))
    columns = scipy.linalg.block_diag(*(one.beta[:, None] for one in each)).reshape(size, m)
    centred = columns @ (np.eye(m) - 1 / m)
    between = m**2 / (m - 1) * centred @ centred.T

    def df_of(weights: FloatArray) -> FloatArray:
        own = np.einsum("ki,ij,kj->k", weights, within, weights)
        other = (1 + 1 / m) * np.maximum(np.einsum("ki,ij,kj->k", weights, between, weights), 0.0)
        with np.errstate(invalid="ignore"):
            share = other / (own + other)
        return barnard_rubin_df(m, share, made.df_complete(weights))

    made = PooledInference(
        beta=np.concatenate([one.beta for one in each]),
        covariance=within + (1 + 1 / m) * between,
        df_of=df_of,
        uncertainty=None,
        turn=np.eye(size),
        draws=None,
        method=METHOD,
        unbounded=np.empty((0, size)),
        each=each,
        within=within,
        between=between,
    )
    return made


def stacked(rows: Sequence[FloatArray]) -> FloatArray:
    """Weights (k, m p) of functions from their rows (k, p) in each of m fits."""
    return np.hstack(list(rows)) / len(rows)


__all__ = ["METHOD", "PooledInference", "pooled", "pooled_inference", "stacked"]
