"""Pictures of models with numbers that a formula makes a factor, and of names that are markup somewhere."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import unimix as um


@pytest.fixture(scope="module")
def doses() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    plot = np.repeat(np.arange(8), 10)
    frame = pd.DataFrame({"plot": [f"p{i}" for i in plot], "x": rng.normal(size=80), "dose": rng.integers(0, 3, 80)})
    return frame.assign(y=frame["x"] + 0.5 * (frame["dose"] == 2) + rng.normal(size=8)[plot] + rng.normal(size=80))


@pytest.mark.parametrize("call", ["C(dose)", "factor(dose)", "C(dose, contr.sum)", "C(dose) * x"])
def test_a_number_that_is_a_factor_is_drawn_as_the_same_text_would_be(doses: pd.DataFrame, call: str) -> None:
    """The lines are those of the model with the column as text, whose levels are the same."""
    fit = um.fit(f"y ~ x + {call} + (1 | plot)", doses)
    text = um.fit(
        "y ~ x + dose" + (" + dose:x" if "*" in call else "") + " + (1 | plot)",
        doses.assign(dose=doses["dose"].map(str)),
    )
    for options in ({}, {"x": "dose"}, {"at": {"dose": 1}}):
        same = {**options, "at": {"dose": "1"}} if "at" in options else options
        for picture in ("groups", "population"):
            own = getattr(fit.plot, picture)(draw=False, n_draws=0, **options)
            other = getattr(text.plot, picture)(draw=False, n_draws=0, **same)
            assert own["x"].tolist() == other["x"].tolist()
            np.testing.assert_allclose(own["y"], other["y"], rtol=1e-6, atol=1e-6)
            getattr(fit.plot, picture)(n_draws=0, **options)
    axis = fit.plot.population(x="dose", n_draws=0).get_xticklabels()
    assert [t.get_text() for t in axis] == ["0", "1", "2"]


def test_a_factor_of_numbers_only_among_the_slopes(doses: pd.DataFrame) -> None:
    fit = um.fit("y ~ x + (1 + C(dose) || plot)", doses)
    assert set(fit.plot.groups(draw=False, n_draws=0)["kind"]) >= {"data", "partial"}
    found = fit.plot.groups(x="dose", draw=False, n_draws=0)
    assert set(found["x"]) == {"0", "1", "2"}


NAMES = ["a$", "_b", "c^2", "d\\e", "50%", "f & g", "<h>", "$x_{", "\\frac{1}", "#1", "{}", "{0}", "%s"]


def test_levels_and_columns_of_any_name_are_drawn_as_they_are() -> None:
    rng = np.random.default_rng(2)
    n = 13 * 6
    level = np.arange(n) % 13
    data = pd.DataFrame(
        {"_x^{$": rng.normal(size=n), "f": np.array(NAMES)[level], "_g\\%": np.array(NAMES)[::-1][level]}
    )
    data["y"] = data["_x^{$"] + rng.normal(size=13)[level] + rng.normal(size=n)
    groups = um.fit("y ~ `_x^{$` + (1 | `_g\\%`)", data)
    factor = um.fit("y ~ `_x^{$` * f", data)
    pictures = {
        "groups": groups.plot.groups(levels=13),
        "caterpillar": groups.plot.caterpillar(),
        "shrinkage": groups.plot.shrinkage(),
        "ridge": groups.plot.ridge(levels=13),
        "means": factor.emmeans("f").plot(),
        "slopes": factor.slopes("_x^{$", by="f").plot(),
        "lines by level": factor.emmeans("_x^{$", by="f", at={"_x^{$": [0.0, 1.0]}).plot(),
        "effects": factor.plot.population(x="f"),
    }
    for name, axes in pictures.items():
        figure = np.ravel(axes)[0].figure
        figure.savefig(io.BytesIO(), format="png", dpi=30)
        texts = {t.get_text() for t in figure.findobj(Text)}
        lacking = [level for level in NAMES if not any(level in text for text in texts)]
        assert not lacking, (name, lacking)
