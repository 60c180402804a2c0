"""Parameters that the data do not determine: which they are, what is determined instead, and who says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.testing import dense


def one_row_apart() -> pd.DataFrame:
    """79 rows of one group and one of another: the groups tell one number about three variance parameters."""
    n = 80
    x = np.random.default_rng(0).normal(size=n)
    frame = pd.DataFrame({"x": x, "g": (np.arange(n) == 0).astype(int)})
    return frame.assign(y=0.5 * x + np.random.default_rng(1).normal(size=n) + 4 * frame["g"])


def between_groups() -> pd.DataFrame:
    """A predictor that does not vary within groups: they have Var(b0) + 2 Cov(b0, b1) + Var(b1), or Var(b0)."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 6)
    u = rng.normal(size=20)
    frame = pd.DataFrame({"x": rng.normal(size=120), "g": g, "b": g % 2, "h": rng.integers(0, 7, 120)})
    return frame.assign(
        y=frame["x"] + u[g] * (1 + frame["b"]) + rng.normal(size=120), k=rng.poisson(np.exp(0.5 + 0.5 * u[g]))
    )


RIDGE = "y ~ x + (1 + x | g)"


@pytest.mark.parametrize("backend", ["pls", "statsmodels", "lme4", "glmmtmb", "mixedlm"])
def test_every_engine_is_somewhere_on_the_ridge(backend: str) -> None:
    frame = one_row_apart()
    fit = um.fit(RIDGE, frame, backend)
    assert fit.status.state == "not_identified"
    assert not fit.converged
    found = fit.certificate()
    assert found.verdict == "not identified"
    assert not found.certified
    for words in ("the variance of Intercept | g", "the covariance of Intercept and x | g", "the coefficient of x"):
        assert words in found.sentence
    # The one row has variance z'Cov z: this combination is determined, and engines agree about it.
    z = np.array([1.0, frame["x"][0]])
    best = um.fit(RIDGE, frame, "pls").random[0].covariance
    assert f"{2 * z[1]:.4g} times the covariance" in found.sentence
    assert f"{z[1] ** 2:.4g} times the variance of x | g" in found.sentence
    assert z @ fit.random[0].covariance @ z == pytest.approx(z @ best @ z, rel=0.02)  # within 1e-4 of the optimum


def test_likelihood_and_fitted_values_are_determined_and_coefficients_are_not() -> None:
    """Against the dense likelihood, moved along the ridge by more than the variances are large."""
    fit = um.fit(RIDGE, one_row_apart(), "pls")
    design, own, z0 = fit.design(), np.asarray(fit.random[0].covariance), fit.design().x[0]
    across = np.array([-z0[1], 1.0])  # z0'across = 0, so that z0'Cov z0 is the same
    moved = own + 30 * np.outer(across, across) + 3 * (np.outer(z0, across) + np.outer(across, z0))
    values = [dense.log_likelihood(design, (c,), fit.sigma, reml=True) for c in (own, moved)]
    assert values[1] == pytest.approx(values[0], abs=1e-9)
    beta = [dense.gls(design, (c,), fit.sigma)[0] for c in (own, moved)]
    assert np.abs(beta[1] - beta[0]).max() > 0.1
    spread = [np.sqrt(np.diag(dense.gls(design, (c,), fit.sigma)[1])) for c in (own, moved)]
    assert (spread[1] / spread[0]).max() > 1.5


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("y ~ x + (1 + b | g)", {}),
        ("y ~ x + (1 + b | g)", {"method": "ML"}),
        ("y ~ x + (1 + b | g) + (1 | h)", {}),
        ("k ~ x + (1 + b | g)", {"family": "poisson"}),
    ],
)
def test_two_of_three_variance_parameters_on_a_ridge(formula: str, more: dict[str, str]) -> None:
    fit = um.fit(formula, between_groups(), "pls", **more)
    assert fit.status.state == "not_identified"
    said = fit.status.messages[0]
    assert "the covariance of Intercept and b | g or the variance of b | g." in said
    assert "the covariance of Intercept and b | g + 0.5 times the variance of b | g" in said
    assert "coefficient" not in said  # V is the same, and so are the fixed effects
    assert fit.certificate().verdict == "not identified"


def test_a_covariance_without_rows_is_not_determined() -> None:
    fit = um.fit("y ~ x + (0 + C(b) | g)", between_groups(), "pls")
    assert (
        "do not determine the covariance of C(b)[0] and C(b)[1] | g. They determine the log-lik"
        in fit.status.messages[0]
    )


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("y ~ x + (1 + x | g)", {}),
        ("y ~ x + b + (1 + x | g)", {"method": "ML"}),
        ("y ~ x + (1 | g) + (0 + b | g)", {}),
        ("y ~ x + (1 + x | g) + (1 | h)", {}),
        ("k ~ x + (1 + x | g)", {"family": "poisson"}),
    ],
)
def test_what_is_determined_is_called_so(formula: str, more: dict[str, str]) -> None:
    fit = um.fit(formula, between_groups(), "pls", **more)
    assert fit.status.state in ("converged", "singular")
    assert fit.certificate().check("identification").passed is True


def test_far_columns_are_no_ridge() -> None:
    """Uncentered predictors make correlations of -1 + 1e-6, not parameters that are not determined."""
    frame = between_groups().assign(x=lambda d: 1e3 + d["x"])
    fit = um.fit("y ~ x + (1 + x | g)", frame, "pls")
    at = LinearCriterion.of(fit.design()).at([fit.random[0].covariance], fit.sigma, reml=True)
    assert len(at.flat.covariances) == 0


def test_summary_check_tables_and_comparison_say_so() -> None:
    frame = one_row_apart()
    fit = um.fit(RIDGE, frame, "pls")
    assert "NOT IDENTIFIED" in str(fit.summary())
    assert fit.check().table.loc["convergence", "verdict"] == "problem"
    assert "ridge" in fit.check().table.loc["convergence", "finding"]
    assert "not identified" in str(um.table([fit]))
    assert "not identified" in fit.report()
    same = um.compare(RIDGE, frame, backends=["pls", "statsmodels"])
    assert set(same.verdicts["verdict"]) == {"not identified"}
    assert um.FitResult.from_json(fit.to_json()).status.state == "not_identified"


def test_a_fit_that_is_wrongly_called_not_identified_is_not_certified() -> None:
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    other = replace(fit, status=fit.status.model_copy(update={"state": "not_identified"}))
    assert other.certificate().verdict == "not identified"
    assert "changes in every direction" in other.certificate().sentence


@pytest.mark.parametrize("backend", ["pls", "lme4", "glmmtmb", "mixedlm"])
def test_a_separated_model_is_not_identified(backend: str) -> None:
    """One treatment has only successes. R's glm and glmer give it standard errors of 1e3 and more; ours is infinite."""
    rng = np.random.default_rng(1)
    nest, kind = np.repeat(np.arange(17), 8), np.tile(["a", "a", "b", "b", "c", "c", "d", "d"], 17)
    p = 1 / (1 + np.exp(-(0.8 + rng.normal(0, 0.7, 17)[nest])))
    out = np.where(kind == "c", 1, rng.binomial(1, p))
    frame = pd.DataFrame({"out": out, "kind": kind, "nest": [f"n{i}" for i in nest]})
    fit = um.fit("out ~ kind + (1 | nest)", frame, backend, family="binomial")
    row = fit.fixed_effects.loc["kind[T.c]"]
    assert row["std_error"] > 1e3
    assert not row["p_value"] < 0.9
    assert fit.fixed_effects["std_error"].drop("kind[T.c]").max() < 1
    found = fit.certificate()
    assert fit.status.state == "not_converged"
    assert found.verdict == "not identified"
    assert found.check("standard errors").passed is None
    assert "does not report convergence" in found.sentence


def test_tests_and_criteria_say_so() -> None:
    frame = between_groups()
    loose, firm = um.fit("y ~ x + (1 + b | g)", frame, "pls"), um.fit("y ~ x + (1 | g)", frame, "pls")
    assert any("degrees of freedom count parameters" in note for note in um.anova(firm, loose).notes)
    assert any("the fit is not identified" in note for note in um.compare_ic(firm, loose).notes)
    assert "3 refits are not identified, and are counted" in loose.bootstrap(3, seed=1).notes
