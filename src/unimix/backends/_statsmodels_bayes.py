"""Generalised mixed models: statsmodels' BinomialBayesMixedGLM and PoissonBayesMixedGLM by arrays.

Their evidence lower bound and log posterior, with their gradients, are maximised here and not by ``fit_vb`` and
``fit_map``: those start at random, clip the start that they are given, and call a search converged whose gradient is
far from zero. The model is handed over in conditioned columns, which makes the fixed effects nearly independent in the
posterior, as the mean-field approximation takes them to be.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import OptimizeResult, minimize
from scipy.stats import norm

from unimix.errors import listing
from unimix.model.estimates import Estimates
from unimix.numerics import gls
from unimix.numerics.families import of_design
from unimix.numerics.glm import fisher_scoring
from unimix.numerics.laplace import laplace_at

if TYPE_CHECKING:
    from unimix.backends.base import FitRequest, Problem
    from unimix.model.design import Design

FloatArray = npt.NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray]]

NEGLIGIBLE = 1e-4
"""Gain that a search must not leave behind, in units of the bound or the log density."""
COLLAPSED = 0.2
"""Mean square of the effects, in units of their variance, below which a mode is the one at zero SDs."""
SHORT = 1.5
"""Factor by which mean-field standard errors may fall short before the result says so."""
MOST_TRIALS = 1_000_000
MOST_UNKNOWNS = 4000
"""Of a MAP, whose curvature is a dense matrix."""
_NARROWEST = 8.0
"""Bound of the log SDs of a MAP, whose density grows without bound towards zero SDs but for the prior."""


@dataclass(frozen=True)
class Settings:
    """What the models are told.

    Attributes:
        vcp_p: Prior SD of the logarithms of the SDs.
        fe_p: Prior SD of the fixed effects.
        max_iterations: Of one search.
        conditioned: Whether the columns are conditioned.
    """

    vcp_p: float
    fe_p: float
    max_iterations: int
    conditioned: bool


def limits(design: Design, request: FitRequest) -> list[str]:
    """Why a generalised mixed model is refused beyond the sheets, if so."""
    found = []
    engine = "BinomialBayesMixedGLM" if design.family.name == "binomial" else "PoissonBayesMixedGLM"
    wide = [b for b in design.blocks if b.q > 1]
    if wide:
        terms = listing(f"({' + '.join(b.terms)} | {b.group})" for b in wide)
        found.append(
            f"correlated random effects, {terms}: all effects of statsmodels' {engine} are independent; "
            "(1 + x || g) would be another model, without the correlation"
        )
    if design.offset is not None:
        found.append(f"an offset: statsmodels' {engine} has no offset")
    if design.weights is not None:
        found.append(f"weights: statsmodels' {engine} has no weights")
    if design.trials is not None and design.trials.sum() > MOST_TRIALS:
        found.append(
            f"{design.trials.sum():,.0f} trials: {engine} takes a row per trial, and unimix expands up to "
            f"{MOST_TRIALS:,}"
        )
    unknowns = sum(b.n_levels for b in design.blocks) + design.p
    if request.method == "MAP" and unknowns > MOST_UNKNOWNS:
        found.append(
            f"method='MAP' inverts a matrix of all {unknowns:,} effects, and stops at {MOST_UNKNOWNS:,}: use "
            "method='variational'"
        )
    return found


def call_text(design: Design, method: str, vcp_p: float, fe_p: float) -> str:
    """What statsmodels is given, in Python, under the generated names."""
    engine = "BinomialBayesMixedGLM" if design.family.name == "binomial" else "PoissonBayesMixedGLM"
    x = f"X[{', '.join(f'x{j}' for j in range(design.p))}]"
    z = ", ".join(f"z{k}_0 by g{k}" for k in range(len(design.blocks)))
    step = "vb_elbo" if method == "variational" else "logposterior"
    return f"{engine}(y, {x}, exog_vc=Z[{z}], ident, vcp_p={vcp_p:g}, fe_p={fe_p:g}).{step}"


def build_model(design: Design, vcp_p: float, fe_p: float) -> Any:
    """Make the engine's model; trials become a row each.

    Args:
        design: Of independent blocks.
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
    """Row and outcome, 0 or 1, of every single trial, shapes (trials,)."""
    trials = np.ones(design.n) if design.trials is None else design.trials
    counts = np.column_stack([np.round(design.y * trials), trials - np.round(design.y * trials)]).astype(np.int64)
    rows = np.repeat(np.arange(design.n), counts.sum(axis=1))
    outcomes = np.repeat(np.tile([1.0, 0.0], design.n), counts.ravel())
    return rows, outcomes


def fit_approximation(problem: Problem, settings: Settings) -> Estimates:
    """Approximate the posterior by ``request.method``, variational or MAP; a search that fails is a status."""
    design = problem.design
    model = build_model(design, settings.vcp_p, settings.fe_p)
    search = _search_bound if problem.request.method == "variational" else _search_mode
    with np.errstate(all="ignore"):
        found = search(model, design, settings)
    return _read(model, problem, settings, found)


# -- searches -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Where a search ended.

    Attributes:
        mean: Fixed effects, log SDs, effects; shape (k,).
        cov: Their variances (k,), or their covariance matrix (k, k).
        value: Bound or log density there.
        slope: Largest derivative by a parameter in units of its posterior SD.
        complaints: Why it does not count as converged.
        result: The optimizer's own words.
    """

    mean: FloatArray
    cov: FloatArray
    value: float
    slope: float
    complaints: tuple[str, ...]
    result: OptimizeResult


def _starts(design: Design) -> list[tuple[FloatArray, FloatArray]]:
    """Means and SDs to start from: the conditional modes at small and at large variances."""
    beta = fisher_scoring(design)
    information = of_design(design, np.empty(0), design.x @ beta).expected.sum()
    made = []
    for sd in (1.0, 0.3):
        log_sds = np.full(len(design.blocks), np.log(sd))
        modes = laplace_at(design, beta, [np.array([[sd**2]]) for _ in design.blocks], np.empty(0))
        if not np.isfinite(modes.log_likelihood):
            zeros = np.zeros(sum(b.n_levels for b in design.blocks))
            made.append((np.concatenate([beta, log_sds, zeros]), np.full(len(beta) + len(log_sds) + len(zeros), 0.3)))
            continue
        spread = [np.sqrt(np.maximum(c.ravel(), 1e-12)) for c in modes.mode_covs]
        errors = np.full(len(beta), 1 / np.sqrt(max(float(information), 1e-6)))
        widths = [1 / np.sqrt(2.0 * b.n_levels) for b in design.blocks]
        made.append(
            (
                np.concatenate([beta, log_sds, *(m.ravel() for m in modes.modes)]),
                np.concatenate([errors, widths, *spread]),
            )
        )
    return made


def _climb(objective: Objective, start: FloatArray, scale: FloatArray, limit: int, bound: FloatArray) -> OptimizeResult:
    """Minimise from a start in units of ``scale``; ``x`` and ``jac`` come back in the parameters' own units."""

    def scaled(step: FloatArray) -> tuple[float, FloatArray]:
        value, slope = objective(start + scale * step)
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return 1e100, np.zeros_like(step)
        return value, scale * slope

    found = minimize(
        scaled,
        np.zeros_like(start),
        jac=True,
        method="L-BFGS-B",
        bounds=np.column_stack([(-bound - start) / scale, (bound - start) / scale]),
        options={"maxiter": limit, "maxfun": 2 * limit + 20, "gtol": 1e-6, "ftol": 1e-15, "maxcor": 20},
    )
    found.jac = objective(start + scale * found.x)[1]
    found.x = start + scale * found.x
    return found


def _search_bound(model: Any, design: Design, settings: Settings) -> _Found:
    """Maximise the evidence lower bound over means and log SDs of all parameters, from two starts."""
    best: _Found | None = None
    bound = np.full(2 * (design.p + len(design.blocks) + sum(b.n_levels for b in design.blocks)), np.inf)

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        mean, sd = np.split(at, 2)
        sd = np.exp(sd)
        by_mean, by_sd = model.vb_elbo_grad(mean, sd)
        return -float(model.vb_elbo(mean, sd)), -np.concatenate([by_mean, by_sd * sd])

    for mean, sd in _starts(design):
        at = np.concatenate([mean, np.log(sd)])
        for _ in range(4):
            width = np.exp(np.split(at, 2)[1])
            result = _climb(objective, at, np.concatenate([width, np.ones_like(width)]), settings.max_iterations, bound)
            at = result.x
            half = np.split(result.jac, 2)
            slopes = np.concatenate([half[0] * np.exp(np.split(at, 2)[1]), half[1]])
            left = 0.5 * float(slopes @ slopes)
            if left < 0.01 * NEGLIGIBLE or settings.max_iterations < 20 or result.nit == 0:
                break
        complaints = () if left < NEGLIGIBLE else (_left(left, "evidence lower bound"),)
        centre, log_sd = np.split(at, 2)
        found = _Found(centre, np.exp(2 * log_sd), -float(result.fun), float(np.abs(slopes).max()), complaints, result)
        if best is None or (not found.complaints, found.value) > (not best.complaints, best.value):
            best = found
    assert best is not None  # noqa: S101  there are two starts
    return best


def _left(left: float, what: str) -> str:
    if not np.isfinite(left):
        return f"the search ended where the {what} has no value"
    return f"the search stopped short of the optimum: about {left:.2g} of the {what} is left to gain"


def _search_mode(model: Any, design: Design, settings: Settings) -> _Found:
    """Maximise the joint density of fixed effects, log SDs and effects; of two modes the one away from zero SDs."""
    numdiff = importlib.import_module("statsmodels.tools.numdiff")
    p, c = design.p, len(design.blocks)
    bound = np.full(p + c + sum(b.n_levels for b in design.blocks), np.inf)
    bound[p : p + c] = _NARROWEST

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        return -float(model.logposterior(at)), -np.asarray(model.logposterior_grad(at))

    best: tuple[bool, float, OptimizeResult] | None = None
    for start, sd in _starts(design):
        result = _climb(objective, start, sd, settings.max_iterations, bound)
        collapsed = bool(_collapsed(result.x, design))
        for _ in range(0 if collapsed else 3):
            result = _climb(objective, result.x, sd, settings.max_iterations, bound)
            collapsed = bool(_collapsed(result.x, design))
        if best is None or (not collapsed, -result.fun) > (not best[0], best[1]):
            best = (collapsed, -float(result.fun), result)
    assert best is not None  # noqa: S101  there are two starts
    _, value, result = best
    hessian = np.asarray(numdiff.approx_fprime(result.x, lambda at: objective(at)[1], centered=True))
    hessian = np.nan_to_num((hessian + hessian.T) / 2)
    values, vectors = np.linalg.eigh(hessian)
    complaints: list[str] = []
    groups = _collapsed(result.x, design)
    floor = 1e-10 * max(float(values.max()), 1.0)
    inverse = (vectors / np.maximum(values, floor)) @ vectors.T
    slopes = result.jac * np.sqrt(np.diag(inverse))
    left = 0.5 * float(result.jac @ inverse @ result.jac)
    if groups:
        complaints.append(
            f"the joint density of the group effects of {listing(groups)} and their SD has no peak but the one where "
            "the SD goes to zero, which the number of effects makes and not the data. Use method='variational', or an "
            "engine that integrates the group effects out"
        )
    elif values.min() <= floor or not left < NEGLIGIBLE:
        complaints.append(_left(left if values.min() > floor else np.inf, "log density"))
    return _Found(result.x, inverse, value, float(np.abs(slopes).max()), tuple(complaints), result)


def _collapsed(at: FloatArray, design: Design) -> list[str]:
    """Grouping factors whose effects are far smaller than their SD says: the mode at zero."""
    found, first = [], design.p + len(design.blocks)
    for k, block in enumerate(design.blocks):
        effects = at[first : first + block.n_levels]
        first += block.n_levels
        if float(np.mean(effects**2)) < COLLAPSED * float(np.exp(2 * at[design.p + k])):
            found.append(block.group)
    return found


# -- the answer -----------------------------------------------------------------------------------


def _read(model: Any, problem: Problem, settings: Settings, found: _Found) -> Estimates:
    design, request = problem.design, problem.request
    engine = importlib.import_module("statsmodels.genmod.bayes_mixed_glm")
    p, c = design.p, len(design.blocks)
    variational = request.method == "variational"
    variances = found.cov if variational else np.diag(found.cov)
    beta, log_sds = found.mean[:p], found.mean[p : p + c]
    beta_cov = np.diag(variances[:p]) if variational else found.cov[:p, :p]
    covariances = tuple(np.array([[np.exp(2 * v)]]) for v in log_sds)
    modes, mode_covs, first = [], [], p + c
    for block in design.blocks:
        picked = slice(first, first + block.n_levels)
        modes.append(found.mean[picked, None])
        mode_covs.append(variances[picked, None, None])
        first += block.n_levels
    centre = problem.coefficients @ beta
    errors = np.sqrt(np.diag(problem.coefficients @ beta_cov @ problem.coefficients.T))
    half = norm.ppf(0.5 + request.ci_level / 2) * errors
    messages = list(found.complaints)
    if variational and not messages:
        messages += _short_errors(problem, found.mean, covariances, errors)
    return Estimates(
        beta=beta,
        beta_cov=beta_cov,
        covariances=covariances,
        sigma=1.0,
        modes=tuple(modes),
        mode_covs=tuple(mode_covs),
        log_likelihood=None,
        converged=not found.complaints,
        interval=np.column_stack([centre - half, centre + half]),
        singular=False,
        messages=tuple(messages),
        gradient=found.slope,
        engine_call=call_text(design, request.method, settings.vcp_p, settings.fe_p),
        priors=_priors(design, settings),
        provenance=_provenance(problem, found, variational=variational),
        native=engine.BayesMixedGLMResults(model, found.mean, found.cov, found.result),
    )


def _short_errors(
    problem: Problem, mean: FloatArray, covariances: tuple[FloatArray, ...], errors: FloatArray
) -> list[str]:
    """Say where the curvature at the estimates, with fixed and group effects together, gives larger errors."""
    design = problem.design
    eta, first = design.x @ mean[: design.p], design.p + len(design.blocks)
    for block in design.blocks:
        eta = eta + block.z[:, 0] * mean[first : first + block.n_levels][block.codes]
        first += block.n_levels
    root = np.sqrt(of_design(design, np.empty(0), eta).expected)
    blocks = [replace(b, z=root[:, None] * b.z) for b in design.blocks]
    joint = gls.solve(root, root[:, None] * design.x, blocks, covariances, 1.0).beta_cov
    ratio = np.sqrt(np.diag(problem.coefficients @ joint @ problem.coefficients.T)) / errors
    short = [f"{n} ({r:.1f} times)" for n, r in zip(design.fixed_names, ratio, strict=True) if r > SHORT]
    if not short:
        return []
    told = (
        "the variational approximation treats fixed and group effects as independent, which makes standard errors too "
        f"small: with their correlations those of {listing(short)} are larger"
    )
    return [told]


def _priors(design: Design, settings: Settings) -> dict[str, str]:
    where = " of each orthogonal column with mean square 1" if settings.conditioned else ""
    unit = ", times the root mean square of its column" if settings.conditioned else ""
    made = {"fixed effects": f"Normal(0, {settings.fe_p:g}){where}"} if design.p else {}
    for block in design.blocks:
        constant = bool(np.ptp(block.z[:, 0]) == 0)
        made[f"sd({block.group}: {block.terms[0]})"] = f"LogNormal(0, {settings.vcp_p:g}){'' if constant else unit}"
    return made


def _provenance(problem: Problem, found: _Found, *, variational: bool) -> dict[str, str]:
    told = {
        "variances": "squares of exp(mean of the log SD under the approximation), which is the median of the SD",
        "interval": "normal quantiles of the approximate posterior, by unimix",
    }
    if variational:
        told |= {
            "optimum": f"statsmodels' evidence lower bound ({found.value:.6g}) maximised by unimix, best of 2 starts",
            "std_error": "of the mean-field approximation, in which no two parameters are correlated (fixed effects in "
            "the columns that are fitted): often too small",
        }
    else:
        told |= {
            "optimum": f"statsmodels' log posterior density ({found.value:.6g}) maximised by unimix, best of 2 starts: "
            "the mode of fixed effects, log SDs and group effects together, away from the one at zero SDs",
            "std_error": "inverse of minus the Hessian of the log density at the mode",
        }
    if problem.design.trials is not None and not (problem.design.trials == 1).all():
        told["trials"] = "emulated: every trial a row of its own, 0 or 1 (exact for the posterior)"
    if variational and problem.design.family.name == "poisson":
        told["estimate"] = (
            "statsmodels integrates by 10 nodes, which leaves an error of up to 0.1 % in expected counts: more than a "
            "tenth of a standard error when there are more than 10,000 counts in all"
        )
    return told
