"""A comparison as an HTML page: who agrees, by how much they differ, why, and how to reproduce it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unimix.analysis.certificate.certificate import Certificate, checks_table
from unimix.errors import UnimixError, listing
from unimix.fitted.calls import compare_line
from unimix.fitted.formatting import column, text_table
from unimix.pages.differences import Strip, picture
from unimix.pages.document import LIGHTS, PageTable, render
from unimix.result import FitResult
from unimix.workflows.comparison.estimates import estimates_table
from unimix.workflows.comparison.verdicts import Tolerances, Verdict

_KINDS: dict[str, tuple[str, str | None, float]] = {
    "fixed (in SE)": ("Fixed effects, in standard errors", "fixed", 0.0),
    "std_error (ratio)": ("Standard errors, relative", "std_error", 1.0),
    "sd (ratio)": ("Standard deviations, relative", "sd", 1.0),
    "correlation (difference)": ("Correlations", None, 0.0),
    "dispersion (ratio)": ("Dispersion parameters, relative", "dispersion", 1.0),
    "fit": ("Log-likelihood", "log_likelihood", 0.0),
}
"""Parts of ``Comparison.differences``: heading, name of the tolerance, and the value that means no difference."""
_EXPECTED = ("expected to differ", "refused")


@dataclass(frozen=True)
class Content:
    """What a page shows of a comparison; :class:`unimix.workflows.comparison.comparison.Comparison` has the fields.

    Attributes:
        results: The results by label.
        reference: Label of the result that all others are compared with; None if there is no result.
        verdicts: The verdict on every engine by label.
        tolerances: Tolerances of the verdicts.
        estimates: Estimates, one column per engine.
        differences: Differences from the reference, one column per engine.
        certificates: Certificates by label; empty if the results do not hold their data.
        causes: Differences with their causes; empty without certificates.
    """

    results: Mapping[str, FitResult]
    reference: str | None
    verdicts: Mapping[str, Verdict]
    tolerances: Tolerances
    estimates: pd.DataFrame
    differences: pd.DataFrame
    certificates: Mapping[str, Certificate]
    causes: pd.DataFrame


def page(content: Content) -> str:
    """The HTML page of a comparison."""
    fits = list(content.results.values())
    verdicts, certificates, causes = content.verdicts, content.certificates, content.causes
    first = fits[0] if fits else None
    title = first.model.formula if first else "Comparison"
    groups = "".join(f", {n:,} {name}" for name, n in first.model.groups.items()) if first else ""
    return render(
        "comparison.html",
        title=title,
        subtitle=f"{first.model.n_obs:,} rows{groups}" if first else "",
        lead=lead(verdicts, content.reference),
        engines=[
            {
                "label": label,
                "verdict": verdict.kind,
                "reason": " ".join([verdict.reason, *(f"{f.capitalize()}." for f in verdict.faults)]),
                "light": _light(verdict),
                "sign": LIGHTS[_light(verdict)],
                "certificate": certificates[label].verdict if label in certificates else "",
            }
            for label, verdict in verdicts.items()
        ],
        reference=content.reference,
        picture=_picture(content),
        causes=PageTable.of(text_table(causes), "Differences and their causes") if len(causes) else None,
        estimates=PageTable.of(
            estimates_table(content.estimates, content.results), "Estimates of all engines"
        ).filled_down(),
        estimates_note="Standard errors (for samplers: posterior standard deviations) stand in brackets.",
        **_intervals(content),
        certificates=[
            {
                "label": label,
                "verdict": c.verdict,
                "sentence": c.sentence,
                "checks": PageTable.of(checks_table(c), f"Checks of {label}"),
            }
            for label, c in certificates.items()
        ],
        no_certificates="The results were loaded without their data: comparison.with_data(frame) can be certified.",
        code=f"import unimix as um\n\n{compare_line(list(fits))}" if fits else "",
        versions=[
            {
                "label": label,
                "versions": ", ".join(f"{k} {v}" for k, v in fit.engine.versions.items()),
                "call": fit.engine.call,
            }
            for label, fit in content.results.items()
        ],
    )


def lead(verdicts: Mapping[str, Verdict], reference: str | None) -> str:
    """The comparison in one or two sentences."""
    if reference is None:
        return "No engine gave a result."
    results = [label for label, v in verdicts.items() if v.kind not in ("failed", "refused")]
    failed = [label for label, v in verdicts.items() if v.kind == "failed"]
    bad = [label for label, v in verdicts.items() if not v.agrees and v.kind != "failed"]
    expected = [label for label, v in verdicts.items() if v.kind == "expected to differ" and v.agrees]
    if bad:
        first = f"{listing(bad)} {'does' if len(bad) == 1 else 'do'} not agree with the others"
        said = [f"{first}, which are measured against {reference}." if bad != [reference] else f"{first}."]
    elif len(results) < 2:
        said = [f"Only {reference} gave a result, so that nothing is compared."]
    else:
        said = [f"All {len(results)} engines agree." if not failed else f"{len(results)} engines agree."]
    if expected:
        said.append(f"{listing(expected)} {'differs' if len(expected) == 1 else 'differ'} as expected.")
    if failed:
        said.append(f"{listing(failed)} gave no result.")
    return " ".join(said)


def _light(verdict: Verdict) -> str:
    if not verdict.agrees:
        return "bad"
    return "look" if verdict.kind in _EXPECTED else "good"


def _picture(content: Content) -> dict[str, Any] | None:
    """The picture of differences; None if there is nothing to compare."""
    others = [label for label in content.results if label != content.reference]
    if not others:
        return None
    differences = content.differences[others]
    parts = differences.index.get_level_values(0)
    strips = []
    for part, (heading, tolerance, nothing) in _KINDS.items():
        if part in parts:
            sizes = (differences.loc[[part]].droplevel(0) - nothing).abs()
            sizes.index = pd.Index([str(name).removesuffix(" (difference)") for name in sizes.index])
            limit = None if tolerance is None else float(getattr(content.tolerances, tolerance))
            strips.append(Strip(heading, limit, sizes))
    return picture(strips)


def _intervals(content: Content) -> dict[str, Any]:
    """Intervals of all parameters, for the engines that have them, and the sentence above the table."""
    columns: dict[str, pd.Series[Any]] = {}
    names: list[str] = []
    for label, fit in content.results.items():
        try:
            table = fit.confint().table
        except UnimixError:
            continue
        names += [str(n) for n in table.index if str(n) not in names]
        texts = [column(row) for row in table[["lower", "upper"]].to_numpy()]
        columns[label] = pd.Series(
            [f"{low} to {high}" if low else "" for low, high in texts], index=table.index.map(str)
        )
    if not columns:
        return {"intervals": None, "intervals_note": ""}
    frame = pd.DataFrame({k: s.reindex(names).fillna("") for k, s in columns.items()}, index=names)
    level = f"{100 * next(iter(content.results.values())).fixed.level:g}%"
    note = (
        f"{level} intervals of fixed effects, standard deviations (sd), correlations (cor) and sigma: confidence "
        "intervals of engines that maximise a likelihood, credible intervals of samplers."
    )
    shown = replace(text_table(frame), align="l" + "r" * len(columns))
    return {"intervals": PageTable.of(shown, "Intervals of all engines"), "intervals_note": note}


__all__ = ["lead", "page"]
