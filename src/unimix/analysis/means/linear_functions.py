"""Linear functions of the fixed effects: estimates, standard errors, degrees of freedom, tests, draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy
from scipy import special

from unimix.analysis.means.equivalence import equivalence_columns
from unimix.errors import OptionError, did_you_mean, listing
from unimix.fitted.criterion import criterion_at
from unimix.fitted.describe import df_words, is_robust
from unimix.fitted.sampled import fixed_draws
from unimix.fitted.tables import wald_table
from unimix.likelihood.lmm.denominator_df import Uncertainty, df_of_contrasts, f_test
from unimix.stats.cluster_robust import Sandwich
from unimix.stats.delta import delta_error, normal_draws
from unimix.stats.direction import direction
from unimix.stats.inference import is_unbounded, tail_probability

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DF_METHODS = ("satterthwaite", "kenward-roger", "residual", "normal")

ENDLESS = (
    "Infinite standard errors: separation, the estimates tend to infinity, and there are no Wald tests of them. Use "
    "likelihood ratios: fit.confint(method='profile'), um.anova(smaller, fit)."
)
"""Note on functions without a finite estimate."""

NORMAL_DRAWS = 4000
"""Number of draws from a posterior that is known only by its mean and covariance matrix."""


@dataclass(frozen=True)
class Functions:
    """m linear functions L beta of the fixed effects.

    Attributes:
        weights: Matrix L, shape (m, p).
        estimate: Estimates L beta, shape (m,).
        covariance: Covariance matrix L V L', shape (m, m).
        df: Degrees of freedom, shape (m,); infinite for z tests.
        draws: L beta for every posterior draw, shape (S, m); None if there are no draws.
        unbounded: Whether the functions have no finite estimate (separation), shape (m,): ``covariance`` does not hold
            for these. None if all have.
    """

    weights: FloatArray
    estimate: FloatArray
    covariance: FloatArray
    df: FloatArray
    draws: FloatArray | None
    unbounded: npt.NDArray[np.bool_] | None = None

    @property
    def std_error(self) -> FloatArray:
        """Standard errors (posterior SDs), shape (m,); infinite for functions without a finite estimate."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return errors if self.unbounded is None else np.where(self.unbounded, np.inf, errors)

    def table(self, level: float, index: pd.Index[Any] | None = None) -> pd.DataFrame:
        """Columns estimate, std_error, df, statistic, p_value, lower, upper; a posterior has no tests.

        Args:
            level: Probability of the intervals, which are t (or z) intervals, or equal-tailed quantiles of the draws.
            index: Index of the rows; None numbers them.
        """
        if self.draws is not None:
            tail = 0.5 - level / 2
            lower, upper = np.quantile(self.draws, [tail, 1 - tail], axis=0)
            columns = {"estimate": self.estimate, "std_error": self.std_error, "lower": lower, "upper": upper}
            return pd.DataFrame(columns, index=index)
        return wald_table(self.estimate, self.std_error, self.df, level, index)


@dataclass(frozen=True)
class SmoothFunctions:
    """m smooth functions of the fixed effects: by the delta method, or by posterior draws.

    Attributes:
        estimate: Values of the functions at the estimates, shape (m,).
        gradient: Derivatives with respect to the fixed effects, shape (m, p).
        std_error: Standard errors (posterior SDs), shape (m,).
        df: Degrees of freedom of the gradients, shape (m,); infinite for z tests.
        draws: Values of the functions for every posterior draw, shape (S, m); None if there are no draws.
    """

    estimate: FloatArray
    gradient: FloatArray
    std_error: FloatArray
    df: FloatArray
    draws: FloatArray | None

    def table(self, level: float, alternative: str = "two-sided") -> pd.DataFrame:
        """Columns estimate, std_error, df, statistic, p_value, lower, upper; p_direction of a posterior without tests.

        Args:
            level: Probability of the intervals; with a one-sided alternative one of their ends is infinite.
            alternative: two-sided, greater or less.
        """
        upper = 0.5 + level / 2 if alternative == "two-sided" else level
        if self.draws is not None:
            ends = np.quantile(self.draws, [1 - upper, upper], axis=0)
            columns = {"estimate": self.estimate, "std_error": self.std_error, "lower": ends[0], "upper": ends[1]}
            columns |= {"p_direction": direction(self.draws)} if alternative == "two-sided" else {}
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                statistic = np.where(np.isinf(self.std_error), np.nan, self.estimate / self.std_error)
            reach = np.where(np.isfinite(self.df), special.stdtrit(self.df, upper), special.ndtri(upper))
            columns = {
                "estimate": self.estimate,
                "std_error": self.std_error,
                "df": self.df,
                "statistic": statistic,
                "p_value": tail_probability(statistic, self.df, alternative),
                "lower": self.estimate - reach * self.std_error,
                "upper": self.estimate + reach * self.std_error,
            }
        frame = pd.DataFrame(columns)
        if alternative != "two-sided":
            frame["upper" if alternative == "greater" else "lower"] = np.inf if alternative == "greater" else -np.inf
        return frame

    def equivalence(self, bounds: tuple[float, float]) -> pd.DataFrame:
        """Columns of equivalence tests, or the posterior probability of the range."""
        return equivalence_columns(self.estimate, self.std_error, self.df, self.draws, bounds)


@dataclass(frozen=True)
class FixedInference:
    """The fixed effects of a result, prepared for inference about functions of them.

    Attributes:
        beta: Estimates of the fixed effects, shape (p,).
        covariance: Covariance matrix V of the fixed effects, shape (p, p).
        df_of: Function from rows L (m, p) to their degrees of freedom, shape (m,).
        uncertainty: Uncertainty of the covariance parameters, which F tests of a linear mixed model need; None if tests
            use chi-squared or residual degrees of freedom.
        turn: Matrix from the user's coefficients to those of ``uncertainty``, shape (p, p).
        draws: Posterior draws of the fixed effects, shape (S, p), or None.
        method: Method of the degrees of freedom: satterthwaite, kenward-roger, residual, normal or posterior.
        unbounded: Directions of the coefficients along which the likelihood has no maximum, shape (k, p).
        sandwich: The cluster-robust covariance matrix, whose joint tests have Hotelling's distribution, or None.
    """

    beta: FloatArray
    covariance: FloatArray
    df_of: Callable[[FloatArray], FloatArray]
    uncertainty: Uncertainty | None
    turn: FloatArray
    draws: FloatArray | None
    method: str
    unbounded: FloatArray
    sandwich: Sandwich | None = None

    def lacks(self, weights: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether functions L beta have no finite estimate, and so no standard error and no Wald test, shape (m,)."""
        return is_unbounded(weights, self.unbounded, np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))

    def functions(self, weights: FloatArray) -> Functions:
        """Linear functions L beta for weights L of shape (m, p)."""
        draws = None if self.draws is None else self.draws @ weights.T
        df, moved = np.full(len(weights), np.inf), weights.any(axis=1)
        if moved.any():  # a constant has no degrees of freedom
            df[moved] = self.df_of(weights[moved])
        return Functions(
            weights,
            weights @ self.beta,
            weights @ self.covariance @ weights.T,
            df,
            draws,
            self.lacks(weights),
        )

    def with_variances(self, joint: FloatArray) -> FixedInference:
        """The inference about (beta, theta) with k variance parameters theta, as deviations from their estimates.

        A function of both has a variance v. If the part of the fixed effects in it is v1 with f degrees of freedom, it
        has f (v / v1)^2 (Satterthwaite 1946, Biometrics Bulletin 2:110-114): the error of theta is known for large
        samples only.

        Args:
            joint: Covariance matrix of (beta, theta), shape (p + k, p + k).
        """
        p, k = len(self.beta), len(joint) - len(self.beta)
        whole = joint.copy()
        whole[:p, :p] = self.covariance

        def df_of(weights: FloatArray) -> FloatArray:
            own, df = weights[:, :p], np.full(len(weights), np.inf)
            moved = own.any(axis=1)
            if moved.any():
                ratio = delta_error(weights[moved], whole) / delta_error(own[moved], self.covariance)
                df[moved] = self.df_of(own[moved]) * ratio**4
            return df

        return replace(
            self,
            beta=np.concatenate([self.beta, np.zeros(k)]),
            covariance=whole,
            df_of=df_of,
            uncertainty=None,
            turn=np.eye(p + k),
            unbounded=np.hstack([self.unbounded, np.zeros((len(self.unbounded), k))]),
        )

    @cached_property
    def posterior(self) -> FloatArray | None:
        """Posterior draws, shape (S, p); if the posterior is known only as a normal distribution, draws from that."""
        if self.draws is not None or self.method != "posterior":
            return self.draws
        return normal_draws(self.beta, self.covariance, NORMAL_DRAWS)

    @property
    def joint_words(self) -> str:
        """The distribution of joint F tests in words."""
        if self.sandwich is None:
            return df_words(self.method)
        return f"Hotelling-Zhang degrees of freedom{self.robust_words}"

    @property
    def robust_words(self) -> str:
        """The kind of cluster-robust standard errors in words; empty for others."""
        kind = self.method.partition(", ")[2]
        return f", cluster-robust ({kind})" if kind else ""

    def smooth(self, estimate: FloatArray, gradient: FloatArray, draws: FloatArray | None) -> SmoothFunctions:
        """Smooth functions of beta from their values (m,), derivatives (m, p) and, for a posterior, draws (S, m).

        Derivatives are NaN where the function depends on a coefficient without a finite estimate.
        """
        if draws is not None:
            spread, df = draws.std(axis=0, ddof=1), np.full(len(estimate), np.inf)
            return SmoothFunctions(draws.mean(axis=0), gradient, spread, df, draws)
        endless = self.lacks(gradient) | np.isnan(gradient).any(axis=1)
        error = np.where(endless, np.inf, delta_error(gradient, self.covariance))
        return SmoothFunctions(estimate, gradient, error, self._df_of(gradient, error), None)

    def _df_of(self, gradient: FloatArray, error: FloatArray) -> FloatArray:
        """Degrees of freedom of the gradients, infinite if a function does not depend on the coefficients."""
        df = np.full(len(gradient), np.inf)
        moved = (error > 0) & np.isfinite(error)
        if moved.any():
            df[moved] = self.df_of(gradient[moved] / error[moved, None])
        return df

    def joint_test(self, weights: FloatArray) -> tuple[float, float, float, float]:
        """Test that all rows of L beta are zero: statistic, numerator and denominator df, p value.

        Linear mixed models have F tests by Fai & Cornelius (Satterthwaite) or Kenward & Roger, linear models F tests
        with residual degrees of freedom, cluster-robust covariance matrices the approximate Hotelling test of
        Pustejovsky & Tipton (2018), and other models Wald's chi-squared divided by its degrees of freedom, with
        infinite denominator degrees of freedom. Statistic and p value are NaN if a row has no finite estimate.
        """
        if self.lacks(weights).any():
            return np.nan, float(np.linalg.matrix_rank(weights)), np.inf, np.nan
        if self.sandwich is not None:
            return self.sandwich.hotelling(weights, self.beta)
        if self.uncertainty is not None:
            at = np.asarray(np.linalg.solve(self.turn, self.beta), dtype=np.float64)
            statistic, numerator, denominator = f_test(self.uncertainty, weights @ self.turn, at)
        else:
            covariance = weights @ self.covariance @ weights.T
            values, vectors = np.linalg.eigh(covariance)
            kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
            turned = vectors[:, kept].T @ (weights @ self.beta)
            numerator = float(kept.sum())
            statistic = float(np.sum(turned**2 / values[kept])) / numerator if numerator else np.nan
            denominator = float(np.min(self.df_of(weights)))
        if np.isinf(denominator):
            p_value = float(special.chdtrc(numerator, statistic * numerator))
        else:
            p_value = float(scipy.stats.f.sf(statistic, numerator, denominator))
        return statistic, numerator, denominator, p_value


def fixed_inference(fit: FittedModel, method: str | None = None) -> FixedInference:
    """Prepare inference about functions of a result's fixed effects.

    Satterthwaite's and Kenward and Roger's degrees of freedom are computed for each function from exact derivatives of
    the likelihood, which needs the design.

    Args:
        fit: The result.
        method: Method of the degrees of freedom; None takes that of the fit.

    Raises:
        DataError: If the data are needed and the result does not hold them.
        OptionError: If the method is unknown or not defined for the model.
    """
    beta, covariance = np.asarray(fit.fixed.estimate), np.asarray(fit.fixed.covariance)
    if fit._unsaved.sandwich is not None:
        return _robust(fit, fit._unsaved.sandwich, method)
    p, known = len(beta), method is not None or bool(np.isfinite(np.asarray(fit.fixed.df)).all())
    method = _checked_method(fit, method) or fit.fixed.df_method
    nothing, endless = np.eye(p), np.asarray(fit.fixed.unbounded)

    def constant(value: float) -> Callable[[FloatArray], FloatArray]:
        return lambda weights: np.full(len(weights), value)

    if fit.fixed.interval == "credible":
        draws = fixed_draws(fit) if fit.status.n_draws else None
        return FixedInference(beta, covariance, constant(np.inf), None, nothing, draws, "posterior", endless)
    if method == "residual":
        df = constant(float(fit.criteria.df_residual))
        return FixedInference(beta, covariance, df, None, nothing, None, method, endless)
    if method not in ("satterthwaite", "kenward-roger") or not known:
        words = "normal" if not is_robust(fit) else f"normal, {fit.fixed.std_error_kind}"
        return FixedInference(beta, covariance, constant(np.inf), None, nothing, None, words, endless)
    uncertainty, turn = _uncertainty(fit, method)
    if uncertainty.adjusted is not None:
        covariance = turn @ uncertainty.adjusted @ turn.T
    return FixedInference(
        beta,
        covariance,
        lambda weights: df_of_contrasts(uncertainty, weights @ turn),
        uncertainty,
        turn,
        None,
        method,
        endless,
    )


def _robust(fit: FittedModel, found: Sandwich, method: str | None) -> FixedInference:
    """Inference with a cluster-robust covariance matrix."""
    if method not in (None, "satterthwaite", "normal"):
        raise OptionError(
            f"df_method={method!r}: cluster-robust standard errors have 'satterthwaite' or 'normal'. Leave it out."
        )
    beta, endless = np.asarray(fit.fixed.estimate), np.asarray(fit.fixed.unbounded)
    normal, kind = method == "normal", fit.fixed.std_error_kind
    return FixedInference(
        beta,
        found.covariance,
        (lambda weights: np.full(len(weights), np.inf)) if normal else found.df,
        None,
        np.eye(len(beta)),
        None,
        f"{method or 'satterthwaite'}, {kind}",
        endless,
        None if normal else found,
    )


def _checked_method(fit: FittedModel, method: str | None) -> str | None:
    if method is None:
        return None
    if method not in DF_METHODS:
        raise OptionError(f"df_method={method!r}: choose {listing(DF_METHODS)}.{did_you_mean(str(method), DF_METHODS)}")
    if fit.fixed.interval == "credible":
        raise OptionError(f"df_method={method!r}: a posterior has no degrees of freedom. Leave it out.")
    if method == "normal":
        return method
    if not fit.family.is_linear or "dispersion" in fit.parts:
        raise OptionError(f"df_method={method!r} is for linear models; {fit.model.reading} has z tests. Leave it out.")
    if not fit.random and fit.residual_part is None:
        return "residual"
    if method == "residual":
        raise OptionError(
            "df_method='residual' is for models without group effects and with independent residuals: use "
            "'satterthwaite'."
        )
    if method == "kenward-roger" and fit.model.method != "REML":
        raise OptionError("df_method='kenward-roger' is for REML fits: fit with method='REML'.")
    return method


def _uncertainty(fit: FittedModel, method: str) -> tuple[Uncertainty, FloatArray]:
    """Uncertainty of the covariance parameters in well-scaled coordinates, and the matrix back to the user's (p, p)."""
    criterion, at = criterion_at(fit)
    return at.uncertainty(method), criterion.way_back.coefficients


__all__ = ["ENDLESS", "FixedInference", "Functions", "SmoothFunctions", "fixed_inference"]
