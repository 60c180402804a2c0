"""Run marginaleffects on results of unimix and on statsmodels' own, and print what both say as JSON.

``python through_marginaleffects.py folder``: the folder holds results as JSON files, each beside its data (CSV).
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import marginaleffects as me  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import statsmodels.api as sm  # noqa: E402
import statsmodels.formula.api as smf  # noqa: E402
from scipy.special import expit  # noqa: E402

import unimix as um  # noqa: E402


def numbers(table: Any) -> dict[str, list[float]]:
    names = [c for c in ("estimate", "std_error") if c in table.columns]
    return {c: np.asarray(table[c].to_list() if hasattr(table[c], "to_list") else table[c]).tolist() for c in names}


def pair(ours: um.FitResult, **how: Any) -> list[dict[str, list[float]]]:
    """Average comparisons by unimix and by marginaleffects through the adapter."""
    words = {"log_ratio": "lnratio", "log_odds_ratio": "lnor", "difference": "difference", "ratio": "ratio"}
    variables, comparison, by = how["variables"], how.get("comparison", "difference"), how.get("by")
    mine = ours.comparisons(variables, comparison=comparison, by=by or ()).table
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in variables.items()}
    theirs = me.avg_comparisons(
        how["model"], variables=lists, comparison=words[comparison], **({"by": by} if by else {})
    )
    return [numbers(mine), numbers(theirs)]


def engines(folder: Path) -> dict[str, Any]:
    """A loaded result of every engine, through the whole of marginaleffects."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        data = pd.read_csv(path.with_suffix(".csv"), dtype={"herd": str, "period": str, "group": str})
        fit = um.FitResult.from_json(path)
        model = fit.with_data(data).to_marginaleffects()
        grid = me.datagrid(model, period=["1", "4"])
        found[path.stem] = {
            "predictions": numbers(me.predictions(model, newdata=grid)),
            # the inverse link at the estimates, also of a posterior, whose expected responses are means over its draws
            "link": [
                expit(
                    fit.predict(
                        pd.DataFrame({"period": ["1", "4"], "group": data["group"].iloc[0]}),
                        level="population",
                        kind="link",
                    )
                ).tolist()
            ],
            "averages": numbers(me.avg_predictions(model, by="period")),
            "hypotheses": numbers(me.hypotheses(model, "b1 = b2")),
            "comparisons": numbers(me.avg_comparisons(model, variables="period")),
            "by_group": len(me.avg_predictions(model, by="group_")),
            "rows": len(me.comparisons(model)),
        }
    return found


def kinds() -> dict[str, list[dict[str, list[float]]]]:
    """What unimix computes itself, beside marginaleffects on statsmodels' fit and through the adapter."""
    pigs = um.load_dataset("dietox")
    pigs[["Cu", "Evit"]] = pigs[["Cu", "Evit"]].astype("category")
    ours = um.fit("Weight ~ Time * Cu + Evit", pigs, "statsmodels")
    bare = smf.ols("Weight ~ Time * Cu + Evit", pigs).fit()
    found = {}
    for how in ("sd", "2sd", "iqr", "minmax", (2, 9)):
        for name, model in (("adapter", ours.to_marginaleffects()), ("statsmodels", bare)):
            found[f"{how} {name}"] = pair(ours, model=model, variables={"Time": how})
    for how in ("reference", "pairwise", "sequential", ("Cu175", "Cu035")):
        for name, model in (("adapter", ours.to_marginaleffects()), ("statsmodels", bare)):
            found[f"{how} {name}"] = pair(ours, model=model, variables={"Cu": how}, comparison="ratio")
    slopes = ours.comparisons("Time", comparison="dydx", by="Cu").table
    for name, model in (("adapter", ours.to_marginaleffects()), ("statsmodels", bare)):
        found[f"slopes {name}"] = [
            numbers(slopes),
            numbers(me.avg_slopes(model, variables="Time", by="Cu", eps_vcov=1e-4)),
        ]
    # statsmodels has the factors before the numbers
    found["hypotheses"] = [
        numbers(ours.hypotheses(["b1 ** 2 / 10 = 4", "b2 / b3 = 1"])),
        numbers(me.hypotheses(bare, ["b5 ** 2 / 10 = 4", "b1 / b2 = 1"])),
    ]
    cows = um.load_dataset("cbpp").assign(even=lambda d: d["herd"].astype(int) % 2 * 1.0)
    cows["period"] = cows["period"].astype("category")
    formula = "cbind(incidence, size - incidence) ~ period * even"
    ours = um.fit(formula, cows, "statsmodels", family="binomial")
    cows["share"] = cows["incidence"] / cows["size"]
    bare = smf.glm("share ~ period * even", cows, family=sm.families.Binomial(), var_weights=cows["size"]).fit()
    for comparison in ("difference", "log_ratio", "log_odds_ratio"):
        for name, model in (("adapter", ours.to_marginaleffects()), ("statsmodels", bare)):
            how = {"variables": {"period": "pairwise"}, "comparison": comparison}
            found[f"{comparison} {name}"] = pair(ours, model=model, **how)
    rng = np.random.default_rng(1)
    counts = pd.DataFrame(
        {"x": rng.normal(size=200), "time": rng.uniform(1, 5, 200), "term": rng.choice(["u", "v"], 200)}
    )
    counts["y"] = rng.poisson(counts["time"] * np.exp(0.2 + 0.3 * counts["x"]))
    for label, formula, offset in (
        ("inside", "y ~ x + term + offset(log(time))", None),
        ("array", "y ~ x + term", np.log(counts["time"])),
    ):
        ours = um.fit(formula, counts, "statsmodels", family="poisson", offset=offset)
        model = ours.to_marginaleffects()
        found[f"offset {label}"] = pair(ours, model=model, variables={"x": (0, 1)})
        slopes = ours.comparisons("x", comparison="dydx").table
        found[f"offset slope {label}"] = [numbers(slopes), numbers(me.avg_slopes(model, variables="x", eps_vcov=1e-4))]
    fresh = ours.to_marginaleffects()
    calls = [
        lambda: me.avg_comparisons(fresh),
        lambda: me.avg_slopes(fresh, eps_vcov=1e-4),
        lambda: me.avg_slopes(fresh),
    ]
    found["warned"] = [warned(call) for call in calls]
    return found


def warned(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if "eps_vcov=1e-4" in str(w.message)]


if __name__ == "__main__":
    json.dump({"engines": engines(Path(sys.argv[1])), "kinds": kinds()}, sys.stdout)
