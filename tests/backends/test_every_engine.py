"""Every function that comes after the fit, on one fit of each engine, and on the same result loaded from JSON."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import sampled_models
from engines import LIKELIHOOD

import unimix as um

FORMULA = "Reaction ~ Days * late + (1 + Days | Subject)"
Table = pd.DataFrame | um.TableResult


def frame() -> pd.DataFrame:
    data = um.load_dataset("sleepstudy")
    return data.assign(late=pd.Categorical(np.where(data["Subject"].astype(int) > 340, "yes", "no")))


NEW = pd.DataFrame({"Days": [0, 9], "late": ["no", "yes"], "Subject": ["308", "new"]})

# name: how, and the tolerance relative to the largest number: engines' own searches, then their standard errors
VERBS: dict[str, tuple[Callable[[um.FitResult], Table], float]] = {
    "confidence": (lambda f: f.predict(NEW, interval="confidence", new_levels="sample"), 1e-4),
    "prediction": (lambda f: f.predict(NEW, interval="prediction", new_levels="sample"), 1e-4),
    "anova": (lambda f: f.anova(), 1e-3),
    "anova II": (lambda f: f.anova("II"), 1e-3),
    "emmeans": (lambda f: f.emmeans("late"), 1e-3),
    "contrasts": (lambda f: f.contrasts("late"), 1e-3),
    "slopes": (lambda f: f.slopes("Days", by="late"), 1e-3),
    "comparisons": (lambda f: f.comparisons("Days", by="late"), 1e-3),
    "hypotheses": (lambda f: f.hypotheses("b1 = 2 * b3"), 1e-3),
    "robust": (lambda f: f.robust("CR2").fixed_effects, 1e-3),
    "wald": (lambda f: f.confint(), 1e-3),
    "profile": (lambda f: f.confint("profile", parameters="Days"), 1e-3),
    "r2": (lambda f: pd.DataFrame({"r2": [f.r2().marginal, f.r2().conditional]}), 1e-4),
    "icc": (lambda f: pd.DataFrame({"icc": [f.icc().adjusted, f.icc().unadjusted]}), 1e-4),
    "effect sizes": (lambda f: f.effect_sizes(), 1e-3),
    "collinearity": (lambda f: f.collinearity(), 1e-3),
    "influence": (lambda f: f.influence("Subject"), 1e-3),
    "check": (lambda f: f.check()[["value"]].apply(pd.to_numeric, errors="coerce"), 2e-2),
    "simulate": (lambda f: pd.DataFrame(f.simulate(2, seed=1)), 1e-3),
    "augment": (lambda f: f.augment(frame(), full=True), 1e-3),
    "power": (lambda f: um.power(f, "Days", n_sim=2, seed=1).table[["estimate"]], 1e-3),
}


@pytest.fixture(scope="module")
def reference() -> um.FitResult:
    return um.fit(FORMULA, frame(), "pls")


@pytest.fixture(scope="module", params=LIKELIHOOD)
def fits(request: pytest.FixtureRequest) -> tuple[um.FitResult, um.FitResult]:
    fit = um.fit(FORMULA, frame(), request.param)
    return fit, type(fit).from_json(fit.to_json())


def numbers(found: Table) -> np.ndarray:
    frame_of = found if isinstance(found, pd.DataFrame) else found.table
    return frame_of.select_dtypes("number").to_numpy(dtype=float)


def test_every_engine_gives_the_same_numbers(fits: tuple[um.FitResult, um.FitResult], reference: um.FitResult) -> None:
    fit, loaded = fits
    faults = []
    for name, (how, tolerance) in VERBS.items():
        # glmmTMB's standard errors carry the uncertainty of the variances: 1 % here
        own = 2e-2 if fit.backend == "glmmtmb" else tolerance
        expected, found = numbers(how(reference)), numbers(how(fit))
        size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= own * np.maximum(size, 1e-3 * size.max(initial=0.0))
        near |= (found == expected) | (np.isnan(found) & np.isnan(expected))
        if not near.all():
            faults.append(f"{name}: {found[~near][:3]} instead of {expected[~near][:3]}")
        if not np.allclose(numbers(how(loaded.with_data(frame()))), found, rtol=1e-6, equal_nan=True):
            faults.append(f"{name}: another number of the loaded result")
    assert not faults, "\n".join(faults)


def test_every_engine_refits_and_reports(fits: tuple[um.FitResult, um.FitResult], reference: um.FitResult) -> None:
    fit, loaded = fits
    smaller = um.fit("Reaction ~ Days + late + (1 + Days | Subject)", frame(), fit.backend)
    assert um.anova(smaller, fit).table["p_value"].iloc[1] == pytest.approx(
        um.anova(um.fit(smaller.formula, frame(), "pls"), reference).table["p_value"].iloc[1], rel=1e-2
    )
    assert um.ranova(fit).table["chisq"].iloc[1] == pytest.approx(um.ranova(reference).table["chisq"].iloc[1], rel=1e-3)
    assert um.bootstrap_test(fit, smaller, 2, seed=1).p_value in (1 / 3, 2 / 3, 1.0)
    assert np.isfinite(fit.bootstrap(2, seed=1).replicates.to_numpy()).all()
    assert np.allclose(um.refit(loaded, frame()).fixed.estimate, fit.fixed.estimate, rtol=1e-4)
    for own in (fit, loaded):
        assert f"b = {fit.fixed.estimate[0]:.2f}" in own.report()
        assert f"{fit.fixed.estimate[0]:.2f}" in str(um.table([own]))


def test_a_posterior_has_them_from_its_draws(reference: um.FitResult) -> None:
    fit = um.fit(FORMULA, frame(), sampled_models.SHORT, seed=1)
    refused = {"anova", "anova II", "robust", "profile", "influence", "augment"}
    for name, (how, _) in VERBS.items():
        if name in refused:
            if name != "augment":
                with pytest.raises(um.UnimixError):
                    how(fit)
            continue
        found = how(fit)
        assert len(found) > 0, name
        if name in ("emmeans", "slopes", "contrasts", "comparisons"):
            # the posterior is that of flat priors nearly: a third of a standard error, 2,000 draws
            close = np.abs(found["estimate"].to_numpy() - how(reference)["estimate"].to_numpy())
            assert (close < 0.35 * how(reference)["std_error"].to_numpy()).all(), name
    assert "credible" in fit.report()
    assert "Days" in str(um.table([fit, reference]))
