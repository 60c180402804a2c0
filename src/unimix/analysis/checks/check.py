"""Checks of a fitted model in one table, with findings in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unimix.analysis.checks.collinearity import HIGH, ILL, MODERATE, collinearity, of_other_predictors
from unimix.analysis.checks.dispersion import check_zeros, overdispersion, why_no_overdispersion
from unimix.analysis.checks.findings import LOOK, OK, PROBLEM, Finding
from unimix.analysis.checks.rows import (
    constant_spread,
    influential,
    normal_modes,
    normal_residuals,
    quantile_residuals,
    single_rows,
)
from unimix.analysis.tests.terms import terms_of
from unimix.backends.registry import DEFAULT_BACKEND
from unimix.errors import DataError, UnimixError, listing
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.formatting import p_phrase
from unimix.fitted.model import is_sampled
from unimix.fitted.smooth_parts import mixed_form
from unimix.fitted.table_result import TableResult
from unimix.likelihood.glmm.separation import separated_terms, undecided_separation

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


@dataclass(frozen=True, repr=False, eq=False)
class Checks(TableResult):
    """Checks of a fitted model.

    Attributes:
        findings: The findings, one per check.
        skipped: Checks that could not be made, with the reasons.
        meaningless: Checks that do not apply to this kind of model.
    """

    findings: tuple[Finding, ...]
    skipped: dict[str, str]
    meaningless: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """One row per check: index check; columns verdict (ok, look, problem), value, finding, advice."""
        rows = [(f.verdict, f.value, f.finding, f.advice) for f in self.findings]
        index = pd.Index([f.check for f in self.findings], name="check")
        return pd.DataFrame(rows, index=index, columns=["verdict", "value", "finding", "advice"])

    @property
    def verdict(self) -> str:
        """The worst verdict of all checks: ok, look or problem."""
        verdicts = {f.verdict for f in self.findings}
        return PROBLEM if PROBLEM in verdicts else LOOK if LOOK in verdicts else OK

    @property
    def notes(self) -> tuple[str, ...]:
        """Checks that were not made."""
        notes = [f"Not checked: {name}. {why}" for name, why in self.skipped.items()]
        if self.meaningless:
            notes.append(f"Without meaning for this model: {', '.join(self.meaningless)}.")
        return tuple(notes)

    def _shown(self) -> pd.DataFrame:
        """The table for printing, with the advice below each finding."""
        rows = [
            row
            for f in self.findings
            for row in ((f.verdict, f.check, f.finding), *((("", "", f.advice),) if f.advice else ()))
        ]
        return pd.DataFrame(rows, columns=["verdict", "check", "finding"])


def check(fit: FittedModel) -> Checks:
    """Check the fit for everything that commonly goes wrong, one row per check.

    The checks are: convergence, singularity, numbers of levels, separation, overdispersion, zero inflation,
    collinearity, normality of residuals and conditional modes, constant spread, the distribution of simulated
    residuals, influential rows and levels; for a sampler also R-hat, effective sample sizes and divergences. Verdicts
    rest on published thresholds where there are any; the documentation lists them. A significance test alone never
    decides, because with many rows every departure is significant. Autocorrelation is not checked, because the order of
    the rows in time is unknown: ``fit.simulated_residuals().test_autocorrelation(time)`` does.

    Returns:
        ``.table`` with columns verdict (ok, look, problem), value, finding, advice; ``.verdict``, the worst of them;
        ``.skipped``, the checks that could not be made and why; ``.meaningless``, those that do not apply to the model.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> checks = fit.check()
        >>> checks.verdict
        'look'
        >>> checks.table.loc["influential levels of Subject", "verdict"]
        'ok'
    """
    refuse_correlated(fit, "A check of the residuals", "Use fit.certificate() for the fit, and fit.collinearity().")
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    meaningless: list[str] = []
    modes = [(block, j) for block in fit.random for j in range(len(block.terms))]
    checks: list[tuple[str, Callable[[], Finding | Sequence[Finding] | None]]] = [
        ("convergence", lambda: _convergence(fit)),
        ("sampling", lambda: _sampling(fit)),
        ("singularity", lambda: _singularity(fit)),
        ("levels", lambda: _levels(fit)),
        ("separation", lambda: _separation(fit)),
        ("overdispersion", lambda: _overdispersion(fit)),
        ("zero inflation", lambda: _zeros(fit)),
        ("collinearity", lambda: _collinearity(fit)),
        ("residuals: normality", lambda: normal_residuals(fit)),
        ("residuals: spread", lambda: constant_spread(fit)),
        ("simulated residuals", lambda: quantile_residuals(fit)),
        *((f"group effects: {b.terms[j]} | {b.group}", partial(normal_modes, fit, b, j)) for b, j in modes),
        ("influential rows", lambda: single_rows(fit)),
        *((f"influential levels of {group}", partial(influential, fit, group)) for group in fit.n_groups),
    ]
    for name, make in checks:
        try:
            answer = make()
        except UnimixError as error:
            skipped[name] = str(error)
            continue
        if answer is None:
            meaningless.append(name)
        else:
            findings += [answer] if isinstance(answer, Finding) else list(answer)
    return Checks(tuple(findings), skipped, tuple(meaningless))


def _convergence(fit: FittedModel) -> Finding | None:
    if is_sampled(fit):
        return None
    if fit.status.state in ("converged", "singular"):
        return Finding("convergence", OK, np.nan, "The engine ended properly.")
    if fit.status.state == "not_identified":
        return Finding(
            "convergence",
            PROBLEM,
            np.nan,
            f"Not identified: {fit.status.messages[0] if fit.status.messages else 'the likelihood has a ridge'}.",
            "Leave a random effect out, or give its SD a prior: backend='pymc'.",
        )
    message = f" The engine says: {fit.status.messages[0]}" if fit.status.messages else ""
    advice = ["compare optimizers: um.all_fit(formula, data)"]
    if fit.fixed.unbounded.size:
        advice = []  # no search finds a maximum: the check of separation says what helps
    elif fit.backend != DEFAULT_BACKEND:
        advice.insert(0, f"fit with backend={DEFAULT_BACKEND!r}")
    text = ", or ".join(advice)
    return Finding(
        "convergence",
        PROBLEM,
        np.nan,
        f"The engine did not converge; do not use its numbers.{message}",
        f"{text[:1].upper()}{text[1:]}." if text else "",
    )


def _sampling(fit: FittedModel) -> list[Finding] | None:
    """Check the chains by the thresholds of Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021).

    Bayesian Anal. 16:667-718.
    """
    if not is_sampled(fit):
        return None
    s, findings = fit.status, []
    rhat = np.nan if s.rhat is None else float(s.rhat)
    verdict = PROBLEM if not rhat <= 1.05 else LOOK if rhat > 1.01 else OK
    findings.append(
        Finding(
            "R-hat",
            verdict,
            rhat,
            f"Largest R-hat {rhat:.3f}: {'chains agree' if verdict == OK else 'chains disagree (limit 1.01)'}.",
            "" if verdict == OK else "Take more draws: options=dict(draws=4000, tune=4000); fit.plot.rank().",
        )
    )
    ess = min(float(v) for v in (s.ess_bulk, s.ess_tail) if v is not None) if s.ess_bulk is not None else np.nan
    verdict = PROBLEM if not ess >= 100 else LOOK if ess < 400 else OK
    findings.append(
        Finding(
            "effective draws",
            verdict,
            ess,
            f"Smallest effective sample size {ess:.0f} (400 are wanted).",
            "" if verdict == OK else "Take more draws: options=dict(draws=4000); fit.plot.trace().",
        )
    )
    bad = int(s.divergences or 0)
    findings.append(
        Finding(
            "divergences",
            PROBLEM if bad else OK,
            bad,
            f"{bad or 'No'} divergent transitions{': the draws miss part of the posterior' if bad else ''}.",
            "Smaller steps, options=dict(target_accept=0.99), or tighter priors; fit.plot.trace()." if bad else "",
        )
    )
    return findings


def _singularity(fit: FittedModel) -> Finding | None:
    if not fit.random or is_sampled(fit):
        return None
    if fit.status.state != "singular":
        return Finding("singularity", OK, np.nan, "All variances are positive and no correlation is +-1.")
    causes = []
    for block in fit.random:
        size = np.asarray(block.sd) * np.asarray(block.unit)
        causes += [
            f"SD of {t} | {block.group} is zero"
            for t, v in zip(block.terms, size, strict=True)
            if v < 1e-4 * max(fit.sigma, 1e-300)
        ]
        q = len(block.terms)
        causes += [
            f"correlation of {block.terms[i]} and {block.terms[j]} | {block.group} is {block.correlation[i, j]:+.2f}"
            for i in range(q)
            for j in range(i)
            if abs(block.correlation[i, j]) > 0.999
        ]
    return Finding(
        "singularity",
        LOOK,
        float(len(causes)),
        f"On the boundary: {listing(causes) or 'a covariance matrix is not of full rank'}.",
        "Leave the effect out, fit without correlations (||), or give priors: backend='pymc'. fit.plot.caterpillar().",
    )


def _levels(fit: FittedModel) -> list[Finding] | None:
    """Check numbers of levels: five or six at least (Bolker and others 2009, Trends Ecol. Evol. 24:127-135)."""
    if not fit.n_groups:
        return None
    findings = []
    for group, count in fit.n_groups.items():
        verdict = PROBLEM if count < 3 else LOOK if count < 6 else OK
        findings.append(
            Finding(
                f"levels of {group}",
                verdict,
                float(count),
                f"{count} levels{' are few to estimate a variance from' if verdict != OK else ''}.",
                "" if verdict == OK else f"Take {group} as a fixed effect, or give its SD {_prior(fit)}.",
            )
        )
    return findings


def _prior(fit: FittedModel) -> str:
    """Advice to use a prior; the engine is named only if it is another one than that of the fit."""
    return "an informative prior: priors=..." if is_sampled(fit) else "a prior: backend='pymc', priors=..."


def _separation(fit: FittedModel) -> Finding | None:
    """Check for infinite estimates, or changes of a logit by more than 10 over the range of a predictor.

    Gelman and others (2008), Ann. Appl. Stat. 2:1360-1383.
    """
    if fit.family.response not in ("binomial", "count"):
        return None
    fit = mixed_form(fit)
    design = fit.design()
    endless = separated_terms(design)
    advice = f"Leave the term out, or give its coefficient {_prior(fit)}; fit.plot.forest()."
    if endless:
        sampled = fit.fixed.interval == "credible"
        return Finding(
            "separation",
            LOOK if sampled else PROBLEM,
            float(len(endless)),
            f"The likelihood has no maximum along {listing(endless)}: "
            + ("the prior alone holds the estimates." if sampled else "estimates and their Wald tests mean nothing."),
            "" if sampled else f"fit.confint(method='profile') and um.anova(smaller, fit) remain right. {advice}",
        )
    if undecided := undecided_separation(design):
        return Finding("separation", LOOK, 0.0, f"{undecided[0].upper()}{undecided[1:]}.", "")
    reach = np.abs(np.asarray(fit.fixed.estimate)) * np.ptp(design.x, axis=0)
    far = [t for t, r in zip(fit.fixed.terms, reach, strict=True) if fit.family.link in ("logit", "log") and r > 10]
    if far:
        what = "logit" if fit.family.link == "logit" else "logarithm of the mean"
        return Finding(
            "separation",
            LOOK,
            float(reach.max()),
            f"Over the range of {listing(far)} the {what} moves by more than 10.",
            advice,
        )
    return Finding("separation", OK, float(reach.max(initial=0.0)), "No coefficient tends to infinity.")


def _overdispersion(fit: FittedModel) -> Finding | None:
    """Check for overdispersion: the expected ratio is 1, and the limits 1.1 and 1.5 are conventions of this table."""
    if fit.family.response not in ("binomial", "count") or (why_no_overdispersion(fit) and not fit.parts):
        return None
    test = overdispersion(fit)
    sure = test.p_value < 0.01 and test.ratio > 1.1
    verdict = PROBLEM if sure and test.ratio >= 1.5 else LOOK if sure else OK
    amount = "more" if sure else "about as much"
    other = (
        "Add an observation-level effect: data['row'] = range(len(data)), (1 | row)."
        if fit.family.response == "binomial"
        else "family='negative_binomial', or an observation-level effect: data['row'] = range(len(data)), (1 | row)."
    )
    return Finding(
        "overdispersion",
        verdict,
        test.ratio,
        f"Responses vary {amount} {'than' if sure else 'as'} the {fit.family.name.replace('_', ' ')} distribution "
        f"says: ratio {test.ratio:.2f}, {p_phrase(test.p_value)}.",
        "" if verdict == OK else f"Standard errors are too small. {other} fit.plot.posterior_predictive().",
    )


def _zeros(fit: FittedModel) -> Finding | None:
    if fit.family.response != "count":
        return None
    zeros = check_zeros(fit)
    sure = zeros.p_value < 0.01 and zeros.ratio > 1.05
    verdict = PROBLEM if sure and zeros.ratio >= 1.5 else LOOK if sure else OK
    return Finding(
        "zero inflation",
        verdict,
        zeros.ratio,
        f"{zeros.observed:.0f} zeros, {zeros.expected:.1f} expected.",
        ""
        if verdict == OK
        else "family='negative_binomial', or structural zeros: ziformula='~ 1'. fit.plot.posterior_predictive().",
    )


def _collinearity(fit: FittedModel) -> Finding | None:
    """Check each predictor against the terms that do not use it; its own products and powers depend on it anyway."""
    terms = terms_of(fit, fit.design())
    kept = [i for i, columns in enumerate(terms.columns) if columns]
    if len(kept) < 2:
        return None
    diagnosis = collinearity(fit)
    judged = [terms.names[i] for i in kept if of_other_predictors(terms, i)]
    if not judged:
        raise DataError(
            f"{listing([terms.names[i] for i in kept])} share a predictor, so that there are no two predictors to "
            "compare. fit.collinearity() has the variance inflation of all terms."
        )
    factors = diagnosis.table.loc[judged, "vif_apart"]
    if factors.isna().any():
        raise DataError(
            f"{listing(factors.index[factors.isna()])} cannot be distinguished numerically from products and powers: "
            "center numeric predictors (x - mean) and fit again."
        )
    worst, ill = float(factors.max()), diagnosis.condition_number >= ILL
    verdict = PROBLEM if worst >= HIGH else LOOK if worst >= MODERATE or ill else OK
    sentence = (
        f"{factors.idxmax()} is explained by the other predictors"
        if worst >= MODERATE
        else "The predictors are nearly linearly dependent"
        if ill
        else "No predictor is explained by the others"
    )
    number = f" (condition number {diagnosis.condition_number:.3g})" if ill else ""
    size = f"{worst:.3g}" if worst < 1000 else f"{worst:.0f}"
    return Finding(
        "collinearity",
        verdict,
        worst,
        f"{sentence}: largest variance inflation {size}{number}.",
        "" if verdict == OK else "Leave out or combine predictors that measure the same: fit.collinearity().",
    )


__all__ = ["Checks", "check"]
