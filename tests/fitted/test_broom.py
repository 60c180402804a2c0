"""tidy, glance and augment against broom and broom.mixed (references), column by column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

R = json.loads((Path(__file__).parents[1] / "data" / "broom_r.json").read_text(encoding="utf-8"))
MIXED = ("lmer", "lmer_ml", "lmer_crossed", "glmer")
PLAIN = ("lm", "binomial", "poisson", "gamma")


def data(name: str) -> pd.DataFrame:
    frame = um.load_dataset(name)
    if name == "sleepstudy":
        place = np.arange(1, len(frame) + 1)
        frame = frame.assign(w=1 + (place % 4) / 2, o=place % 7)
    return frame


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lmer": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {}),
    "lmer_ml": ("Reaction ~ Days + offset(o) + (Days || Subject)", "sleepstudy", {"weights": "w", "method": "ML"}),
    "lmer_crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", {}),
    "glmer": ("cbind(incidence, size - incidence) ~ period + (1 | herd)", "cbpp", {"family": "binomial"}),
    "lm": ("Reaction ~ Days", "sleepstudy", {"weights": "w", "offset": "o"}),
    "binomial": ("cbind(incidence, size - incidence) ~ period", "cbpp", {"family": "binomial"}),
    "poisson": ("TICKS ~ cHEIGHT", "grouseticks", {"family": "poisson"}),
    "gamma": ("Weight ~ Time", "dietox", {"family": um.families.Gamma("log")}),
}


@pytest.fixture(scope="module")
def fits() -> dict[str, um.FitResult]:
    return {k: um.fit(formula, data(name), "pls", **more) for k, (formula, name, more) in CASES.items()}


def numbers(table: dict[str, list[Any]], column: str) -> np.ndarray:
    found = table[column] if isinstance(table[column], list) else [table[column]]
    return np.array([np.nan if v is None or v == "NaN" else v for v in found], dtype=float)


def terms(table: dict[str, Any], column: str = "term") -> list[str]:
    found = table[column] if isinstance(table[column], list) else [table[column]]
    return [str(t).replace("(Intercept)", "Intercept") for t in found]


@pytest.mark.parametrize("name", MIXED)
def test_fixed_effects_are_broom_mixeds(name: str, fits: dict[str, um.FitResult]) -> None:
    """1e-4: lmerTest's degrees of freedom are of derivatives by differences; 5e-3 of a generalised model, whose
    covariance matrix lme4 finds by differences, too."""
    ours, theirs = fits[name].tidy(), R[name]["fixed"]
    assert set(theirs) <= set(ours.columns)
    tolerance = 5e-3 if name == "glmer" else 1e-4
    for column in set(theirs) - {"effect", "term", "p.value"}:
        size = np.abs(numbers(theirs, "std.error")).max() if column.startswith("conf") else 0.0
        np.testing.assert_allclose(
            ours[column], numbers(theirs, column), rtol=tolerance, atol=tolerance * size, err_msg=column
        )
    # A relative error r of t or z is one of about t^2 r in a p value.
    off = np.abs(np.log(ours["p.value"] / numbers(theirs, "p.value")))
    assert (off <= tolerance * (1 + numbers(theirs, "statistic") ** 2)).all()


@pytest.mark.parametrize("name", MIXED)
def test_random_effects_are_broom_mixeds(name: str, fits: dict[str, um.FitResult]) -> None:
    """1e-4: what lme4's tightened search leaves, 1e-3 of the generalised model's; modes as a share of the largest."""
    fit = fits[name]
    theirs = R[name]["ran_pars"]
    pars = fit.tidy("ran_pars").set_index(["group", "term"])["estimate"]
    tolerance = 1e-3 if name == "glmer" else 1e-4
    groups = [g.removesuffix(".1") for g in terms(theirs, "group")]  # lme4 numbers the blocks of one factor
    assert len(pars) == len(groups)
    for group, term, value in zip(groups, terms(theirs), numbers(theirs, "estimate"), strict=True):
        assert pars[group, term] == pytest.approx(value, rel=tolerance, abs=tolerance), (group, term)
    for effects, columns in (
        ("ran_vals", ("estimate", "std.error", "conf.low", "conf.high")),
        ("ran_coefs", ("estimate",)),
    ):
        theirs = R[name][effects]
        ours = fit.tidy(effects)  # type: ignore[arg-type]
        assert set(theirs) <= set(ours.columns)
        keys = ["group", "level", "term"]
        plain = ours["term"].str.replace(r"\[T\.(.*)\]", r"\1", regex=True)
        found = ours.assign(level=ours["level"].astype(str), term=plain).set_index(keys)
        wanted = pd.MultiIndex.from_arrays([terms(theirs, "group"), terms(theirs, "level"), terms(theirs)])
        if name == "lmer_ml":
            wanted = wanted.set_levels(
                [g.removesuffix(".1") for g in wanted.levels[0]], level=0, verify_integrity=False
            )
        assert len(found) == len(wanted)
        for column in columns:
            value = numbers(theirs, column)
            np.testing.assert_allclose(
                found.loc[wanted, column], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=column
            )


@pytest.mark.parametrize("name", PLAIN)
def test_regressions_are_brooms(name: str, fits: dict[str, um.FitResult]) -> None:
    """1e-5: R stops iterating at a relative change of 1e-8 of the deviance. A gamma model's dispersion is the maximum-
    likelihood one here and Pearson's in R, which scales standard errors."""
    ours, theirs = fits[name].tidy(), R[name]["fixed"]
    np.testing.assert_allclose(ours["estimate"], numbers(theirs, "estimate"), rtol=1e-5)
    if name != "gamma":
        for column in ("std.error", "statistic"):
            np.testing.assert_allclose(ours[column], numbers(theirs, column), rtol=1e-4)
        np.testing.assert_allclose(ours["p.value"], numbers(theirs, "p.value"), rtol=5e-3, atol=1e-300)


@pytest.mark.parametrize("name", CASES)
def test_glance_is_brooms(name: str, fits: dict[str, um.FitResult]) -> None:
    ours, theirs = fits[name].glance().iloc[0], R[name]["glance"]
    names = {"deviance": "deviance" if name == "lmer_ml" else "residual.deviance"}
    absent = {"r.squared", "adj.r.squared", "statistic", "p.value", "df", "null.deviance", "df.null"}
    absent |= {"logLik", "AIC", "BIC"} if name == "gamma" else set()  # R takes deviance / n for the dispersion there
    for column, value in theirs.items():
        if column not in absent:
            # 1e-5: lme4 evaluates the glmer criterion at modes that it finds to 1e-6 or so
            assert ours[names.get(column, column)] == pytest.approx(value, rel=1e-5), column
    assert np.isnan(ours["REMLcrit"]) == ("REMLcrit" not in theirs)


@pytest.mark.parametrize("name", CASES)
def test_augment_is_brooms(name: str, fits: dict[str, um.FitResult]) -> None:
    """Of glmer, broom's fitted values are on the link's scale and its residuals deviance residuals."""
    fit, theirs = fits[name], R[name]["augment"]
    ours = fit.augment(full=True).head(40)
    generalised = not fit.family.is_linear
    names = {".fitted": ".eta" if generalised else ".fitted"}
    # lme4's own internals, a leave-one-out sigma, and its hat matrix of a generalised model, which it warns of
    absent = {".sqrtXwt", ".sqrtrwt", ".sigma"} | ({".weights", ".hat", ".cooksd"} if name == "glmer" else set())
    for column in set(theirs) - absent:
        wanted = numbers(theirs, column)
        found = ours[names.get(column, column)].to_numpy()
        if generalised and column == ".resid":
            found = fit.residuals("deviance")[:40]
        elif generalised and column == ".fixed":
            found = fit.predict(level="population", kind="link")[:40]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-4 * np.abs(wanted).max(), err_msg=column)
    assert (".hat" in ours) == (name != "glmer")
    if name != "glmer":
        # The leverages of all rows sum to the effective number of coefficients.
        total = fit.augment(full=True)[".hat"].sum()
        effects = sum(b.modes.size for b in fit.random)
        assert (
            total == pytest.approx(len(fit.fixed.terms)) if not fit.random else total < len(fit.fixed.terms) + effects
        )


def test_the_default_of_augment_is_short(fits: dict[str, um.FitResult]) -> None:
    assert list(fits["lmer"].augment().columns) == ["Reaction", ".fitted", ".resid", ".fixed"]


def test_rows_that_were_dropped_have_no_leverage() -> None:
    frame = data("sleepstudy")
    frame.loc[[3, 50], "Days"] = np.nan
    fit = um.fit(CASES["lmer"][0], frame, "pls")
    beside, alone = fit.augment(frame, full=True), fit.augment(full=True)
    assert beside[".cooksd"].isna().sum() == beside[".offset"].isna().sum() == 2
    np.testing.assert_array_equal(beside[".hat"].dropna(), alone[".hat"])
    loaded = um.FitResult.from_json(fit.to_json())
    pd.testing.assert_frame_equal(loaded.augment(frame, full=True), beside, rtol=1e-9)
    with pytest.raises(um.DataError, match="holds no data"):
        loaded.augment(full=True)
    with pytest.raises(um.OptionError, match="of the rows that were fitted, and these are new rows"):
        fit.augment(frame.iloc[:10], full=True)


def test_cooks_distance_is_that_of_a_refit() -> None:
    """Closed form against leaving the row out, in a linear model: (b - b_i)'X'X(b - b_i) / (p sigma^2)."""
    frame = data("sleepstudy")
    fit = um.fit("Reaction ~ Days", frame, "pls")
    x = fit.design().x
    for row in (0, 9, 77):
        less = um.fit("Reaction ~ Days", frame.drop(index=row), "pls")
        off = x @ (fit.fixed.estimate - less.fixed.estimate)
        assert fit.augment(full=True)[".cooksd"][row] == pytest.approx(off @ off / (2 * fit.sigma**2), rel=1e-8)


@pytest.mark.r
def test_what_has_no_weighted_residuals_is_refused() -> None:
    frame = um.load_dataset("grouseticks")
    zero = um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", frame, "glmmtmb", family="poisson", ziformula="~ 1")
    with pytest.raises(um.UnsupportedModelError, match="not defined for a model with zero"):
        zero.augment(full=True)
    assert np.isnan(zero.glance()["residual.deviance"].item())
    assert len(zero.augment()) == zero.n_obs


def test_posteriors_have_no_normal_intervals_of_levels(fits: dict[str, um.FitResult]) -> None:
    by_bayes = um.fit(CASES["glmer"][0], um.load_dataset("cbpp"), "statsmodels", family="binomial")
    assert by_bayes.fixed.interval == "credible"
    assert "conf.low" not in by_bayes.tidy("ran_vals")
    table = fits["lmer"].tidy("ran_vals")
    np.testing.assert_allclose(table["conf.high"] - table["conf.low"], 2 * 1.959964 * table["std.error"], rtol=1e-6)
