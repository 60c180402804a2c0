"""The main job on real data: two models through every engine that is installed, compared and drawn.

``python examples/demo.py [FOLDER]`` prints the comparisons and writes a picture and a page of each into FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import unimix as um
from unimix.backends.base import Backend
from unimix.backends.registry import others

if TYPE_CHECKING:
    from unimix.workflows.comparison.comparison import Comparison

MODELS = (
    ("dietox", "Weights of 72 pigs over twelve weeks", "Weight ~ Time + (1 + Time | Pig)"),
    ("MathAchieve", "Mathematics scores of 7185 students in 160 schools", "MathAch ~ SES + (1 + SES | School)"),
)

LONGER = {"pymc": um.backends.PyMC(draws=4000)}
"""Engines with options of their own.

The standard deviation of MathAchieve's slopes is near zero, and is sampled slowly: 1,000 draws a chain are too few.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration.

    Args:
        arguments: Instead of the command line's.

    Returns:
        0 if every engine that is installed and has such models gave a result and they agree, else 1.
    """
    parser = argparse.ArgumentParser(prog="python examples/demo.py", description=__doc__)
    parser.add_argument("folder", nargs="?", default="demo_output", type=Path, help="where pictures and pages go")
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    ready, missing = _engines()
    agree = True
    for name, what, formula in MODELS:
        started = time.perf_counter()
        print(f"\n{what}\n{'=' * len(what)}")
        data = um.load_dataset(name)
        refusals = {e: um.explain(formula, data, e).refusals for e in ready}
        able = [e for e in ready if not refusals[e]]
        for engine in (e for e in ready if refusals[e]):
            print(f"{engine} does not fit this model: {refusals[engine][0]}\n")
        if len(able) < 2:
            print(f'um.fit("{formula}", um.load_dataset("{name}"))\n')
            print(um.fit(formula, data, backend=able[0]))
            continue
        typed = ", ".join("um.backends.PyMC(draws=4000)" if e in LONGER else repr(e) for e in able)
        print(f'um.compare("{formula}", um.load_dataset("{name}"), backends=[{typed}], seed=1)\n', flush=True)
        found = um.compare(formula, data, backends=[LONGER.get(e, e) for e in able], seed=1)
        print(found)
        written = _write(found, folder / name)
        print(f"\n{time.perf_counter() - started:.0f} seconds. Written: {', '.join(map(str, written))}")
        agree &= found.agree
    if missing:
        print(f"\nNot installed here: {', '.join(missing)}. What is missing, and the lines to type:\n")
        print(um.doctor())
    return 0 if agree else 1


def _engines() -> tuple[list[str], list[str]]:
    ready: list[str] = []
    missing: list[str] = []
    for name, backend in sorted(others().items(), key=lambda item: _place(item[1])):
        try:
            if backend.available():
                backend.load()
                ready.append(name)
                continue
        except um.UnimixError as error:
            print(f"{name}: {error}\n", file=sys.stderr)
        missing.append(name)
    return ready, missing


def _place(backend: Backend) -> tuple[bool, int, str]:
    """Samplers last, otherwise by rank."""
    return backend.info.samples, backend.info.rank, backend.info.name


def _write(found: Comparison, stem: Path) -> list[Path]:
    page = stem.with_suffix(".html")
    found.to_html(page)
    if importlib.util.find_spec("matplotlib") is None:
        return [page]
    import matplotlib as mpl

    mpl.use("agg")
    picture = stem.with_suffix(".png")
    found.plot()[0].figure.savefig(picture, dpi=150)
    return [picture, page]


if __name__ == "__main__":
    sys.exit(main())
