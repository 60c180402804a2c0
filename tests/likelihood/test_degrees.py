"""Degrees of freedom from exact derivatives: against lmerTest and pbkrtest (references), closed forms, differences."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gold import as_list, gaussian_cases

import unimix as um
from unimix.likelihood.lmm import penalised_least_squares
from unimix.likelihood.lmm.conditioning import Conditioning, condition
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.denominator_df import Uncertainty, df_of_contrasts, f_test
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.optimise import Optimum
from unimix.likelihood.lmm.reduced_data import form
from unimix.likelihood.lmm.search import search

MIXED = [c for c in gaussian_cases() if c.mixed]
ENGINES = ["pls", "statsmodels", "glmmtmb", "glmm", "mixedlm", "mixedlm_rs"]


@pytest.mark.parametrize("case", [c for c in MIXED if not c.reference["singular"]], ids=lambda c: c.id)
def test_satterthwaite_is_lmertests(case: Any) -> None:
    """1e-4 relative: lmerTest takes the derivatives by differences."""
    fit = case.fit("pls")
    assert fit.fixed.df_method == "satterthwaite"
    np.testing.assert_allclose(fit.fixed.df, as_list(case.reference["fixef"]["df"]), rtol=1e-4)
    np.testing.assert_allclose(fit.fixed.p_value, as_list(case.reference["fixef"]["p_value"]), rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", [c for c in MIXED if c.reference.get("kenward_roger")], ids=lambda c: c.id)
def test_kenward_roger_is_pbkrtests(case: Any, engine: str) -> None:
    """1e-3 relative: engines end at slightly different variances; unimix's own within 1e-5."""
    try:
        fit = case.fit(engine, df_method="kenward-roger")
    except um.UnsupportedModelError:
        assert engine in ("statsmodels", "glmm", "mixedlm_rs")
        return
    reference = case.reference["kenward_roger"]
    rtol = 1e-5 if engine == "pls" else 1e-3
    np.testing.assert_allclose(fit.fixed.df, as_list(reference["df"]), rtol=rtol)
    np.testing.assert_allclose(fit.fixed.std_error, as_list(reference["std_error"]), rtol=rtol)
    assert fit.fixed.df_method == "kenward-roger"
    assert "Kenward and Roger" in fit.provenance["std_error"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_t_tests(engine: str) -> None:
    case = next(c for c in MIXED if c.id == "sleepstudy_slope")
    fit = case.fit(engine)
    np.testing.assert_allclose(fit.fixed.df, as_list(case.reference["fixef"]["df"]), rtol=1e-3)
    assert fit.provenance["df"].startswith("satterthwaite by unimix")


def ground(case: Any) -> tuple[Evaluation, Optimum, Conditioning]:
    criterion = LinearCriterion.of(case.fit("pls").design())
    best = criterion.optimum(reml=True)
    return criterion.at_factors(best.factors, best.profile.sigma, reml=True), best, criterion.way_back


@pytest.mark.parametrize("name", ["cake", "machines_nested", "sleepstudy_slope"])
@pytest.mark.parametrize("kind", ["satterthwaite", "kenward_roger"])
def test_f_tests_of_several_contrasts(name: str, kind: str) -> None:
    """The last term of type-III tables: no other term contains it, so that its own columns are its test."""
    case = next(c for c in MIXED if c.id == name)
    reference = case.reference if kind == "satterthwaite" else case.reference["kenward_roger"]
    row = reference["anova_type3"][-1]
    at, best, way_back = ground(case)
    made = at.uncertainty(kind.replace("_", "-"))
    terms = case.fit("pls").fixed.terms
    parts = row["term"].split(":")
    picked = [j for j, t in enumerate(terms) if t.count(":") == len(parts) - 1 and all(p in t for p in parts)]
    chosen = np.eye(len(terms))[picked]
    contrasts = chosen @ way_back.coefficients
    wanted = contrasts @ best.profile.beta + chosen @ way_back.shift
    beta = np.linalg.lstsq(contrasts, wanted)[0]
    statistic, numerator, denominator = f_test(made, contrasts, beta)
    assert numerator == row["num_df"]
    assert statistic == pytest.approx(row["F"], rel=1e-4)
    assert denominator == pytest.approx(row["den_df"], rel=1e-3)


@pytest.mark.parametrize("reml", [False, True])
def test_observed_covariance_is_the_inverse_of_the_joint_hessian(reml: bool) -> None:
    """By differences (step 1e-3) of the log-likelihood in fixed effects, factors and log sigma together."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(12), 6)
    frame = pd.DataFrame({"x": rng.normal(size=72), "g": g.astype(str)})
    frame["y"] = frame["x"] + rng.normal(size=12)[g] + 0.5 * rng.normal(size=12)[g] * frame["x"] + rng.normal(size=72)
    design, _ = condition(um.fit("y ~ x + (1 + x | g)", frame, "pls").design())
    reduced = form(design)
    best = search(reduced, reml=reml)
    at = np.concatenate([best.profile.beta, penalised_least_squares.pack(best.factors), [np.log(best.profile.sigma)]])

    def value(x: np.ndarray) -> float:
        factors, sigma = penalised_least_squares.unpack(reduced, x[2:5]), float(np.exp(x[5]))
        if not reml:
            return penalised_least_squares.log_likelihood(reduced, factors, sigma, x[:2], reml=False)
        # normal about the estimates of generalised least squares, which move with the variances
        own = penalised_least_squares.profile(reduced, factors, reml=True)
        off = x[:2] - own.beta
        away = float(off @ own.state.gram[:2, :2] @ off) / sigma**2
        return penalised_least_squares.log_likelihood(reduced, factors, sigma, reml=True) - 0.5 * away

    d, h = len(at), 1e-3
    e = h * np.eye(d)
    hessian = np.array(
        [
            [(value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)) / (4 * h * h) for b in e]
            for a in e
        ]
    )
    exact = np.linalg.inv(-hessian)[:2, :2]
    ours = Evaluation(reduced, tuple(best.factors), best.profile.sigma, reml).observed_covariance(best.profile.beta)
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.r
@pytest.mark.parametrize("seed", [0, 9])
def test_standard_errors_of_glmmtmb_are_those_of_the_observed_information(seed: int) -> None:
    """TMB's joint precision of fixed and group effects has them under REML: with ten groups 9 % above GLS's."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(10), 8), rng.normal(size=80)
    b = rng.normal(size=10)
    frame = pd.DataFrame({"y": 1 + 0.5 * x + b[g] * (1 + 0.5 * x) + rng.normal(size=80), "x": x, "g": g.astype(str)})
    fit = um.fit("y ~ x + (1 + x | g)", frame, "glmmtmb")
    assert not fit.singular
    said = fit.certificate().check("standard errors").said
    assert re.fullmatch(r"observed information, within \S+e-0[6-9]", said), said


@pytest.mark.parametrize("engine", ["statsmodels", "lme4"])
def test_fifty_thousand_rows(engine: str) -> None:
    """Kenward-Roger without a matrix of rows by rows: 50,000 rows in 5,000 groups."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(5000), 10)
    x, z = rng.normal(size=50_000), rng.normal(size=5000)[g]
    frame = pd.DataFrame({"x": x, "z": z, "g": g, "y": x + z + rng.normal(size=5000)[g] + rng.normal(size=50_000)})
    fit = um.fit("y ~ x + z + (1 | g)", frame, engine, df_method="kenward-roger")
    # Between groups 5000 - 2 degrees of freedom, within them 45000 - 1: the balanced design's closed form.
    np.testing.assert_allclose(fit.fixed.df[[0, 2]], 4998, rtol=1e-2)
    assert fit.fixed.df[1] > 44_000


def test_contrasts_that_do_not_vary() -> None:
    """A model with one variance parameter beside sigma: contrasts of zero variance have no degrees of freedom."""
    case = next(c for c in MIXED if c.id == "dyestuff")
    at, _, _ = ground(case)
    assert df_of_contrasts(at.satterthwaite, np.array([[2.0]]))[0] == pytest.approx(5.0, rel=1e-6)  # six batches


def test_degrees_of_freedom_of_many_contrasts() -> None:
    """400 coefficients and three covariance parameters, against the closed form of single coefficients."""
    rng = np.random.default_rng(1)
    p, d = 400, 3
    root = rng.normal(size=(p, p))
    slopes = rng.normal(size=(d, p, p))
    found = Uncertainty(root @ root.T, slopes + slopes.transpose(0, 2, 1), np.eye(d))
    df = df_of_contrasts(found, np.eye(p))
    v, g = np.diag(found.cov), np.einsum("app->pa", found.slopes)
    np.testing.assert_allclose(df, 2 * v**2 / (g**2).sum(axis=1), rtol=1e-9)
