"""How seconds grow with rows and with levels: exponents fitted on a log-log scale, and a picture.

``python -m benchmarks.growth [--json FILE] [--picture FILE]``; ``--from FILE`` draws what an earlier run measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import case
from benchmarks.sides import SIDES

LEVELS = 500
ROWS = 5
SIZES = {
    "rows": [f"{LEVELS}x{n}" for n in (5, 20, 80, 320)],
    "levels": [f"{n}x{ROWS}" for n in (500, 2_000, 8_000, 32_000)],
}
ENGINES = ("pls", "lme4", "R: lmer", "statsmodels", "statsmodels: mixedlm", "pymer4", "bayes")
PATIENCE = 10.0
"""Seconds of one call that are waited for: larger sizes are left out."""
FITTED = 3
"""Largest sizes through which the exponent is fitted: at smaller ones a call's constant part shows."""

Points = dict[str, dict[str, list[tuple[int, float]]]]


def measure(engines: tuple[str, ...] = ENGINES) -> Points:
    """Rows and seconds (the quickest of up to three calls) by kind of growth and engine."""
    found: Points = {}
    for kind, keys in SIZES.items():
        for engine in engines:
            points: list[tuple[int, float]] = []
            SIDES[engine](case("sleepstudy"))()  # loads the engine
            for key in keys:
                call = SIDES[engine](case(key))
                seconds = [_timed(call)]
                if seconds[0] < PATIENCE / 10:
                    seconds += [_timed(call), _timed(call)]
                points.append((len(case(key).data), min(seconds)))
                print(f"{kind}, {engine}, {key}: {points[-1][1]:.3f} s", file=sys.stderr, flush=True)
                if seconds[0] > PATIENCE / 4:  # the next size is four times as large
                    break
            found.setdefault(kind, {})[engine] = points
    return found


def _timed(call: Any) -> float:
    gc.collect()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def exponent(points: list[tuple[int, float]]) -> float:
    """Slope of log seconds on log rows through the largest sizes."""
    if len(points) < 2:
        return float("nan")
    sizes, seconds = np.log(np.array(points[-FITTED:], dtype=float)).T
    return float(np.polyfit(sizes, seconds, 1)[0])


def markdown(found: Points) -> str:
    """The exponents and the largest size that each engine reached."""
    lines = ["| | seconds ~ rows^a | largest | seconds ~ levels^a | largest |", "|---|---:|---|---:|---|"]
    for engine in found["rows"]:
        cells = [engine]
        for kind in ("rows", "levels"):
            points = found[kind][engine]
            cells += [f"{exponent(points):.2f}", f"{points[-1][0]:,} rows, {points[-1][1]:.2g} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(found: Points) -> Any:
    """Seconds against rows in two panels; the figure."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    titles = {"rows": f"more rows in {LEVELS} levels", "levels": f"more levels of {ROWS} rows"}
    colours = ["#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
    for panel, kind in zip(axes, ("rows", "levels"), strict=True):
        for colour, marker, (engine, points) in zip(colours, "osd^vPX", found[kind].items(), strict=False):
            sizes, seconds = zip(*points, strict=True)
            dashed = "--" if ":" in engine else "-"
            label = f"{engine} ({exponent(points):.2f})"
            panel.loglog(sizes, seconds, dashed, color=colour, marker=marker, ms=4, label=label)
        panel.set(title=titles[kind], xlabel="rows")
        panel.legend(fontsize=7.5, title="engine (exponent)", title_fontsize=7.5)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("seconds of a whole call")
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write JSON and picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    if chosen.earlier:
        found: Points = json.loads(chosen.earlier.read_text(encoding="utf-8"))
    else:
        found = measure()
    print(markdown(found))
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if chosen.picture:
        picture(found).savefig(chosen.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
