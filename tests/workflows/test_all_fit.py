"""Engines x optimizers, causes of differences, and borrowed starts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.registry import backend_class, built_in

FORMULA = "Weight ~ Time + (1 + Time | Pig)"


@pytest.fixture(scope="module")
def pigs() -> pd.DataFrame:
    frame = um.load_dataset("dietox")
    return frame.assign(far=1e6 * frame["Time"], w=np.linspace(0.5, 2, len(frame)))


@pytest.mark.r
def test_all_fit_ranks_engines_by_one_criterion(pigs: pd.DataFrame) -> None:
    found = um.all_fit(FORMULA, pigs, backends=["statsmodels", "lme4", "pls", "glmmtmb", "pymc"])
    assert found.failures == {}
    labels = set(found.table.index)
    assert {"lme4 (bobyqa)", "lme4 (Nelder_Mead)", "statsmodels (bfgs)", "glmmtmb (nlminb)", "pls"} <= labels
    assert not any(label.startswith("pymc") for label in labels)
    assert found.table["gap"].is_monotonic_increasing
    assert (found.table["gap"] < 1e-3).all()
    assert (found.spread["largest"] - found.spread["least"]).abs().max() < 1e-2
    assert found.best.log_likelihood == pytest.approx(-2217.0474591, abs=1e-5)  # as lme4, statsmodels and pls find it
    assert "gap" in str(found)


@pytest.mark.r
def test_all_fit_shows_who_stumbles_over_bare_columns(pigs: pd.DataFrame) -> None:
    """Time in millionths: nothing that ended far below the best is called converged."""
    found = um.all_fit("Weight ~ far + (1 + far | Pig)", pigs, conditioning=False, backends=["lme4", "pls", "glmmtmb"])
    best = found.table.iloc[0]
    assert best["gap"] < 1e-6
    short = found.table[found.table["gap"] > 1e-2]
    assert len(short)
    assert set(short["state"]) == {"not_converged"}


def test_all_fit_without_an_engine(pigs: pd.DataFrame) -> None:
    with pytest.raises(um.OptionError, match="no engine that maximises"):
        um.all_fit(FORMULA, pigs, backends=["pymc"])


def test_a_restart_borrows_its_start_and_says_so(pigs: pd.DataFrame) -> None:
    short = um.backends.Pls(max_steps=2)
    first = um.fit(FORMULA, pigs, short)
    assert not first.converged
    again = um.fit(FORMULA, pigs, short, restart=True)
    assert again.converged
    assert again.provenance["start"].startswith("borrowed: unimix's own optimum")
    assert again.certificate().verdict == "certified"
    whole = um.fit(FORMULA, pigs, "pls", restart=True)
    assert "start" not in whole.provenance


@pytest.mark.parametrize("backend", [name for name in built_in() if backend_class(name).takes_start])
def test_every_engine_can_be_started_at_the_optimum(pigs: pd.DataFrame, backend: str) -> None:
    """A start is in the user's units; what comes back is the same optimum."""
    from unimix.backends.base import FitRequest, Start
    from unimix.backends.registry import resolve

    plain = um.fit(FORMULA, pigs, backend, weights="w")
    start = Start(tuple(np.array(b.covariance) for b in plain.random), plain.sigma, "a test")
    engine = resolve(backend, None)
    outcome = engine.fit(plain.design(), FitRequest("REML", "normal", start=start))
    assert outcome.provenance["start"] == "borrowed: a test"
    assert outcome.estimates.converged
    assert outcome.estimates.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)


def test_a_restart_is_refused_where_there_is_no_start(pigs: pd.DataFrame) -> None:
    with pytest.raises(um.OptionError, match="restart=True"):
        um.fit("Weight ~ Time", pigs, "statsmodels", restart=True)


@pytest.mark.r
def test_causes(pigs: pd.DataFrame) -> None:
    formula = "Weight ~ Time + Cu + (1 + Time | Pig)"
    same = um.compare(formula, pigs, backends=["lme4", "glmmtmb", "statsmodels"], weights="w")
    assert {c.verdict for c in same.certificates.values()} == {"certified"}
    table = same.causes.set_index(["engine", "differs"])["cause"]
    assert table["glmmtmb", "standard errors"].startswith("vcov kind: observed information against generalised")
    assert table["statsmodels", "weights"] == "emulation"
    assert "certified. These are the numbers of this model" in str(same)
    reml, ml = um.fit(FORMULA, pigs, "pls"), um.fit(FORMULA, pigs, "pls", method="ML")
    kinds = um.compare(reml, ml).causes
    assert kinds["cause"].str.startswith("criterion: ").all()
    early = um.fit(FORMULA, pigs, um.backends.Pls(max_steps=2))
    shorter = um.compare(reml, early)
    assert shorter.causes["cause"].str.contains("optimum: pls ends").any()
    welch = um.compare(reml, um.fit(FORMULA, pigs, "pls", df_method="normal")).causes
    assert list(welch["cause"]) == ["df method"]


@pytest.mark.r
def test_a_loaded_comparison_takes_the_data(pigs: pd.DataFrame) -> None:
    whole = um.compare(FORMULA, pigs, backends=["lme4", "pls"]).certify()
    same = um.Comparison.from_json(whole.to_json())
    assert str(same) == str(whole)
    assert {c.verdict for c in same.certificates.values()} == {"certified"}
    loaded = um.compare([um.FitResult.from_json(f.to_json()) for f in whole.results.values()])
    assert "certified" not in str(loaded)
    assert {c.verdict for c in loaded.with_data(pigs).certificates.values()} == {"certified"}
    with pytest.raises(um.DataError, match="holds no data"):
        _ = loaded.certificates
