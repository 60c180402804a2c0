"""How often 95% intervals of a slope hold it, where the model leaves out that the slope differs between clusters.

``python -m benchmarks.robust_coverage [--sets N]`` prints a table in Markdown: clusters, kind, and the share of data
sets whose interval holds the slope. Clusters have 4 to 10 rows, and the predictor's mean differs between clusters.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import special

from unimix.stats.cluster_robust import KINDS, Cluster, sandwich

CLUSTERS = (8, 15, 40)
SLOPE = 0.5


def data_set(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns (n, 2) and responses (n,) of each cluster: random intercepts and slopes of SD 1, residuals of SD 1."""
    made = []
    for _ in range(count):
        n = int(rng.integers(4, 11))
        x = rng.normal(rng.normal(), 1.0, n)
        intercept, own = rng.normal(size=2)
        made.append((np.column_stack([np.ones(n), x]), intercept + (SLOPE + own) * x + rng.normal(size=n)))
    return made


def held(rng: np.random.Generator, count: int, sets: int) -> dict[str, float]:
    """Share of intervals that hold the slope, by kind; ``model`` has the errors of a model with random intercepts."""
    inside: dict[str, list[bool]] = {kind: [] for kind in ("model", *KINDS)}
    for _ in range(sets):
        made = data_set(rng, count)
        # the working model: intercepts of SD 1 and residuals of SD 1.4, about what REML finds here
        covariances = [1.0 + 2.0 * np.eye(len(y)) for _, y in made]
        solved = [np.linalg.solve(v, x) for (x, _), v in zip(made, covariances, strict=True)]
        bread = np.linalg.inv(sum(x.T @ s for (x, _), s in zip(made, solved, strict=True)))
        beta = bread @ sum(s.T @ y for (_, y), s in zip(made, solved, strict=True))
        parts = [Cluster(x, y - x @ beta, v) for (x, y), v in zip(made, covariances, strict=True)]
        off = abs(beta[1] - SLOPE)
        inside["model"].append(bool(off < special.ndtri(0.975) * np.sqrt(bread[1, 1])))
        for kind in KINDS:
            found = sandwich(parts, kind)
            reach = special.stdtrit(found.df(np.eye(2)[1:])[0], 0.975) * np.sqrt(found.covariance[1, 1])
            inside[kind].append(bool(off < reach))
    return {kind: float(np.mean(values)) for kind, values in inside.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000, help="data sets per number of clusters")
    sets = parser.parse_args().sets
    kinds = ("model", *KINDS)
    print(f"| clusters | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}")
    for count in CLUSTERS:
        shares = held(np.random.default_rng(count), count, sets)
        print(f"| {count} | {' | '.join(f'{100 * shares[k]:.1f} %' for k in kinds)} |")


if __name__ == "__main__":
    main()
