"""Certificates: engines with planted faults, a real engine's false optimum, and results that are as they should be."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import unimix as um
from unimix.backends.base import BackendInfo, Problem
from unimix.backends.pls import Pls
from unimix.design.estimates import Estimates
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.denominator_df import df_of_contrasts
from unimix.likelihood.lmm.penalised_least_squares import profile
from unimix.likelihood.lmm.reduced_data import form

FORMULA = "Weight ~ Time + Cu + (1 + Time | Pig)"
Fault = Callable[[Callable[[Problem], Estimates], Problem], Estimates]


def engine_with(fault: Fault) -> Pls:
    """unimix's own engine with a fault in its adapter."""

    class Faulty(Pls):
        info: ClassVar[BackendInfo] = replace(Pls.info, name="faulty", engine="faulty")

        def _fit(self, engine: Any, problem: Problem) -> Estimates:
            return fault(lambda p: super(Faulty, self)._fit(engine, p), problem)

    return Faulty()


def wrong_column(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """Time is shuffled on its way to the engine."""
    x = problem.design.x.copy()
    x[:, -1] = np.random.default_rng(0).permutation(x[:, -1])
    return fit(replace(problem, design=replace(problem.design, x=x)))


def dropped_column(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """The engine leaves the last fixed effect out, and the adapter fills in a zero."""
    design, p = problem.design, problem.design.p
    less = replace(design, x=np.ascontiguousarray(design.x[:, :-1]), fixed_names=design.fixed_names[:-1])
    found = fit(replace(problem, design=less, coefficients=np.eye(p - 1)))
    cov = np.eye(p) * found.beta_cov[0, 0]
    cov[:-1, :-1] = found.beta_cov
    return replace(found, beta=np.append(found.beta, 0.0), beta_cov=cov)


def lost_constant(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    found = fit(problem)
    assert problem.design.weights is not None
    assert found.log_likelihood is not None
    original = problem.original.weights
    assert original is not None
    return replace(found, log_likelihood=found.log_likelihood - 0.5 * float(np.log(original).sum()))


def dropped_correlation(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """`(1 + x | g)` is read as independent effects, as bambi does; in the user's own columns."""
    block = problem.design.blocks[0]
    single = tuple(
        replace(block, terms=(t,), z=np.ascontiguousarray(block.z[:, [j]])) for j, t in enumerate(block.terms)
    )
    found = fit(replace(problem, design=replace(problem.design, blocks=single)))
    covs = np.zeros((block.n_levels, 2, 2))
    for j in range(2):
        covs[:, j, j] = found.mode_covs[j][:, 0, 0]
    return replace(
        found,
        covariances=(np.diag([c[0, 0] for c in found.covariances]),),
        modes=(np.hstack(found.modes),),
        mode_covs=(covs,),
        singular=False,
    )


def early_stop(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """Half of the optimal standard deviations, everything else made to fit them."""
    return _at(fit, problem, np.diag([0.5, 0.5]))


def false_boundary(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """The search slid to a zero variance of the slope."""
    return _at(fit, problem, np.diag([1.0, 0.0]))


def _at(fit: Callable[[Problem], Estimates], problem: Problem, factor: np.ndarray) -> Estimates:
    """What an engine would report that stopped with its relative factors multiplied by a matrix."""
    from unimix.likelihood.lmm.conditional_modes import conditional_effects

    best = fit(problem)
    reduced = form(problem.design)
    factors = [factor @ relative_factors(best.covariances, best.sigma)[0]]
    at = profile(reduced, factors, reml=problem.request.reml)
    modes, covs = conditional_effects(reduced, at, factors)
    return replace(
        best,
        beta=at.beta,
        beta_cov=at.sigma**2 * at.cov_unscaled,
        covariances=(at.sigma**2 * factors[0] @ factors[0].T,),
        sigma=at.sigma,
        modes=modes,
        mode_covs=covs,
        log_likelihood=at.value,
        singular=None,
    )


def wrong_df(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """Satterthwaite's degrees of freedom under Kenward and Roger's name."""
    found = fit(problem)
    criterion = LinearCriterion.of(problem.design)
    made = criterion.at(found.covariances, found.sigma, reml=True).satterthwaite
    contrasts = problem.coefficients @ criterion.way_back.coefficients
    return replace(found, df=df_of_contrasts(made, contrasts), df_method="kenward-roger")


def ml_for_reml(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    return fit(replace(problem, request=replace(problem.request, method="ML")))


def other_rows(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """The engine drops the last row of every pig by itself."""
    design = problem.design
    block = design.blocks[0]
    last = np.append(np.flatnonzero(np.diff(block.codes)), design.n - 1)
    kept = np.setdiff1d(np.arange(design.n), last)
    less = replace(
        design,
        y=design.y[kept],
        x=np.ascontiguousarray(design.x[kept]),
        blocks=(replace(block, z=np.ascontiguousarray(block.z[kept]), codes=block.codes[kept]),),
        rows=design.rows[kept],
    )
    return fit(replace(problem, design=less))


def wrong_errors(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    found = fit(problem)
    return replace(found, beta_cov=1.2 * found.beta_cov)


def wrong_modes(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
    """Levels in another order."""
    found = fit(problem)
    return replace(found, modes=tuple(m[::-1].copy() for m in found.modes))


PLANTED = [
    (wrong_column, {}, "a different model", "same model", "not that of its own estimates"),
    (dropped_column, {}, "a different model", "same model", "not that of its own estimates"),
    (lost_constant, {"weights": "w"}, "a different model", "same model", "weights' constant"),
    (early_stop, {}, "not at the optimum", "optimum", "below the best known"),
    (false_boundary, {}, "not at the optimum", "optimum", "the SD of Time | Pig is 0 instead of"),
    (wrong_df, {"df_method": "kenward-roger"}, "wrong inference", "degrees of freedom", "but are satterthwaite"),
    (ml_for_reml, {}, "a different model", "same model", "ML, not REML"),
    (other_rows, {}, "a different model", "same model", "not that of its own estimates"),
    (wrong_errors, {}, "wrong inference", "standard errors", "not of any known kind"),
    (wrong_modes, {}, "a different model", "group effects", "away from the conditional modes"),
]


@pytest.fixture(scope="module")
def pigs() -> pd.DataFrame:
    frame = um.load_dataset("dietox")
    return frame.assign(w=np.random.default_rng(0).uniform(0.2, 3, len(frame)))


@pytest.mark.parametrize(
    ("fault", "more", "verdict", "check", "words"), PLANTED, ids=[getattr(p[0], "__name__", "") for p in PLANTED]
)
def test_planted_faults_are_caught(
    pigs: pd.DataFrame, fault: Fault, more: dict[str, Any], verdict: str, check: str, words: str
) -> None:
    engine = engine_with(fault)
    if fault is ml_for_reml:  # the way back from conditioned columns would add the constants of REML
        engine = type(engine)(conditioning=False)
    found = um.fit(FORMULA, pigs, engine, **more).certificate()
    assert found.verdict == verdict, str(found)
    assert found.check(check).passed is False
    assert words in found.check(check).said, str(found)
    assert not found.certified


def test_a_dropped_correlation_is_caught(pigs: pd.DataFrame) -> None:
    """With conditioning on, the engine's columns are not the user's, and independence there is another model too."""
    faulty = engine_with(dropped_correlation)
    found = um.fit(FORMULA, pigs, type(faulty)(conditioning=False)).certificate()
    assert found.verdict == "a different model"
    assert "correlations of Pig are exactly zero" in found.sentence
    hidden = um.fit(FORMULA, pigs, faulty).certificate()
    assert hidden.verdict == "not at the optimum"


def test_the_sound_engine_is_certified(pigs: pd.DataFrame) -> None:
    for more in ({}, {"weights": "w"}, {"method": "ML"}, {"df_method": "kenward-roger"}, {"offset": "Time"}):
        found = um.fit(FORMULA, pigs, "pls", **more).certificate()
        assert found.verdict == "certified", str(found)
        assert found.faults == ()
        assert abs(found.gap) < 1e-7


def test_statsmodels_false_optimum_on_dietox() -> None:
    """The plain call of statsmodels' formula interface: intercept variance 30 instead of 19.5, and it is seen."""
    frame = um.load_dataset("dietox")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = smf.mixedlm("Weight ~ Time", frame, groups=frame["Pig"], re_formula="~Time").fit()

    def as_statsmodels(fit: Callable[[Problem], Estimates], problem: Problem) -> Estimates:
        found = fit(problem)
        modes = np.array([raw.random_effects[level] for level in problem.design.blocks[0].levels])
        return replace(
            found,
            beta=np.asarray(raw.fe_params),
            beta_cov=np.asarray(raw.cov_params())[:2, :2],
            covariances=(np.asarray(raw.cov_re),),
            sigma=float(np.sqrt(raw.scale)),
            modes=(modes,),
            log_likelihood=float(raw.llf),
            std_error_kind="",
        )

    engine = type(engine_with(as_statsmodels))(conditioning=False)
    found = um.fit("Weight ~ Time + (1 + Time | Pig)", frame, engine).certificate()
    assert found.verdict == "not at the optimum"
    assert found.gap == pytest.approx(3.3, abs=0.2)  # what bare statsmodels 0.15 leaves behind
    assert found.best_sd["Intercept | Pig"] ** 2 == pytest.approx(19.49, abs=0.01)
    assert "the SD of Intercept | Pig" in found.sentence


def test_the_boundary_is_named() -> None:
    frame = um.load_dataset("dietox")
    rng = np.random.default_rng(1)
    frame = frame.assign(noise=rng.normal(size=len(frame)))
    frame["noise"] -= frame.groupby("Pig")["noise"].transform("mean")
    found = um.fit("noise ~ Time + (1 | Pig)", frame, "pls")
    assert found.singular
    certificate = found.certificate()
    assert certificate.verdict == "certified at the boundary"
    assert "the variance of Intercept | Pig is zero" in certificate.sentence


def test_the_combination_at_the_limit_is_named() -> None:
    """Of three random columns two vary together; what has no variance is written with its weights, once."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 10)
    frame = pd.DataFrame({"x": rng.normal(size=400), "z": rng.normal(size=400), "g": g})
    u, v = rng.normal(size=(2, 40))
    frame["y"] = u[g] * (1 + frame["x"]) + v[g] * frame["z"] + 2 * rng.normal(size=400)
    fit = um.fit("y ~ x + z + (1 + x + z | g)", frame, "pls")
    found = fit.certificate()
    assert found.verdict == "certified at the boundary"
    said = re.fullmatch(
        r"the variance of \(Intercept (.) ([\d.]+) x (.) ([\d.]+) z\) \| g is zero", found.check("boundary").said
    )
    assert said, found.check("boundary").said
    weights = np.array([1.0, float(said[1] + said[2]), float(said[3] + said[4])])
    # three digits of each weight
    assert np.sqrt(weights @ fit.random[0].covariance @ weights) < 0.01 * fit.random[0].sd.max()


def test_the_correlation_at_its_limit_is_named() -> None:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 6)
    x, u = rng.normal(size=180), rng.normal(size=30)
    frame = pd.DataFrame({"x": x, "g": g, "y": u[g] * (1 - 0.5 * x) + rng.normal(size=180)})
    found = um.fit("y ~ x + (1 + x | g)", frame, "pls").certificate()
    assert found.check("boundary").said == "the correlation of Intercept and x | g is -1"


def test_a_fit_that_is_wrongly_called_singular_is_not_certified(pigs: pd.DataFrame) -> None:
    fit = um.fit(FORMULA, pigs, "pls")
    found = replace(fit, status=fit.status.model_copy(update={"state": "singular"})).certificate()
    assert not found.certified
    assert found.check("boundary").passed is False


def test_a_loaded_result_needs_its_data(pigs: pd.DataFrame) -> None:
    fit = um.fit(FORMULA, pigs, "pls", weights="w", offset=np.arange(len(pigs)) / 100)
    loaded = um.FitResult.from_json(fit.to_json())
    with pytest.raises(um.DataError, match="holds no data"):
        loaded.certificate()
    assert loaded.with_data(pigs).certificate().verdict == "certified"
    with pytest.raises(um.DataError, match="not the data that were fitted"):
        loaded.with_data(pigs.assign(Time=pigs["Time"] + 1)).certificate()
    with pytest.raises(um.DataError, match="not the data that were fitted"):
        loaded.with_data(pigs.head(100)).certificate()


def test_models_without_groups() -> None:
    frame = um.load_dataset("dietox")
    assert um.fit("Weight ~ Time", frame, "statsmodels").certificate().verdict == "certified"
    frame = frame.assign(heavy=(frame["Weight"] > 60).astype(int), slow=frame["Time"] / 12)
    found = um.fit("heavy ~ slow", frame, "statsmodels", family="binomial")
    assert found.certificate().verdict == "certified"


@pytest.mark.r
def test_what_cannot_be_checked_says_why() -> None:
    frame = um.load_dataset("dietox")
    fit = um.fit("Weight ~ Time + (1 | Pig)", frame, "glmmtmb", dispformula="~ 0 + Time")
    found = fit.certificate()
    assert found.verdict == "not checkable"
    assert "without an intercept" in found.sentence


@pytest.mark.parametrize("backend", ["pls", "lme4", "glmmtmb", "glmm", "mixedlm"])
def test_generalised_models(backend: str) -> None:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(30), 12)
    x = rng.normal(size=360)
    p = 1 / (1 + np.exp(-(0.3 + 0.8 * x + rng.normal(size=30)[g])))
    frame = pd.DataFrame({"y": rng.binomial(1, p), "x": x, "g": g.astype(str)})
    fit = um.fit("y ~ x + (1 | g)", frame, backend, family="binomial")
    assert fit.certificate().verdict == "certified", str(fit.certificate())
    block = fit.random[0]
    worse = replace(fit, random=(block.model_copy(update={"covariance": 0.3 * block.covariance}),))
    assert worse.certificate().verdict == "a different model"


def test_a_certificate_reads_well(pigs: pd.DataFrame) -> None:
    found = um.fit(FORMULA, pigs, "pls").certificate()
    assert str(found).startswith("pls: certified. These are the numbers of this model")
    assert list(found.table.columns) == ["passed", "said"]
    assert "<table" in found._repr_html_()
    assert type(found).model_validate_json(found.model_dump_json()).verdict == "certified"
