"""A fit as an HTML page that can be sent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from unimix.analysis.certificate.certificate import checks_table
from unimix.analysis.certificate.certify import certificate as certify
from unimix.analysis.checks.check import check
from unimix.analysis.checks.findings import LOOK, OK, PROBLEM
from unimix.analysis.plot_data.plots import Plots
from unimix.display import Block, Code, TextTable
from unimix.errors import UnimixError
from unimix.fitted.calls import fit_line
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.saving import written
from unimix.fitted.text import view
from unimix.pages.document import LIGHTS, PageTable, png, render

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

_LIGHTS = {OK: "good", LOOK: "look", PROBLEM: "bad"}
_WORDS = {OK: "Nothing speaks against this fit.", LOOK: "Some checks ask for a look.", PROBLEM: "Some checks failed."}


@overload
def to_html(fit: FittedModel, path: None = None) -> str: ...
@overload
def to_html(fit: FittedModel, path: str | Path) -> Path: ...
def to_html(fit: FittedModel, path: str | Path | None = None) -> str | Path:
    """The fit as one HTML page that can be sent: it needs no network and fits a telephone.

    It holds the tables of the summary, the checks, pictures of residuals and group effects if matplotlib is installed,
    the source of every number, the certificate, and the line that fits the model again. A part that a result cannot
    have, such as residuals of a result that was loaded, is replaced by the reason.

    Args:
        path: File to write the page to.

    Returns:
        The text of the page, or the path if one was given.

    Raises:
        DataError: If the file cannot be written.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.to_html().startswith("<!doctype html>")
        True
    """
    return written(_page(fit), path)


def _page(fit: FittedModel) -> str:
    refuse_correlated(
        fit,
        "A page with its checks",
        "Use fit.summary(), fit.report() and fit.certificate(), which print on their own.",
    )
    checks = check(fit)
    first, *rest = view(fit)
    sections = [*_sections(rest)]
    advice = TextTable(
        ("check", "verdict", "finding", "advice"),
        tuple((f.check, f.verdict, f.finding, f.advice) for f in checks.findings),
        "llll",
        stub=1,
    )
    sections.append({"heading": "Checks", "blocks": [PageTable.of(advice, "Checks"), *checks.notes]})
    if fit.provenance:
        source = TextTable(("", ""), tuple((str(k), str(v)) for k, v in fit.provenance.items()), "ll", stub=1)
        sections.append({"heading": "Where the numbers come from", "blocks": [PageTable.of(source, "Sources")]})
    light = _LIGHTS[checks.verdict]
    return render(
        "fit.html",
        title=fit.model.formula,
        lead=str(first),
        light=light,
        words=_WORDS[checks.verdict],
        sign=LIGHTS[light],
        sections=sections,
        pictures=_pictures(fit),
        **_certificate(fit),
        code=f"import unimix as um\n\n{fit_line(fit)}",
        engine={"versions": ", ".join(f"{k} {v}" for k, v in fit.engine.versions.items()), "call": fit.engine.call},
    )


def _sections(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """The blocks of a summary in sections: a sentence that stands above a table is its heading."""
    sections: list[dict[str, Any]] = [{"heading": "", "blocks": []}]
    waiting = ""
    for block in blocks:
        if isinstance(block, TextTable):
            sections.append({"heading": waiting, "blocks": [PageTable.of(block, waiting)]})
            waiting = ""
            continue
        if waiting:
            sections[-1]["blocks"].append(waiting)
        waiting = block.text if isinstance(block, Code) else block
    if waiting:
        sections[-1]["blocks"].append(waiting)
    return [s for s in sections if s["blocks"]]


def _certificate(fit: FittedModel) -> dict[str, Any]:
    try:
        certificate = certify(fit)
    except UnimixError as error:
        return {"certificate": None, "no_certificate": str(error)}
    content = {"verdict": certificate.verdict.capitalize(), "sentence": certificate.sentence}
    return {
        "certificate": {**content, "checks": PageTable.of(checks_table(certificate), "Checks of the certificate")},
        "no_certificate": "",
    }


def _pictures(fit: FittedModel) -> list[dict[str, str]]:
    """Pictures of residuals and group effects; none without matplotlib, and none that this result cannot have."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    plots = Plots(fit)
    wanted: list[tuple[Callable[[], Any], str, str]] = [
        (
            plots.diagnostics,
            "Residuals against fitted values, and their quantiles",
            "Residuals should scatter evenly around zero, and the points of the quantiles should follow the line.",
        )
    ]
    if fit.random:
        wanted.append(
            (
                plots.caterpillar,
                "Group effects with intervals, in order of their size",
                "Each line is a group with its interval. Groups whose interval excludes zero differ from the average.",
            )
        )
    pictures = []
    for draw, alt, caption in wanted:
        try:
            axes = np.ravel(draw())
        except UnimixError:
            continue
        pictures.append({"alt": alt, "caption": caption, "png": png(axes[0].figure)})
    return pictures


__all__ = ["to_html"]
