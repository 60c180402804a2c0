"""Whole numbers that no memory and no lifetime hold: every count argument answers with an error of unimix at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.argument_types import MOST, count_fault

HUGE = [2**70, 2**63, 10**12]


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 6)
    frame = pd.DataFrame({"x": rng.normal(size=36), "g": [f"g{i}" for i in g]})
    frame["y"] = frame["x"] + rng.normal(size=6)[g] + rng.normal(size=36)
    return um.fit("y ~ x + (1 | g)", frame)


CALLS: dict[str, Callable[[um.FitResult, int], Any]] = {
    "simulate": lambda fit, n: fit.simulate(n),
    "draws": lambda fit, n: fit.draws(n),
    "posterior_predictive": lambda fit, n: fit.posterior_predictive(n),
    "bootstrap": lambda fit, n: fit.bootstrap(n, progress=False),
    "confint": lambda fit, n: fit.confint("bootstrap", n=n, progress=False),
    "bootstrap_test": lambda fit, n: um.bootstrap_test(um.fit("y ~ 1 + (1 | g)", fit.design().frame()), fit, n=n),
    "n_sim": lambda fit, n: um.power(fit, "x", n_sim=n, progress=False),
    "n_groups": lambda fit, n: um.power(fit, "x", n_groups=n, progress=False),
    "n_rows": lambda fit, n: um.power(fit, "x", n_rows=n, progress=False),
    "both sizes": lambda fit, n: um.power(fit, "x", n_groups=MOST, n_rows=MOST, progress=False),
    "n_jobs": lambda fit, n: fit.bootstrap(20, n_jobs=n, progress=False),
    "n_draws": lambda fit, n: fit.plot.population("x", n_draws=n),
    "digits": lambda fit, n: um.table(fit, digits=n),
    "folds": lambda fit, n: um.cross_validate("y ~ x + (1 | g)", fit.design().frame(), folds=n),
    "restarts": lambda fit, n: um.fit("y ~ x", fit.design().frame(), "statsmodels", options={"restarts": n}),
    "max_steps": lambda fit, n: um.fit("y ~ x", fit.design().frame(), "pls", options={"max_steps": n}),
    "max_iterations": lambda fit, n: um.backends.backend_class("statsmodels")(max_iterations=n),
    "draws of pymc": lambda fit, n: um.backends.backend_class("pymc")(draws=n),
    "chains of bayes": lambda fit, n: um.backends.backend_class("bayes")(chains=n),
}


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("name", CALLS)
def test_a_huge_number_is_refused(fit: um.FitResult, name: str, huge: int) -> None:
    with pytest.raises(um.OptionError, match="="):
        CALLS[name](fit, huge)


def test_what_memory_does_not_hold_is_told_with_its_size(fit: um.FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unimix.backends.limits.available", lambda: 1e6)
    assert fit.simulate(3000, seed=1).shape == (3000, 36)  # 0.9 MB
    with pytest.raises(um.OptionError, match=r"n=4000: 4,000 simulated responses of 36 numbers take 1.2 MB, and 1 MB"):
        fit.simulate(4000)
    with pytest.raises(um.OptionError, match=r"n=9000: 9,000 draws of 44 numbers take 3.2 MB"):
        fit.posterior_predictive(9000)


@pytest.mark.parametrize("value", [0, True, 2.0, "3", None, np.nan])
def test_what_is_no_count_is_refused(value: Any) -> None:
    assert count_fault("n", value, 1, "draws").endswith("give a whole number of draws, at least 1.")


def test_counts_of_any_integer_type_are_read() -> None:
    assert count_fault("n", np.int64(3), 1, "draws") == count_fault("n", MOST, 1, "draws") == ""
    assert count_fault("n", MOST + 1, 1, "draws (few)").endswith("a whole number of draws, 1 to 1,000,000 (few).")


@pytest.mark.parametrize("seed", [2**32, 2**63, 2**70])
def test_large_seeds_are_seeds(fit: um.FitResult, seed: int) -> None:
    """NumPy recommends seeds of 128 bits."""
    assert np.array_equal(fit.simulate(2, seed=seed), fit.simulate(2, seed=seed))
    frame = fit.design().frame()
    um.cross_validate("y ~ x + (1 | g)", frame, folds=3, split="rows", seed=seed, progress=False)
    um.power(fit, "x", n_sim=2, seed=seed, progress=False)
    fit.predict(interval="prediction", seed=seed)
