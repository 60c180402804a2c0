"""What someone found who tried to break pls and the certificates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm import penalised_least_squares
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.reduced_data import form
from unimix.testing import dense, simulate_slopes


def crossed(ratio: float) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.normal(size=400)})
    g, h = rng.integers(0, 20, 400), rng.integers(0, 12, 400)
    y = 1 + 2 * frame["x"] + ratio * (rng.normal(size=20)[g] + rng.normal(size=12)[h]) + rng.normal(size=400)
    return frame.assign(y=y, g=g.astype(str), h=h.astype(str))


@pytest.mark.parametrize("ratio", [10.0, 100.0, 1000.0])
def test_crossed_effects_far_larger_than_the_residual(ratio: float) -> None:
    """The value against the dense density, whose own rounding grows with the square of the ratio."""
    design = condition(build_design(parse("y ~ x + (1 | g) + (1 | h)"), crossed(ratio)))[0]
    reduced = form(design)
    factors = [np.array([[ratio]]), np.array([[1.1 * ratio]])]
    at = penalised_least_squares.profile(reduced, factors, reml=True)
    covariances = tuple(at.sigma**2 * f @ f.T for f in factors)
    exact = dense.log_likelihood(design, covariances, at.sigma, reml=True)
    assert at.value == pytest.approx(exact, abs=1e-8 + 1e-12 * ratio**2)
    lean = penalised_least_squares.profile(reduced, factors, reml=True, whole=False)
    assert lean.value == pytest.approx(at.value, abs=1e-8 + 1e-12 * ratio**2)


@pytest.mark.r
def test_crossed_effects_are_certified_or_out_of_reach() -> None:
    same = um.compare("y ~ x + (1 | g) + (1 | h)", crossed(500.0), backends=["pls", "lme4", "glmmtmb"])
    assert {c.verdict for c in same.certificates.values()} == {"certified"}, str(same)
    # Derivatives of a likelihood that is known to 1e-8 only: 1 %.
    np.testing.assert_allclose(same["pls"].fixed.df, same["lme4"].fixed.df, rtol=1e-2)
    far = um.fit("y ~ x + (1 | g) + (1 | h)", crossed(1e5), "lme4").certificate()
    assert far.verdict == "not checkable"
    assert "rounding" in far.sentence


@pytest.mark.r
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_standard_errors_with_a_million_trials(seed: int) -> None:
    """glmmTMB's derivatives are exact; ours were off by half where the inner loop stopped on the value (1e-3)."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 25, 600), rng.normal(size=600)
    hits = rng.binomial(10**6, 1 / (1 + np.exp(1 - 0.3 * x - 0.5 * rng.normal(size=25)[g])))
    frame = pd.DataFrame({"g": g.astype(str), "x": x, "hits": hits, "misses": 10**6 - hits})
    ours = um.fit("cbind(hits, misses) ~ x + (1 | g)", frame, "pls", family="binomial")
    theirs = um.fit("cbind(hits, misses) ~ x + (1 | g)", frame, "glmmtmb", family="binomial")
    assert ours.converged
    np.testing.assert_allclose(ours.fixed.std_error, theirs.fixed.std_error, rtol=1e-3)
    assert {c.verdict for c in um.compare(ours, theirs).certificates.values()} == {"certified"}


@pytest.mark.r
def test_a_slope_far_from_zero_is_no_boundary() -> None:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 20)
    year = rng.normal(size=400) + 2000
    y = 2 * year + rng.normal(size=20)[g] + 0.4 * (year - 2000) * rng.normal(size=20)[g] + rng.normal(size=400)
    fit = um.fit("y ~ year + (1 + year | g)", pd.DataFrame({"y": y, "year": year, "g": g.astype(str)}), "lme4")
    assert not fit.singular
    assert fit.certificate().verdict == "certified"


@pytest.fixture(scope="module")
def sound() -> um.FitResult:
    return um.fit("Weight ~ Time + Cu + (1 + Time | Pig)", um.load_dataset("dietox"), "pls")


def fixed(**changed: Any) -> Any:
    return lambda f: replace(f, fixed=f.fixed.model_copy(update={k: v(f.fixed) for k, v in changed.items()}))


def block(**changed: Any) -> Any:
    return lambda f: replace(
        f, random=(f.random[0].model_copy(update={k: v(f.random[0]) for k, v in changed.items()}),)
    )


def info(**changed: Any) -> Any:
    return lambda f: replace(f, criteria=f.criteria.model_copy(update={k: v(f.criteria) for k, v in changed.items()}))


def rows(**changed: Any) -> Any:
    return lambda f: replace(f, rows=f.rows.model_copy(update={k: v(f.rows) for k, v in changed.items()}))


PLANTS = {
    "p values": fixed(p_value=lambda x: x.p_value * 0.01),
    "statistics": fixed(statistic=lambda x: x.statistic * 3),
    "intervals": fixed(lower=lambda x: x.estimate - 1e-6),
    "covariance": fixed(covariance=lambda x: 4 * x.covariance),
    "terms": fixed(terms=lambda x: x.terms[::-1]),
    "no standard errors": fixed(std_error=lambda x: np.full(len(x.terms), np.nan)),
    "residual df": fixed(df=lambda x: x.df * 0 + 3, df_method=lambda _: "normal"),
    "mode SDs": block(mode_sd=lambda b: 5 * b.mode_sd, mode_covariance=lambda b: 25 * b.mode_covariance),
    "SDs": block(sd=lambda b: 2 * b.sd),
    "correlation": block(correlation=lambda b: np.array([[1, -b.correlation[0, 1]], [-b.correlation[0, 1], 1]])),
    "levels": block(levels=lambda b: b.levels[::-1]),
    "modes": block(modes=lambda b: b.modes * np.nan),
    "AIC": info(aic=lambda x: x.aic - 10),
    "parameters": info(n_parameters=lambda x: x.n_parameters - 1),
    "observed": rows(observed=lambda r: r.observed[::-1]),
    "fitted": rows(linear_predictor=lambda r: 0 * r.linear_predictor),
}


@pytest.mark.parametrize("name", PLANTS)
def test_numbers_that_do_not_follow_are_found(sound: um.FitResult, name: str) -> None:
    planted = PLANTS[name](sound)
    found = planted.certificate()
    assert not found.certified, str(found)
    assert found.faults


def test_singular_is_judged_by_the_certificate_itself(sound: um.FitResult) -> None:
    status = sound.status.model_copy(update={"state": "singular"})
    wrong = replace(fixed(df=lambda x: 10 * x.df)(sound), status=status)
    assert wrong.certificate().check("degrees of freedom").passed is False


def test_other_responses_are_refused(sound: um.FitResult) -> None:
    pigs = um.load_dataset("dietox")
    with pytest.raises(um.DataError, match="Weight differs"):
        sound.with_data(pigs.assign(Weight=pigs["Weight"] + 1)).certificate()


@pytest.mark.parametrize("backend", ["pls", "statsmodels", "lme4"])
def test_generalised_models_without_groups(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300)})
    frame["y"] = rng.gamma(2, np.exp(0.3 * frame["x"]))
    fit = um.fit("y ~ x", frame, backend, family="gamma")
    assert fit.certificate().verdict == "certified"
    wide = fixed(std_error=lambda x: 3 * x.std_error)(fit).certificate()
    assert wide.check("standard errors").passed is False
    assert "illegal value" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("backend", ["pls", "statsmodels"])
def test_a_predictor_far_from_zero_is_told_to_be_centered(backend: str) -> None:
    data = simulate_slopes(seed=3, n_groups=25)
    far = data.assign(x=1e4 + 1e-4 * data["x"])
    told = um.fit("y ~ x + (1 + x | g)", far, backend).certificate()
    assert told.verdict == "not checkable"
    assert "write i(x - 10000) for x" in told.sentence.lower()
    centered = um.fit("y ~ I(x - 10000) + (1 + I(x - 10000) | g)", far, backend)
    assert centered.certificate().certified
    plain = um.fit("y ~ x + (1 + x | g)", data, backend)
    # 1e4 + 1e-4 x keeps eight digits of x
    np.testing.assert_allclose(centered.random[0].sd * [1, 1e-4], plain.random[0].sd, rtol=1e-4)
    nearer = um.fit("y ~ x + (1 + x | g)", data.assign(x=1e4 + 1e-2 * data["x"]), backend)
    assert nearer.certificate().certified
