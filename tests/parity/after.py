"""What comes after the fit against R, in one table: ``python tests/parity/after.py [backends]``.

First the functions of after_functions.py, against clubSandwich, emmeans, lmerTest, lme4, mice, mitml and closed forms;
then the reference cases (tests/data/gold: lmerTest, pbkrtest, car, emmeans, performance, lme4's confint), whose numbers
of R are stored; and, where R is installed, the coverage of merTools' prediction intervals beside ours.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from after_functions import calibration, lines, reason
from gold import Gold, all_cases, as_list, r_name

import unimix as um

Distances = dict[str, float]


def relative(ours: object, theirs: object) -> float:
    """Largest relative distance."""
    a, b = np.asarray(ours, dtype=float), np.asarray(as_list(theirs), dtype=float)
    return float(np.abs(a / b - 1).max())


def singular(case: Gold) -> bool:
    return bool(case.reference.get("singular"))


def type_three(case: Gold, fit: um.FitResult) -> Distances:
    theirs = case.reference.get("anova_type3")
    if not theirs or singular(case):
        return {}
    return f_tests(fit.anova(), theirs)


def f_tests(found: pd.DataFrame, rows: list[dict[str, float]]) -> Distances:
    theirs = pd.DataFrame(rows).set_index("term")
    found = found.loc[theirs.index]
    return {"F": relative(found["F"], theirs["F"]), "denominator df": relative(found["den_df"], theirs["den_df"])}


def kenward_roger(case: Gold, fit: um.FitResult) -> Distances:
    theirs = (case.reference.get("kenward_roger") or {}).get("anova_type3")
    if not theirs or singular(case):
        return {}
    return f_tests(case.fit(fit.engine.backend, df_method="kenward-roger").anova(), theirs)


def type_two(case: Gold, fit: um.FitResult) -> Distances:
    theirs = case.reference.get("anova_type2_wald")
    if not theirs:
        return {}
    rows = pd.DataFrame(theirs).set_index("term")
    return {"chi-squared": relative(fit.anova("II").loc[rows.index, "chisq"], rows["chisq"])}


def marginal_means(case: Gold, fit: um.FitResult) -> Distances:
    theirs = case.reference.get("emmeans")
    if not theirs or singular(case):
        return {}
    found = fit.emmeans(as_list(theirs["specs"]))
    made = {"standard error": relative(found.table["std_error"], theirs["std_error"])}
    if theirs.get("contrasts") and all(v is not None for v in as_list(theirs["contrasts"]["p_value_tukey"])):
        p = found.contrasts()["p_value"].to_numpy()
        made["Tukey's p (absolute)"] = float(np.abs(p - np.array(as_list(theirs["contrasts"]["p_value_tukey"]))).max())
    return made


def nakagawa(case: Gold, fit: um.FitResult) -> Distances:
    """Where the package follows the definition: not for several terms of a factor, nor counts."""
    theirs = case.reference.get("nakagawa")
    alone = len({b.group for b in fit.random}) == len(fit.random) and all("Intercept" in b.terms for b in fit.random)
    if not theirs or theirs["r2_conditional"] is None or not alone or fit.family.label == "poisson":
        return {}
    found, share = fit.r2(), fit.icc()
    return {
        "R2": max(
            relative(found.marginal, theirs["r2_marginal"]), relative(found.conditional, theirs["r2_conditional"])
        )
        if theirs["r2_marginal"]
        else relative(found.conditional, theirs["r2_conditional"]),
        "ICC": relative(share.adjusted, theirs["icc_adjusted"]),
    }


def profiles(case: Gold, fit: um.FitResult) -> Distances:
    theirs = case.reference.get("ci_profile")
    if not theirs:
        return {}

    def name(ours: str) -> str:
        if " | " not in ours:
            return r_name(ours, fit)
        kind, inside = ours.split("(", 1)
        terms, group = inside[:-1].split(" | ")
        return f"{kind}_{'.'.join(r_name(t, fit) for t in reversed(terms.split(', ')))}|{group}"

    found = fit.confint("profile").table.rename(index=name).loc[theirs["names"]]
    width = np.array(theirs["upper"]) - np.array(theirs["lower"])
    ends = [np.abs(found[k].to_numpy() - np.array(theirs[k], dtype=float)) / width for k in ("lower", "upper")]
    return {"ends (of the width)": float(np.max(ends))}


CHECKS: dict[str, tuple[str, Callable[[Gold, um.FitResult], Distances]]] = {
    "anova('III'), Satterthwaite": ("lmerTest", type_three),
    "anova('III'), Kenward-Roger": ("pbkrtest", kenward_roger),
    "anova('II')": ("car", type_two),
    "emmeans, contrasts": ("emmeans", marginal_means),
    "r2, icc": ("performance", nakagawa),
    "confint('profile')": ("lme4", profiles),
}

R_SCRIPT = """
suppressMessages({library(lme4); library(merTools)})
args <- commandArgs(TRUE)
train <- read.csv(file.path(args[1], "train.csv")); test <- read.csv(file.path(args[1], "test.csv"))
for (s in unique(train$set)) {
  fit <- lmer(y ~ x + (1 + x | g), transform(train[train$set == s, ], g = factor(g)))
  new <- transform(test[test$set == s, ], g = as.character(g))
  made <- suppressWarnings(predictInterval(fit, new, level = 0.9, n.sims = 500, seed = 1, include.resid.var = TRUE))
  write.table(data.frame(s, made$lwr, made$upr), file.path(args[1], "r.csv"), append = s != train$set[1],
              col.names = s == train$set[1], row.names = FALSE, sep = ",")
}
"""


def coverage(n_sets: int = 60) -> Iterator[str]:
    """90 % prediction intervals of new rows of 40 known levels, and their mean width: ours and merTools'."""
    rng = np.random.default_rng(1)
    train, test = [], []
    for s in range(n_sets):
        effects = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.5]], size=40)
        for kind, n in ((train, 6), (test, 2)):
            g = np.repeat(np.arange(40), n)
            x = rng.normal(size=len(g))
            y = 2 + x + effects[g, 0] + effects[g, 1] * x + rng.normal(size=len(g))
            kind.append(pd.DataFrame({"set": s, "g": g, "x": x, "y": y}))
    new = pd.concat(test, ignore_index=True)
    made = []
    for frame, rows in zip(train, test, strict=True):
        fit = um.fit("y ~ x + (1 + x | g)", frame, "pls", df_method="normal")
        made.append(fit.predict(rows, interval="prediction", ci_level=0.9)[["lower", "upper"]])
    yield line("unimix", new["y"], pd.concat(made, ignore_index=True))
    with tempfile.TemporaryDirectory() as folder:
        pd.concat(train).to_csv(Path(folder) / "train.csv", index=False)
        new.to_csv(Path(folder) / "test.csv", index=False)
        (Path(folder) / "run.R").write_text(R_SCRIPT)
        done = subprocess.run(
            ["Rscript", str(Path(folder) / "run.R"), folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield f"| merTools | cannot be run here: {reason(done.stderr)} | |"
            return
        theirs = pd.read_csv(Path(folder) / "r.csv").iloc[:, 1:]
    theirs.columns = ["lower", "upper"]
    yield line("merTools", new["y"], theirs)


def line(name: str, y: pd.Series, ends: pd.DataFrame) -> str:
    inside = (y.to_numpy() >= ends["lower"].to_numpy()) & (y.to_numpy() <= ends["upper"].to_numpy())
    return f"| {name} | {inside.mean():.3f} | {(ends['upper'] - ends['lower']).mean():.3f} |"


def fitted(case: Gold, backend: str) -> um.FitResult | None:
    """The case by an engine that estimates; None where it has no such model, or an approximate posterior."""
    try:
        fit = case.fit(backend)
    except um.UnsupportedModelError:
        return None
    return None if fit.fixed.interval == "credible" else fit


def main(backends: list[str]) -> None:
    """Print one row per function, engine and quantity: the worst of all cases that have it."""
    for row in chain(lines(), [""], calibration(), [""]):
        print(row, flush=True)
    print("| function | against | engine | quantity | cases | worst distance |")
    print("|---|---|---|---|---|---|")
    cases = [c for c in all_cases() if c.mixed]
    fits = {(b, c.id): fitted(c, b) for b in backends for c in cases}
    for name, (against, check) in CHECKS.items():
        for backend in backends:
            found: dict[str, list[float]] = {}
            for case in cases:
                fit = fits[backend, case.id]
                for quantity, value in check(case, fit).items() if fit else ():
                    found.setdefault(quantity, []).append(value)
            for quantity, values in found.items():
                print(
                    f"| `{name}` | {against} | {backend} | {quantity} | {len(values)} | {max(values):.1e} |", flush=True
                )
    print("\n| 90 % prediction intervals | coverage | mean width |\n|---|---|---|")
    for row in coverage():
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["pls", "lme4"])
