"""How often 95% intervals of a slope hold it, where values of the predictor are missing and were imputed.

``python -m benchmarks.imputed_coverage [--sets N]`` prints a table in Markdown: imputations and the share of data sets
whose interval holds the slope, for a single imputation taken as data, and for pooled ones by the normal distribution,
Rubin's degrees of freedom and Barnard and Rubin's. The model is ``y ~ x + (1 | g)`` with 12 groups of 5 rows; a third
of x is missing, more often where y is large. Imputations are draws of a regression of x on y and dummies of the groups,
with its parameters drawn from their posterior.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import special

import unimix as um

GROUPS, ROWS, SLOPE = 12, 5, 0.5


def data_set(rng: np.random.Generator) -> pd.DataFrame:
    """Complete data of one set, with a column that says where x is missing."""
    g = np.repeat(np.arange(GROUPS), ROWS)
    x = rng.normal(size=len(g)) + 0.5 * rng.normal(size=GROUPS)[g]
    y = SLOPE * x + rng.normal(size=GROUPS)[g] + rng.normal(size=len(g))
    missing = rng.random(len(g)) < 1 / (1 + np.exp(0.7 - 0.6 * y))
    return pd.DataFrame({"g": g, "x": x, "y": y, "missing": missing})


def imputed(rng: np.random.Generator, data: pd.DataFrame) -> pd.DataFrame:
    """The data with x drawn where it is missing."""
    columns = np.column_stack([data["y"], pd.get_dummies(data["g"], dtype=float)])
    seen = ~data["missing"].to_numpy()
    x, z = data["x"].to_numpy(), columns[seen]
    # a ridge of 0.1 stands for a weak prior, so that a group whose x are all missing has draws, too
    inverse = np.linalg.inv(z.T @ z + 0.1 * np.eye(z.shape[1]))
    mean = inverse @ z.T @ x[seen]
    rest = x[seen] - z @ mean
    sigma = np.sqrt(rest @ rest / rng.chisquare(max(seen.sum() - z.shape[1], 1)))
    beta = mean + sigma * np.linalg.cholesky(inverse) @ rng.normal(size=len(mean))
    drawn = columns @ beta + sigma * rng.normal(size=len(x))
    return data.assign(x=np.where(seen, x, drawn))


def held(rng: np.random.Generator, m: int, sets: int) -> dict[str, float]:
    """Share of intervals that hold the slope, by kind."""
    inside: dict[str, list[bool]] = {kind: [] for kind in ("single", "normal", "Rubin", "Barnard-Rubin")}
    for _ in range(sets):
        data = data_set(rng)
        frames = [imputed(rng, data) for _ in range(m)]
        pooled = um.fit_imputed("y ~ x + (1 | g)", frames)
        row, parts = pooled.fixed_effects.loc["x"], pooled.missing_information.loc["x"]
        first, off = pooled[0].fixed_effects.loc["x"], abs(row["estimate"] - SLOPE)
        inside["single"].append(bool(first["lower"] < SLOPE < first["upper"]))
        old = (m - 1) / parts["share"] ** 2
        for kind, df in (("normal", np.inf), ("Rubin", old), ("Barnard-Rubin", row["df"])):
            reach = special.ndtri(0.975) if np.isinf(df) else special.stdtrit(df, 0.975)
            inside[kind].append(bool(off < reach * row["std_error"]))
    return {kind: float(np.mean(values)) for kind, values in inside.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000, help="data sets per number of imputations")
    sets = parser.parse_args().sets
    kinds = ("single", "normal", "Rubin", "Barnard-Rubin")
    print(f"| imputations | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}")
    for m in (3, 10):
        shares = held(np.random.default_rng(m), m, sets)
        print(f"| {m} | {' | '.join(f'{100 * shares[k]:.1f} %' for k in kinds)} |", flush=True)


if __name__ == "__main__":
    main()
