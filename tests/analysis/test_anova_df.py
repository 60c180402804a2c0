"""Satterthwaite's denominator df of terms with independent slopes, where they depend on the rows of a hypothesis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def persons() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [(f"p{i}", t, r) for i in range(8) for t in ("A", "B", "C") for r in range(5)]
    data = pd.DataFrame(rows, columns=["id", "tv", "rep"])
    people = data["id"].unique()
    u = {(i, t): v for i in people for t, v in zip("ABC", rng.normal(0, [0.3, 1.6, 1.6]), strict=True)}
    b = dict(zip(people, rng.normal(0, 1, 8), strict=True))
    pairs = zip(data["id"], data["tv"], strict=True)
    means = [(t == "B") * 1.0 + (t == "C") * 1.5 + u[i, t] + b[i] for i, t in pairs]
    data["y"] = means + rng.normal(size=len(data))
    data["f"], data["x"] = rng.choice(list("uvw"), len(data)), rng.normal(size=len(data))
    return data.sample(100, random_state=1)


@pytest.mark.parametrize(
    ("formula", "f", "df"),
    [
        ("y ~ tv + (tv || id)", [8.68268], [12.73779]),
        (
            "y ~ tv * f + x + (tv || id)",
            [8.80940, 1.07482, 6.95410, 0.46075],
            [9.665060, 74.998590, 76.086357, 73.239295],
        ),
    ],
    ids=["one term", "interaction"],
)
def test_denominator_df_are_those_of_lmertest(
    persons: pd.DataFrame, formula: str, f: list[float], df: list[float]
) -> None:
    """R 4.2.2, lmerTest 3.1-3: anova(lmer(y ~ ... + (z1 + z2 || id))) with dummies z1, z2; lme4 stops within 1e-5."""
    table = um.fit(formula, persons, "pls").anova().table
    assert table["F"].tolist() == pytest.approx(f, rel=2e-5)
    assert table["den_df"].tolist() == pytest.approx(df, rel=5e-5)


def test_the_coding_of_the_fit_does_not_matter(persons: pd.DataFrame) -> None:
    """The slopes are written as numbers, so that the coding of the fixed part alone differs."""
    data = persons.assign(z1=(persons["tv"] == "B") * 1.0, z2=(persons["tv"] == "C") * 1.0)
    for fixed in ("tv", "tv * f"):
        formula = f"y ~ {fixed} + (z1 + z2 || id)"
        plain = um.fit(formula, data, "pls").anova().table
        for coding in ("sum", "helmert"):
            other = um.fit(formula, data, "pls", contrasts={"tv": coding}).anova().table
            pd.testing.assert_frame_equal(other, plain, rtol=1e-5)
