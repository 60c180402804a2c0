"""Maximisation of statsmodels' objectives for the approximate posterior of a generalised mixed model, with checks.

``fit_vb`` and ``fit_map`` start at random, clip the start that they receive, and report convergence although the
gradient is far from zero. The joint density of effects and log SDs has its highest peak at zero SDs. This peak comes
from the number of effects, whose densities grow without bound as they vanish together, and not from the data;
``fit_map`` ends there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

from unimix.design.arrays import Design
from unimix.errors import listing
from unimix.likelihood.glmm.glm import fisher_scoring
from unimix.likelihood.glmm.laplace import laplace_at
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray]]

NEGLIGIBLE = 1e-4
"""Remaining improvement that a search must not exceed, in units of the bound or the log density."""
COLLAPSED = 0.2
"""Mean square of the effects, in units of their variance, below which a mode counts as that at zero SDs."""
NARROWEST = 8.0
"""Bound on the absolute log SDs of a MAP."""


@dataclass(frozen=True)
class Approximation:
    """Result of a search.

    Attributes:
        mean: Fixed effects, log SDs and group effects, shape (k,).
        cov: Variances (k,) of these parameters, or their covariance matrix (k, k).
        value: Bound or log density at the result.
        slope: Largest derivative with respect to a parameter, in units of its posterior SD.
        complaints: Reasons why the search does not count as converged.
        result: Result object of the optimizer.
    """

    mean: FloatArray
    cov: FloatArray
    value: float
    slope: float
    complaints: tuple[str, ...]
    result: OptimizeResult


def find_starts(design: Design) -> list[tuple[FloatArray, FloatArray]]:
    """Starting means and SDs: the conditional modes at small and at large variances."""
    beta = fisher_scoring(design)
    information = row_log_likelihood(design, np.empty(0), design.x @ beta).expected.sum()
    errors = np.full(len(beta), 1 / np.sqrt(max(float(information), 1e-6)))
    widths = [1 / np.sqrt(2.0 * b.n_levels) for b in design.blocks]
    starts = []
    for sd in (1.0, 0.3):
        approximation = laplace_at(design, beta, [np.array([[sd**2]]) for _ in design.blocks], np.empty(0))
        usable = np.isfinite(approximation.log_likelihood)
        modes = [m.ravel() if usable else np.zeros(m.size) for m in approximation.modes]
        spread = [
            np.sqrt(np.maximum(c.ravel(), 1e-12)) if usable else np.full(c.size, sd) for c in approximation.mode_covs
        ]
        mean = np.concatenate([beta, np.full(len(design.blocks), np.log(sd)), *modes])
        starts.append((mean, np.concatenate([errors, widths, *spread])))
    return starts


def _climb(
    objective: Objective,
    start: FloatArray,
    scale: FloatArray,
    limit: int,
    bound: FloatArray | float = np.inf,
    stop: Callable[[FloatArray], bool] | None = None,
) -> OptimizeResult:
    """Minimise from a start in units of ``scale``; ``x`` and ``jac`` of the result are in the parameters' own units."""
    steps = 0

    def look(step: FloatArray) -> None:
        nonlocal steps
        steps += 1
        if stop is not None and steps > 30 and stop(start + scale * step):
            raise StopIteration

    def scaled(step: FloatArray) -> tuple[float, FloatArray]:
        value, slope = objective(start + scale * step)
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return 1e100, np.zeros_like(step)
        return value, scale * slope

    optimum = minimize(
        scaled,
        np.zeros_like(start),
        jac=True,
        method="L-BFGS-B",
        callback=look,
        bounds=np.column_stack([(-bound - start) / scale, (bound - start) / scale]),
        options={"maxiter": limit, "maxfun": 2 * limit + 20, "gtol": 1e-6, "ftol": 1e-15, "maxcor": 20},
    )
    optimum.jac = objective(start + scale * optimum.x)[1]
    optimum.x = start + scale * optimum.x
    return optimum


def search_bound(model: Any, design: Design, limit: int) -> Approximation:
    """Maximise the evidence lower bound over means and log SDs of all parameters, from two starts."""
    best: Approximation | None = None

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        mean, sd = np.split(at, 2)
        sd = np.exp(sd)
        by_mean, by_sd = model.vb_elbo_grad(mean, sd)
        return -float(model.vb_elbo(mean, sd)), -np.concatenate([by_mean, by_sd * sd])

    for mean, sd in find_starts(design):
        at = np.concatenate([mean, np.log(sd)])
        for _ in range(4):
            width = np.exp(np.split(at, 2)[1])
            result = _climb(objective, at, np.concatenate([width, np.ones_like(width)]), limit)
            at = result.x
            half = np.split(result.jac, 2)
            slopes = np.concatenate([half[0] * np.exp(np.split(at, 2)[1]), half[1]])
            gain = 0.5 * float(slopes @ slopes)
            if gain < 0.01 * NEGLIGIBLE or limit < 20 or result.nit == 0:
                break
        complaints = () if gain < NEGLIGIBLE else (_shortfall(gain, "evidence lower bound"),)
        centre, log_sd = np.split(at, 2)
        optimum = Approximation(
            centre, np.exp(2 * log_sd), -float(result.fun), float(np.abs(slopes).max()), complaints, result
        )
        if best is None or (not optimum.complaints, optimum.value) > (not best.complaints, best.value):
            best = optimum
    assert best is not None  # noqa: S101  there are two starts
    return best


def _shortfall(gain: float, what: str) -> str:
    if not np.isfinite(gain):
        return f"the search ended where the {what} has no value"
    return f"the search stopped short of the optimum: a Newton step would raise the {what} by about {gain:.2g}"


def search_mode(model: Any, design: Design, limit: int) -> Approximation:
    """Maximise the joint density of fixed effects, log SDs and effects, and take the mode away from zero SDs."""
    numdiff = importlib.import_module("statsmodels.tools.numdiff")
    p, c = design.p, len(design.blocks)
    bound = np.full(p + c + sum(b.n_levels for b in design.blocks), np.inf)
    bound[p : p + c] = NARROWEST

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        return -float(model.logposterior(at)), -np.asarray(model.logposterior_grad(at))

    def stop(at: FloatArray) -> bool:
        return bool(_collapsed(at, design, 0.1 * COLLAPSED))

    best: tuple[bool, float, OptimizeResult] | None = None
    for start, sd in find_starts(design):
        result = _climb(objective, start, sd, limit, bound, stop)
        collapsed = bool(_collapsed(result.x, design))
        for _ in range(3):
            if collapsed or np.abs(result.jac * sd).max() < 1e-4:
                break
            result = _climb(objective, result.x, sd, limit, bound, stop)
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
    gain = 0.5 * float(result.jac @ inverse @ result.jac)
    if groups:
        complaints.append(
            f"the joint density of the group effects of {listing(groups)} and their SD has no peak except the one "
            "where the SD goes to zero, which is due to the number of effects and not to the data. Use "
            "method='variational', or an engine that integrates the group effects out"
        )
    elif values.min() <= floor or not gain < NEGLIGIBLE:
        complaints.append(_shortfall(gain if values.min() > floor else np.inf, "log density"))
    return Approximation(result.x, inverse, value, float(np.abs(slopes).max()), tuple(complaints), result)


def _collapsed(at: FloatArray, design: Design, share: float = COLLAPSED) -> list[str]:
    """Grouping factors whose effects are far smaller than their SD implies, as at the mode at zero SDs."""
    groups, first = [], design.p + len(design.blocks)
    for k, block in enumerate(design.blocks):
        effects = at[first : first + block.n_levels]
        first += block.n_levels
        if float(np.mean(effects**2)) < share * float(np.exp(2 * at[design.p + k])):
            groups.append(block.group)
    return groups
