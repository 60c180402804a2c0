"""Models whose dispersion statsmodels estimates jointly with the coefficients: NegativeBinomial and BetaModel."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.estimates import Estimates
from unimix.likelihood.glmm.dispersion import profile_dispersion
from unimix.likelihood.glmm.glm import fisher_scoring
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.response import row_log_likelihood

if TYPE_CHECKING:
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]

WORTHWHILE = 1e-8
"""Remaining improvement that a search must not exceed; it moves estimates by about 1e-4 standard errors."""
BOUNDLESS = 1e6
"""Value of theta (or 1 / alpha) above which counts are not overdispersed."""
_NOT_OVERDISPERSED = (
    "the counts are not overdispersed: the variance is that of a Poisson distribution, and the dispersion parameter "
    "has no estimate inside its range. Use family='poisson'"
)
LINK_NAMES = {
    "identity": "Identity",
    "log": "Log",
    "sqrt": "Sqrt",
    "inverse": "InversePower",
    "inverse_squared": "InverseSquared",
    "logit": "Logit",
    "probit": "Probit",
    "cloglog": "CLogLog",
    "cauchit": "Cauchy",
}


def where_it_failed(design: Design, words: str) -> Estimates:
    """Result for a model that statsmodels failed to fit: the end of unimix's own Fisher scoring, not converged."""
    beta = fisher_scoring(design)
    eta = fixed_predictor(design, beta)
    scale = np.array([1.0] * len(design.family.parameters))
    expected = np.nan_to_num(row_log_likelihood(design, scale, eta).expected)
    covariance = np.asarray(np.linalg.pinv(design.x.T @ (expected[:, None] * design.x)), dtype=np.float64)
    return Estimates(
        beta=beta,
        beta_cov=covariance,
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=None,
        converged=False,
        df_method="normal",
        singular=False,
        messages=(f"statsmodels gave up: {words}",),
        provenance={"estimate, std_error": "where unimix's own search ended, at dispersion 1: statsmodels gave up"},
    )


def fit_jointly(design: Design, max_iterations: int) -> Estimates:
    """Fit a negative binomial or beta model by quasi-Newton steps, then Newton steps with statsmodels' derivatives."""
    beta_model = design.family.name == "beta"
    build, name = (_build_beta, "precision") if beta_model else (_build_nb, design.family.parameters[0])
    model = build(design)
    best: tuple[float, FloatArray, Any] | None = None
    words = "no search ended"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in (None, _likely_start(design)):
            try:
                results = model.fit(start_params=start, method="bfgs", maxiter=max_iterations, gtol=1e-6, disp=0)
                at, gain = _polish(model, np.asarray(results.params, dtype=np.float64), max_iterations, beta_model)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                words = f"{type(error).__name__}: {error}"
                continue
            if best is None or gain < best[0]:
                best = gain, at, results
            if gain <= WORTHWHILE:
                break
    if best is None:
        return where_it_failed(design, words)
    gain, at, results = best
    value = float(np.exp(at[-1])) if beta_model else float(at[-1])
    messages: tuple[str, ...] = ()
    if not beta_model and value < 1 / BOUNDLESS:
        messages = (_NOT_OVERDISPERSED,)
        value = max(value, 1e-12)
    elif gain > WORTHWHILE:
        step = f"a Newton step would raise the log-likelihood by about {gain:.2g}"
        reason = step if np.isfinite(gain) else "no maximum is near"
        messages = (f"the search stopped short of the optimum: {reason}",)
    values, vectors = np.linalg.eigh(-np.nan_to_num(np.asarray(model.hessian(at), dtype=np.float64)))
    covariance = (vectors / np.maximum(np.abs(values), 1e-10)) @ vectors.T
    dispersion = 1 / value if name == "theta" else value
    if not np.isfinite(at).all() or not np.isfinite(dispersion) or not np.isfinite(covariance).all():
        return where_it_failed(design, "its search ended at infinite values")
    log_likelihood = float(model.loglike(at))
    provenance = {
        "optimum": "statsmodels' search, finished by Newton steps on its score and Hessian by unimix",
        "std_error": "observed information of coefficients and dispersion together, by statsmodels' Hessian",
    }
    if not np.isfinite(log_likelihood):
        rows = row_log_likelihood(design, np.array([dispersion]), fixed_predictor(design, at[: design.p]))
        log_likelihood = float(rows.value.sum())
        provenance["log_likelihood"] = "by unimix: statsmodels' is not a number where an expected count is zero"
    return Estimates(
        beta=at[: design.p],
        beta_cov=covariance[: design.p, : design.p],
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=log_likelihood if np.isfinite(log_likelihood) else None,
        converged=not messages,
        parameters={name: dispersion},
        std_error_kind="observed information",
        df_method="normal",
        singular=False,
        messages=messages,
        provenance=provenance,
        native=results,
    )


def _build_nb(design: Design) -> Any:
    discrete = importlib.import_module("statsmodels.discrete.discrete_model")
    form = "nb2" if design.family.label == "negative_binomial" else "nb1"
    more = {} if design.offset is None else {"offset": design.offset}
    return discrete.NegativeBinomial(design.y, design.x, loglike_method=form, **more)


def _build_beta(design: Design) -> Any:
    betareg = importlib.import_module("statsmodels.othermod.betareg")
    links = importlib.import_module("statsmodels.genmod.families.links")
    return betareg.BetaModel(design.y, design.x, link=getattr(links, LINK_NAMES[design.family.link])())


def _likely_start(design: Design) -> FloatArray:
    """Coefficients from unimix's Fisher scoring and the dispersion given them, in statsmodels' parametrization."""
    beta = fisher_scoring(design)
    value = profile_dispersion(design, fixed_predictor(design, beta))[0]
    last = {"beta": np.log(value), "negative_binomial": 1 / value}.get(design.family.label, value)
    return np.append(beta, np.clip(last, 1e-4 if design.family.name != "beta" else None, None))


def _polish(model: Any, at: FloatArray, rounds: int, unbounded: bool) -> tuple[FloatArray, float]:
    """Take Newton steps on statsmodels' log likelihood; return the final point and the remaining improvement.

    Args:
        model: Model with methods loglike, score and hessian.
        at: Starting point, shape (k,).
        rounds: Maximum number of steps.
        unbounded: Whether the last parameter may have any sign.
    """
    here, gain = float(model.loglike(at)), np.inf
    for _ in range(min(rounds, 50)):
        score, information = np.asarray(model.score(at)), -np.asarray(model.hessian(at))
        values, vectors = np.linalg.eigh((information + information.T) / 2)
        if not np.isfinite(values).all() or values.min() <= 0:
            return at, np.inf
        step = vectors @ ((vectors.T @ score) / values)
        gain = 0.5 * float(score @ step)
        if gain < 1e-16 * (1 + abs(here)):
            break
        size = 1.0
        while size > 1e-8:
            moved = at + size * step
            there = float(model.loglike(moved)) if unbounded or moved[-1] > 0 else -np.inf
            if there >= here - 1e-13 * abs(here):
                break
            size /= 2
        else:
            break
        at, here = moved, there
    return at, gain
