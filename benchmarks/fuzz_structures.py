"""How far the search of structured covariances ends below the best: `python -m benchmarks.fuzz_structures`.

Random designs (every structure, few and many levels, variances of zero and above the residual, further terms) are
searched by pls; the best of all is the highest of that search and of climbs from random points.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

import unimix as um
from unimix.design.covariance_structures import Structure
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.optimise import climb
from unimix.likelihood.lmm.parameters import factors_of
from unimix.likelihood.lmm.reduced_data import Products

NAMES = ("homdiag", "cs", "homcs", "ar1", "hetar1", "toep", "homtoep", "car1", "gau", "hetcar1")
FURTHER = ("", " + (1 | h)", " + (1 | g)")
SHORT = 1e-4


def random_model(seed: int) -> tuple[str, pd.DataFrame]:
    """A formula, and data that its model or one like it generated."""
    rng = np.random.default_rng(seed)
    name, q = NAMES[rng.integers(len(NAMES))], int(rng.integers(2, 6))
    levels, rows = int(rng.integers(6, 25)), int(rng.integers(1, 4))
    in_steps = name in ("ar1", "hetar1", "toep", "homtoep")
    times = np.arange(q) if in_steps else np.cumsum(rng.integers(1, 4, size=q))
    structure = Structure(name, q, tuple(map(float, times)))
    covariance = structure.matrix(rng.normal(size=structure.n_parameters) * 1.2) * rng.choice([0.0, 0.05, 0.5, 2.0])
    effects = rng.multivariate_normal(np.zeros(q), covariance + 1e-12 * np.eye(q), size=levels)
    g, t = np.repeat(np.arange(levels), q * rows), np.tile(np.arange(q), levels * rows)
    data = pd.DataFrame({"g": g.astype(str), "t": times[t], "x": rng.normal(size=len(g))})
    data["y"] = data["x"] + effects[g, t] + rng.normal(size=len(g))
    data["h"] = rng.integers(0, 7, size=len(g)).astype(str)
    formula = f"y ~ x + {name}(0 + C(t) | g){FURTHER[rng.integers(len(FURTHER))]}"
    return formula, data[rng.uniform(size=len(data)) < 0.9]


def highest_from_random(data: Products, seed: int, count: int, *, reml: bool) -> float:
    """Highest end of climbs from random points."""
    rng, highest = np.random.default_rng(seed), -np.inf
    for _ in range(count):
        parts = []
        for (q, _levels), structure in zip(data.sizes, data.structures, strict=True):
            n_sd = q * (q + 1) // 2 if structure is None else structure.n_sd
            n_correlations = 0 if structure is None else structure.n_correlations
            parts += [np.exp(1.2 * rng.normal(size=n_sd)), rng.uniform(-1.5, 1.5, size=n_correlations)]
        try:
            highest = max(highest, climb(data, factors_of(data, np.concatenate(parts)), reml=reml).profile.value)
        except np.linalg.LinAlgError:
            continue
    return highest


def main() -> None:
    """Search random designs and print what ended short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--designs", type=int, default=500)
    parser.add_argument("--climbs", type=int, default=8)
    asked = parser.parse_args()
    searched = short = unfinished = 0
    for seed in range(asked.first, asked.first + asked.designs):
        formula, frame = random_model(seed)
        try:
            data = LinearCriterion.of(build_design(parse(formula), frame)).data
        except um.UnimixError:
            continue
        reml = seed % 2 == 0
        found = LinearCriterion.of(build_design(parse(formula), frame)).search(reml=reml)
        best = highest_from_random(data, seed, asked.climbs, reml=reml)
        searched += 1
        unfinished += not found.finished
        short += best > found.profile.value + SHORT
        if best > found.profile.value + SHORT or not found.finished:
            gap = max(best - found.profile.value, 0.0)
            print(f"{seed}: {formula}, short by {gap:.2g}, remaining {max(found.gain, found.escape):.2g}", flush=True)
    print(f"{searched} designs: {short} short, {unfinished} not finished")


if __name__ == "__main__":
    main()
