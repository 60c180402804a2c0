"""Tests of terms: drop1 and type I tests against lme4 and lmerTest (tests/data/terms_r.R), and models made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "terms_r.json").read_text())
PIGS = "Weight ~ Time * Cu + Evit + (1 + Time | Pig)"
F_COLUMNS = {"sum_sq": "Sum Sq", "mean_sq": "Mean Sq", "num_df": "NumDF", "den_df": "DenDF", "F": "F value"}


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit(PIGS, um.load_dataset("dietox"), "pls")


def same_f_tests(found: pd.DataFrame, theirs: dict[str, Any]) -> None:
    """F tests of lmerTest: 1e-4 is what its finite differences and lme4's optimizer leave in df and F."""
    assert list(found.index) == theirs["term"]
    for ours, name in F_COLUMNS.items():
        assert found[ours].to_numpy() == pytest.approx(np.array(theirs[name]), rel=1e-4)
    assert found["p_value"].to_numpy() == pytest.approx(np.array(theirs["Pr(>F)"]), rel=1e-3)


def test_f_tests_are_those_of_lmertest(pigs: um.FitResult) -> None:
    same_f_tests(pigs.drop1("F").table, R["drop1_f"])
    same_f_tests(pigs.anova("I").table, R["type1"])
    assert str(pigs.anova("I")).startswith("Type I F tests, Satterthwaite's degrees of freedom")


def test_type_one_without_groups_is_the_sequential_sum_of_squares() -> None:
    data = um.load_dataset("dietox")
    found = um.fit("Weight ~ Time + Evit + Cu", data, "pls").anova("I").table
    parts = ["1", "Time", "Time + Evit", "Time + Evit + Cu"]
    rss = [float((um.fit(f"Weight ~ {p}", data, "pls").residuals() ** 2).sum()) for p in parts]
    assert found["sum_sq"].to_numpy() == pytest.approx(-np.diff(rss), rel=1e-8)
    coded = um.fit("Weight ~ Time + Evit + Cu", data, "pls", contrasts={"Evit": "sum", "Cu": "helmert"}).anova("I")
    assert coded.table["F"].to_numpy() == pytest.approx(found["F"].to_numpy(), rel=1e-8)


@pytest.mark.parametrize("key", ["drop1_chisq", "drop1_herds"])
def test_likelihood_ratios_are_those_of_lme4(key: str, pigs: um.FitResult) -> None:
    if key == "drop1_chisq":
        fit = pigs
    else:
        herds = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        fit = um.fit(herds, um.load_dataset("cbpp"), "pls", family="binomial")
    found, theirs = fit.drop1(), R[key]
    assert list(found.table.index) == theirs["term"]
    # glmer stops 3e-4 short in its deviance (relative 1e-5 in the statistic)
    assert found["aic"].to_numpy() == pytest.approx(np.array(theirs["AIC"]), abs=1e-3)
    assert found["chisq"].to_numpy()[1:] == pytest.approx(np.array(theirs["LRT"][1:], dtype=float), abs=1e-3)
    assert found["p_value"].to_numpy()[1:] == pytest.approx(np.array(theirs["Pr(Chi)"][1:], dtype=float), rel=1e-3)
    pd.testing.assert_frame_equal(found.table, um.drop1(fit).table)


def test_all_terms_are_left_out_under_sum_coding() -> None:
    """The model without the main effect of a keeps its interaction with b, whose columns sum to zero over levels."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"a": rng.choice(list("uvw"), 150), "b": rng.choice(list("xy"), 150)})
    data["g"] = rng.choice(list("cdefgh"), 150)
    data["y"] = rng.normal(size=150) + (data["a"] == "u") * 0.4 + (data["b"] == "x")
    fit = um.fit("y ~ a * b + (1 | g)", data, "pls", method="ML")
    found = fit.drop1(terms="all")
    a1, a2 = ((data["a"] == level) * 1.0 - (data["a"] == "w") for level in "uv")
    b1 = (data["b"] == "x") * 1.0 - (data["b"] == "y")
    coded = data.assign(a1=a1, a2=a2, b1=b1, a1b=a1 * b1, a2b=a2 * b1)
    for term, rest in (("a", "b1 + a1b + a2b"), ("b", "a1 + a2 + a1b + a2b"), ("a:b", "a1 + a2 + b1")):
        less = um.fit(f"y ~ {rest} + (1 | g)", coded, "pls", method="ML")
        expected = 2 * (fit.log_likelihood - less.log_likelihood)
        assert found.table.loc[term, "chisq"] == pytest.approx(expected, abs=1e-6)
    assert "type III" in found.notes[-1]
    f = fit.drop1("F", terms="all").table
    assert f["F"].to_numpy() == pytest.approx(fit.anova().table["F"].to_numpy(), rel=1e-10)


def test_a_numeric_term_is_not_its_coefficient_in_the_reference_level() -> None:
    """The slope of x under sum-to-zero coding of a is the mean slope: the model without it keeps x's differences."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {"a": rng.choice(list("uvw"), 150), "x": rng.normal(size=150), "g": rng.choice(list("cdefgh"), 150)}
    )
    data["y"] = rng.normal(size=150) + data["x"] * (data["a"] == "u")
    fit = um.fit("y ~ a * x + (1 | g)", data, "pls", method="ML")
    a1, a2 = ((data["a"] == level) * 1.0 - (data["a"] == "w") for level in "uv")
    coded = data.assign(a1=a1, a2=a2, a1x=a1 * data["x"], a2x=a2 * data["x"])
    less = um.fit("y ~ a1 + a2 + a1x + a2x + (1 | g)", coded, "pls", method="ML")
    found = fit.drop1(terms="all").table
    assert found.loc["x", "chisq"] == pytest.approx(2 * (fit.log_likelihood - less.log_likelihood), abs=1e-6)
    summed = um.fit("y ~ a * x + (1 | g)", data, "pls", method="ML", contrasts={"a": "sum"}).drop1(terms="all").table
    assert summed["chisq"].to_numpy() == pytest.approx(found["chisq"].to_numpy(), abs=1e-6, nan_ok=True)


def test_a_term_that_another_would_replace_is_not_tested() -> None:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"x": rng.normal(size=60), "f": list("abcdef") * 10, "y": rng.normal(size=60)})
    data["h"] = data["f"].map(dict(zip("abcdef", "uuvvww", strict=True)))
    for formula, message in (
        ("y ~ x + f + I(2 * x)", r"I\(2 \* x\) was left out .*on x,"),
        ("y ~ f + h", "h was left out .*on f,"),
    ):
        fit = um.fit(formula, data, "pls")
        for ask in (fit.drop1, lambda fit=fit: um.drop1(fit)):
            with pytest.raises(um.DataError, match=message):
                ask()
    # an empty cell takes away a column of the interaction itself, and no other term's test
    holed = data[(data["f"] != "a") | (data["x"] > 0)].assign(z=lambda d: np.where(d["x"] > 0, "p", "n"))
    fit = um.fit("y ~ f * z", holed, "pls")
    assert fit.model.aliased
    less = um.fit("y ~ f + z", holed, "pls")
    assert fit.drop1().table.loc["f:z", "chisq"] == pytest.approx(
        2 * (fit.log_likelihood - less.log_likelihood), abs=1e-8
    )


def test_random_terms_and_the_bootstrap(pigs: um.FitResult) -> None:
    sleep = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    found = um.drop1(sleep, random=True).table
    assert found.loc["Days | Subject", "chisq"] == pytest.approx(um.ranova(sleep).table["chisq"].iloc[1], rel=1e-10)
    assert found.loc["Days", "chisq"] == pytest.approx(sleep.drop1().table.loc["Days", "chisq"], rel=1e-10)
    drawn = um.drop1(sleep, "bootstrap", random=True, n=9, seed=3, progress=False)
    assert drawn.table["p_value"].tolist() == [0.1, 0.1]
    assert drawn.table["n"].tolist() == [9, 9]
    smaller = um.fit("Reaction ~ 1 + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    same = um.bootstrap_test(smaller, sleep, 9, seed=3, progress=False)
    assert drawn.table.loc["Days", "statistic"] == pytest.approx(same.table.loc["bootstrap", "statistic"], rel=1e-6)


@pytest.mark.parametrize("backend", ["statsmodels", "mixedlm", "lme4", "glmmtmb"])
def test_every_engine_that_maximises_has_them(backend: str) -> None:
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend)
    # the values of lme4; 1e-3 is the tolerance of the engines' optimizers
    assert fit.drop1().table.loc["Days", "chisq"] == pytest.approx(116.462, abs=2e-3)
    assert fit.drop1("F").table.loc["Days", "F"] == pytest.approx(169.40, rel=1e-3)


def test_tests_without_degrees_of_freedom_are_called_wald_tests() -> None:
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls", df_method="normal")
    found = fit.drop1("F")
    assert str(found).startswith("Wald tests\n")
    assert list(found.table.columns) == ["chisq", "df", "p_value"]


def test_loaded_results_and_refusals(pigs: um.FitResult, tmp_path: Path) -> None:
    sleep = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "pls")
    loaded = um.FitResult.load(sleep.save(tmp_path / "fit.zip"))
    with pytest.raises(um.DataError, match=r"um\.drop1\(fit\) finds it, or fit\.drop1\('F'\)"):
        loaded.drop1()
    assert um.drop1(loaded).table.loc["Days", "chisq"] == pytest.approx(sleep.drop1()["chisq"].iloc[1], rel=1e-6)
    assert loaded.drop1("F").table.loc["Days", "F"] == pytest.approx(sleep.drop1("F")["F"].iloc[0], rel=1e-8)
    with pytest.raises(um.OptionError, match=r"test='LR': choose 'Chisq' or 'F'[\s\S]*terms='every': choose 'marg"):
        sleep.drop1("LR", terms="every")  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="random terms have no F tests"):
        um.drop1(sleep, "F", random=True)
    posterior = um.fit(sleep.formula, um.load_dataset("sleepstudy"), "bayes", seed=1, options={"draws": 100})
    for ask in (posterior.drop1, lambda: um.drop1(posterior)):
        with pytest.raises(um.UnimixError, match="no likelihood ratio"):
            ask()
    herds = um.fit("incidence ~ period + (1 | herd)", um.load_dataset("cbpp"), "pls", family="poisson")
    with pytest.raises(um.OptionError, match=r"test='F' is for linear models.*type test='Chisq'"):
        herds.drop1("F")
    with pytest.raises(um.OptionError, match=r"type='I' is for linear models"):
        herds.anova("I")
    lost = pd.DataFrame({"a": list("xxyyzz") * 4, "b": list("uuuuvv") * 4, "y": np.arange(24.0) % 7})
    aliased = um.fit("y ~ a + b", lost, "pls")
    with pytest.raises(um.DataError, match=r"b has no columns of its own"):
        aliased.anova("I")


def test_type_one_without_groups_takes_the_rows_as_generalised_least_squares_does() -> None:
    """Reductions of the sum of squares of rows that are divided by a root of V, as R's anova of lm and gls has them."""
    rng = np.random.default_rng(5)
    n, t = 60, np.tile(np.arange(6), 10)
    g = np.repeat(np.arange(10), 6)
    data = pd.DataFrame({"g": g, "t": t, "f": rng.choice(list("abc"), n), "x": rng.normal(size=n) + 0.2 * t})
    data["w"], data["y"] = rng.uniform(0.3, 3, n), data["x"] + t / 9 + rng.normal(size=n)
    formulas = ["y ~ 1", "y ~ x", "y ~ x + t", "y ~ x + t + f"]
    for arguments in ({"weights": "w"}, {"residual": "ar1(t | g)"}, {"residual": "ar1(t | g)", "weights": "w"}):
        fit = um.fit(formulas[-1], data, "pls", **arguments)
        found = fit.anova("I").table
        v, part = np.eye(n), fit.residual_part
        if part is not None:
            v = part.covariance[np.ix_(t, t)] * (g[:, None] == g) / fit.sigma**2
        root = np.sqrt(data["w"]) if "weights" in arguments else np.ones(n)
        whitened = np.linalg.solve(
            np.linalg.cholesky(v / np.outer(root, root)), np.column_stack([fit.design().x, data["y"]])
        )
        x, y = whitened[:, :-1], whitened[:, -1]
        rss = [float(np.linalg.lstsq(x[:, :k], y)[1][0]) for k in (1, 2, 3, 5)]
        df = found["num_df"].to_numpy()
        # sigma^2 is that of REML: rounding and where the search of the correlation ends
        assert found["F"].to_numpy() == pytest.approx(-np.diff(rss) / df / fit.sigma**2, rel=1e-6), arguments
