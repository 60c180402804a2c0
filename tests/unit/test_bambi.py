"""bambi behind unimix: its models on our columns, its priors told, what it would change silently refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.backends.bambi import Bambi, formula_of
from unimix.backends.capabilities import Yes
from unimix.backends.family_sheet import all_families
from unimix.errors import UnsupportedModelError
from unimix.model.design import build_design
from unimix.model.family import Family
from unimix.model.parse import parse
from unimix.testing import simulate_rich
from unimix.testing.generalised import family_truth, simulate_family

pytestmark = pytest.mark.mcmc

CLAIMED = [f for f in all_families() if not f.is_linear and isinstance(Bambi.families.answer(f, mixed=True), Yes)]


def test_independent_effects_are_those_of_the_likelihood() -> None:
    """Means within 0.35 SE + 4 MCSE of REML, as for PyMC; effects within a quarter of their own SD."""
    data = um.load_dataset("sleepstudy")
    formula = "Reaction ~ Days + (1 + Days || Subject)"
    fit, reml = um.fit(formula, data, "bambi", seed=1), um.fit(formula, data, "pls")
    assert fit.converged, fit.status
    distance = np.abs(fit.fixed.estimate - reml.fixed.estimate) / reml.fixed.std_error
    assert distance.max() < 0.35 + 4 / np.sqrt(fit.status.ess_bulk or 1.0)
    for own, other in zip(fit.random, reml.random, strict=True):
        assert own.group == other.group
        assert own.terms == other.terms
        assert np.abs(own.modes - other.modes).max() < 0.25 * other.sd[0]
    low, high = np.quantile(fit.posterior.posterior["sd(Subject: Days)"], [0.005, 0.995])
    assert low < float(reml.random[1].sd[0]) < high
    assert "at the predictors' means" in fit.engine.priors["Intercept"]
    assert fit.engine.priors["sd(Subject: Days)"].startswith("HalfNormal(")
    assert set(fit.engine.priors) == {"Intercept", "Days", "sd(Subject: Intercept)", "sd(Subject: Days)", "sigma"}


@pytest.mark.slow
@pytest.mark.parametrize("family", CLAIMED, ids=str)
def test_families_recover_what_was_simulated(family: Family) -> None:
    """Within 4 standard errors; dispersion parameters and SDs within a third (600 rows), as in the contract."""
    data, truth = simulate_family(family, mixed=True), family_truth(family, mixed=True)
    weights: dict[str, Any] = {"weights": "trials"} if family.response == "binomial" else {}
    engine = Bambi(draws=300, tune=400, chains=2)
    fit = um.fit("y ~ x + (1 | g)", data, engine, family=family, seed=2, **weights)
    assert (np.abs(fit.fixed.estimate - np.array(truth.fixed)) < 4 * fit.fixed.std_error).all()
    for name, value in zip(family.parameters, truth.parameters, strict=True):
        assert fit.fit.parameters[name] == pytest.approx(value, rel=1.0 if name == "nu" else 0.34)
    assert float(fit.random[0].sd[0]) == pytest.approx(truth.sd, rel=0.34)


def test_what_bambi_would_change_is_refused() -> None:
    data = simulate_rich()
    with pytest.raises(UnsupportedModelError, match=r"never estimates their correlation.*\n.*'pymc'"):
        um.fit("y ~ x + (1 + x | g)", data, "bambi")
    with pytest.raises(UnsupportedModelError, match="copies"):
        um.fit("y ~ x + (1 | g)", data, "bambi", weights="w")
    with pytest.raises(UnsupportedModelError, match="bambi's own priors"):
        um.fit("y ~ x + (1 | g)", data, "bambi", priors={"x": um.Normal(0, 1)})
    with pytest.raises(UnsupportedModelError, match="maximises no likelihood"):
        um.fit("y ~ x + (1 | g)", data, "bambi", method="REML")
    with pytest.raises(UnsupportedModelError, match="keep the intercept"):
        um.fit("y ~ 0 + x + (1 | g)", data, "bambi")
    with pytest.raises(UnsupportedModelError, match="constant but not 1"):
        um.fit("y ~ 0 + two + (1 | g)", data.assign(two=2.0), "bambi")


@pytest.mark.parametrize(
    ("formula", "written"),
    [
        ("y ~ x * f + (1 | g)", "y ~ 1 + x1 + x2 + x3 + x4 + x5 + (1 | g0)"),
        ("y ~ 0 + x + (1 | g/sub)", "y ~ 0 + x0 + (1 | g0) + (1 | g1)"),
        ("y ~ x + (1 + x || g) + (1 | h)", "y ~ 1 + x1 + (1 | g0) + (0 + z1 | g0) + (1 | g1)"),
    ],
)
def test_formulas_have_numeric_columns_and_bambis_intercepts(formula: str, written: str) -> None:
    assert formula_of(build_design(parse(formula), simulate_rich())) == written
