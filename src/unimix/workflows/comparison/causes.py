"""Why two engines differ: a table of all differences with their causes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unimix.analysis.certificate.certificate import Certificate
from unimix.fitted.schema import PRIORS
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.result import FitResult
from unimix.workflows.comparison.verdicts import measure

ROUNDING = 1e-4
"""Relative difference below which only rounding and stopping rules separate two numbers."""


def causes(results: Mapping[str, FitResult], certificates: Mapping[str, Certificate], reference: str) -> pd.DataFrame:
    """One row per engine and difference.

    Args:
        results: Results by label.
        certificates: Certificates by label.
        reference: Label of the result that all others are compared with.

    Returns:
        A table with the columns engine, differs (fixed effects, standard errors, SDs, log-likelihood, degrees of
        freedom), size, cause (criterion, integrator, optimum, vcov kind, df method, prior, emulation, a different
        model, numerical derivatives, unexplained).
    """
    base = results[reference]
    rows: list[tuple[str, str, str, str]] = []
    for label, fit in results.items():
        if label == reference:
            continue
        for what, size in _differences(fit, base):
            rows.append((label, what, size, _cause(what, fit, base, certificates[label], certificates[reference])))
        emulated = [k for k, v in fit.provenance.items() if v.startswith("emulated")]
        if emulated:
            rows.append((label, ", ".join(emulated), "none (exact)", "emulation"))
    return pd.DataFrame(rows, columns=["engine", "differs", "size", "cause"])


def _differences(fit: FitResult, base: FitResult) -> list[tuple[str, str]]:
    d = measure(fit, base)
    differences = []
    fixed = float(np.abs(d.fixed).max(initial=0.0))
    if fixed > ROUNDING:
        differences.append(("fixed effects", f"{fixed:.2g} standard errors"))
    errors = float(np.abs(d.std_error - 1).max(initial=0.0))
    if errors > ROUNDING:
        differences.append(("standard errors", f"{100 * errors:.2g} %"))
    sds = float(np.nanmax(np.abs(d.sd - 1), initial=0.0))
    if sds > ROUNDING:
        differences.append(("SDs", f"{100 * sds:.2g} %"))
    if abs(d.log_likelihood) > ROUNDING:
        differences.append(("log-likelihood", f"{d.log_likelihood:.2g}"))
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.abs(np.asarray(fit.fixed.df) / np.asarray(base.fixed.df) - 1)
    if fit.fixed.df_method != base.fixed.df_method:
        differences.append(("degrees of freedom", f"{fit.fixed.df_method} against {base.fixed.df_method}"))
    elif np.nanmax(np.where(np.isfinite(df), df, 0.0), initial=0.0) > 1e-2:
        differences.append(("degrees of freedom", f"{100 * float(np.nanmax(df)):.2g} %"))
    return differences


def _cause(what: str, fit: FitResult, base: FitResult, checked: Certificate, reference: Certificate) -> str:
    bayes = [f for f in (fit, base) if f.fixed.interval == "credible"]
    if bayes:
        chosen = any(PRIORS in f.provenance for f in bayes)
        return (
            f"prior and averaging: a posterior mean is not a maximum{' (priors given by the user)' if chosen else ''}"
        )
    if what == "degrees of freedom" and fit.fixed.df_method != base.fixed.df_method:
        return "df method"
    kinds = (fit.fixed.std_error_kind, base.fixed.std_error_kind)
    if what == "standard errors" and kinds[0] != kinds[1]:
        return f"vcov kind: {kinds[0] or 'its own'} against {kinds[1] or 'its own'}"
    if fit.criteria.criterion != base.criteria.criterion:
        names = f"{fit.criteria.criterion} against {base.criteria.criterion}"
        return (
            f"criterion: {names}"
            if {"REML", "ML"} & {fit.criteria.criterion, base.criteria.criterion}
            else f"integrator: {names}"
        )
    for label, certificate in ((fit.backend, checked), (base.backend, reference)):
        if certificate.verdict == "a different model":
            return f"a different model in {label}: {certificate.faults[0].said}" if certificate.faults else "model"
        if certificate.gap > NOTICEABLE:
            return f"optimum: {label} ends {certificate.gap:.2g} log-likelihood below the best known"
    if max(checked.gap, reference.gap) > 1e-7:
        return f"optimum: within {max(checked.gap, reference.gap):.0e} log-likelihood of the best known"
    if what in ("standard errors", "degrees of freedom"):
        return "numerical derivatives: an engine takes them by differences"
    return "unexplained"
