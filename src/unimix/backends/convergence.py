"""Numerical checks of convergence, which are the same for every engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.backends.evaluation import overlapping_covariance
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.design.modelled_variances import covariance_parameters, has_criterion
from unimix.distributions.links import LINKS
from unimix.errors import FitError, listing
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.glmm.separation import (
    separated_directions,
    separated_terms,
    separation_of_categories,
    undecided_separation,
)
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.identification import undetermined_covariances
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE

BAYESIAN = ("posterior", "variational", "MAP")
RUNAWAY = 50.0
"""Standard deviation of a binomial model's group effects, on the link scale, above which no data support it."""
NO_ZEROS = -10.0
"""Logit of the probability of a structural zero below which there are practically none."""
LOST_DIGITS = 1e8
"""Ratio of eigenvalues above which the smaller ones have fewer than eight digits in a covariance matrix."""
LEAST_RESIDUAL, NO_RESIDUAL = 1e-5, 1e-6
"""Residual standard deviation, relative to that of the response, below which it counts as zero: if it is the same for
all rows, and if it has a formula, so that some rows may have a much smaller one than others."""
FloatArray = npt.NDArray[np.float64]


def judge(estimates: Estimates, design: Design, fitted: Design, method: str) -> Estimates:
    """Set ``converged`` to False if the likelihood has no maximum at the estimates.

    Args:
        estimates: Estimates in the coordinates of ``fitted``.
        design: The model in the user's coordinates.
        fitted: The model that the engine received.
        method: Criterion of the fit.

    Raises:
        FitError: If predictors separate the categories of an ordered response, whose thresholds then have no estimates.
    """
    estimates = _at_a_maximum(_with_residual(estimates, fitted), fitted, method)
    estimates = _identified(estimates, design, fitted, method)
    return estimates if method in BAYESIAN else _without_separation(estimates, design, fitted)


def _at_a_maximum(estimates: Estimates, design: Design, method: str) -> Estimates:
    """Set ``converged`` to False if unimix's search finds a higher likelihood from the boundary or from bad scaling.

    Engines' own checks fail in these cases, because every zero variance is a stationary point, and because finite
    differences use the same step for all parameters.
    """
    mixed = has_criterion(design) and design.has_covariances and method in ("REML", "ML")
    units = [column_scale(b.z, design.n_obs) for b in design.blocks]
    scaled = all(np.allclose(u, 1.0) for u in units)
    if not (mixed and estimates.converged and (estimates.singular or not scaled)):
        return estimates
    at = LinearCriterion.of(design).at(*covariance_parameters(design, estimates), reml=method == "REML")
    gap = at.uphill.profile.value - at.profile.value
    if gap <= NOTICEABLE:
        return estimates
    message = f"the search ended at a false maximum: unimix's search from there raises the log-likelihood by {gap:.3g}"
    return replace(estimates, converged=False, messages=(message, *estimates.messages))


def _identified(estimates: Estimates, design: Design, fitted: Design, method: str) -> Estimates:
    """Set ``identified`` to False if the likelihood does not change along a direction of the covariance parameters."""
    if not fitted.has_covariances or (fitted.dispersion is not None and not has_criterion(fitted)):
        return estimates
    if fitted.family.is_linear:
        if method not in ("REML", "ML"):
            return estimates
        at = LinearCriterion.of(fitted).at(*covariance_parameters(fitted, estimates), reml=method == "REML")
        open_ = LinearCriterion.of(design).undetermined(at, design)
    else:
        open_ = undetermined_covariances(design) if method not in BAYESIAN else None
    if open_ is None:
        return estimates
    return replace(estimates, identified=False, messages=(str(open_), *estimates.messages))


def _with_residual(estimates: Estimates, design: Design) -> Estimates:
    """Set ``converged`` to False if the residual variance vanished, so that covariance parameters diverged."""
    if design.dispersion is not None and design.has_modelled_variances:
        return _with_residuals(estimates, np.exp(design.dispersion.x @ estimates.parts["dispersion"][0]), design)
    if not design.blocks or not design.is_linear or estimates.sigma > LEAST_RESIDUAL * float(np.std(design.y)):
        return estimates
    message = (
        f"the residual standard deviation fell to {estimates.sigma / float(np.std(design.y)):.1g} of the response's: "
        "the group effects explain every row, and the likelihood has no maximum with a residual"
    )
    return replace(estimates, converged=False, messages=(*estimates.messages, message))


def _with_residuals(estimates: Estimates, sds: FloatArray, design: Design) -> Estimates:
    """Set ``converged`` to False if a modelled residual variance, of standard deviations (n,), went to zero."""
    relative = sds / float(np.std(design.y))
    none = relative < NO_RESIDUAL
    if not none.any():
        return estimates
    message = (
        f"the residual standard deviation of {int(none.sum())} rows (the first is number "
        f"{int(design.rows[none.argmax()])}, counted from 0) fell to {relative.min():.1g} of the response's: the model "
        "fits these rows exactly, and the likelihood has no maximum. Leave the term out of dispformula=, or look at "
        "these rows"
    )
    return replace(estimates, converged=False, messages=(message, *estimates.messages))


def _without_separation(estimates: Estimates, design: Design, fitted: Design) -> Estimates:
    """Set ``converged`` to False if a coefficient has no finite estimate; ``estimates`` belongs to ``fitted``."""
    if separated := separation_of_categories(design):
        raise FitError(separated)
    endless = separated_terms(design)
    if undecided := undecided_separation(design):
        estimates = replace(estimates, messages=(*estimates.messages, undecided))
    if not endless:
        return _without_runaway(estimates, fitted)
    message = (
        f"separation: some combination of {listing(endless)} predicts part of the responses perfectly; their "
        "estimates would be infinite, and those shown are where the search stopped, without standard errors and Wald "
        "tests. Likelihood ratios remain: fit.confint(method='profile'), um.anova(smaller, fit). Or leave a term out, "
        "join levels, or use priors (backend='pymc')"
    )
    unbounded = separated_directions(design, fitted)
    estimates = replace(estimates, converged=False, messages=(message, *estimates.messages), unbounded=unbounded)
    return _with_finite_variances(estimates, fitted)


def _with_finite_variances(estimates: Estimates, design: Design) -> Estimates:
    """Replace a covariance matrix whose huge variances have left no digits of the finite ones, or were cut off.

    The endless direction may load on every column, so that eigenvalues are compared, not diagonal elements.
    """
    plain = design.zero is None and design.dispersion is None and not design.is_structured
    if "fixed" not in estimates.unbounded or not plain:
        return estimates
    former = estimates.beta_cov
    sizes = np.abs(np.linalg.eigvalsh(former)) if np.isfinite(former).all() else np.array([0.0, np.inf])
    if sizes.max() < LOST_DIGITS * sizes.min():
        return estimates
    parameters = np.array([estimates.parameters[name] for name in design.family.parameters])
    endless = estimates.unbounded["fixed"]
    covariance = overlapping_covariance(design, estimates.beta, estimates.covariances, parameters, endless)
    if covariance is None or np.allclose(covariance, former, rtol=1e-6, atol=1e-12 * np.abs(covariance).max()):
        return estimates
    source = "of the rows that are not separated, by unimix at the engine's estimates: its own variances were inexact"
    provenance = {**estimates.provenance, "std_error": source}
    return replace(
        estimates, beta_cov=covariance, std_error=None, std_error_kind="observed information", provenance=provenance
    )


def _without_runaway(estimates: Estimates, design: Design) -> Estimates:
    """Set ``converged`` to False if group effects predict every response, so that a variance diverges to infinity."""
    limit = _without_overdispersion(estimates, design) or _outside_the_link(estimates, design)
    if limit:
        return replace(estimates, converged=False, messages=(limit, *estimates.messages))
    if zeros := _without_zeros(estimates, design):
        unbounded = {**estimates.unbounded, "zero": np.eye(len(estimates.parts["zero"][0]))}
        return replace(estimates, converged=False, messages=(zeros, *estimates.messages), unbounded=unbounded)
    if design.family.response != "binomial":
        return estimates
    sizes = [
        (np.sqrt(np.diag(c)) * column_scale(b.z)).max()
        for c, b in zip(estimates.covariances, design.blocks, strict=True)
    ]
    if max(sizes, default=0.0) < RUNAWAY:
        return estimates
    message = (
        f"a standard deviation of group effects reached {max(sizes):.3g} on the {design.family.link} scale: the group "
        "effects predict (nearly) every response, and the likelihood grows with their variance. Use fewer random "
        "columns, or priors (backend='pymc')"
    )
    unbounded = {**estimates.unbounded, "fixed": np.eye(design.p)}
    return replace(estimates, converged=False, messages=(message, *estimates.messages), unbounded=unbounded)


def _without_overdispersion(estimates: Estimates, design: Design) -> str:
    """Message if a negative binomial model diverged towards its limit, the Poisson distribution; empty otherwise."""
    extra = float(estimates.parameters.get("alpha", np.inf))
    if "theta" in estimates.parameters:
        extra = float(design.y.mean()) / estimates.parameters["theta"]
    if extra > 1e-3:
        return ""
    name, value = next(iter(estimates.parameters.items()))
    return (
        f"the counts show no overdispersion: {name} diverged to {value:.2g}, towards the Poisson distribution, and has "
        "no maximum-likelihood estimate. Use family='poisson'"
    )


def _without_zeros(estimates: Estimates, design: Design) -> str:
    """Message if the logit of the structural zeros diverged to minus infinity; empty otherwise."""
    if design.zero is None or "zero" not in estimates.parts:
        return ""
    logits = design.zero.x @ estimates.parts["zero"][0]
    if logits.max() > NO_ZEROS:
        return ""
    return (
        f"the counts show no zero inflation: its logit diverged to {logits.max():.3g} and has no maximum-likelihood "
        "estimate and no standard errors. Leave ziformula= out"
    )


def _outside_the_link(estimates: Estimates, design: Design) -> str:
    """Message if linear predictors leave the range of the link; empty otherwise."""
    if not LINKS[design.family.link].positive:
        return ""
    eta = fixed_predictor(design, estimates.beta)
    for block, modes in zip(design.blocks, estimates.modes, strict=True):
        eta = eta + np.einsum("nq,nq->n", block.z, modes[block.codes])
    outside = int((eta <= 1e-6 * np.abs(eta).max()).sum())
    if not outside:
        return ""
    return (
        f"the linear predictor of {outside} rows is not positive, where the {design.family.link} link has no mean: "
        "engines continue in different ways there. Use the log link"
    )
