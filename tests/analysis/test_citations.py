"""What to cite: every engine of unimix names its publication, and an interface the engine that it calls."""

from __future__ import annotations

import re

import pytest

import unimix as um
from unimix.backends.registry import sound

INTERCEPT = "Reaction ~ Days + (1 | Subject)"


@pytest.mark.parametrize("name", [n for n, c in sound().items() if c.info.reference])
def test_references_are_in_apa_style(name: str) -> None:
    reference = sound()[name].info.reference
    assert re.fullmatch(r"[A-Z][^()]+ \((19|20)\d\d\)\. .+\.( https://doi\.org/10\.\d{4,5}/\S+)?", reference), reference


def test_a_fit_names_its_engine_and_method() -> None:
    sleep = um.load_dataset("sleepstudy")
    fit = um.fit(INTERCEPT, sleep, "statsmodels", df_method="kenward-roger")
    table = fit.citations().table.set_index("what")["reference"]
    assert list(table.index) == ["unimix", "statsmodels", "degrees of freedom"]
    assert table["unimix"] == f"unimix (Version {um.__version__}) [Computer software]."
    assert "Kenward, M. G., & Roger, J. H. (1997)" in table["degrees of freedom"]
    assert f"statsmodels {fit.engine.versions['statsmodels']}" in fit.citations().notes[0]
    plain = um.FitResult.from_json(um.fit(INTERCEPT, sleep).to_json()).citations().table
    assert list(plain["what"]) == ["unimix", "degrees of freedom"]
    counts = um.fit("y ~ 1", {"y": [1, 0, 2, 5]}, family="poisson").citations().table
    assert list(counts["what"]) == ["unimix"]


@pytest.mark.r
def test_an_interface_names_the_engine_too() -> None:
    fit = um.fit(INTERCEPT, um.load_dataset("sleepstudy"), "pymer4")
    table = fit.citations().table.set_index("what")["reference"]
    assert table["pymer4"].startswith("Jolly, E. (2018)")
    assert table["lme4"].startswith("Bates, D., Maechler, M.")
