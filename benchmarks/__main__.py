"""Measure unimix against the bare engines and print the table: ``python -m benchmarks [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.measure import Row, markdown
from benchmarks.suites import SUITES
from unimix.errors import UnimixError

PACKAGES = (
    "unimix",
    "numpy",
    "pandas",
    "statsmodels",
    "rpy2",
    "pymer4",
    "pymc",
    "nutpie",
    "bambi",
    "glmm",
    "mixedlm",
    "mixedlm-rs",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the suites.

    Args:
        arguments: Instead of the command line's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, small data only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to this file")
    parser.add_argument("--only", choices=[*SUITES], action="append", help="run this suite only (may be repeated)")
    chosen = parser.parse_args(arguments)
    for file in (chosen.json, chosen.markdown):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name, suite in SUITES.items():
        if chosen.only and name not in chosen.only:
            continue
        try:
            for row in suite(quick=chosen.quick):
                rows.append(row)
                print(f"{row.what}, {row.data}: {row.ratio:.2f}", file=sys.stderr, flush=True)
        except (ImportError, UnimixError) as error:  # an engine that is not installed, data that cannot be fetched
            print(f"{name} left out: {error}", file=sys.stderr)
        write(rows, chosen)  # what is measured so far: the whole takes long
    print(table(rows))
    return 0


def table(rows: list[Row]) -> str:
    """The table, and what it was measured with."""
    return f"{markdown(rows)}\n\n{footnote(machine())}"


def write(rows: list[Row], chosen: argparse.Namespace) -> None:
    """The rows into the files that were named."""
    if chosen.json:
        content = {"machine": machine(), "quick": chosen.quick, "rows": [r.to_dict() for r in rows]}
        chosen.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if chosen.markdown:
        chosen.markdown.write_text(table(rows) + "\n", encoding="utf-8")


def footnote(found: dict[str, str]) -> str:
    """What the table was measured with."""
    return f"Medians, both sides in turn. {', '.join(f'{k} {v}' for k, v in found.items())}."


def machine() -> dict[str, str]:
    """What the numbers depend on; nothing that names the machine."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    found = {"Python": platform.python_version(), "CPUs": str(os.cpu_count()), "OPENBLAS_NUM_THREADS": threads}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
