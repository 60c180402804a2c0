"""The checks of a certificate and its verdict in words, from the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Certificate, Check, Word
from unimix.errors import listing
from unimix.likelihood.lmm.conditioning import SINGULAR_TOLERANCE, relative_factors
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
SAME_VALUE = 1e-6
"""Largest relative difference between two evaluations of the same log-likelihood."""
SAME_BETA = 1e-2
"""Largest distance, in standard errors, of an engine's fixed effects from those that its own variances imply."""
SAME_KIND = 5e-3
"""Largest relative difference of standard errors of the same kind; numerical Hessians are no more accurate."""
SAME_DF = 2e-2
NO_CORRELATION = 1e-8


def percent(share: float) -> str:
    """A relative difference as text: a percentage, or a multiple if it is large."""
    if not np.isfinite(share):
        return "not a number"
    return f"{100 * share:.2g} %" if share < 1 else f"{1 + share:.3g} times as large" if share < 1e6 else "far off"


def rows_check(fit: FittedModel, design: Design) -> Check:
    """Check that the result has as many rows as the design."""
    passed = fit.model.n_obs == design.n and len(fit.rows.observed) == design.n
    said = f"{fit.model.n_obs} rows" if passed else f"{fit.model.n_obs} rows, where the design has {design.n}"
    return Check(name="rows", passed=passed, said=said)


def same_model(fit: FittedModel, ours: float, known: Mapping[str, float], off: float) -> Check:
    """Compare the engine's log-likelihood with unimix's at its parameters, and its fixed effects with its variances.

    Args:
        fit: The result.
        ours: Log-likelihood at the engine's parameters by unimix's criterion.
        known: Constants by which engines' log-likelihoods are known to differ, by a description of each.
        off: Largest distance of the engine's fixed effects from those that its variances imply, in standard errors.
    """
    difference = fit.log_likelihood - ours
    limit = SAME_VALUE * max(1.0, abs(ours))
    numbers = {"engine's": fit.log_likelihood, "ours": ours, "difference": difference, "fixed effects off by (SE)": off}
    faults = []
    if abs(difference) > limit or not np.isfinite(difference):
        names = [name for name, value in known.items() if abs(difference - value) <= limit and abs(value) > limit]
        if names:
            faults.append(f"its log-likelihood, {fit.log_likelihood:.6g}, is {names[0]}; it should be {ours:.6g}")
        else:
            faults.append(
                f"its log-likelihood, {fit.log_likelihood:.6g}, is not that of its own estimates, {ours:.6g} "
                f"(difference {difference:.3g})"
            )
    if not off <= SAME_BETA:
        faults.append(f"its fixed effects are up to {off:.2g} standard errors away from those that its variances imply")
    if faults:
        return Check(name="same model", passed=False, said="; ".join(faults), numbers=numbers)
    said = f"log-likelihood {fit.log_likelihood:.6f}, ours at its estimates {ours:.6f}"
    return Check(name="same model", passed=True, said=said, numbers=numbers)


def optimum(
    fit: FittedModel, gap: float, moved: float, best_sd: Sequence[FloatArray], numbers: Mapping[str, float]
) -> Check:
    """Check the distance to the best known optimum, and its effect on the estimates."""
    if gap <= NOTICEABLE:
        return Check(
            name="optimum",
            passed=True,
            said=f"{max(gap, 0.0):.1e} log-likelihood below the best known",
            numbers=dict(numbers),
        )
    said = f"{gap:.3g} log-likelihood below the best known; fixed effects move by up to {moved:.2g} standard errors"
    changes = _changes(fit, best_sd)
    said = "; ".join(part for part in (said, changes) if part)
    return Check(name="optimum", passed=False, said=said, numbers=dict(numbers))


def independent(fit: FittedModel) -> list[int]:
    """Indices of blocks whose correlations are all exactly zero although their variances are positive."""
    blocks = []
    for k, block in enumerate(fit.random):
        own = np.asarray(block.covariance)
        size = np.asarray(block.sd) * np.asarray(block.unit)
        off = np.abs(own - np.diag(np.diag(own))).max(initial=0.0)
        if (
            len(block.terms) > 1
            and off <= NO_CORRELATION * np.abs(np.diag(own)).min()
            and size.min() > 1e-3 * size.max()
        ):
            blocks.append(k)
    return blocks


def left_out(fit: FittedModel, blocks: Sequence[int], lost: float) -> Check:
    """The failed check of an engine that fitted independent effects and is at the optimum of that smaller model."""
    groups = listing(dict.fromkeys(fit.random[k].group for k in blocks))
    said = (
        f"the correlations of {groups} are exactly zero and the rest is the best that independent effects allow: the "
        f"engine left the correlations out, which costs {lost:.3g} log-likelihood"
    )
    return Check(name="independent terms", passed=False, said=said, numbers={"lost": lost})


def _changes(fit: FittedModel, best_sd: Sequence[FloatArray]) -> str:
    """The standard deviation that differs most from that at the optimum, in words."""
    names = [f"{t} | {b.group}" for b in fit.random for t in b.terms]
    ours = np.concatenate([*best_sd]) if best_sd else np.empty(0)
    theirs = np.concatenate([*(np.asarray(b.sd) for b in fit.random), np.empty(0)])
    if len(ours) < len(theirs) or not len(theirs):
        return ""
    ours = ours[: len(theirs)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(np.log(theirs / ours))
    worst = int(np.nanargmax(np.where(np.isfinite(ratio), ratio, 1e9)))
    return f"the SD of {names[worst]} is {theirs[worst]:.4g} instead of {ours[worst]:.4g}"


def group_effects(worst: float) -> Check:
    """Compare conditional modes with unimix's at the engine's parameters, in standard deviations of the effects."""
    passed = worst < 1e-3
    said = f"conditional modes within {worst:.1e} SD of ours at its estimates"
    if not passed:
        said = f"group effects are up to {worst:.2g} SD away from the conditional modes at its own estimates"
    return Check(name="group effects", passed=passed, said=said, numbers={"largest difference (SD)": worst})


def standard_errors(fit: FittedModel, kinds: Mapping[str, FloatArray], tolerance: float = SAME_KIND) -> Check:
    """Check that the engine's standard errors are of the kind it claims."""
    kept = ~fit.fixed.is_unbounded(np.eye(len(fit.fixed.terms)))
    own = np.asarray(fit.fixed.std_error)[kept]
    off = {k: float(np.max(np.abs(own / v[kept] - 1), initial=0.0)) for k, v in kinds.items()}
    nearest = min(off, key=lambda k: off[k])
    claimed = fit.fixed.std_error_kind
    numbers = dict(off)
    if not all(np.isfinite(v) for v in own) or not off[nearest] <= tolerance:
        said = f"not of any known kind: {percent(off[nearest])} from the nearest, {nearest}"
        return Check(name="standard errors", passed=False, said=said, numbers=numbers)
    if claimed in off and not off[claimed] <= tolerance:
        said = f"they are reported as {claimed}, but are of the kind {nearest}"
        return Check(name="standard errors", passed=False, said=said, numbers=numbers)
    kind = claimed if claimed in off else nearest
    return Check(name="standard errors", passed=True, said=f"{kind}, within {off[kind]:.1e}", numbers=numbers)


def degrees(fit: FittedModel, methods: Mapping[str, FloatArray], *, singular: bool = False) -> Check:
    """Compare the engine's degrees of freedom with unimix's."""
    claimed, own = fit.fixed.df_method, np.asarray(fit.fixed.df)
    if claimed == "normal":
        right = bool(np.isinf(own).all())
        said = "normal: z tests" if right else "they are reported as normal, but are finite"
        return Check(name="degrees of freedom", passed=None if right else False, said=said)
    if claimed not in methods:
        return Check(name="degrees of freedom", passed=None, said=f"{claimed}: nothing to check")
    if singular and bool((own > 0).all()):
        said = f"{claimed}; at the boundary they are a convention"
        return Check(name="degrees of freedom", passed=None, said=said)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = {k: float(np.max(np.abs(own / v - 1), initial=0.0)) for k, v in methods.items()}
    twin = [k for k, v in off.items() if k != claimed and v <= SAME_DF]
    # Two methods can give nearly the same numbers: only further digits distinguish them.
    mistaken = [k for k in twin if off[k] < 1e-5 and off[claimed] > max(20 * off[k], 1e-4)]
    if off[claimed] <= SAME_DF and not mistaken:
        said = f"{claimed}, within {off[claimed]:.1e} of ours"
        return Check(name="degrees of freedom", passed=True, said=said, numbers=off)
    twin = mistaken or twin
    said = (
        f"they are reported as {claimed}, but are {twin[0]}"
        if twin
        else f"they are reported as {claimed}, but differ from these by up to {percent(off[claimed])}"
    )
    return Check(name="degrees of freedom", passed=False, said=said, numbers=off)


def posterior(fit: FittedModel, pull: FloatArray, lost: float, criterion: str) -> Check:
    """Check how well a posterior was sampled, and how far the prior and averaging move it from the optimum."""
    status = fit.status
    ess = float(status.ess_bulk or np.nan)
    rhat = float(status.rhat or np.nan)
    mcse = 1.0 / np.sqrt(ess) if ess > 0 else np.nan
    worst = float(pull.max(initial=0.0))
    numbers = {
        "R-hat": rhat,
        "ESS": ess,
        "MCSE (posterior SDs)": mcse,
        "pull (SE)": worst,
        "log-likelihood lost": float(lost),
    }
    well = bool(fit.converged and rhat < 1.01 and ess >= 400)
    said = (
        f"R-hat {rhat:.3f}, ESS {ess:.0f}, so that a posterior mean is known to {mcse:.2g} of its SD; it lies up to "
        f"{worst:.2g} standard errors from the {criterion} optimum, {max(lost, 0.0):.2g} log-likelihood below it"
    )
    return Check(name="sampling and prior", passed=well, said=said, numbers=numbers)


def boundary(fit: FittedModel, *factors: Sequence[FloatArray]) -> str:
    """Which variances are zero and which correlations +-1, in words; empty if the fit is not on the boundary.

    Args:
        fit: The result.
        factors: Relative covariance factors (q, q) per block, for well-scaled columns (in the user's columns, a slope
            far from zero correlates with the intercept through its mean alone): first those of the result, then those
            of the optimum, because an engine whose parameters cannot reach the boundary stops beside it.
    """
    return next((edge for f in factors if (edge := _edge(fit, [own @ own.T for own in f]))), "")


def _edge(fit: FittedModel, relative: Sequence[FloatArray]) -> str:
    parts = []
    for block, own in zip(fit.random, relative, strict=True):
        if (np.diag(relative_factors((own,), 1.0)[0]) >= SINGULAR_TOLERANCE).all():
            continue
        size = np.asarray(block.sd) * np.asarray(block.unit)
        zero = [t for t, s in zip(block.terms, size, strict=True) if s <= 1e-4 * max(float(size.max()), fit.sigma)]
        parts += [f"the variance of {t} | {block.group} is zero" for t in zero]
        if not zero:
            parts.append(
                f"the correlations of {listing(block.terms)} | {block.group} are at their limit"
                if len(block.terms) > 2
                else f"the correlation of {listing(block.terms)} | {block.group} is +-1"
            )
    return listing(parts) if parts else ""


def conclude(
    fit: FittedModel,
    checks: Sequence[Check],
    *,
    gap: float,
    best_value: float,
    best_fixed: FloatArray,
    best_sd: Sequence[FloatArray],
    boundary: str,
) -> Certificate:
    """The certificate that follows from the checks."""
    if boundary or fit.singular:
        said = boundary or "the engine calls the fit singular"
        checks = [*checks, Check(name="boundary", passed=None, said=said)]
    verdict, sentence = _verdict(fit, {c.name: c for c in checks}, boundary)
    names = [f"{t} | {b.group}" for b in fit.random for t in b.terms]
    sds = np.concatenate([*best_sd]) if len(best_sd) else np.empty(0)
    names += ["Residual"] * (len(sds) - len(names))
    return Certificate(
        backend=fit.backend,
        formula=fit.formula,
        criterion=fit.criteria.criterion,
        verdict=verdict,
        sentence=sentence,
        checks=tuple(checks),
        gap=gap,
        best_log_likelihood=best_value,
        best_fixed=dict(zip(fit.fixed.terms, map(float, best_fixed), strict=True)),
        best_sd=dict(zip(names, map(float, sds), strict=True)),
    )


def _verdict(fit: FittedModel, made: Mapping[str, Check], boundary: str) -> tuple[Word, str]:
    failed = {name: check for name, check in made.items() if check.passed is False}
    if "sampling and prior" in made:
        return _posterior_verdict(made["sampling and prior"])
    if fit.status.state == "failed":
        return "not checkable", "The engine failed."
    for name in ("rows", "same model", "independent terms"):
        if name in failed:
            return "a different model", f"These numbers are not those of the model: {failed[name].said}."
    if "optimum" in failed:
        said = failed["optimum"].said
        tried = "Try restart=True, or another optimizer (unimix.all_fit shows which find the optimum)"
        return "not at the optimum", f"The search ended too early or at a false maximum: {said}. {tried}."
    if failed:
        reasons = "; ".join(f"its {name} are wrong: {check.said}" for name, check in failed.items())
        verdict: Word = (
            "wrong inference" if set(failed) <= {"standard errors", "degrees of freedom"} else "a different model"
        )
        return verdict, f"The optimum is that of the model, but {reasons}."
    if boundary:
        said = boundary
        edge = f"These are the best estimates, and they are on the boundary of the parameter space: {said}."
        return "certified at the boundary", f"{edge} The data do not support all of the random effects."
    if fit.status.state == "not_converged":
        said = "; ".join(fit.status.messages) or "it gives no reason"
        return (
            "certified",
            f"The estimates are at the optimum, although the engine does not report convergence: {said}.",
        )
    return "certified", "These are the numbers of this model, at its optimum."


def not_checkable(fit: FittedModel, check: Check, sentence: str) -> Certificate:
    """The certificate of a result that cannot be checked, with a single check that gives the reason."""
    return Certificate(
        backend=fit.backend,
        formula=fit.formula,
        criterion=fit.criteria.criterion,
        verdict="not checkable",
        sentence=sentence,
        checks=(check,),
    )


def out_of_reach(fit: FittedModel, sigma: float, reach: float) -> Certificate:
    """The certificate of a result whose residual is too small for the likelihood to be computed in double precision."""
    reason = (
        f"the residual standard deviation is {sigma:.1g} of the response's, and below {reach:.0e} rounding hides the "
        "likelihood. Look at the data: one response per group, or a copy of a predictor?"
    )
    check = Check(name="same model", passed=None, said=reason)
    return not_checkable(fit, check, f"This result cannot be checked: {reason}")


def _posterior_verdict(check: Check) -> tuple[Word, str]:
    if check.passed is False:
        return "not checkable", f"The posterior was not sampled well enough to judge: {check.said}. Take more draws."
    pull = check.numbers["pull (SE)"]
    if pull > 1.0:
        moved = f"The prior, or a small number of groups, moves the estimates by {pull:.2g} standard errors"
        return "not checkable", f"{moved}: the answer depends on the prior, not on the likelihood alone ({check.said})."
    return "certified", f"A posterior that was sampled well and agrees with the likelihood: {check.said}."
