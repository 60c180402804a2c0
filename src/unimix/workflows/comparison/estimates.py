"""The estimates of several engines: rows of one result, and the table of all for printing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from unimix.display import TextTable
from unimix.fitted.formatting import number
from unimix.result import FitResult
from unimix.workflows.comparison.verdicts import (
    all_correlations,
    all_sds,
    dispersion_parameters,
    residual_correlations,
    residual_sds,
)


def estimates_of(fit: FitResult) -> dict[tuple[str, str], float]:
    """Estimates by (part, name): fixed effects, SDs, correlations, dispersion, zero inflation and fit."""
    rows = {("fixed", t): float(v) for t, v in zip(fit.fixed.terms, fit.fixed.estimate, strict=True)}
    names = [*(f"{t} | {b.group}" for b in fit.random for t in b.terms), *residual_sds(fit)]
    rows |= {("sd", n): float(v) for n, v in zip(names, all_sds(fit), strict=True)}
    pairs = [
        f"{b.terms[j]}, {b.terms[i]} | {b.group}" for b in fit.random for i in range(len(b.terms)) for j in range(i)
    ]
    pairs += residual_correlations(fit)
    rows |= {("correlation", n): float(v) for n, v in zip(pairs, all_correlations(fit), strict=True)}
    rows |= {("dispersion", name): value for name, value in dispersion_parameters(fit).items()}
    rows |= {
        (heading, term): float(value)
        for name, heading in (("zero", "zero inflation"), ("dispersion", "log dispersion"), ("thresholds", "threshold"))
        if name in fit.parts
        for term, value in zip(fit.parts[name].terms, fit.parts[name].estimate, strict=True)
    }
    seconds = {k: v for k, v in fit.engine.seconds.items() if k != "load"}
    return rows | {("fit", "log_likelihood"): fit.log_likelihood, ("fit", "seconds"): sum(seconds.values())}


def estimates_table(table: pd.DataFrame, results: Mapping[str, FitResult]) -> TextTable:
    """The estimates as text, with standard errors (or posterior SDs) of fixed effects in parentheses.

    Args:
        table: Estimates with the index (part, name) and one column per engine, fixed effects first.
        results: The results by the labels of the columns; engines without a result are left out.
    """
    columns: dict[str, list[str]] = {}
    for label in table.columns:
        fit = results.get(label)
        errors = [] if fit is None else [f" ({number(float(v))})" for v in fit.fixed.std_error]
        errors += [""] * (len(table) - len(errors))  # fixed effects come first
        columns[label] = [(number(float(v)) or "-") + e for v, e in zip(table[label], errors, strict=True)]
    parts, names = ([str(k[i]) for k in table.index] for i in (0, 1))
    named = [part if i == 0 or part != parts[i - 1] else "" for i, part in enumerate(parts)]
    rows = tuple(zip(named, names, *columns.values(), strict=True))
    return TextTable(("", "", *columns), rows, "ll" + "r" * len(columns), stub=2)


__all__ = ["estimates_of", "estimates_table"]
