"""Fits and a posterior that several files of tests of tables look at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sampled_models

import unimix as um

SLEEP = "Reaction ~ Days + (Days | Subject)"


HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


class Fits(dict[str, um.FitResult]):
    """Fits by lme4 are made when they are asked for."""

    def __missing__(self, name: str) -> um.FitResult:
        assert name == "lme4"
        self[name] = um.fit(SLEEP, um.load_dataset("sleepstudy"), name)
        return self[name]


@pytest.fixture(scope="module")
def fits() -> dict[str, um.FitResult]:
    sleep, cbpp, yields = um.load_dataset("sleepstudy"), um.load_dataset("cbpp"), np.random.default_rng(3)
    flat = pd.DataFrame({"y": yields.normal(size=60), "x_1": np.tile([0.0, 1.0], 30), "g": np.repeat(range(12), 5)})
    return Fits(
        **{b: um.fit(SLEEP, sleep, b) for b in ("pls", "statsmodels")},
        small=um.fit("Reaction ~ Days + (1 | Subject)", sleep, "pls"),
        herds=um.fit(HERDS, cbpp, "pls", family="binomial"),
        singular=um.fit("y ~ x_1 + (1 | g)", flat, "pls"),
    )


@pytest.fixture(scope="module")
def posterior() -> um.FitResult:
    return sampled_models.sleepstudy(sampled_models.INTERCEPTS)
