"""Generalised models: simulated data of every family, and a check of fits against the likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.optimize import minimize

from unimix.design.arrays import Design
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor, laplace_at
from unimix.likelihood.lmm.newton_decrement import curvature_of_laplace
from unimix.likelihood.response import row_log_likelihood
from unimix.result import FitResult
from unimix.testing.simulated_responses import simulate_response

FloatArray = npt.NDArray[np.float64]
DISPERSION: dict[str, tuple[float, ...]] = {
    "gaussian": (0.5,),
    "gamma": (0.2,),
    "inverse_gaussian": (0.1,),
    "negative_binomial": (2.5,),
    "negative_binomial_1": (0.8,),
    "beta": (8.0,),
    "student_t": (0.5, 5.0),
    "beta_binomial": (6.0,),
    "generalised_poisson": (1.8,),
    "truncated_negative_binomial": (2.5,),
    "lognormal": (0.5,),
    "tweedie": (0.8, 1.4),
    "skew_normal": (0.5, 0.6),
}


@dataclass(frozen=True)
class FamilyTruth:
    """The true parameters of the responses of :func:`simulate_family`.

    Attributes:
        fixed: Intercept and slope on the scale of the link.
        sd: Standard deviation of the group effects; 0 if there are none.
        parameters: Dispersion parameters in the order of the family.
    """

    fixed: tuple[float, float]
    sd: float
    parameters: tuple[float, ...]


def family_truth(family: Family, *, mixed: bool) -> FamilyTruth:
    """True parameters for a family and its link, for which the mean stays where the link is defined."""
    safe = family.link in ("identity", "inverse", "inverse_squared", "sqrt") and family.response != "real"
    if family.link == "identity" and safe:
        return FamilyTruth((6.0, 0.8), 1.2 if mixed else 0.0, DISPERSION.get(family.label, ()))
    fixed = (3.0, 0.4) if safe else (1.0, 0.3) if family.link == "log" else (0.2, 0.5)
    # exponential responses vary so much that smaller effects would not be found
    sd = 0.8 if family.name == "exponential" and safe else 0.35 if safe else 0.5
    return FamilyTruth(fixed, sd if mixed else 0.0, DISPERSION.get(family.label, ()))


def simulate_family(
    family: Family, *, mixed: bool, seed: int = 0, n_groups: int = 30, n_per_group: int = 20
) -> pd.DataFrame:
    """Simulate data of ``y ~ x + (1 | g)`` for one family.

    Args:
        family: Distribution and link.
        mixed: Whether there are group effects.
        seed: Seed of NumPy's default generator.
        n_groups: Number of levels of g.
        n_per_group: Number of rows per level.

    Returns:
        A table with the columns y, trials, x and g, n_groups * n_per_group rows.
    """
    rng = np.random.default_rng(seed)
    truth = family_truth(family, mixed=mixed)
    codes = np.repeat(np.arange(n_groups), n_per_group)
    x = rng.uniform(-1.5, 1.5, len(codes))
    effects = rng.normal(size=n_groups)
    effects = truth.sd * (effects - effects.mean()) / effects.std()
    eta = truth.fixed[0] + truth.fixed[1] * x + effects[codes]
    mu = LINKS[family.link].inverse(eta)
    trials = rng.integers(2, 8, len(codes)).astype(np.float64)
    p = truth.parameters
    match family.label:
        case "gaussian":
            y = rng.normal(mu, p[0])
        case "binomial":
            y = rng.binomial(trials.astype(np.int64), mu) / trials
        case "poisson":
            y = rng.poisson(mu).astype(np.float64)
        case "gamma":
            y = rng.gamma(1 / p[0], mu * p[0])
        case "inverse_gaussian":
            y = rng.wald(mu, 1 / p[0])
        case "negative_binomial":
            y = rng.negative_binomial(p[0], p[0] / (p[0] + mu)).astype(np.float64)
        case "negative_binomial_1":
            y = rng.negative_binomial(mu / p[0], 1 / (1 + p[0])).astype(np.float64)
        case "beta":
            y = rng.beta(mu * p[0], (1 - mu) * p[0]).clip(1e-9, 1 - 1e-9)
        case "student_t":
            y = mu + p[0] * rng.standard_t(p[1], len(codes))
        case _:
            y = simulate_response(family.label, mu, p, trials, rng)
    return pd.DataFrame({"y": y, "trials": trials, "x": x, "g": [f"g{c:02d}" for c in codes]})


def check_generalised(fit: FitResult, design: Design) -> None:
    """Check a fit of a generalised model against unimix's own evaluation of the likelihood.

    For engines that maximise a likelihood: the reported log-likelihood is that of the reported parameters (to a
    relative 1e-6, the error of inner loops); a Newton step promises a gain of at most 1e-3 log-likelihood; standard
    errors are those of the observed or the expected information within 3 % (the error of numerical Hessians). For
    posteriors, exact or approximate: the means lie within 0.35 standard deviations (1 for an approximation), plus 4
    Monte Carlo errors, of the fixed effects that maximise the same criterion at the covariances of the posterior.

    Args:
        fit: The result.
        design: The model that was fitted.

    Raises:
        AssertionError: If the fit and the likelihood disagree.
    """
    assert fit.converged, fit.status
    beta = np.array(fit.fixed.estimate)
    covariances = [np.array(b.covariance) for b in fit.random]
    parameters = np.array(
        [fit.criteria.parameters[name] for name in design.family.parameters if name in fit.criteria.parameters]
    )
    if design.dispersion is not None:
        parameters = np.exp(design.dispersion.x @ fit.parts["dispersion"].estimate)[None, :]
    zero = None if design.zero is None else design.zero.x @ fit.parts["zero"].estimate
    if fit.fixed.interval == "credible":
        _check_posterior(fit, design, covariances, parameters)
        return
    criterion = fit.criteria.criterion
    expected = criterion == "Laplace (expected information)"
    if criterion.startswith("AGQ"):
        value = adaptive_quadrature(
            lambda eta: row_log_likelihood(design, parameters, eta),
            fixed_predictor(design, beta),
            design.blocks[0],
            float(covariances[0][0, 0]),
            int(criterion[4:-1]),
        )
    else:
        value = laplace_at(design, beta, covariances, parameters, expected=expected, zero=zero).log_likelihood
    if criterion != "REML":
        assert fit.log_likelihood == pytest.approx(value, rel=1e-6, abs=1e-4)
    if design.dispersion is not None or criterion == "REML":
        return
    near = curvature_of_laplace(design, beta, covariances, parameters, expected=expected, zero=zero)
    assert near.gain < (1e-2 if criterion.startswith("AGQ") else 1e-3)
    assert near.beta_cov is not None
    kinds = [np.sqrt(np.diag(near.beta_cov))]
    if not design.blocks:
        kinds.append(np.sqrt(np.diag(_expected_covariance(fit, design, parameters))))
    off = [float(np.abs(fit.fixed.std_error / kind - 1).max()) for kind in kinds]
    assert min(off) < (0.1 if criterion.startswith("AGQ") else 0.03), off


def _expected_covariance(fit: FitResult, design: Design, parameters: FloatArray) -> FloatArray:
    """Inverse of the expected information, (X'WX)^-1, times the Pearson estimate of the dispersion if there is one."""
    rows = row_log_likelihood(design, parameters, fixed_predictor(design, np.array(fit.fixed.estimate)))
    covariance = np.linalg.inv(design.x.T @ (rows.expected[:, None] * design.x))
    if design.family.parameters in (("dispersion",), ("sigma",)):
        likely = fit.criteria.parameters[design.family.parameters[0]]
        likely = likely**2 if design.family.parameters == ("sigma",) else likely
        pearson = float(np.sum(fit.residuals("pearson") ** 2)) / (design.n - design.p)
        covariance = covariance * pearson / likely
    return np.asarray(covariance)


def _check_posterior(fit: FitResult, design: Design, covariances: list[FloatArray], parameters: FloatArray) -> None:
    start, scale = np.array(fit.fixed.estimate), np.array(fit.fixed.std_error)

    def loss(step: FloatArray) -> float:
        return -laplace_at(design, start + scale * step, covariances, parameters).log_likelihood

    best = minimize(loss, np.zeros(len(start)), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-5}).x
    noise = 4 / np.sqrt(fit.status.ess_bulk) if fit.status.ess_bulk else 0.65
    assert np.abs(best).max() < 0.35 + noise
    assert (fit.fixed.lower < fit.fixed.estimate).all()
    assert (fit.fixed.estimate < fit.fixed.upper).all()
