"""Curves of smooths in the certificate and in tests: changes are found, and penalised coefficients are no effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    x, g = rng.uniform(0, 1, 120), np.repeat(np.arange(12), 10)
    y = np.sin(6 * x) + 0.5 * rng.normal(size=12)[g] + 0.4 * rng.normal(size=120)
    return pd.DataFrame({"x": x, "g": g.astype(str), "y": y, "k": rng.poisson(np.exp(np.sin(6 * x)))})


@pytest.fixture(scope="module", params=["gaussian", "poisson"])
def fit(request: pytest.FixtureRequest, data: pd.DataFrame) -> um.FitResult:
    response = "y" if request.param == "gaussian" else "k"
    return um.fit(f"{response} ~ s(x) + (1 | g)", data, family=request.param)


def changed(fit: um.FitResult, what: str) -> um.FitResult:
    """The result with one thing of its curve changed."""
    fixed, smooth = fit.fixed, fit.smooths[0]
    curved = [fixed.terms.index(name) for name in smooth.curve.terms]
    kept = [i for i in range(len(fixed.terms)) if i not in curved]
    values: dict[str, Any] = {n: np.array(getattr(fixed, n)) for n in ("estimate", "std_error", "lower", "covariance")}
    match what:
        case "edf":
            return replace(fit, smooths=(smooth.model_copy(update={"edf": smooth.edf - 1}),))
        case "covariances":
            values["covariance"][np.ix_(curved, curved)] /= 4
        case "covariances with fixed effects":
            values["covariance"][np.ix_(kept, curved)] = values["covariance"][np.ix_(curved, kept)] = 0.0
        case "coefficients":
            values["estimate"][curved[0]] += 0.3
        case "standard errors":
            values["std_error"][curved[0]] *= 1.1
        case "intervals":
            values["lower"][curved[0]] -= 0.1
    if what == "covariances with fixed effects":
        values["covariance"][np.ix_(curved, kept)] = 0.0
    return replace(fit, fixed=fixed.model_copy(update=values))


def test_the_curves_are_those_of_the_mixed_model(fit: um.FitResult) -> None:
    certificate = fit.certificate()
    assert certificate.verdict == "certified"
    assert certificate.check("curves").passed


@pytest.mark.parametrize(
    "what",
    ["edf", "covariances", "covariances with fixed effects", "coefficients", "standard errors", "intervals"],
)
def test_a_changed_curve_is_not_certified(fit: um.FitResult, what: str) -> None:
    certificate = changed(fit, what).certificate()
    assert not certificate.certified
    assert not certificate.check("curves").passed


def test_coefficients_of_curves_have_no_tests(fit: um.FitResult) -> None:
    place = fit.fixed.terms.index("s(x)[1]")
    for text in ("s(x)[1] = 0", f"b{place} = 0", ["Intercept = 1", f"Intercept = b{place}"]):
        with pytest.raises(um.UnimixError):
            fit.hypotheses(text)
    assert len(fit.hypotheses("Intercept = 0")) == 1


def test_a_curve_has_no_prior_predictive(data: pd.DataFrame) -> None:
    with pytest.raises(um.UnsupportedModelError, match="curves are not sampled"):
        um.prior_predictive("y ~ s(x) + (1 | g)", data, seed=1)


def test_restricted_likelihoods_are_not_compared_with_plain_ones(data: pd.DataFrame) -> None:
    """A linear model without group effects has the plain likelihood, others the restricted one unless asked."""
    data = data.assign(f=np.where(np.arange(120) % 2, "a", "b"))
    plain = um.fit("y ~ x", data)
    for arguments in ({"dispformula": "~ f"}, {"residual": "ar1(t | g)"}):
        more = data.assign(t=np.arange(120) % 10)
        reml, ml = (um.fit("y ~ x", more, method=m, **arguments) for m in ("REML", "ML"))
        for other in (plain, ml):
            with pytest.raises(um.DataError, match=r"different criteria.*method='ML'"):
                um.compare_ic(reml, other)
        assert len(um.compare_ic(plain if "dispformula" in arguments else ml, ml)) == 2
    with pytest.raises(um.DataError, match="different criteria"):
        um.compare_ic(plain, um.fit("y ~ x + (1 | g)", data))
    counts = [um.fit(f"k ~ x{more}", data, family="poisson") for more in ("", " + (1 | g)")]
    assert len(um.compare_ic(*counts)) == 2


def test_beyond_the_data_notes_say_so(fit: um.FitResult) -> None:
    for at, beyond in (({"x": [0.5]}, False), ({"x": [0.5, 3.0]}, True)):
        for answer in (fit.emmeans("x", at=at), fit.slopes("x", at=at)):
            assert any("is extrapolated" in note for note in answer.notes) == beyond, answer.notes
