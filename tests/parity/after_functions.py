"""Functions of the second part of what is asked after the fit: the largest distance from R's packages or closed forms.

The numbers of R come from the scripts tests/data/*_r.R, run now where their packages are installed, and else from
their stored output; every row says which.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats
from simulated_families import FAMILIES, p_values

import unimix as um

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
PIGS = "Weight ~ Time * Cu + Evit + (1 + Time | Pig)"
Distances = dict[str, float]


@functools.cache
def of_r(name: str) -> tuple[dict[str, Any], str]:
    """Output of the script ``name``_r.R, and where it is from: R, run now, or the stored file and the reason."""
    more = [str(DATA / "imputed_frames.csv")] if name == "imputed" else []
    try:
        done = subprocess.run(
            ["Rscript", str(DATA / f"{name}_r.R"), *more], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        why = "Rscript is not installed"
    else:
        if not done.returncode:
            return json.loads(done.stdout), "R, run now"
        why = reason(done.stderr)
    return json.loads((DATA / f"{name}_r.json").read_text()), f"stored ({why})"


def reason(stderr: str) -> str:
    """Why R stopped: the line that names a missing package, or the last one."""
    said = stderr.strip().splitlines() or ["no message"]
    return next((line for line in said if "there is no package" in line), said[-1]).strip()


def relative(ours: Any, theirs: Any) -> float:
    """Largest relative distance."""
    a, b = np.asarray(ours, dtype=float).ravel(), np.asarray(theirs, dtype=float).ravel()
    known = b != 0
    return float(np.abs(a[known] / b[known] - 1).max())


def in_errors(ours: Any, theirs: Any, error: Any) -> float:
    """Largest distance in units of a standard error."""
    return float((np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)) / np.asarray(error)).max())


def robust(r: dict[str, Any]) -> Distances:
    models = {
        "sleep": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", "Subject"),
        "pigs": (PIGS, "dietox", "Pig"),
        "litters": ("Weight ~ Time * Cu + (1 | Litter) + (1 | Pig)", "dietox", "Litter"),
        "plain": ("distance ~ Sex * age", "orthodont", "Subject"),
    }
    found: dict[str, list[float]] = {"standard error, CR0-CR3": [], "df": []}
    for name, (formula, dataset, cluster) in models.items():
        data = um.load_dataset(dataset)
        fit = um.fit(formula, data)
        for kind, theirs in r[name].items():
            made = fit.robust(kind, data[cluster] if name == "plain" else cluster).fixed
            found["standard error, CR0-CR3"].append(relative(made.std_error, theirs["std_error"]))
            found["df"].append(relative(made.df, theirs["df"]))
    return {k: max(v) for k, v in found.items()}


def contrasts(r: dict[str, Any]) -> Distances:
    fit = um.fit("Weight ~ Time + Cu * Evit + (1 | Pig)", um.load_dataset("dietox"))
    kinds = ("revpairwise", "trt.vs.ctrlk", "eff", "del.eff", "consec", "mean_chg", "helmert")
    made = {kind: fit.contrasts("Cu", kind, adjust="none").table for kind in kinds}
    made["simple"] = fit.emmeans(["Cu", "Evit"]).contrasts(simple="Evit", adjust="none").table
    pairs = [(table, r[kind]) for kind, table in made.items()]
    return {
        "estimate (standard errors)": max(in_errors(t["estimate"], e["estimate"], e["std_error"]) for t, e in pairs),
        "standard error": max(relative(t["std_error"], e["std_error"]) for t, e in pairs),
        "p value": max(relative(t["p_value"], e["p_value"]) for t, e in pairs),
    }


def turned_back(r: dict[str, Any]) -> Distances:
    found = []
    for response, theirs in r.items():
        fit = um.fit(f"{response} ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        table = fit.emmeans("Days", at={"Days": [0, 9]}, kind="response").table
        found += [
            {
                "mean (standard errors)": in_errors(table["estimate"], theirs["estimate"], theirs["std_error"]),
                "standard error": relative(table["std_error"], theirs["std_error"]),
                "ends of the interval": relative(table[["lower", "upper"]].T, [theirs["lower"], theirs["upper"]]),
            }
        ]
    return {k: max(one[k] for one in found) for k in found[0]}


def terms(which: str) -> Callable[[dict[str, Any]], Distances]:
    """F tests: drop1 or type I of lmerTest."""

    def distances(r: dict[str, Any]) -> Distances:
        fit = um.fit(PIGS, um.load_dataset("dietox"))
        found, theirs = (fit.drop1("F") if which == "drop1_f" else fit.anova("I")).table, r[which]
        return {
            "F": relative(found["F"], theirs["F value"]),
            "denominator df": relative(found["den_df"], theirs["DenDF"]),
        }

    return distances


def likelihood_ratios(r: dict[str, Any]) -> Distances:
    herds = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fits = {
        "drop1_chisq": um.fit(PIGS, um.load_dataset("dietox")),
        "drop1_herds": um.fit(herds, um.load_dataset("cbpp"), family="binomial"),
    }
    pairs = [(fit.drop1().table["chisq"].to_numpy()[1:], r[name]["LRT"][1:]) for name, fit in fits.items()]
    return {"chi-squared": max(relative(a, b) for a, b in pairs)}


def random_pca(r: dict[str, Any]) -> Distances:
    sleep = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy")).random_pca()
    theirs = r["pca_sleep"]["Subject"]
    return {
        "SD of the components": relative(sleep.table["sd"], theirs["sdev"]),
        "directions (absolute)": float(
            np.abs(sleep.rotations["Subject"].abs().to_numpy() - np.array(theirs["rotation"])).max()
        ),
    }


def imputed(r: dict[str, Any]) -> Distances:
    long = pd.read_csv(DATA / "imputed_frames.csv")
    frames = [part.drop(columns=".imp").reset_index(drop=True) for k, part in long.groupby(".imp") if k > 0]
    mixed = um.fit_imputed("y ~ x + f + (1 | g)", frames, df_method="normal")
    smaller = um.fit_imputed("y ~ x + (1 | g)", frames)
    table, info, theirs = mixed.fixed_effects, mixed.missing_information, r["mixed_infinite"]
    d1, d3 = mixed.anova().loc["f"], um.anova(um.fit_imputed("y ~ x + f + (1 | g)", frames), smaller).table.iloc[1]
    return {
        "estimate (standard errors)": in_errors(table["estimate"], theirs["estimate"], theirs["std_error"]),
        "standard error": relative(table["std_error"], theirs["std_error"]),
        "fraction of missing information": relative(info["fmi"], theirs["fmi"]),
        "D1 (mitml)": relative(d1["F"], r["mixed_d1"]["F"]),
        "D3 (mitml)": relative(d3["F"], r["mixed_d3"]["F"]),
    }


def heterogeneity() -> Distances:
    """30 studies: tau^2 by REML as the root of its score; Q, I2 and H2 as sums (Higgins & Thompson 2002)."""
    rng = np.random.default_rng(1)
    v = rng.uniform(0.02, 0.3, 30)
    y = 0.3 + rng.normal(0, 0.4, 30) + rng.normal(0, np.sqrt(v))
    data = pd.DataFrame({"y": y, "w": 1 / v, "study": [f"s{k}" for k in range(30)]})
    found = um.fit("y ~ 1 + (1 | study)", data, weights="w", sigma=1).heterogeneity()

    def score(tau2: float) -> float:
        w = 1 / (v + tau2)
        mean = np.average(y, weights=w)
        return float((w**2 * (y - mean) ** 2).sum() - w.sum() + (w**2).sum() / w.sum())

    tau2, w = optimize.brentq(score, 1e-6, 5, xtol=1e-14), 1 / v
    q = (w * (y - np.average(y, weights=w)) ** 2).sum()
    typical = 29 / (w.sum() - (w**2).sum() / w.sum())
    row = found.table.loc["study"]
    return {
        "tau2": relative(row["tau2"], tau2),
        "Q": relative(found.q, q),
        "I2": relative(found.i2, tau2 / (tau2 + typical)),
        "H2": relative(found.h2, (tau2 + typical) / typical),
    }


def johnson_neyman() -> Distances:
    """(b_x + b_xz z)^2 = q^2 var, a quadratic equation in z (Bauer & Curran 2005), in SDs of the moderator."""
    rng = np.random.default_rng(2)
    g, x, z = np.repeat(np.arange(20), 10), rng.normal(size=200), rng.normal(2, 1, size=200)
    y = 1 + x * (0.6 * z - 1) + 0.5 * rng.normal(size=20)[g] + rng.normal(size=200)
    fit = um.fit("y ~ x * z + (1 | g)", {"y": y, "x": x, "z": z, "g": g}, df_method="normal")
    b, c, q = np.asarray(fit.fixed.estimate), np.asarray(fit.fixed.covariance), stats.norm.ppf(0.975) ** 2
    ends = np.roots([b[3] ** 2 - q * c[3, 3], 2 * (b[1] * b[3] - q * c[1, 3]), b[1] ** 2 - q * c[1, 1]])
    own = fit.johnson_neyman("x", by="z", between=(-5, 8)).boundaries
    return {"boundaries (SDs of the moderator)": float(np.abs(np.array(own) - np.sort(ends)).max() / z.std(ddof=1))}


AGAINST_R: dict[str, tuple[str, str, Callable[[dict[str, Any]], Distances]]] = {
    "robust": ("clubSandwich", "robust", robust),
    "contrasts": ("emmeans", "contrasts", contrasts),
    "emmeans(kind='response')": ("emmeans", "back", turned_back),
    "anova('I')": ("lmerTest", "terms", terms("type1")),
    "drop1('F')": ("lmerTest", "terms", terms("drop1_f")),
    "drop1": ("lme4", "terms", likelihood_ratios),
    "random_pca": ("lme4", "terms", random_pca),
    "fit_imputed": ("mice, mitml", "imputed", imputed),
}
CLOSED: dict[str, Callable[[], Distances]] = {"heterogeneity": heterogeneity, "johnson_neyman": johnson_neyman}


def lines() -> Iterator[str]:
    """Lines of the table: function, against what, quantity, worst distance, source."""
    yield "| function | against | quantity | worst distance | numbers from |"
    yield "|---|---|---|---|---|"
    for name, (package, script, check) in AGAINST_R.items():
        numbers, source = of_r(script)
        for quantity, value in check(numbers).items():
            yield f"| `{name}` | {package} | {quantity} | {value:.1e} | {source} |"
    for name, closed in CLOSED.items():
        for quantity, value in closed().items():
            yield f"| `{name}` | closed form | {quantity} | {value:.1e} | computed now |"
    yield "| `simulated_residuals` | DHARMa | - | - | DHARMa is not in Debian: calibration below |"


def calibration(n_sets: int = 40) -> Iterator[str]:
    """Shares of p values of at most 0.1, of data whose model is right: 0.1 is exact, and less is conservative."""
    yield f"| p <= 0.1 in {n_sets} data sets | effects | uniformity | dispersion | outliers | zeros | time | space |"
    yield "|---|---|---|---|---|---|---|---|"
    for family in FAMILIES:
        for effects in ("new", "drawn"):
            if (family, effects) == ("cumulative", "drawn"):
                yield f"| {family} | {effects} | refused | | | | | |"
                continue
            try:
                shares = (p_values(family, effects, n_sets) <= 0.1).mean()
            except um.UnimixError as error:
                yield f"| {family} | {effects} | cannot be run here: {str(error).splitlines()[0]} | | | | | |"
                continue
            cells = [shares.get(k) for k in ("uniformity", "dispersion", "outliers", "zeros", "time", "space")]
            yield f"| {family} | {effects} | " + " | ".join("-" if c is None else f"{c:.2f}" for c in cells) + " |"
