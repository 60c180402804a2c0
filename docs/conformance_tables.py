"""The tables of docs/conformance.md, from docs/conformance.json."""

from __future__ import annotations

from pathlib import Path

from unimix.testing.conformance import VERDICTS, Conformance

MARKS = {
    "certified": "✓",
    "flagged": "flagged",
    "wrong": "**wrong**",
    "refused": "–",
    "not checkable": "?",
    "failed": "failed",
}
FOUND = Conformance.model_validate_json((Path(__file__).parent / "conformance.json").read_text(encoding="utf-8"))


def legend() -> str:
    """What the marks mean."""
    return "\n".join(["| mark | meaning |", "|---|---|", *(f"| {MARKS[v]} | {said} |" for v, said in VERDICTS.items())])


def versions() -> str:
    """One row per engine."""
    rows = [f"| `{e}` | {', '.join(f'{k} {v}' for k, v in own.items())} |" for e, own in FOUND.versions.items()]
    return "\n".join(["| backend | versions |", "|---|---|", *rows])


def table(kind: str) -> str:
    """One row per model, one column per engine."""
    own = FOUND.table.loc[kind]
    lines = [f"| | {' | '.join(own.columns)} |", "|---" * (len(own.columns) + 1) + "|"]
    for name, cells in own.iterrows():
        lines.append(f"| {str(name).replace('|', '&#124;')} | {' | '.join(_mark(str(c)) for c in cells)} |")
    return "\n".join(lines)


def _mark(cell: str) -> str:
    for verdict, mark in MARKS.items():
        cell = cell.replace(verdict, mark)
    return cell


def wrong() -> str:
    """Every wrong result that was called converged, random designs counted."""
    lines = [f"- `{e.engine}`, {e.model}, `{e.formula}`: {e.said}" for e in FOUND.silent if e.kind != "random"]
    for engine in FOUND.versions:
        own = [e for e in FOUND.silent if e.engine == engine and e.kind == "random"]
        if own:
            worst = max(own, key=lambda e: e.gap if e.gap == e.gap else 0.0)
            lines.append(
                f"- `{engine}`, {len(own)} random designs, the worst `{worst.formula}` ({worst.model}): {worst.said}"
            )
    return "\n".join(lines) or "None."
