"""Settings and calls of glmer and R's glm, and the reading of their results, whatever the interface."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.backends.r.backend import prior_weights, r_family, read_covariances, read_modes
from unimix.design.estimates import Estimates
from unimix.errors import FitError
from unimix.likelihood.glmm.dispersion import profile_dispersion
from unimix.likelihood.glmm.laplace import adaptive_quadrature, fixed_predictor, laplace_at
from unimix.likelihood.glmm.optimise import Point, covariance_of, curvature_at
from unimix.likelihood.lmm.conditioning import column_scale, is_singular, relative_factors
from unimix.likelihood.lmm.newton_decrement import curvature_of_laplace, is_at_optimum
from unimix.likelihood.lmm.weights import as_copies
from unimix.likelihood.response import row_log_likelihood, saturated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unimix.backends.base import FitRequest, Problem
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]
NODES = 25
SAME_ERRORS = 2e-3
"""Largest relative difference of standard errors for which those of lme4 are kept."""
LME4_TOLERANCE = 1e-7
"""Default tolerance of lme4's inner loop."""
TIGHT: dict[str, dict[str, float]] = {
    "bobyqa": {"rhoend": 1e-7, "maxfun": 100_000.0},
    "nloptwrap": {"xtol_abs": 1e-9, "ftol_abs": 1e-11, "maxeval": 100_000.0},
    "Nelder_Mead": {"FtolAbs": 1e-11, "XtolRel": 1e-9, "maxfun": 100_000.0},
}


@dataclass(frozen=True)
class Settings:
    """Settings of ``glmer``.

    Attributes:
        n_agq: Number of quadrature nodes; 1 is Laplace's approximation.
        optimizer: Optimizer of both stages.
        control: Settings of the optimizer.
        tolerance: Tolerance of the inner loop.
        start: Relative covariance parameters at which the search starts, or None.
        restarts: Number of further starts after a search that ended on the boundary.
    """

    n_agq: int
    optimizer: str
    control: Mapping[str, float]
    tolerance: float
    start: tuple[float, ...] | None
    restarts: int

    def text(self) -> str:
        """Text of the control argument in R."""
        inside = ", ".join(f"{k} = {v:g}" for k, v in self.control.items())
        return f'glmerControl(optimizer = "{self.optimizer}", tolPwrss = {self.tolerance:g}, optCtrl = list({inside}))'


def with_looser_tolerance(settings: Settings, fit: Callable[[Settings], Estimates]) -> Estimates:
    """Fit; if rounding error keeps the inner loop from its tolerance (large counts), fit again with a looser one.

    Args:
        settings: Settings with the tolerance to try first.
        fit: Function that fits with given settings and returns estimates.

    Raises:
        Exception: If lme4's own tolerance fails too; the error is that of R.
    """
    tolerance = settings.tolerance
    while True:
        try:
            estimates = fit(replace(settings, tolerance=tolerance))
        except Exception as error:  # rpy2's own, or the bridge's
            if "pwrssUpdate" not in str(error) or tolerance >= LME4_TOLERANCE:
                raise
            tolerance = min(100 * tolerance, LME4_TOLERANCE)
            continue
        if tolerance == settings.tolerance:
            return estimates
        reason = f"{tolerance:g}: at {settings.tolerance:g} lme4's step-halvings fail, as rounding allows no more"
        return replace(estimates, provenance={**estimates.provenance, "tol_pwrss": reason})


def limits(design: Design, request: FitRequest) -> list[str]:
    """Reasons to refuse weights or quadrature for this model."""
    if design.family.label == "negative_binomial" and design.weights is not None and design.blocks:
        return ["weights: glmer.nb's search for theta goes wrong with them; use backend='glmmtmb' or repeat the rows"]
    if request.method != "AGQ" or not design.blocks:
        return []
    if faults := request.quadrature_faults(design, "use method='Laplace' or backend='pymc'"):
        return faults
    if design.family.label == "negative_binomial":
        return ["glmer.nb searches theta by Laplace's approximation only: use method='Laplace'"]
    return []


def call_text(formula: str, design: Design, settings: Settings) -> str:
    """Text of the R call for a design, with generated names."""
    family = design.family
    more = ", weights = w" if len(prior_weights(design)) else ""
    more += ", offset = off" if design.offset is not None else ""
    if family.label == "negative_binomial":
        if not design.blocks:
            return f"MASS::glm.nb({formula}, link = {family.link}{more})"
        return f"glmer.nb({formula}{more}, control = {settings.text()})"
    name, link = r_family(family)
    kind = f'family = {name}(link = "{link}")'
    if not design.blocks:
        return f"glm({formula}, {kind}{more})"
    nodes = f", nAGQ = {settings.n_agq}" if settings.n_agq > 1 else ""
    return f"glmer({formula}, {kind}{nodes}{more}, control = {settings.text()})"


def read_glmer(
    answer: dict[str, Any], problem: Problem, settings: Settings, provenance: dict[str, str], call: str
) -> Estimates:
    """Convert the values that ``lme4.R`` extracted from a ``glmerMod`` to estimates.

    Raises:
        FitError: If glmer dropped a column (it never should: the design has full rank).
    """
    design = problem.design
    p = design.p
    if len(answer["beta"]) != p:
        raise FitError(f"glmer returned {len(answer['beta'])} fixed effects for {p} columns.")
    covariances = read_covariances(answer, design)
    units = [column_scale(b.z) for b in design.blocks]
    singular = is_singular(tuple(c * np.outer(u, u) for c, u in zip(covariances, units, strict=True)), 1.0)
    theta = float(answer["size"][0])
    parameters = {"theta": theta} if design.family.label == "negative_binomial" else {}
    values = np.array(list(parameters.values()))
    gain, canonical = float(answer["gain"][0]), design.family.is_canonical
    at_optimum, faults = is_at_optimum(gain, float(answer["curvature"][0]), singular=singular)
    if not at_optimum:
        # lme4's derivatives are differences with one step for all parameters; unimix's have one step per parameter.
        gain = curvature_of_laplace(design, answer["beta"], covariances, values, expected=not canonical).gain
        at_optimum, faults = is_at_optimum(gain, 0.0, singular=singular)
    messages = [str(w) for w in answer["warnings"]]
    if at_optimum:
        messages = [judged(m, gain, singular=singular) for m in messages]
    log_lik = float(answer["log_likelihood"][0])
    if settings.n_agq > 1:
        log_lik += saturated(design, values)  # with quadrature glmer measures from the saturated model
        log_likelihood = adaptive_quadrature(
            lambda eta: row_log_likelihood(design, values, eta),
            fixed_predictor(design, answer["beta"]),
            design.blocks[0],
            float(covariances[0][0, 0]),
            settings.n_agq,
            expected=not canonical,
        )
    else:
        approximation = laplace_at(design, answer["beta"], covariances, values, expected=not canonical)
        log_likelihood = approximation.log_likelihood
    provenance = {
        **provenance,
        "log_likelihood": "of this criterion at glmer's estimates, by unimix: glmer's inner loop stops early, which "
        f"leaves an error in its own value ({log_lik:.6f})",
    }
    beta_cov = answer["beta_cov"].reshape(p, p)
    exact = _exact_covariance(design, answer["beta"], covariances, values, settings)
    if exact is not None:
        off = float(np.max(np.abs(np.sqrt(np.diag(exact) / np.diag(beta_cov)) - 1), initial=0.0))
        if not off <= SAME_ERRORS:
            provenance["std_error"] = (
                f"of the observed information, by unimix at lme4's estimates: lme4's own, from differences with one "
                f"step for all parameters, are up to {100 * off:.2g} % off"
            )
            beta_cov = exact
    gradient = float(answer["gradient"][0])
    modes, mode_covs = read_modes(answer, design)
    return Estimates(
        beta=answer["beta"],
        beta_cov=beta_cov,
        covariances=covariances,
        sigma=1.0,
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=log_likelihood,
        converged=int(answer["code"][0]) == 0 and at_optimum,
        parameters=parameters,
        std_error_kind="observed information",
        criterion=f"AGQ({settings.n_agq})" if settings.n_agq > 1 else laplace_criterion(expected=not canonical),
        df=None,
        df_method="normal",
        singular=singular,
        messages=(*faults, *messages, *(str(n) for n in answer["notes"] if "singular" not in n)),
        gradient=gradient if np.isfinite(gradient) else None,
        engine_call=call,
        provenance=provenance,
        native=answer.get("model"),
    )


def _exact_covariance(
    design: Design,
    beta: FloatArray,
    covariances: tuple[FloatArray, ...],
    values: FloatArray,
    settings: Settings,
) -> FloatArray | None:
    """Covariance matrix (p, p) of the fixed effects from the curvature of the criterion; None if it does not exist."""
    if not design.family.is_canonical:
        return curvature_of_laplace(design, beta, covariances, values, expected=True).beta_cov
    point = Point(relative_factors(covariances, 1.0), beta, values, design.family)
    covariance, lost, faults = covariance_of(curvature_at(design, point, settings.n_agq), design)
    usable = np.isfinite(covariance).all() and (np.diag(covariance) > 0).all() and not faults and not len(lost)
    return covariance if usable else None


def judged(message: str, gain: float, *, singular: bool) -> str:
    """Message of lme4's own convergence check, with unimix's judgement of it."""
    if not re.search(r"failed to converge|nearly unidentifiable|scaled gradient", message):
        return message
    if singular:
        bound = f"a Newton step would raise the log-likelihood by no more than {max(gain, 0.0):.0e}"
        return f"{message} (lme4's own check, which is not valid on the boundary, where this fit ended; {bound})"
    return f"{message} (but a Newton step would raise the log-likelihood by no more than {gain:.0e})"


def laplace_criterion(*, expected: bool) -> str:
    """Name of the criterion; with links that are not canonical, expected and observed information differ."""
    return "Laplace (expected information)" if expected else "Laplace"


def read_glm(answer: dict[str, Any], problem: Problem, call: str) -> Estimates:
    """Convert the values of a ``glm`` or ``glm.nb`` to estimates."""
    design, request = problem.design, problem.request
    p, family = design.p, design.family
    provenance: dict[str, str] = {}
    estimates = Estimates(
        beta=answer["beta"],
        beta_cov=answer["beta_cov"].reshape(p, p),
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=float(answer["log_likelihood"][0]),
        converged=bool(answer["converged"][0]),
        df_method="normal",
        singular=False,
        messages=tuple(answer["notes"]),
        engine_call=call,
        native=answer.get("model"),
    )
    if not estimates.converged:
        estimates = replace(estimates, messages=("R's glm did not converge", *estimates.messages))
    if family.label == "negative_binomial":
        theta = float(answer["size"][0])
        log_lik = float(
            row_log_likelihood(design, np.array([theta]), fixed_predictor(design, estimates.beta)).value.sum()
        )
        said = float(answer["log_likelihood"][0])
        if abs(log_lik - said) > 1e-6:
            provenance["log_likelihood"] = f"by unimix at R's estimates: R's own, {said:.6f}, is wrong"
        return replace(estimates, log_likelihood=log_lik, parameters={"theta": theta}, provenance=provenance)
    if not family.parameters:
        return estimates
    value, log_likelihood = profile_dispersion(design, fixed_predictor(design, estimates.beta))
    provenance["dispersion, log_likelihood"] = (
        "by maximum likelihood given the coefficients, by unimix: R's logLik of a glm takes deviance / n"
    )
    factor, df_residual, copies = as_copies(design)
    provenance["std_error"] = f"R's, with the Pearson estimate of the dispersion{copies}"
    z = request.df_method == "normal"
    name = family.parameters[0]
    return replace(
        estimates,
        beta_cov=factor * estimates.beta_cov,
        std_error_kind="Pearson dispersion",
        sigma=value if name == "sigma" else float(np.sqrt(value)),
        parameters={name: value},
        log_likelihood=log_likelihood,
        df=None if z else np.full(p, df_residual),
        df_method="normal" if z else "residual",
        provenance=provenance,
    )
