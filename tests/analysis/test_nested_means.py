"""Means of nested factors and contrasts beside empty cells, against R's emmeans."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def cities() -> pd.DataFrame:
    """Three cities in one region, two in another and one in a third; one has fewer rows."""
    rng = np.random.default_rng(2)
    regions = {"north": "abc", "south": "de"}
    rows = [
        (region, city, f"s{k % 6}", t)
        for region, own in regions.items()
        for city in own
        for k in range(5 if city == "b" else 12)
        for t in "uv"
    ]
    data = pd.DataFrame(rows, columns=["region", "city", "site", "t"])
    shift = data["city"].map({"a": 0, "b": 2, "c": 1, "d": 0, "e": 3})
    data["y"] = rng.normal(size=len(data)) + shift + (data["t"] == "v")
    return data


@pytest.mark.parametrize("formula", ["region / city + t", "region + city + t"])
def test_nested_levels_count_where_they_exist(cities: pd.DataFrame, formula: str) -> None:
    """R 4.2.2, emmeans 1.8.4: emmeans(lmer(y ~ region/city + t + (1 | site)), ...), three digits."""
    fit = um.fit(f"y ~ {formula} + (1 | site)", cities, "pls")
    outer = fit.emmeans("region")
    assert outer.table["estimate"].tolist() == pytest.approx([1.58, 1.91], abs=6e-3)
    assert outer.table["std_error"].tolist() == pytest.approx([0.152, 0.153], abs=6e-4)
    assert any("nested: city within region" in note for note in outer.notes)
    inner = fit.emmeans("~ city | region").table
    assert inner["city"].tolist() == list("abcde")
    assert inner["std_error"].tolist() == pytest.approx([0.208, 0.316, 0.208, 0.208, 0.208], abs=6e-4)
    apart = fit.contrasts("~ city | region", adjust="none").table
    assert apart["contrast"].tolist() == ["a - b", "a - c", "b - c", "d - e"]
    assert apart["estimate"].tolist() == pytest.approx([-1.962, -1.189, 0.773, -3.113], abs=6e-4)
    difference = fit.contrasts("region").table.iloc[0]
    assert difference[["estimate", "std_error"]].tolist() == pytest.approx([-0.332, 0.199], abs=6e-4)


def test_a_level_alone_within_its_outer_one(cities: pd.DataFrame) -> None:
    data = cities[cities["city"] != "e"]
    fit = um.fit("y ~ region / city + (1 | site)", data, "pls")
    assert fit.contrasts("~ city | region").table["region"].tolist() == ["north"] * 3
    assert fit.emmeans("city", at={"region": "south"}).table["city"].tolist() == ["d"]


def test_a_contrast_is_given_where_its_means_are_not() -> None:
    """Group h is seen at one age only: its means are lost, the difference of arms within it is not."""
    rng = np.random.default_rng(3)
    rows = [
        (f"s{i % 8}", age, arm, race)
        for i in range(48)
        for age in "123"
        for arm in ("aid", "no")
        for race in "bhw"
        if (race != "h" or age == "3") and (i * 7 + ord(age) + ord(arm[0]) + ord(race)) % 6 == 0
    ]
    data = pd.DataFrame(rows, columns=["site", "age", "arm", "race"])
    data["y"] = 2.0 * (data["arm"] == "aid") + data["age"].astype(int) + rng.normal(size=len(data))
    fit = um.fit("y ~ (age + arm + race)^2 + (1 | site)", data, "pls")
    made = fit.contrasts("arm", by="race").table.set_index("race")
    by_hand = fit.hypotheses(
        "`arm[T.no]` + (`age[T.2]:arm[T.no]` + `age[T.3]:arm[T.no]`) / 3 + `arm[T.no]:race[T.h]` = 0"
    ).table.iloc[0]
    assert made.index.tolist() == ["b", "h", "w"]
    assert -made.loc["h", "estimate"] == pytest.approx(by_hand["estimate"], rel=1e-9)
    assert made.loc["h", "std_error"] == pytest.approx(by_hand["std_error"], rel=1e-9)
    races = fit.contrasts("race", adjust="none")
    assert races.table["contrast"].tolist() == ["b - w"]
    assert any("Left out" in note and "b - h" in note for note in races.notes)
