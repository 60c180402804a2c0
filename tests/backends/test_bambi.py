"""bambi behind unimix: its models on our columns, its priors told, what it would change silently refused."""

from __future__ import annotations

import numpy as np
import pytest

import unimix as um
from unimix.backends.bambi import formula_of, model_of, parameters_of, priors_of, scaled
from unimix.design.design import build_design
from unimix.errors import UnsupportedModelError
from unimix.formula.interpreter import parse
from unimix.testing import simulate_rich

pytestmark = pytest.mark.mcmc

bambi = pytest.importorskip("bambi")


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


def test_priors_do_not_depend_on_the_units() -> None:
    """bambi is given columns of spread one: that is the same model, for it scales its priors by the data."""
    data = simulate_rich()
    far = data.assign(x=1e5 * data["x"] + 3e4, y=1e-3 * data["y"] + 50)
    for frame, formula in ((data, "y ~ x + f + (1 + x || g)"), (far, "y ~ x + f + (1 + x || g)")):
        design = build_design(parse(formula), frame)
        own, units = scaled(design)
        ours, theirs = (parameters_of(model_of(bambi, d, noncentered=True))["mu"] for d in (own, design))
        for name, unit in zip(("x1", "x2"), units.fixed[1:], strict=False):
            mine, yours = (np.ravel(m.common_terms[name].prior.args["sigma"])[0] for m in (ours, theirs))
            assert mine * units.response / unit == pytest.approx(yours, rel=1e-9)
        for name, unit in (("1|g0", 1.0), ("z1|g0", units.effects[1])):
            mine, yours = (
                float(m.group_specific_terms[name].prior.args["sigma"].args["sigma"]) for m in (ours, theirs)
            )
            assert mine * units.response / unit == pytest.approx(yours, rel=1e-9)
        mine, yours = (m.intercept_term.prior.args for m in (ours, theirs))
        assert mine["sigma"] * units.response == pytest.approx(yours["sigma"], rel=1e-9)
        assert mine["mu"] * units.response + units.shift == pytest.approx(yours["mu"], rel=1e-9)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ 0 + x + (1 | g)"])
def test_the_scaled_columns_are_the_same_model(formula: str) -> None:
    """The linear predictor of any parameters, offset included, is that of the scaled ones in the user's units."""
    data = simulate_rich().assign(o=lambda d: 40.0 + d["x"])
    design = build_design(parse(formula), data, family="student_t", offset="o")
    own, units = scaled(design)
    assert design.offset is not None
    assert own.offset is not None
    beta, b = np.linspace(0.5, 1.5, design.p), np.linspace(-1, 1, design.blocks[0].n_levels)
    theirs = own.x @ beta + own.offset + own.blocks[0].z[:, 0] * b[own.blocks[0].codes]
    back = beta * units.response / units.fixed
    back += units.shift * np.array([bool((c == 1).all()) for c in design.x.T])
    ours = design.x @ back + design.offset + units.response * b[design.blocks[0].codes]
    np.testing.assert_allclose(design.y - ours, units.response * (own.y - theirs), rtol=0, atol=1e-9)


def test_priors_are_told_with_the_digits_that_count() -> None:
    data = simulate_rich()
    far = data.assign(x=1e5 * data["x"])
    told = priors_of(model_of(bambi, design := build_design(parse("y ~ x + (1 | g)"), far), noncentered=True), design)
    slope = 2.5 * far["y"].std(ddof=0) / far["x"].std(ddof=0)
    assert told["x"] == f"Normal(mu: 0, sigma: {slope:.6g})"  # in bambi's own words Normal(mu: 0.0, sigma: 0.0)


def test_what_bambi_would_change_is_refused() -> None:
    data = simulate_rich()
    with pytest.raises(UnsupportedModelError, match=r"never estimates their correlation.*\n.*'pymc'"):
        um.fit("y ~ x + (1 + x | g)", data, "bambi")
    with pytest.raises(UnsupportedModelError, match="copies"):
        um.fit("y ~ x + (1 | g)", data, "bambi", weights="w")
    with pytest.raises(UnsupportedModelError, match="bambi's own priors"):
        um.fit("y ~ x + (1 | g)", data, "bambi", priors={"x": um.priors.Normal(0, 1)})
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
