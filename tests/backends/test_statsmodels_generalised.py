"""Generalised models through statsmodels: closed forms, R's glm, simulated truth, and ends that are no answers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from generalised_data import by_statsmodels, design_by_arguments
from gold import Gold, as_list, generalised_cases, r_name
from scipy import stats

import unimix as um
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import all_families
from unimix.backends.registry import resolve
from unimix.backends.statsmodels import glm, joint
from unimix.distributions.family import Family, as_family
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.response import row_log_likelihood
from unimix.testing.generalised import simulate_family

ENGINE, R = resolve("statsmodels", {}), resolve("lme4", {})
PLAIN = [f for f in all_families() if not f.is_linear and isinstance(ENGINE.families.answer(f, mixed=False), Yes)]
ALSO_R = [f for f in PLAIN if isinstance(R.families.answer(f, mixed=False), Yes)]
ONLY_HERE = [f for f in PLAIN if f.label in ("negative_binomial_1", "beta") and f.link != "cauchit"]


def plain_data(family: Family, seed: int = 0) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Data of a family with weights and an offset, and the arguments that name those the engine has."""
    data = simulate_family(family, mixed=False, seed=seed)
    rng = np.random.default_rng(seed + 1)
    data["w"], data["off"] = rng.uniform(0.5, 2, len(data)), 0.05 * rng.normal(size=len(data))
    arguments: dict[str, Any] = {"family": family}
    if family.response == "binomial":
        arguments["weights"] = "trials"
    elif family.name not in ("negative_binomial", "beta"):
        arguments["weights"] = "w"
    if family.name != "beta":
        arguments["offset"] = "off"
    return data, arguments


def parameters_of(found: um.FitResult, family: Family) -> np.ndarray:
    return np.array([found.criteria.parameters[name] for name in family.parameters])


@pytest.mark.r
@pytest.mark.parametrize("family", ALSO_R, ids=str)
def test_plain_models_are_those_of_r(family: Family) -> None:
    data, arguments = plain_data(family)
    ours = by_statsmodels("y ~ x", data, **arguments)
    theirs = um.fit("y ~ x", data, backend="lme4", **arguments)
    assert ours.converged, ours.status
    # R stops when the deviance rests to 1e-12: with a link that is not canonical about 1e-6 of a standard error early.
    assert (np.abs(ours.fixed.estimate - theirs.fixed.estimate) / theirs.fixed.std_error).max() < 1e-5
    # glm.nb's standard errors take theta as known and the expected information; statsmodels' the observed one of all.
    rtol = 1e-2 if family.label == "negative_binomial" else 1e-6
    np.testing.assert_allclose(ours.fixed.std_error, theirs.fixed.std_error, rtol=rtol)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-8)
    assert ours.criteria.parameters == pytest.approx(dict(theirs.criteria.parameters), rel=1e-6)
    assert ours.fixed.df_method == theirs.fixed.df_method
    np.testing.assert_allclose(ours.fixed.df, theirs.fixed.df)
    np.testing.assert_allclose(ours.fixed.p_value, theirs.fixed.p_value, rtol=1e-4, atol=1e-10)


@pytest.mark.r
@pytest.mark.parametrize("family", ONLY_HERE, ids=str)
def test_plain_models_that_r_glm_lacks_are_those_of_glmmtmb(family: Family) -> None:
    data, arguments = plain_data(family)
    ours = by_statsmodels("y ~ x", data, **arguments)
    theirs = um.fit("y ~ x", data, backend="glmmtmb", **arguments)
    assert ours.converged, ours.status
    # What glmmTMB's search leaves; its standard errors are of the same kind.
    assert (np.abs(ours.fixed.estimate - theirs.fixed.estimate) / theirs.fixed.std_error).max() < 1e-4
    np.testing.assert_allclose(ours.fixed.std_error, theirs.fixed.std_error, rtol=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-7)
    assert ours.log_likelihood >= theirs.log_likelihood - 1e-10
    assert ours.criteria.parameters == pytest.approx(dict(theirs.criteria.parameters), rel=1e-5)


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_log_likelihoods_carry_all_constants(family: Family) -> None:
    data, arguments = plain_data(family, seed=3)
    found = by_statsmodels("y ~ x", data, **arguments)
    design = design_by_arguments("y ~ x", data, arguments)
    eta = fixed_predictor(design, found.fixed.estimate)
    own = float(row_log_likelihood(design, parameters_of(found, family), eta).value.sum())
    assert found.log_likelihood == pytest.approx(own, abs=1e-8)


def closed_form(family: Family, y: np.ndarray, mu: np.ndarray, p: np.ndarray, trials: np.ndarray) -> float:
    match family.label:
        case "gaussian":
            rows = stats.norm.logpdf(y, mu, p[0])
        case "binomial":
            rows = stats.binom.logpmf(np.round(y * trials), trials, mu)
        case "poisson":
            rows = stats.poisson.logpmf(y, mu)
        case "gamma":
            rows = stats.gamma.logpdf(y, 1 / p[0], scale=mu * p[0])
        case "inverse_gaussian":
            rows = stats.invgauss.logpdf(y, mu * p[0], scale=1 / p[0])
        case "negative_binomial":
            rows = stats.nbinom.logpmf(y, p[0], p[0] / (p[0] + mu))
        case "negative_binomial_1":
            rows = stats.nbinom.logpmf(y, mu / p[0], 1 / (1 + p[0]))
        case _:
            rows = stats.beta.logpdf(y, mu * p[0], (1 - mu) * p[0])
    return float(rows.sum())


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_log_likelihoods_are_the_closed_forms(family: Family) -> None:
    data = simulate_family(family, mixed=False, seed=5)
    weights = {"weights": "trials"} if family.response == "binomial" else {}
    found = by_statsmodels("y ~ x", data, family=family, **weights)
    y, trials = data["y"].to_numpy(), data["trials"].to_numpy()
    own = closed_form(family, y, np.asarray(found.fitted), parameters_of(found, family), trials)
    assert found.log_likelihood == pytest.approx(own, abs=1e-8)


@pytest.mark.parametrize("case", [c for c in generalised_cases() if not c.mixed], ids=lambda c: c.id)
def test_reference_cases_without_group_effects(case: Gold) -> None:
    found, reference = case.fit("statsmodels"), case.reference
    table = reference["fixef"]
    estimate, std_error = np.array(as_list(table["estimate"])), np.array(as_list(table["std_error"]))
    assert found.converged
    assert [r_name(t, found) for t in found.fixed.terms] == as_list(table["names"])
    assert (np.abs(found.fixed.estimate - estimate) / std_error).max() < 1e-6
    np.testing.assert_allclose(found.fixed.std_error, std_error, rtol=1e-6)
    assert found.log_likelihood == pytest.approx(reference["loglik"], abs=1e-8)
    assert found.aic == pytest.approx(reference["aic"], abs=1e-7)
    assert found.criteria.pearson_dispersion == pytest.approx(reference["pearson_dispersion"], rel=1e-6)


@pytest.mark.parametrize(
    ("family", "backend"),
    [
        *itertools.product(["gamma(log)", "inverse_gaussian(log)"], ["statsmodels", "lme4", "pymer4"]),
        ("gamma(log)", "glmmtmb"),
    ],
)
def test_weights_count_rows_with_a_dispersion_too(family: str, backend: str) -> None:
    """A whole weight is as many copies of the row, in the estimates, their errors and every likelihood."""
    data, arguments = plain_data(as_family(family))
    data = data.assign(w=np.random.default_rng(3).integers(1, 4, len(data)))
    once = um.fit("y ~ x", data, backend, **{**arguments, "weights": "w"})
    arguments.pop("weights", None)
    copies = um.fit("y ~ x", data.loc[data.index.repeat(data["w"])], backend, **arguments)
    # glmmTMB's standard errors are of a numerical Hessian.
    error = 1e-4 if backend == "glmmtmb" else 1e-8
    np.testing.assert_allclose(once.fixed.estimate, copies.fixed.estimate, atol=1e-6)
    np.testing.assert_allclose(once.fixed.std_error, copies.fixed.std_error, rtol=error)
    np.testing.assert_allclose(once.fixed.df, copies.fixed.df)
    assert once.log_likelihood == pytest.approx(copies.log_likelihood, abs=1e-6)
    assert once.criteria.pearson_dispersion == pytest.approx(copies.criteria.pearson_dispersion, rel=1e-5)
    few = {**arguments, "weights": np.full(len(data), 1e-6)}
    if backend != "glmmtmb":
        with pytest.raises(um.FitError, match="too few for 2 coefficients"):
            um.fit("y ~ x", data, backend, **few)


@pytest.mark.parametrize("backend", ["statsmodels", "lme4", "pymer4"])
def test_weights_of_a_gaussian_response_are_precisions_with_any_link(backend: str) -> None:
    data, arguments = plain_data(as_family("gaussian(log)"))
    arguments.pop("weights", None)
    w = np.random.default_rng(3).uniform(1, 4, len(data))
    once = um.fit("y ~ x", data, backend, weights=w, **arguments)
    twice = um.fit("y ~ x", data, backend, weights=2 * w, **arguments)
    np.testing.assert_allclose(once.fixed.std_error, twice.fixed.std_error, rtol=1e-6)
    assert once.log_likelihood == pytest.approx(twice.log_likelihood, abs=1e-6)
    assert twice.sigma == pytest.approx(np.sqrt(2) * once.sigma, rel=1e-6)


def test_z_has_no_degrees_of_freedom() -> None:
    data, arguments = plain_data(as_family("gamma(log)"))
    assert np.isinf(by_statsmodels("y ~ x", data, df_method="normal", **arguments).fixed.df).all()


@pytest.mark.r
def test_no_coefficients_leave_the_dispersion() -> None:
    data, arguments = plain_data(as_family("negative_binomial"))
    found = by_statsmodels("y ~ 0", data, **arguments)
    assert found.converged
    assert found.log_likelihood == pytest.approx(um.fit("y ~ 0", data, backend="lme4", **arguments).log_likelihood)


@pytest.mark.r
def test_a_start_that_fails_is_replaced() -> None:
    """Means that grow without bound at one end and an inverse link: statsmodels' own iterations leave its range."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 1, 30))
    data = {"x": x, "y": rng.gamma(1, 1 / (0.05 + 3 * x))}
    found = by_statsmodels("y ~ x", data, family="gamma(inverse)")
    assert "start" in found.provenance
    assert found.converged, found.status
    theirs = um.fit("y ~ x", data, backend="glmmtmb", family="gamma(inverse)")
    assert found.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-6)


def test_a_group_without_counts_is_a_status() -> None:
    """statsmodels' own log-likelihood is not a number there: 0 log 0."""
    rng = np.random.default_rng(1)
    g = np.repeat(["a", "b", "c"], 30)
    y = np.where(g == "b", 0, rng.negative_binomial(1, 0.2, 90))
    for family in ("negative_binomial", "nb1"):
        found = by_statsmodels("y ~ g", {"y": y, "g": g}, family=family)
        assert found.status.state == "not_converged"
        assert any("separation" in m for m in found.status.messages)


@pytest.mark.parametrize("family", PLAIN, ids=str)
def test_stopping_early_is_a_status(family: Family) -> None:
    data, arguments = plain_data(family)
    found = by_statsmodels("y ~ x", data, options={"max_iterations": 1}, **arguments)
    if found.converged:  # one step from a good start may do
        full = by_statsmodels("y ~ x", data, **arguments)
        assert found.log_likelihood == pytest.approx(full.log_likelihood, abs=1e-6)
    else:
        assert found.status.messages


def test_separation_is_not_convergence() -> None:
    x = np.arange(20.0)
    found = by_statsmodels("y ~ x", {"y": (x > 9.5).astype(float), "x": x}, family="binomial")
    assert found.status.state == "not_converged"
    assert any("separation" in m for m in found.status.messages)


def test_counts_that_are_not_overdispersed_have_no_theta() -> None:
    rng = np.random.default_rng(0)
    data = {"y": rng.binomial(8, 0.5, 200), "x": rng.normal(size=200)}
    for family in ("negative_binomial", "nb1"):
        found = by_statsmodels("y ~ x", data, family=family)
        assert found.status.state == "not_converged"
        assert "overdispers" in found.status.messages[0]
        assert np.isfinite(found.fixed.std_error).all()


def test_an_engine_that_raises_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def fit(self, **_: Any) -> None:
            raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(glm, "_build_glm", lambda design: Broken())
    monkeypatch.setattr(joint, "_build_nb", lambda design: Broken())
    for family in ("poisson", "gamma", "negative_binomial"):
        data, arguments = plain_data(as_family(family))
        found = by_statsmodels("y ~ x", data, **arguments)
        assert found.status.state == "not_converged"
        assert "SVD did not converge" in found.status.messages[0]
        assert np.isnan(found.log_likelihood)


@pytest.mark.parametrize(
    ("family", "arguments", "words"),
    [
        ("negative_binomial", {"weights": "w"}, "NegativeBinomial has no weights"),
        ("beta", {"weights": "w"}, "BetaModel has no weights"),
        ("beta", {"offset": "off"}, "BetaModel has no offset"),
        ("negative_binomial(sqrt)", {}, "log link only"),
        ("student_t", {}, "experiment"),
        ("poisson", {"method": "variational"}, "without group effects"),
    ],
)
def test_plain_models_that_are_refused(family: str, arguments: dict[str, Any], words: str) -> None:
    data = simulate_family(as_family(family), mixed=False).assign(w=1.5, off=0.1)
    with pytest.raises(um.UnsupportedModelError, match=words):
        by_statsmodels("y ~ x", data, family=family, **arguments)
