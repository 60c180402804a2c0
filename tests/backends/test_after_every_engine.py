"""What analysts ask for after a fit, on one fit of each engine and on the same result loaded: it works, or it refuses.

Engines that maximise the same likelihood give the same numbers; samplers give numbers of their draws, or refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sampled_models
from engines import LIKELIHOOD

import unimix as um

SLOPES = "Reaction ~ Days * base + late + (1 + Days | Subject)"
LOGARITHM = "log(Reaction) ~ Days + (1 | Subject)"
Table = pd.DataFrame | um.TableResult


def frame() -> pd.DataFrame:
    """180 rows of 18 subjects; base is the first reaction of each, in units of 100 ms about the mean."""
    data = um.load_dataset("sleepstudy")
    first = data.groupby("Subject", observed=True)["Reaction"].transform("first")
    late = pd.Categorical(np.where(data["Subject"].astype(int) > 340, "yes", "no"))
    return data.assign(base=(first - first.mean()) / 100, late=late)


def imputations() -> list[pd.DataFrame]:
    """Three data sets that differ in every seventh value of base."""
    data = frame()
    moved = [np.random.default_rng(k).normal(0, 0.1, len(data)) * (np.arange(len(data)) % 7 == 0) for k in range(3)]
    return [data.assign(base=data["base"] + m) for m in moved]


# name: how, and the tolerance relative to the largest number of the table. Engines stop their searches at their own
# places: 1e-3 of a standard error or variance. One seed gives similar responses, of which some ranks are exchanged, and
# other draws of the coefficients (a root of their covariance matrix may turn): these are compared after loading alone.
VERBS: dict[str, tuple[Callable[[um.FitResult], Table], float]] = {
    "robust": (lambda f: f.robust("CR2").fixed_effects, 1e-3),
    "robust contrasts": (lambda f: f.robust().contrasts("late"), 1e-3),
    "over groups": (lambda f: f.emmeans("late", average="groups"), 1e-3),
    "contrasts against": (lambda f: f.contrasts("late", "reference", adjust="none"), 1e-3),
    "joint contrasts": (lambda f: f.contrasts("late", joint=True), 1e-3),
    "residuals, new": (lambda f: f.simulated_residuals(99, seed=1).table[["statistic"]], 2e-2),
    "residuals, drawn": (lambda f: f.simulated_residuals(99, effects="drawn", seed=1).table[["statistic"]], np.inf),
    "drop1 F": (lambda f: f.drop1("F"), 1e-3),
    "anova I": (lambda f: f.anova("I"), 1e-3),
    "random_pca": (lambda f: f.random_pca(), 1e-3),
    "johnson_neyman": (lambda f: f.johnson_neyman("Days", by="base", between=(-3, 3)).table, 1e-3),
    "level_means": (lambda f: f.level_means("Subject").table[["rows", "raw", "raw_se", "population", "partial"]], 1e-3),
    "intervals of level_means": (lambda f: f.level_means("Subject").table[["lower", "upper"]], np.inf),
}

# What takes further fits with the same engine, from its name.
REFITS: dict[str, tuple[Callable[[str], Table], float]] = {
    "simplify": (
        lambda e: um.simplify(SLOPES, frame(), e).table[["n_parameters", "chisq", "df", "p_value"]],
        2e-3,
    ),
    "fit_imputed": (lambda e: um.fit_imputed("Reaction ~ Days + base + (1 | Subject)", imputations(), e).tidy(), 1e-3),
    "turned back": (
        lambda e: um.fit(LOGARITHM, frame(), e).emmeans("Days", at={"Days": [0, 9]}, kind="response", bias_adjust=True),
        1e-3,
    ),
    "ratios": (
        lambda e: um.fit(LOGARITHM, frame(), e).contrasts("Days", at={"Days": [0, 9]}, kind="response"),
        1e-3,
    ),
    "design_power": (lambda e: planned(e).table[["power", "estimate"]], 1e-3),
}


def planned(engine: Any) -> um.Power:
    return um.design_power(
        "y ~ arm + (1 | person)",
        {"person": 8, "time": [1, 2], "arm": ["control", "treated"]},
        fixed={"arm[T.treated]": 0.8},
        random={"person": 1.0},
        residual=1.0,
        backend=engine,
        n_sim=2,
        seed=1,
        progress=False,
    )


@pytest.fixture(scope="module")
def reference() -> um.FitResult:
    return um.fit(SLOPES, frame(), "pls")


@pytest.fixture(scope="module")
def expected(reference: um.FitResult) -> dict[str, np.ndarray]:
    made = {name: numbers(how(reference)) for name, (how, _) in VERBS.items()}
    return made | {name: numbers(how("pls")) for name, (how, _) in REFITS.items()}


@pytest.fixture(scope="module", params=LIKELIHOOD)
def fits(request: pytest.FixtureRequest) -> tuple[um.FitResult, um.FitResult]:
    fit = um.fit(SLOPES, frame(), request.param)
    return fit, type(fit).from_json(fit.to_json()).with_data(frame())


def numbers(found: Table) -> np.ndarray:
    table = found if isinstance(found, pd.DataFrame) else found.table
    return table.select_dtypes("number").to_numpy(dtype=float)


GLMMTMB = 0.15
"""glmmTMB's standard errors by REML carry the uncertainty of the variances, 7 % here, and its tests are z tests."""

NO_INDEPENDENT = ("glmm", "mixedlm_rs")
"""Engines without (1 + x || g), which the first step of this simplification needs."""


def fault(name: str, found: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """What is wrong, in words; empty if each number is within ``tolerance`` of its own or of the column's size / 1000.

    Numbers near zero are held to a thousandth of the column's largest.
    """
    if found.shape != wanted.shape:
        return f"{name}: {found.shape} numbers instead of {wanted.shape}"
    size = np.where(np.isfinite(wanted), np.abs(wanted), 0.0)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - wanted) <= tolerance * np.maximum(size, 1e-3 * size.max(initial=0.0))
    near |= (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return "" if near.all() else f"{name}: {found[~near][:4]} instead of {wanted[~near][:4]}"


def test_every_engine_gives_the_same_numbers(
    fits: tuple[um.FitResult, um.FitResult], expected: dict[str, np.ndarray]
) -> None:
    fit, loaded = fits
    faults = []
    for name, (how, tolerance) in VERBS.items():
        own = max(tolerance, GLMMTMB) if fit.backend == "glmmtmb" else tolerance
        found = numbers(how(fit))
        faults += [fault(name, found, expected[name], own)]
        # ranks of simulated responses may turn by the rounding of a rebuilt design
        faults += [fault(f"{name}, loaded", numbers(how(loaded)), found, 2e-2 if "residuals" in name else 1e-6)]
    assert not any(faults), "\n".join(filter(None, faults))


def test_every_engine_fits_again(
    fits: tuple[um.FitResult, um.FitResult], reference: um.FitResult, expected: dict[str, np.ndarray]
) -> None:
    fit, loaded = fits
    own, faults = GLMMTMB if fit.backend == "glmmtmb" else 0.0, list[str]()
    for name, (how, tolerance) in REFITS.items():
        if fit.backend == "pymer4" and name != "fit_imputed":
            continue  # it fits by lme4, which has the others, and takes a second for each fit
        if name == "simplify" and fit.backend in NO_INDEPENDENT:
            with pytest.raises(um.UnsupportedModelError, match="several independent terms on one factor"):
                how(fit.backend)
        else:
            faults += [fault(name, numbers(how(fit.backend)), expected[name], max(own, tolerance))]
    tests = numbers(fit.drop1())
    faults += [fault("drop1", tests, numbers(reference.drop1()), 1e-3)]
    faults += [fault("drop1, loaded", numbers(um.drop1(loaded)), tests, 1e-3)]
    with pytest.raises(um.DataError, match=r"um\.drop1\(fit\) finds it"):
        loaded.drop1()
    assert not any(faults), "\n".join(filter(None, faults))


REFUSED = {"robust", "robust contrasts", "joint contrasts", "drop1 F", "anova I"}
"""Tests and errors that a posterior does not have."""


def check_posterior(fit: um.FitResult, folder: Path) -> None:
    """Every function works on a posterior or refuses in words, and the same after saving."""
    for one in (fit, um.FitResult.load(fit.save(folder / "fit.zip"))):
        for name, (how, _) in VERBS.items():
            if name in REFUSED:
                with pytest.raises(um.UnimixError, match="posterior"):
                    how(one)
            else:
                assert np.isfinite(numbers(how(one))).any(), name
        with pytest.raises(um.UnimixError, match="no likelihood ratio"):
            one.drop1()


def test_a_posterior_has_them_from_its_draws(reference: um.FitResult, tmp_path: Path) -> None:
    fit = um.fit(SLOPES, frame(), sampled_models.SHORT, seed=1)
    check_posterior(fit, tmp_path)
    for name in ("over groups", "contrasts against"):
        ours, theirs = VERBS[name][0](fit).table, VERBS[name][0](reference).table
        # flat priors nearly, and 2,000 draws: a third of a standard error
        assert (np.abs(ours["estimate"] - theirs["estimate"]) < 0.35 * theirs["std_error"]).all(), name
    partial = [f.level_means(seed=1).table["partial"].to_numpy() for f in (fit, reference)]
    error = reference.level_means(seed=1).table.eval("upper - lower").to_numpy() / 4
    assert (np.abs(partial[0] - partial[1]) < 0.35 * error).all()
    for refits in ("simplify", "fit_imputed", "design_power"):
        with pytest.raises(um.UnimixError, match=r"posterior|tests"):
            REFITS[refits][0]("bayes")


@pytest.mark.parametrize("backend", ["pymc", "bambi"])
def test_samplers_have_them_from_their_draws(backend: str, tmp_path: Path) -> None:
    """Too few draws to be believed: what is tested is that every function takes them."""
    quick = {"chains": 1, "sampler": "pymc", "retry": False}  # PyMC's own sampler compiles in a fifth of the time
    few = {"draws": 100, "tune": 100, **(quick if backend == "pymc" else {"chains": 2})}
    fit = um.fit("Reaction ~ Days * base + late + (1 | Subject)", frame(), backend, seed=1, options=few)
    check_posterior(fit, tmp_path)
