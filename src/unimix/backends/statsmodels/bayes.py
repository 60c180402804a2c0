"""Generalised mixed models by statsmodels' BinomialBayesMixedGLM and PoissonBayesMixedGLM.

unimix maximises their evidence lower bound and log posterior with their gradients, instead of ``fit_vb`` and
``fit_map``. The columns are conditioned, which makes the fixed effects nearly independent in the posterior, as the
mean-field approximation assumes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.stats import norm

from unimix.backends.statsmodels.climb import Approximation, search_bound, search_mode
from unimix.design.estimates import Estimates
from unimix.errors import listing
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.penalised_least_squares import state_at
from unimix.likelihood.lmm.reduced_data import form
from unimix.likelihood.response import row_log_likelihood

if TYPE_CHECKING:
    from unimix.backends.base import FitRequest, Problem
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]

SHORT = 1.5
"""Factor by which mean-field standard errors may be too small before the result says so."""
MOST_TRIALS = 1_000_000
MOST_UNKNOWNS = 4000
"""Largest number of effects for a MAP, whose curvature is a dense matrix."""


@dataclass(frozen=True)
class Settings:
    """Settings of the models.

    Attributes:
        vcp_p: Prior SD of the logarithms of the SDs.
        fe_p: Prior SD of the fixed effects.
        max_iterations: Maximum number of iterations of one search.
        conditioned: Whether the columns are conditioned.
    """

    vcp_p: float
    fe_p: float
    max_iterations: int
    conditioned: bool


def limits(design: Design, request: FitRequest) -> list[str]:
    """Reasons to refuse a generalised mixed model beyond the sheets."""
    faults = []
    engine = "BinomialBayesMixedGLM" if design.family.name == "binomial" else "PoissonBayesMixedGLM"
    wide = [b for b in design.blocks if b.q > 1]
    if wide:
        terms = listing(b.text for b in wide)
        faults.append(
            f"correlated random effects, {terms}: all effects of statsmodels' {engine} are independent; "
            "(1 + x || g) would be another model, without the correlation"
        )
    if design.offset is not None:
        faults.append(f"an offset: statsmodels' {engine} has no offset")
    if design.weights is not None:
        faults.append(f"weights: statsmodels' {engine} has no weights")
    if design.trials is not None and design.trials.sum() > MOST_TRIALS:
        faults.append(
            f"{design.trials.sum():,.0f} trials: {engine} takes a row per trial, and unimix expands up to "
            f"{MOST_TRIALS:,}"
        )
    unknowns = sum(b.n_levels for b in design.blocks) + design.p
    if request.method == "MAP" and unknowns > MOST_UNKNOWNS:
        faults.append(
            f"method='MAP' inverts a matrix of all {unknowns:,} effects, and stops at {MOST_UNKNOWNS:,}: use "
            "method='variational'"
        )
    return faults


def call_text(design: Design, method: str, vcp_p: float, fe_p: float) -> str:
    """Text of the call in Python, with generated names."""
    engine = "BinomialBayesMixedGLM" if design.family.name == "binomial" else "PoissonBayesMixedGLM"
    x = f"X[{', '.join(f'x{j}' for j in range(design.p))}]"
    z = ", ".join(f"z{k}_0 by g{k}" for k in range(len(design.blocks)))
    step = "vb_elbo" if method == "variational" else "logposterior"
    return f"{engine}(y, {x}, exog_vc=Z[{z}], ident, vcp_p={vcp_p:g}, fe_p={fe_p:g}).{step}"


def build_model(design: Design, vcp_p: float, fe_p: float) -> Any:
    """Make statsmodels' model, with one row per trial.

    Args:
        design: Design with independent blocks.
        vcp_p: Prior SD of the log SDs.
        fe_p: Prior SD of the fixed effects.
    """
    engine = importlib.import_module("statsmodels.genmod.bayes_mixed_glm")
    columns = [
        sparse.csr_array((b.z[:, 0], (np.arange(design.n), b.codes)), shape=(design.n, b.n_levels))
        for b in design.blocks
    ]
    z = sparse.csr_array(sparse.hstack(columns))
    ident = np.repeat(np.arange(len(columns)), [b.n_levels for b in design.blocks])
    if design.family.name != "binomial":
        return engine.PoissonBayesMixedGLM(design.y, design.x, z, ident, vcp_p=vcp_p, fe_p=fe_p)
    rows, y = expand_trials(design)
    return engine.BinomialBayesMixedGLM(y, design.x[rows], z[rows], ident, vcp_p=vcp_p, fe_p=fe_p)


def expand_trials(design: Design) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Row index and outcome, 0 or 1, of every single trial, shapes (trials,)."""
    trials = np.ones(design.n) if design.trials is None else design.trials
    counts = np.column_stack([np.round(design.y * trials), trials - np.round(design.y * trials)]).astype(np.int64)
    rows = np.repeat(np.arange(design.n), counts.sum(axis=1))
    outcomes = np.repeat(np.tile([1.0, 0.0], design.n), counts.ravel())
    return rows, outcomes


def fit_approximation(problem: Problem, settings: Settings) -> Estimates:
    """Approximate the posterior by ``request.method``, variational or MAP; a failed search is reported as a status."""
    design = problem.design
    model = build_model(design, settings.vcp_p, settings.fe_p)
    search = search_bound if problem.request.method == "variational" else search_mode
    with np.errstate(all="ignore"):
        optimum = search(model, design, settings.max_iterations)
    return _read(model, problem, settings, optimum)


def _read(model: Any, problem: Problem, settings: Settings, optimum: Approximation) -> Estimates:
    design, request = problem.design, problem.request
    engine = importlib.import_module("statsmodels.genmod.bayes_mixed_glm")
    p, c = design.p, len(design.blocks)
    variational = request.method == "variational"
    variances = optimum.cov if variational else np.diag(optimum.cov)
    beta, log_sds = optimum.mean[:p], optimum.mean[p : p + c]
    beta_cov = np.diag(variances[:p]) if variational else optimum.cov[:p, :p]
    covariances = tuple(np.array([[np.exp(2 * v)]]) for v in log_sds)
    modes, mode_covs, first = [], [], p + c
    for block in design.blocks:
        picked = slice(first, first + block.n_levels)
        modes.append(optimum.mean[picked, None])
        mode_covs.append(variances[picked, None, None])
        first += block.n_levels
    centre = problem.coefficients @ beta
    errors = np.sqrt(np.diag(problem.coefficients @ beta_cov @ problem.coefficients.T))
    half = norm.ppf(0.5 + request.ci_level / 2) * errors
    messages = list(optimum.complaints)
    if variational and not messages:
        messages += _short_errors(problem, optimum.mean, covariances, errors)
    return Estimates(
        beta=beta,
        beta_cov=beta_cov,
        covariances=covariances,
        sigma=1.0,
        modes=tuple(modes),
        mode_covs=tuple(mode_covs),
        log_likelihood=None,
        converged=not optimum.complaints,
        interval=np.column_stack([centre - half, centre + half]),
        singular=False,
        messages=tuple(messages),
        gradient=optimum.slope,
        engine_call=call_text(design, request.method, settings.vcp_p, settings.fe_p),
        priors=_priors(design, settings),
        provenance=_provenance(problem, optimum, variational=variational),
        native=engine.BayesMixedGLMResults(model, optimum.mean, optimum.cov, optimum.result),
    )


def _short_errors(
    problem: Problem, mean: FloatArray, covariances: tuple[FloatArray, ...], errors: FloatArray
) -> list[str]:
    """Messages about standard errors that are too small compared with the joint curvature at the estimates."""
    design = problem.design
    eta, first = design.x @ mean[: design.p], design.p + len(design.blocks)
    for block in design.blocks:
        eta = eta + block.z[:, 0] * mean[first : first + block.n_levels][block.codes]
        first += block.n_levels
    weighted = form(replace(design, weights=row_log_likelihood(design, np.empty(0), eta).expected))
    information = state_at(weighted, relative_factors(covariances, 1.0)).gram[: design.p, : design.p]
    joint = np.linalg.inv(information)
    ratio = np.sqrt(np.diag(problem.coefficients @ joint @ problem.coefficients.T)) / errors
    short = [f"{n} ({r:.1f} times)" for n, r in zip(design.fixed_names, ratio, strict=True) if r > SHORT]
    if not short:
        return []
    message = (
        "the variational approximation treats fixed and group effects as independent, which makes standard errors too "
        f"small: with their correlations those of {listing(short)} are larger"
    )
    return [message]


def _priors(design: Design, settings: Settings) -> dict[str, str]:
    where = " of each orthogonal column with mean square 1" if settings.conditioned else ""
    unit = ", times the root mean square of its column" if settings.conditioned else ""
    priors = {"fixed effects": f"Normal(0, {settings.fe_p:g}){where}"} if design.p else {}
    for block in design.blocks:
        constant = bool(np.ptp(block.z[:, 0]) == 0)
        priors[f"sd({block.group}: {block.terms[0]})"] = f"LogNormal(0, {settings.vcp_p:g}){'' if constant else unit}"
    return priors


def _provenance(problem: Problem, optimum: Approximation, *, variational: bool) -> dict[str, str]:
    provenance = {
        "variances": "squares of exp(mean of the log SD under the approximation), which is the median of the SD",
        "interval": "normal quantiles of the approximate posterior, by unimix",
    }
    if variational:
        provenance |= {
            "optimum": f"statsmodels' evidence lower bound ({optimum.value:.6g}) maximised by unimix, best of 2 starts",
            "std_error": "of the mean-field approximation, in which no two parameters are correlated (fixed effects in "
            "the columns that are fitted): often too small",
        }
    else:
        provenance |= {
            "optimum": f"statsmodels' log posterior density ({optimum.value:.6g}) maximised by unimix, best of 2 "
            "starts: the mode of fixed effects, log SDs and group effects together, away from the one at zero SDs",
            "std_error": "inverse of minus the Hessian of the log density at the mode",
        }
    if problem.design.trials is not None and not (problem.design.trials == 1).all():
        provenance["trials"] = "emulated: every trial a row of its own, 0 or 1 (exact for the posterior)"
    if variational and problem.design.family.name == "poisson":
        provenance["estimate"] = (
            "statsmodels integrates by 10 nodes, which leaves an error of up to 0.1 % in expected counts: more than a "
            "tenth of a standard error when there are more than 10,000 counts in all"
        )
    return provenance
