"""``python -m unimix.testing``: hold engines against the certificate and write the conformance table.

In a folder whose ``pyproject.toml`` has a table ``[tool.unimix.testing]``, ``--all`` takes from it ``paths`` (folders
to import from), ``models`` and ``backends`` (as ``module:name``: a function that yields models, and backend classes
beside the registered ones).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unimix.backends.registry import registered, resolve
from unimix.parallel.jobs import run_jobs
from unimix.testing.conformance import (
    Conformance,
    Entry,
    Model,
    conform,
    feature_models,
    random_models,
    reference_models,
    together,
)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; the exit code is 1 where a result was wrong without a word."""
    parser = argparse.ArgumentParser(prog="python -m unimix.testing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("engines", nargs="*", help="names of backends, or module:Class of adapters")
    parser.add_argument("--all", action="store_true", help="all installed engines, and what pyproject.toml names")
    parser.add_argument("--random", type=int, default=100, metavar="N", help="random linear designs (100)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, an engine each at a time (1)")
    parser.add_argument("--time-limit", type=float, default=300.0, metavar="SECONDS", help="of each fit (300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the table goes, for documents")
    parser.add_argument("--read", type=Path, metavar="FILE", help="print a table that was written before")
    given = parser.parse_args(arguments)
    if given.read:
        show(Conformance.model_validate_json(given.read.read_text(encoding="utf-8")))
        return 0
    if not given.engines and not given.all:
        parser.error("name engines, or --all")
    more = settings(Path("pyproject.toml")) if given.all else {}
    engines = list(given.engines)
    if given.all:
        engines += [name for name in registered() if resolve(name).available()] + more.get("backends", [])
    part = _Part(
        tuple(str(Path(p).resolve()) for p in more.get("paths", [])),
        tuple(more.get("models", [])),
        given.random,
        given.time_limit,
    )
    parts = run_jobs(part, engines, n_jobs=given.jobs, progress=False, title="", unit="engines")
    found = together(parts)
    if given.json:
        given.json.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    show(found)
    return 1 if found.silent else 0


@dataclass(frozen=True)
class _Part:
    """One engine's part of the table; found again by name in every process."""

    paths: tuple[str, ...]
    models: tuple[str, ...]
    random: int
    time_limit: float

    def __call__(self, engine: str) -> Conformance:
        sys.path[:0] = [p for p in self.paths if p not in sys.path]
        models: list[Model] = [*feature_models(), *reference_models()]
        for source in self.models:
            models += list(named(source)())
        models += list(random_models(self.random))
        return conform([named(engine)], models, time_limit=self.time_limit, told=tell)


def settings(path: Path) -> dict[str, Any]:
    """The table ``[tool.unimix.testing]`` of a pyproject.toml; empty where there is none."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    part: dict[str, Any] = found.get("tool", {}).get("unimix", {}).get("testing", {})
    return part


def named(name: str) -> Any:
    """``module:Class`` or ``module:function``; the name of a backend stays a name."""
    module, _, attribute = name.partition(":")
    if not attribute:
        return name
    found = getattr(importlib.import_module(module), attribute)
    return found() if isinstance(found, type) else found


def tell(entry: Entry) -> None:
    """One line per answer."""
    line = f"{entry.engine:12} {entry.verdict:14} {entry.seconds:7.2f} s  {entry.model}: {entry.said[:110]}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show(found: Conformance) -> None:
    """The table, and every wrong result."""
    console = Console(width=220)
    console.print(found.table.to_string())
    for entry in found.silent:
        console.print(f"\n{entry.engine}: {entry.model}, {entry.formula}: {entry.said}")


if __name__ == "__main__":
    sys.exit(main())
