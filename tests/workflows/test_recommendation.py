"""um.recommend: from the model and the data, whatever is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.pls import Pls
from unimix.testing import simulate_rich

RICH = simulate_rich()


@pytest.mark.parametrize(
    ("formula", "arguments", "backend", "check", "posterior"),
    [
        ("y ~ x + (1 + x | g)", {}, "pls", "mixedlm", "bayes"),
        ("y ~ x + (1 + x | g) + (1 | h)", {"weights": "w"}, "pls", "mixedlm", "bayes"),
        ("success ~ x + (1 | g)", {"family": "binomial"}, "pls", "mixedlm", "pymc"),
        ("count ~ x + (1 | g)", {"family": "poisson", "ziformula": "~ 1"}, "glmmtmb", "", ""),
        ("y ~ x + (1 | g)", {"method": "posterior"}, "bayes", "pymc", "bayes"),
        ("y ~ x + (1 | g)", {"priors": {"x": um.priors.Normal(0, 1)}}, "bayes", "pymc", "bayes"),
        ("success ~ x + (1 | g)", {"family": "binomial", "method": "posterior"}, "pymc", "bambi", "pymc"),
    ],
)
def test_engines_by_model(formula: str, arguments: dict[str, Any], backend: str, check: str, posterior: str) -> None:
    found = um.recommend(formula, RICH, **arguments)
    assert (found.backend, found.check, found.posterior) == (backend, check, posterior)
    assert found.able[0] == backend
    assert str(found).startswith(f"{backend}: ")


def test_every_engine_it_names_can_fit_and_the_line_runs() -> None:
    found = um.recommend("y ~ x + (1 | g)", RICH, weights="w")
    for name in found.able:
        assert name in um.explain("y ~ x + (1 | g)", RICH, weights="w").able or name == "pls"
    assert "weights='w'" in found.call
    fit = eval(found.call, {"um": um, "data": RICH})
    assert fit.converged


def test_it_does_not_depend_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = um.recommend("y ~ x + (1 | g)", RICH)
    monkeypatch.setattr(Pls, "available", lambda self: False)
    absent = um.recommend("y ~ x + (1 | g)", RICH)
    assert absent.backend == there.backend == "pls"
    assert there.install == ""
    assert absent.install == Pls.install_lines()
    assert "Install it first" in str(absent)


def test_large_crossed_factors_go_to_mixedlm() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"y": rng.normal(size=9000), "g": rng.integers(0, 1500, 9000), "h": rng.integers(0, 1200, 9000)}
    )
    assert um.recommend("y ~ 1 + (1 | g) + (1 | h)", data).backend == "mixedlm"


def test_notes_are_about_the_data() -> None:
    few = um.recommend("y ~ x + (1 | h)", RICH)
    assert any("h (9)" in n and "kenward-roger" in n for n in few.notes)
    assert not um.recommend("y ~ x + (1 | g)", RICH).notes
    poor = um.recommend("success ~ x + (1 | g)", RICH.iloc[::5], family="binomial")
    assert any("AGQ" in n for n in poor.notes)
    with pytest.raises(um.UnsupportedModelError, match="No engine"):
        um.recommend("y ~ x + ar1(0 + t | g)", RICH, method="posterior")


def test_the_default_is_the_first_engine() -> None:
    assert um.fit("y ~ x + (1 | g)", RICH).engine.backend == um.recommend("y ~ x + (1 | g)", RICH).backend
