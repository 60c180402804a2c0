"""What the posteriors are to reach, in CPU seconds: ``python -m benchmarks.posterior_generalised [CASE ...]``.

Every sampler runs in a fresh process of its own, all of a table in one run. With the arguments SAMPLER CASE SEED the
module is one of these processes, and prints JSON. Imports are not counted, compilation is. The first call of a process
and a second one are measured; ESS is the smallest bulk effective sample size of fixed effects, standard deviations,
correlations and dispersion parameters. The last table holds posterior means and SDs of ``bayes`` against those of
``pymc``, in Monte Carlo errors.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import unimix as um
from benchmarks.cases import case as linear_case
from benchmarks.measure import fresh
from unimix.stats.draw_diagnostics import effective_size

FITS = {
    "bayes": ("bayes", {}),
    "pymc": ("pymc", {"sampler": "nutpie", "retry": False}),
    "glmer": ("lme4", {}),
    "lmer": ("lme4", {}),
}
THIS = "benchmarks.posterior_generalised"


def model(formula: str, data: pd.DataFrame, family: str = "gaussian", **more: Any) -> dict[str, Any]:
    """A model, and how bambi writes it (``bambi``) where that is another way."""
    return {"formula": formula, "data": data, "family": family, "weights": None, "bambi": (formula, family), **more}


def cbpp() -> dict[str, Any]:
    """Binomial with 15 herds."""
    data = um.load_dataset("cbpp").assign(y=lambda d: d["incidence"] / d["size"])
    bambi = ("p(incidence, size) ~ period + (1 | herd)", "binomial")
    return model("y ~ period + (1 | herd)", data, "binomial", weights="size", bambi=bambi)


def grouseticks() -> dict[str, Any]:
    """Poisson with three factors, one of which has a level per row."""
    formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    return model(formula, um.load_dataset("grouseticks"), "poisson")


def binary() -> dict[str, Any]:
    """1,000 groups of 10 binary responses."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(1000), 10), rng.normal(size=10_000)
    y = rng.binomial(1, 1 / (1 + np.exp(0.5 - x - rng.normal(size=1000)[g])))
    formula = "y ~ x + (1 | g)"
    return model(formula, pd.DataFrame({"y": y, "x": x, "g": g}), "binomial", bambi=(formula, "bernoulli"))


def maximal() -> dict[str, Any]:
    """2 x 2 conditions within 40 subjects and 24 items, all slopes and correlations: 21 covariance parameters."""
    rng = np.random.default_rng(1)
    s, i, a, b = (v.ravel() for v in np.meshgrid(range(40), range(24), [-0.5, 0.5], [-0.5, 0.5], indexing="ij"))
    x = np.column_stack([np.ones(len(s)), a, b, a * b])
    root = np.linalg.cholesky(0.6 * np.eye(4) + 0.4)
    of_subjects = rng.normal(size=(40, 4)) @ root.T * [1.0, 0.5, 0.4, 0.4]
    of_items = rng.normal(size=(24, 4)) @ root.T * [0.7, 0.4, 0.3, 0.3]
    y = 5 + x @ [0, 0.5, -0.3, 0.2] + (x * (of_subjects[s] + of_items[i])).sum(axis=1) + rng.normal(size=len(s))
    return model("y ~ a * b + (a * b | s) + (a * b | i)", pd.DataFrame({"y": y, "a": a, "b": b, "s": s, "i": i}))


def linear(key: str) -> Callable[[], dict[str, Any]]:
    """A linear model of the other benchmarks."""
    return lambda: model(linear_case(key).formula, linear_case(key).data)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "cbpp": cbpp,
    "grouseticks": grouseticks,
    "binary": binary,
    "groups-10k": linear("groups-10k"),
    "maximal": maximal,
    "dietox": linear("dietox"),
    "school": linear("school"),
    "sleepstudy": linear("sleepstudy"),
}


@dataclass(frozen=True)
class Reach:
    """One row of the table.

    Attributes:
        case: Name of the data and the model.
        ours: Sampler of unimix.
        rival: What it is held against.
        limit: What the ratio is to be, at least or at most.
        unit: ``"ess"`` for effective draws per CPU second, ours by the rival's, which should be at least the limit;
            ``"thousand"`` for the time to 1,000 effective draws and ``"call"`` for that of a call, by the time of the
            rival's call, which should be at most the limit.
    """

    case: str
    ours: str
    rival: str
    limit: float
    unit: str = "ess"

    def ratio(self, found: dict[str, dict[str, float]], call: str) -> float:
        """Ratio in the first or second call of a process."""
        ours, rival = found[self.ours], found[self.rival]
        if self.unit == "ess":
            return (ours["ess"] / ours[call]) / (rival["ess"] / rival[call])
        return ours[call] * (1000 / ours["ess"] if self.unit == "thousand" else 1.0) / rival[call]

    def text(self, found: dict[str, dict[str, float]]) -> str:
        """Line of the table."""
        first, second = self.ratio(found, "first"), self.ratio(found, "second")
        reached = second >= self.limit if self.unit == "ess" else second <= self.limit
        what = {"ess": "ESS a CPU second", "thousand": "time to 1,000 effective draws", "call": "time of a call"}
        goal = f"{'>=' if self.unit == 'ess' else '<='} {self.limit:g}"
        return (
            f"{self.case}: {self.ours} / {self.rival}, {what[self.unit]}: {first:.2g} in first calls, {second:.2g} in "
            f"later ones; {goal} wanted, {'reached' if reached else 'missed'}"
        )


TABLE = (
    *(Reach(c, "bayes", "bambi", 100) for c in ("cbpp", "grouseticks", "binary")),
    *(Reach(c, "bayes", "pymc", 20) for c in ("cbpp", "grouseticks", "binary")),
    *(Reach(c, "bayes", "glmer", 20, "thousand") for c in ("cbpp", "grouseticks", "binary")),
    Reach("groups-10k", "bayes", "lmer", 10, "call"),
    Reach("maximal", "bayes", "pymc", 10),
    *(Reach(c, "pymc", "by hand", 0.9) for c in ("dietox", "school")),
)
MOMENTS = ("cbpp", "grouseticks", "binary", "maximal", "dietox", "school", "sleepstudy")
"""Cases whose posterior means and SDs are compared."""


def fitted(sampler: str, key: str, case: dict[str, Any], seed: int) -> float:
    """Smallest effective sample size of one call; NaN for a likelihood fit."""
    if sampler == "bambi":
        return _bambi(case, seed)
    if sampler == "by hand":
        from benchmarks.posterior_run import written

        return written("nutpie")(linear_case(key), seed)[0]
    return float(posterior(sampler, case, seed).status.ess_bulk or np.nan)


def posterior(sampler: str, case: dict[str, Any], seed: int) -> Any:
    """The fit of a backend."""
    backend, options = FITS[sampler]
    more = {n: case[n] for n in ("family", "weights")}
    return um.fit(case["formula"], case["data"], backend=backend, options=options, seed=seed, progress=False, **more)


def _bambi(case: dict[str, Any], seed: int) -> float:
    import arviz as az
    import bambi as bmb

    formula, family = case["bambi"]
    trace = bmb.Model(formula, case["data"], family=family).fit(random_seed=seed, progressbar=False)
    names = [n for n in trace.posterior.data_vars if "|" not in n or n.endswith("_sigma")]
    sizes = az.ess(trace, var_names=[n for n in names if n not in ("p", "mu")])
    return min(float(sizes[n].min()) for n in sizes.data_vars)


def cpu() -> float:
    """CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def one(sampler: str, key: str, seed: int) -> dict[str, float]:
    """CPU seconds of two calls, and the effective sample size of the second."""
    import arviz  # noqa: F401

    if sampler in ("pymc", "bambi", "by hand"):
        import pymc  # noqa: F401
    if sampler == "bayes":
        import nutpie  # noqa: F401
    if sampler in ("glmer", "lmer"):
        um.fit("Reaction ~ 1 + (1 | Subject)", um.load_dataset("sleepstudy"), backend="lme4")
    case, seconds, ess = CASES[key](), [], 0.0
    for call in range(2):
        started = cpu()
        ess = fitted(sampler, key, case, seed + call)
        seconds.append(cpu() - started)
    return {"first": seconds[0], "second": seconds[1], "ess": ess}


def moments(key: str, seed: int) -> dict[str, float]:
    """Largest differences of posterior means and SDs between ``bayes`` and ``pymc``, in Monte Carlo errors."""
    case = CASES[key]()
    ours, theirs = (posterior(sampler, case, seed).posterior.posterior for sampler in ("bayes", "pymc"))
    off = []
    for name in (n for n in ours.data_vars if n in theirs.data_vars and not n.startswith("effects(")):
        pair = [np.asarray(drawn[name].transpose("chain", "draw", ...)) for drawn in (ours, theirs)]
        columns = [v.reshape(*v.shape[:2], -1) for v in pair]
        for j in range(columns[0].shape[2]):
            (a, a_errors), (b, b_errors) = (mean_and_sd(v[:, :, j]) for v in columns)
            off.append(np.abs(a - b) / np.hypot(a_errors, b_errors))
    mean, sd = np.max(off, axis=0)
    return {"mean": float(mean), "sd": float(sd)}


def mean_and_sd(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of the draws of one parameter, shape (chains, draws), and their Monte Carlo errors."""
    mean, sd = draws.mean(), draws.std()
    squares = (draws - mean) ** 2
    error = squares.std() / np.sqrt(effective_size(squares, "mean")) / (2 * sd)  # d sd = d variance / (2 sd)
    return np.array([mean, sd]), np.array([sd / np.sqrt(effective_size(draws, "mean")), error])


def measured(sampler: str, key: str) -> dict[str, float] | None:
    """What one process found; None where it ended in an error, whose last line is printed."""
    try:
        return {k: float(v or np.nan) for k, v in fresh(THIS, sampler, key, "1").items()}
    except subprocess.CalledProcessError as error:
        print(key, sampler, (error.stderr.strip().splitlines() or ["no message"])[-1], flush=True)
        return None


def main() -> None:
    """One process, or all of them as a table."""
    logging.disable(logging.WARNING)
    if len(sys.argv) > 2 and sys.argv[1] in (*FITS, "bambi", "by hand", "moments"):  # SAMPLER CASE SEED
        sampler, key, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
        print(json.dumps(moments(key, seed) if sampler == "moments" else one(sampler, key, seed)))
        return
    wanted = sys.argv[1:] or list(CASES)
    for key in wanted:
        rows = [row for row in TABLE if row.case == key]
        found = {}
        for sampler in dict.fromkeys(name for row in rows for name in (row.ours, row.rival)):
            result = measured(sampler, key)
            if result is not None:
                found[sampler] = result
                print(key, sampler, {k: round(v, 2) for k, v in result.items()}, flush=True)
        for row in rows:
            if {row.ours, row.rival} <= found.keys():
                print(row.text(found), flush=True)
    for key in (k for k in MOMENTS if k in wanted):
        off = measured("moments", key)
        if off is not None:
            print(
                f"{key}: bayes and pymc differ by at most {off['mean']:.1f} Monte Carlo errors in posterior means and "
                f"{off['sd']:.1f} in SDs; 4 allowed, {'kept' if max(off.values()) <= 4 else 'missed'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
