"""Predictions with the effects of some grouping factors need no columns of the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def pupils() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    school, pupil = np.repeat(np.arange(8), 30), np.repeat(np.arange(48), 5)
    data = pd.DataFrame({"school": school.astype(str), "pupil": pupil.astype(str), "x": rng.normal(size=240)})
    data["w"] = rng.normal(size=240)
    shift = rng.normal(0, 1, 8)[school] + rng.normal(0, 1, 48)[pupil] * (1 + data["w"])
    return data.assign(y=data["x"] + shift + rng.normal(0, 0.5, 240))


@pytest.mark.parametrize("formula", ["(1 | school) + (1 + w | pupil)", "(1 | school) + (1 | school:pupil)"])
def test_columns_that_are_not_used_may_be_absent(pupils: pd.DataFrame, formula: str) -> None:
    fit = um.fit(f"y ~ x + {formula}", pupils, "pls")
    right = fit.predict(pupils, level=["school"])
    bare = pupils[["x", "school"]]
    np.testing.assert_allclose(fit.predict(bare, level=["school"]), right, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(bare.assign(pupil=None, w=np.nan), level=["school"]), right, rtol=1e-12)
    whole = fit.predict(pupils, level=["school"], interval="confidence").table
    pd.testing.assert_frame_equal(fit.predict(bare, level=["school"], interval="confidence").table, whole)
    alone = fit.predict(pupils[["x"]], level="population", interval="confidence").table
    np.testing.assert_allclose(alone["estimate"], fit.predict(pupils, level="population"), rtol=1e-12)
    with pytest.raises(um.DataError, match=r"lack .*pupil"):
        fit.predict(bare)


def test_a_new_pupil_is_told_every_way(pupils: pd.DataFrame) -> None:
    fit = um.fit("y ~ x + (1 | school) + (1 | pupil)", pupils, "pls")
    new = pupils.head(2).assign(pupil="new")
    for interval in (None, "confidence", "prediction"):
        with pytest.raises(um.DataError, match=r"pupil: new") as told:
            fit.predict(new, interval=interval)
        for way in ("new_levels='population'", "new_levels='sample'", "level='population'"):
            assert way in str(told.value)
