"""Linear functions of the fixed effects: estimates, standard errors, degrees of freedom, tests, draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

from unimix.analysis.means.functions import Functions, SmoothFunctions
from unimix.errors import OptionError, did_you_mean, listing
from unimix.fitted.criterion import criterion_at, has_modelled_variances
from unimix.fitted.describe import df_words, is_robust
from unimix.fitted.joint_df import df_of_curves
from unimix.fitted.sampled import fixed_draws
from unimix.fitted.smooth_parts import mixed_form
from unimix.likelihood.lmm.denominator_df import Uncertainty, df_of_contrasts, f_test
from unimix.stats.cluster_robust import Sandwich
from unimix.stats.delta import delta_error, normal_draws
from unimix.stats.inference import is_unbounded

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DF_METHODS = ("satterthwaite", "kenward-roger", "residual", "normal")

ENDLESS = (
    "Infinite standard errors: separation, the estimates tend to infinity, and there are no Wald tests of them. Use "
    "likelihood ratios: fit.confint(method='profile'), um.anova(smaller, fit)."
)
"""Note on functions without a finite estimate."""

ROUNDING = 1e-9
"""Weight of a coefficient, relative to the largest and in units of its standard error, that is taken as rounding."""
NORMAL_DRAWS = 4000
"""Number of draws from a posterior that is known only by its mean and covariance matrix."""


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


@dataclass(frozen=True)
class SmoothInference(FixedInference):
    """Inference about the coefficients of a result with smooths.

    Functions of the other fixed effects alone have the tests of the mixed model. Functions of a curve have its Bayesian
    covariance (:mod:`unimix.likelihood.curves`) and, in linear models, Satterthwaite's degrees of freedom, as
    predictions of group effects have them.

    Attributes:
        mixed: Inference about the fixed effects of the mixed model.
        kept: Positions of these fixed effects.
    """

    mixed: FixedInference = field(kw_only=True)
    kept: tuple[int, ...] = field(kw_only=True)

    def joint_test(self, weights: FloatArray) -> tuple[float, float, float, float]:
        """Test that all rows of L beta are zero: that of the mixed model, or Wald's test if a curve is among them."""
        if self.has_curve(weights).any():
            return super().joint_test(weights)
        own = list(self.kept)
        return replace(self.mixed, beta=self.beta[own], covariance=self.covariance[np.ix_(own, own)]).joint_test(
            weights[:, own]
        )

    def has_curve(self, weights: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether functions, shape (m, p), depend on a curve by more than rounding, shape (m,)."""
        sizes = np.abs(weights) * np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        curved = np.delete(sizes, list(self.kept), axis=1)
        return np.asarray((curved > ROUNDING * sizes.max(axis=1, initial=0.0)[:, None]).any(axis=1))


def _beside_smooths(fit: FittedModel, method: str | None) -> FixedInference:
    """Inference about the coefficients of a result with smooths."""
    if method == "kenward-roger":
        raise OptionError("df_method='kenward-roger' is not computed beside a smooth: use 'satterthwaite'.")
    form = mixed_form(fit)
    mixed, place = fixed_inference(form, method), {name: j for j, name in enumerate(fit.fixed.terms)}
    kept = tuple(place[name] for name in form.fixed.terms)

    def df_of(weights: FloatArray) -> FloatArray:
        df, plain = np.full(len(weights), np.inf), ~inference.has_curve(weights)
        if plain.any():
            df[plain] = mixed.df_of(weights[plain][:, list(kept)])
        if mixed.method == "satterthwaite" and not plain.all():
            df[~plain] = df_of_curves(fit, weights[~plain])
        return df

    inference = SmoothInference(
        np.asarray(fit.fixed.estimate),
        np.asarray(fit.fixed.covariance),
        df_of,
        None,
        np.eye(len(place)),
        None,
        mixed.method,
        np.asarray(fit.fixed.unbounded),
        mixed=mixed,
        kept=kept,
    )
    return inference


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
    if fit.smooths:
        return _beside_smooths(fit, method)
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
    if not fit.family.is_linear:
        raise OptionError(f"df_method={method!r} is for linear models; {fit.model.reading} has z tests. Leave it out.")
    if not fit.random and fit.residual_part is None and not has_modelled_variances(fit):
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
