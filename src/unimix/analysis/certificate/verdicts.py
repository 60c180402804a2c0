"""The verdict of a certificate and its sentence, from the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Certificate, Check, Word

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


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
    if boundary:
        checks = [*checks, Check(name="boundary", passed=None, said=boundary)]
    elif fit.singular:
        said = "the fit is called singular, but all variances are positive and no correlation is at its limit"
        checks = [*checks, Check(name="boundary", passed=False, said=said)]
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


def _verdict(fit: FittedModel, checks: Mapping[str, Check], boundary: str) -> tuple[Word, str]:
    failed = {name: check for name, check in checks.items() if check.passed is False}
    if "sampling and prior" in checks:
        return _posterior_verdict(checks)
    if fit.status.state == "failed":
        return "not checkable", "The engine failed."
    for name in ("rows", "same model", "independent terms"):
        if name in failed:
            return "a different model", f"These numbers are not those of the model: {failed[name].said}."
    if "optimum" in failed:
        said = failed["optimum"].said
        tried = "Try restart=True, or another optimizer (unimix.all_fit shows which find the optimum)"
        return "not at the optimum", f"The search ended too early or at a false maximum: {said}. {tried}."
    if "optimum" in checks and checks["optimum"].passed is None:
        return "not checkable", f"The optimum cannot be told from its neighbours: {checks['optimum'].said}."
    others = [check for name, check in failed.items() if name != "identification"]
    if others:
        reasons = "; ".join(f"{check.name}: {check.said}" for check in others)
        verdict: Word = (
            "wrong inference"
            if all(c.name.startswith(("standard errors", "degrees of freedom")) for c in others)
            else "a different model"
        )
        return verdict, f"The estimates are at the optimum of the model, but not everything else is right: {reasons}."
    both = ""
    if fit.status.state == "not_converged":
        reason = "; ".join(fit.status.messages) or "it gives no reason"
        both = f" The engine does not report convergence: {reason.rstrip('.')}."
    if "identification" in failed:
        said = failed["identification"].said
        return "not identified", f"The model does not have one answer: {said}.{both}"
    if boundary:
        said = boundary
        edge = f"These are the best estimates, and they are on the boundary of the parameter space: {said}."
        return "certified at the boundary", f"{edge} The data do not support all of the random effects.{both}"
    if both:
        return "certified", f"The estimates are at the optimum.{both}"
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


def _posterior_verdict(checks: Mapping[str, Check]) -> tuple[Word, str]:
    sampled = checks["sampling and prior"]
    failed = [check for check in checks.values() if check.passed is False and check is not sampled]
    by_draws = [check for check in failed if check.name in ("posterior", "evidence")]  # they need good draws
    if exact := [check for check in failed if check not in by_draws]:
        return "a different model", f"These numbers are not those of the posterior: {exact[0].said}."
    if sampled.passed is False:
        return "not checkable", f"The posterior was not sampled well enough to judge: {sampled.said}. Take more draws."
    if by_draws:
        return "a different model", f"This is not the posterior of the model: {by_draws[0].said}."
    pull = sampled.numbers["pull (SE)"]
    if pull > 1.0:
        moved = f"The prior, or a small number of groups, moves the estimates by {pull:.2g} standard errors"
        return (
            "not checkable",
            f"{moved}: the answer depends on the prior, not on the likelihood alone ({sampled.said}).",
        )
    for name in ("draws", "posterior"):
        if name in checks and checks[name].passed is None:
            return "not checkable", f"This posterior cannot be checked: {checks[name].said}."
    return "certified", f"A posterior that was sampled well and agrees with the likelihood: {sampled.said}."
