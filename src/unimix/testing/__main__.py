"""``python -m unimix.testing``: check the results of engines by the certificate, and write the conformance table.

If the ``pyproject.toml`` of the folder has a table ``[tool.unimix.testing]``, ``--all`` reads three lists from it:
``paths``, folders to import from; ``models``, functions that yield models; and ``backends``, backend classes in
addition to the registered ones. Functions and classes are written as ``module:name``.
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
    renewed,
    together,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code, which is 1 if an engine gave a wrong result without a warning."""
    parser = argparse.ArgumentParser(prog="python -m unimix.testing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("engines", nargs="*", help="names of backends, or module:Class of backend classes")
    parser.add_argument("--all", action="store_true", help="all installed engines, and those that pyproject.toml names")
    parser.add_argument("--random", type=int, default=100, metavar="N", help="number of random linear designs (100)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="number of processes, each with one engine at a time (1)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=300.0, metavar="SECONDS", help="time limit of each fit (300)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to")
    parser.add_argument(
        "--renew", type=Path, metavar="FILE", help="such a file, in which the columns of these engines are renewed"
    )
    parser.add_argument("--read", type=Path, metavar="FILE", help="print a table from such a file")
    given = parser.parse_args(arguments)
    if given.read:
        show(Conformance.model_validate_json(given.read.read_text(encoding="utf-8")))
        return 0
    if not given.engines and not given.all:
        parser.error("name engines, or --all")
    more = settings(Path("pyproject.toml")) if given.all or given.renew else {}
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
    conformance = together(parts)
    if given.json:
        given.json.write_text(conformance.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if given.renew:
        stored = Conformance.model_validate_json(given.renew.read_text(encoding="utf-8"))
        whole = renewed(stored, conformance, list(registered()))
        given.renew.write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
    show(conformance)
    return 1 if conformance.silent else 0


@dataclass(frozen=True)
class _Part:
    """The column of one engine in the table. It is sent to worker processes, which import the engine by name."""

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
        return conform([named(engine)], models, time_limit=self.time_limit, report=tell)


def settings(path: Path) -> dict[str, Any]:
    """The table ``[tool.unimix.testing]`` of a ``pyproject.toml``; empty if there is no file or no such table."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    part: dict[str, Any] = content.get("tool", {}).get("unimix", {}).get("testing", {})
    return part


def named(name: str) -> Any:
    """Import ``module:Class`` (and make an instance) or ``module:function``; return the name of a backend unchanged."""
    module, _, attribute = name.partition(":")
    if not attribute:
        return name
    value = getattr(importlib.import_module(module), attribute)
    return value() if isinstance(value, type) else value


def tell(entry: Entry) -> None:
    """Print one line about one answer."""
    line = f"{entry.engine:12} {entry.verdict:14} {entry.seconds:7.2f} s  {entry.model}: {entry.said[:110]}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show(conformance: Conformance) -> None:
    """Print the table and every wrong result."""
    console = Console(width=220)
    console.print(conformance.table.to_string())
    for entry in conformance.silent:
        console.print(f"\n{entry.engine}: {entry.model}, {entry.formula}: {entry.said}")


if __name__ == "__main__":
    sys.exit(main())
