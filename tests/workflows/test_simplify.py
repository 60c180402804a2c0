"""The random part: principal components against lme4, and stepwise simplification against models made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "terms_r.json").read_text())
MAXIMAL = "y ~ a*b + (1 + a*b | subj) + (1 | item)"


@pytest.fixture(scope="module")
def words() -> pd.DataFrame:
    """30 subjects and 24 items; only the slopes of ``a`` vary among subjects."""
    rng = np.random.default_rng(1)
    subj, item = np.repeat(np.arange(30), 24), np.tile(np.arange(24), 30)
    a, b = np.tile(np.repeat([-0.5, 0.5], 12), 30), np.tile([-0.5, 0.5], 360)
    u, w = rng.normal(size=(30, 2)), rng.normal(size=24)
    y = 1 + 0.5 * a + 0.3 * b + u[subj, 0] + u[subj, 1] * a + 0.5 * w[item] + rng.normal(size=720)
    labels = {"subj": [f"s{k}" for k in subj], "item": [f"i{k}" for k in item]}
    return pd.DataFrame({"y": y, "a": a, "b": b, **labels})


@pytest.mark.parametrize(
    ("key", "formula", "data"),
    [
        ("pca_sleep", "Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("pca_pigs", "Weight ~ Time + (1 + Time + I(Time^2) | Pig)", "dietox"),
    ],
)
def test_components_are_those_of_lme4(key: str, formula: str, data: str) -> None:
    fit = um.fit(formula, um.load_dataset(data), "pls")
    found = fit.random_pca()
    ((group, theirs),) = R[key].items()
    # lme4 stops with relative covariance factors that differ by 1e-4
    assert found.table.loc[group, "sd"].to_numpy() == pytest.approx(np.array(theirs["sdev"]), rel=1e-3)
    assert np.abs(found.rotations[group].to_numpy()) == pytest.approx(np.array(theirs["rotation"]), abs=1e-3)
    assert found.table["cumulative"].iloc[-1] == pytest.approx(1)
    loaded = um.FitResult.from_json(fit.to_json())
    pd.testing.assert_frame_equal(loaded.random_pca().table, found.table)


def test_components_of_crossed_and_singular_parts(words: pd.DataFrame) -> None:
    found = um.fit(MAXIMAL, words, "pls").random_pca()
    assert any(note.startswith(("subj: 3 of 4", "subj: 2 of 4")) for note in found.notes)
    assert found.table.loc["item", "share"].tolist() == [1.0]
    split = um.fit("y ~ a + (1 + a || subj)", words, "pls")
    sd = sorted(float(b.sd[0]) for b in split.random)[::-1]
    assert split.random_pca().table["sd"].to_numpy() == pytest.approx(np.array(sd) / split.sigma, rel=1e-10)
    with pytest.raises(um.DataError, match="no random effects"):
        um.fit("y ~ a", words, "pls").random_pca()


def test_steps_by_likelihood_ratio_are_tests_of_models_made_by_hand(words: pd.DataFrame) -> None:
    found = um.simplify(MAXIMAL, words)
    assert found.formula == "y ~ 1 + a * b + (1 + a | subj) + (1 | item)"
    for k in range(1, len(found.fits)):
        test = um.anova(found.fits[k], found.fits[k - 1]).table
        columns = ["chisq", "df", "p_value"]
        assert found.table.loc[k, columns].tolist() == pytest.approx(test[columns].iloc[1].tolist(), rel=1e-6)
    assert (found.table["p_value"].iloc[1:] > 0.2).all()
    hand = um.fit(found.formula, words)
    assert found.fit.log_likelihood == pytest.approx(hand.log_likelihood, abs=1e-6)
    ratio = np.asarray(hand.fixed.std_error) / np.asarray(found.fits[0].fixed.std_error) - 1
    assert found.table["se_change"].iloc[-1] == pytest.approx(ratio[np.abs(ratio).argmax()], abs=1e-5)
    assert found.tried == 1 + 2 + 3 + 2  # the first, and correlations and the effects that may go, at three models
    assert "Slopes left out: a:b among subj, b among subj." in str(found)
    assert "Step 1: a:b | subj left out, because likelihood-ratio test p" in str(found)


def test_steps_off_the_boundary_end_at_a_fit_that_is_not_singular(words: pd.DataFrame) -> None:
    found = um.simplify(MAXIMAL, words, rule="boundary")
    assert found.table["removed"].tolist()[:2] == ["", "correlations | subj"]
    assert found.table["state"].tolist()[:-1] == ["singular"] * (len(found.fits) - 1)
    assert found.fit.status.state == "converged"
    assert found.tried == len(found.fits)
    kept = um.simplify(MAXIMAL, words, rule="boundary", keep=["a:b", "b"])
    assert all(any(t == "b" for b in f.random for t in b.terms) for f in kept.fits)
    assert any("still singular" in note for note in kept.notes)
    proper = um.simplify("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), rule="boundary")
    assert proper.table["removed"].tolist() == [""]


def test_factors_and_slopes_without_an_intercept(words: pd.DataFrame) -> None:
    data = words.assign(f=np.where(words["b"] > 0, "p", "q"))
    found = um.simplify("y ~ a + (1 | subj) + (0 + a | subj) + (1 + f | item)", data, alpha=0.05)
    assert found.formula in {
        "y ~ 1 + a + (1 | subj) + (0 + a | subj) + (1 | item)",
        "y ~ 1 + a + (1 | subj) + (0 + a | subj) + (1 + f || item)",
    }
    assert "a among subj" not in " ".join(found.notes)


@pytest.mark.parametrize("backend", ["statsmodels", "mixedlm", "lme4", "glmmtmb"])
def test_every_engine_that_maximises(backend: str) -> None:
    sleep = um.load_dataset("sleepstudy")
    found = um.simplify("Reaction ~ Days + (Days | Subject)", sleep, backend)
    assert found.formula == "Reaction ~ 1 + Days + (1 + Days || Subject)"
    # lme4: anova of the two models by REML gives 0.0426; the optimizers leave 1e-3
    assert found.table["chisq"].iloc[1] == pytest.approx(0.0426, abs=2e-3)


def test_refusals(words: pd.DataFrame) -> None:
    with pytest.raises(um.OptionError, match=r"rule='AIC'[\s\S]*alpha=2: [\s\S]*keep='a': give a list"):
        um.simplify(MAXIMAL, words, rule="AIC", alpha=2, keep="a")  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="samples a posterior"):
        um.simplify(MAXIMAL, words, "bayes")
    with pytest.raises(um.OptionError, match="keep= names c, but the effects that vary are a, a:b, b"):
        um.simplify(MAXIMAL, words, keep=["c"])
    with pytest.raises(um.DataError, match="no random effects"):
        um.simplify("y ~ a", words)
    holes = words.assign(z=np.where(np.arange(720) < 3, np.nan, words["b"]))
    with pytest.raises(um.DataError, match="without missing values"):
        um.simplify("y ~ a + (1 + z | subj)", holes)
