"""The newer families as a whole: fits against glmmTMB and quadrature, certificates, and what follows a fit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import unimix as um
from unimix.distributions.family import Family, as_family
from unimix.distributions.log_density import pointwise
from unimix.testing.generalised import simulate_family

NAMES = (
    *("student_t", "skew_normal", "lognormal", "exponential", "tweedie"),
    *("beta_binomial", "generalised_poisson", "truncated_poisson", "truncated_negative_binomial"),
)
IN_GLMMTMB = ("beta_binomial", "generalised_poisson", "truncated_poisson", "truncated_negative_binomial", "tweedie")
NOT_THE_LINK = ("truncated_poisson", "truncated_negative_binomial")


@cache
def data_of(name: str) -> pd.DataFrame:
    return simulate_family(as_family(name), mixed=True, seed=3, n_groups=12, n_per_group=12)


def more(name: str) -> dict[str, Any]:
    family = as_family(name)
    return {"family": family, **({"weights": "trials"} if family.response == "binomial" else {})}


@cache
def fit_of(name: str, backend: str = "pls") -> um.FitResult:
    return um.fit("y ~ x + (1 | g)", data_of(name), backend=backend, **more(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_certified(name: str) -> None:
    certificate = fit_of(name).certificate()
    assert certificate.verdict == "certified", certificate


@pytest.mark.r
@pytest.mark.parametrize("name", IN_GLMMTMB)
def test_fits_are_those_of_glmmtmb(name: str) -> None:
    """1e-4 standard errors of the fixed effects, 1e-6 of the log-likelihood; its own search stops at about 1e-5."""
    ours, theirs = fit_of(name), fit_of(name, "glmmtmb")
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-6)
    assert (np.abs(ours.fixed.estimate - theirs.fixed.estimate) < 1e-4 * ours.fixed.std_error).all()
    np.testing.assert_allclose(theirs.fixed.std_error, ours.fixed.std_error, rtol=1e-3)
    np.testing.assert_allclose(theirs.dispersion_parameters, ours.dispersion_parameters, rtol=1e-3)
    assert theirs.certificate().verdict == "certified"


@pytest.mark.parametrize("name", ["beta_binomial", "truncated_poisson", "student_t"])
def test_quadrature_is_the_integral(name: str) -> None:
    """AGQ with 9 nodes at its own estimates, against a fine sum over the effect of each group; 1e-4 of each."""
    frame = data_of(name).head(60)
    fit = um.fit("y ~ x + (1 | g)", frame, um.backends.Pls(n_agq=9), method="AGQ", **more(name))
    family, sd = as_family(name), float(fit.random[0].sd[0])
    fixed = fit.fixed.estimate[0] + fit.fixed.estimate[1] * frame["x"].to_numpy()
    total = 0.0
    for rows in frame.groupby("g").indices.values():
        total += log_integral(family, fit, frame.iloc[rows], fixed[rows], sd)
    assert fit.log_likelihood == pytest.approx(total, abs=5e-4)


def log_integral(family: Family, fit: um.FitResult, rows: pd.DataFrame, fixed: np.ndarray, sd: float) -> float:
    y = rows["y"].to_numpy()
    trials = rows["trials"].to_numpy() if family.response == "binomial" else None

    def height(b: float) -> float:
        at = pointwise(family, fit.dispersion_parameters, y, fixed + b, None, trials)
        return float(at.value.sum()) + float(stats.norm.logpdf(b, 0, sd))

    grid = np.linspace(-7 * sd, 7 * sd, 1001)  # the trapezoidal rule is exact to rounding for a smooth peak
    values = np.array([height(b) for b in grid])
    return float(special.logsumexp(values) + np.log(grid[1] - grid[0]))


@pytest.mark.parametrize("name", NAMES)
def test_what_follows_a_fit(name: str) -> None:
    """Expected responses average to the responses, residuals are standardized, simulated responses suit the family."""
    fit, frame = fit_of(name), data_of(name)
    fitted, y = np.asarray(fit.fitted), frame["y"].to_numpy()
    standardized = fit.residuals("standardized")
    assert np.average(fitted) == pytest.approx(y.mean(), rel=0.1, abs=0.05)
    np.testing.assert_allclose(fit.predict(frame), fitted, rtol=1e-9)
    if name != "student_t":  # whose standardized residuals are multiples of its scale
        assert 0.75 < float(np.std(standardized)) < 1.25
    drawn = fit.simulate(200, seed=1)
    assert drawn.shape[0] == len(y) or drawn.shape[1] == len(y)
    assert drawn.mean() == pytest.approx(y.mean(), rel=0.25, abs=0.1)
    intervals = fit.predict(frame.head(4), interval="confidence")
    assert (intervals["lower"] < intervals["estimate"]).all()
    assert (intervals["estimate"] < intervals["upper"]).all()
    np.testing.assert_allclose(intervals["estimate"], fitted[:4], rtol=1e-9)


@pytest.mark.parametrize("name", NOT_THE_LINK)
def test_means_of_truncated_counts_are_not_confused_with_the_inverse_link(name: str) -> None:
    fit = fit_of(name)
    assert (np.asarray(fit.fitted) > np.exp(fit.rows.linear_predictor)).all()
    assert (np.asarray(fit.fitted) > 1).all()
    for asked in (
        lambda: fit.emmeans("x", at={"x": [0, 1]}, kind="response"),
        lambda: fit.comparisons("x"),
    ):
        with pytest.raises(um.UnsupportedModelError, match="not the inverse link"):
            asked()
    assert len(fit.emmeans("x", at={"x": [0, 1]}).table) == 2


def test_wald_and_profile_intervals_stay_inside_the_range_of_a_parameter() -> None:
    """Tweedie's power lies between 1 and 2; both intervals contain the estimate and are alike with 144 rows."""
    fit = fit_of("tweedie")
    wald = fit.confint(method="wald", parameters=["dispersion", "power"])
    profile = fit.confint(method="profile", parameters=["dispersion", "power"])
    for table in (wald, profile):
        assert (table["lower"] < table["estimate"]).all()
        assert (table["estimate"] < table["upper"]).all()
        assert 1 < table.loc["power", "lower"] < table.loc["power", "upper"] < 2
    np.testing.assert_allclose(wald[["lower", "upper"]], profile[["lower", "upper"]], rtol=0.05)


@pytest.mark.parametrize("name", ["lognormal", "exponential", "generalised_poisson", "tweedie", "skew_normal"])
def test_r2_and_icc_are_shares(name: str) -> None:
    fit = fit_of(name)
    assert 0 < float(fit.icc().table.iloc[0, 0]) < 1
    assert 0 < fit.r2().table["value"]["marginal"] < fit.r2().table["value"]["conditional"]


@pytest.mark.parametrize("name", ["beta_binomial", "truncated_poisson", "truncated_negative_binomial"])
def test_r2_is_refused_where_a_variance_has_no_definition(name: str) -> None:
    with pytest.raises(um.UnsupportedModelError, match="no accepted definition"):
        fit_of(name).icc()


def test_a_lognormal_model_is_the_linear_model_of_the_logarithm() -> None:
    """The slope, its SD and the likelihood are the same up to sum(log y); the intercept is larger by sigma^2 / 2."""
    frame = data_of("lognormal")
    linear = um.fit("log(y) ~ x + (1 | g)", frame, "pls", method="ML")
    fit = fit_of("lognormal")
    sigma = float(fit.criteria.parameters["sigma"])
    assert sigma == pytest.approx(linear.sigma, rel=1e-5)
    assert fit.log_likelihood == pytest.approx(linear.log_likelihood - np.log(frame["y"]).sum(), abs=1e-7)
    np.testing.assert_allclose(fit.fixed.estimate - linear.fixed.estimate, [sigma**2 / 2, 0], atol=1e-5)


def test_an_exponential_model_is_a_gamma_model_with_dispersion_1() -> None:
    design_y, eta = data_of("exponential")["y"].to_numpy(), fit_of("exponential").rows.linear_predictor
    ours = pointwise(as_family("exponential"), np.empty(0), design_y, eta).value
    np.testing.assert_allclose(ours, pointwise(as_family("gamma"), np.ones(1), design_y, eta).value, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("truncated_poisson", [0, 1, 2], "without zeros counts are whole numbers from 1"),
        ("truncated_negative_binomial", [1, 2, 2.5], "without zeros"),
        ("generalised_poisson", [0, 1, 1.5], "whole numbers"),
        ("lognormal", [0, 1, 2], "'tweedie'"),
        ("exponential", [-1, 1, 2], "must be positive"),
        ("tweedie", [-1, 0, 2], "positive or zero"),
        ("beta", [0, 0.5, 1], "strictly between 0 and 1"),
        ("beta_binomial", [0, 1, 1], "single trial"),
    ],
)
def test_responses_that_a_family_does_not_describe_are_refused(name: str, values: list[float], words: str) -> None:
    frame = pd.DataFrame({"y": np.tile(values, 4), "x": np.arange(12.0)})
    with pytest.raises(um.DataError, match=words):
        um.fit("y ~ x", frame, "pls", family=name)


def test_smallest_responses_alone_are_separation() -> None:
    """A level whose counts are all 1 has no finite mean before truncation, and one of zeros no Tweedie mean."""
    rng, f = np.random.default_rng(5), np.repeat(["a", "b"], 30)
    counts = np.where(f == "a", 1.0, 1.0 + rng.poisson(2, 60))
    amounts = np.where(f == "a", 0.0, rng.gamma(2.0, 1.0, 60))
    for y, family in ((counts, "truncated_poisson"), (amounts, "tweedie")):
        fit = um.fit("y ~ f", pd.DataFrame({"y": y, "f": f}), "pls", family=family)
        assert not fit.converged
        assert any("separation" in m for m in fit.status.messages)


def test_priors_of_a_skewness_stay_in_its_range() -> None:
    with pytest.raises(um.OptionError, match="lies between"):
        um.fit(
            "y ~ x", data_of("skew_normal"), "bayes", family="skew_normal", priors={"skewness": um.priors.HalfNormal(1)}
        )


@pytest.mark.r
def test_a_formula_of_one_of_two_dispersion_parameters_is_refused() -> None:
    with pytest.raises(um.UnsupportedModelError, match="dispersion and power"):
        um.fit("y ~ x + (1 | g)", data_of("tweedie"), "glmmtmb", family="tweedie", dispformula="~ x")
