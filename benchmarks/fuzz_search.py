"""How far the search of small mixed models ends below the best: `python -m benchmarks.fuzz_search`.

Random designs (crossed, nested, several terms, badly scaled columns, variances of zero and far above the residual,
weights) are fitted by pls; the best of all is the highest of pls, of climbs from random points, and of the engines that
are named. Counts and the worst shortfalls are printed. With ``--family poisson``, say, the responses are drawn from a
generalised model, of which Laplace's approximation is maximised.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import unimix as um
from unimix.design.arrays import Design
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.optimise import climb
from unimix.likelihood.lmm.penalised_least_squares import unpack

FORMULAS = (
    "y ~ x + (1 + x | g)",
    "y ~ x + (1 | g) + (1 | h)",
    "y ~ x + (1 + x | g) + (1 | h)",
    "y ~ x + (1 + x | g) + (1 + x | h)",
    "y ~ x + (1 | k/g)",
    "y ~ x + (1 + x | k/g)",
    "y ~ x + (1 | g) + (0 + x | g)",
    "y ~ x + (1 + x + z | k) + (1 | h)",
    "y ~ x + (1 | g) + (1 | h) + (1 | k)",
)
SHORT = 1e-7


def random_design(seed: int) -> tuple[str, pd.DataFrame, str | None, bool]:
    """A formula, data, the name of the weights or None, and whether by REML."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 120))
    g, h, k = (rng.integers(0, int(rng.integers(3, most)), n) for most in (13, 10, 6))
    scale, far = 10.0 ** rng.integers(-4, 5), rng.choice([0.0, 1.0, 30.0, 1000.0])
    x, z = rng.normal(size=n), rng.normal(size=n)
    sd = rng.choice([0.0, 1e-3, 0.3, 1.0, 5.0, 50.0], 4)
    y = x + sd[0] * rng.normal(size=13)[g] + sd[1] * rng.normal(size=10)[h] + sd[2] * rng.normal(size=6)[k]
    y = y + sd[3] * x * rng.normal(size=13)[g] + rng.normal(size=n)
    made = pd.DataFrame({"y": y, "x": scale * (x + far), "z": z, "g": g, "h": h, "k": k})
    made = made.astype({"g": str, "h": str, "k": str}).assign(w=10.0 ** rng.uniform(-1, 1, n))
    weights = "w" if rng.uniform() < 0.3 else None
    return FORMULAS[seed % len(FORMULAS)], made, weights, bool(rng.uniform() < 0.7)


def random_generalised(seed: int, family: str) -> tuple[str, pd.DataFrame]:
    """A formula and data of a generalised model: counts, zeros and ones, or positive numbers."""
    formula, data, _, _ = random_design(seed)
    rng = np.random.default_rng(seed)
    data = pd.concat([data] * 3, ignore_index=True).assign(x=rng.normal(size=3 * len(data)))
    eta = rng.choice([-2.0, 0.0, 1.5]) + 0.5 * data["x"].to_numpy()
    for column, sd in zip("ghk", rng.choice([0.0, 0.3, 1.0, 2.0], 3), strict=True):
        eta = eta + sd * rng.normal(size=13)[data[column].astype(int)]
    mean = np.exp(np.minimum(eta, 6))
    drawn = {
        "poisson": lambda: rng.poisson(mean),
        "binomial": lambda: (rng.uniform(size=len(eta)) < 1 / (1 + np.exp(-eta))).astype(int),
        "negative_binomial": lambda: rng.negative_binomial(2.0, 2.0 / (2.0 + mean)),
        "gamma": lambda: rng.gamma(3.0, mean / 3.0),
    }
    return formula, data.assign(y=drawn[family]())


def best_generalised(design: Design, seed: int, climbs: int) -> float:
    """The highest of climbs from random points and from the likely starts."""
    criterion, rng = LaplaceCriterion.of(design), np.random.default_rng(seed)
    centre = criterion.search().point
    points = [
        replace(
            centre, factors=tuple(np.tril(rng.normal(size=f.shape)) * 3 ** rng.uniform(-3, 1) for f in centre.factors)
        )
        for _ in range(climbs)
    ]
    return criterion.optimum(points=points).value


def best_by_climbs(design: Design, seed: int, climbs: int, *, reml: bool) -> float:
    """The highest of climbs from random points, in the design's units."""
    criterion, rng = LinearCriterion.of(design), np.random.default_rng(seed)
    data = criterion.data
    best = -np.inf
    for _ in range(climbs):
        start = unpack(data, rng.normal(size=data.n_cells) * 10.0 ** rng.uniform(-2, 1.5))
        best = max(best, climb(data, start, reml=reml).profile.value)
    return best - criterion.way_back.lost(reml=reml)


def main() -> None:
    """Print the shortfalls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--designs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--climbs", type=int, default=8)
    parser.add_argument("--engines", default="", help="such as lme4,glmmtmb,mixedlm")
    parser.add_argument("--family", default="gaussian", help="gaussian, poisson, binomial, negative_binomial or gamma")
    asked = parser.parse_args()
    engines = [e for e in asked.engines.split(",") if e]
    short, looked, refused = [], 0, 0
    for seed in range(asked.first, asked.first + asked.designs):
        given: dict[str, Any]
        if asked.family == "gaussian":
            formula, data, weights, reml = random_design(seed)
            given = {"weights": weights, "method": "REML" if reml else "ML"}
        else:
            (formula, data), given = random_generalised(seed, asked.family), {"family": asked.family}
        try:
            own = um.fit(formula, data, "pls", df_method="normal", **given)
        except um.UnimixError as error:
            refused += 1
            print(f"{seed}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
            continue
        looked += 1
        if asked.family == "gaussian":
            others = {"climbs": best_by_climbs(own.design(), seed, asked.climbs, reml=reml)}
        else:
            others = {"climbs": best_generalised(own.design(), seed, asked.climbs)}
        for engine in engines:
            try:
                found = um.fit(formula, data, engine, df_method="normal", **given)
            except um.UnimixError:
                continue
            if found.converged:
                others[engine] = found.log_likelihood
        name = max(others, key=lambda k: others[k])
        gap = others[name] - own.log_likelihood
        if gap > SHORT or not own.converged:
            short.append((gap, seed, name, formula, own.status.state))
    print(f"{looked} designs, {refused} refused, {len(short)} more than {SHORT:g} short of the best or not converged")
    for gap, seed, name, formula, state in sorted(short, reverse=True):
        print(f"  {gap:.3g} below {name}: seed {seed}, {formula}, {state}")


if __name__ == "__main__":
    main()
