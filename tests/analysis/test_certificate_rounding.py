"""Certificates of counts so large that rounding of the log-likelihood exceeds the usual tolerances."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest

import unimix as um
from support.planted_faults import as_from_engine
from unimix.likelihood.response import rounding


def counts(size: float) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    f = np.repeat(["a", "b"], 100)
    return pd.DataFrame({"y": rng.poisson(np.exp(size + 0.5 * (f == "b"))).astype(float), "f": f})


def exact_log_likelihood(y: np.ndarray, mu: np.ndarray) -> Decimal:
    """Poisson log-likelihood with 50 digits; log y! by Stirling's series, whose next term is below 1e-30 here."""
    with localcontext() as context:
        context.prec = 50
        half_log_2pi = (2 * Decimal("3.14159265358979323846264338327950288419716939937511")).ln() / 2
        total = Decimal(0)
        for count, mean in zip(map(Decimal, y), map(Decimal, mu), strict=True):
            stirling = count * count.ln() - count + count.ln() / 2 + half_log_2pi + 1 / (12 * count)
            total += count * mean.ln() - mean - stirling
        return total


@pytest.mark.parametrize("engine", ["pls", pytest.param("glmmtmb", marks=pytest.mark.r), "statsmodels"])
def test_large_counts_are_the_same_model(engine: str) -> None:
    data = counts(25.0)
    fit = um.fit("y ~ f", data, engine, family="poisson")
    means = data.groupby("f")["y"].mean()  # the maximum in closed form
    assert np.exp(fit.fixed.estimate.sum()) == pytest.approx(means["b"], rel=1e-9)
    assert fit.certificate().verdict == "certified", str(fit.certificate())


def test_the_bound_covers_the_rounding_and_little_more() -> None:
    data = counts(25.0)
    fit = um.fit("y ~ f", data, family="poisson")
    exact = exact_log_likelihood(fit.rows.observed, np.exp(fit.rows.linear_predictor))
    error = abs(float(Decimal(fit.log_likelihood) - exact))
    bound = rounding(fit.design())
    assert 1e-6 < error <= bound < 0.11  # 200 terms of 1.9e12 times 2.2e-16
    assert rounding(um.fit("y ~ f", counts(2.0), family="poisson").design()) < 1e-11


def test_a_wrong_model_is_still_found() -> None:
    fit = um.fit("y ~ f", counts(25.0), family="poisson")
    wrong = as_from_engine(fit, "log-likelihood")
    assert wrong is not None
    assert not wrong.certificate().certified


@pytest.mark.r
def test_what_rounding_hides_is_not_certified() -> None:
    """glmmTMB's search stops at random where rounding is larger than the curvature: the certificate says so."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 10)
    y = rng.poisson(np.exp(25 + 0.5 * rng.normal(size=20)[g])).astype(float)
    found = um.fit("y ~ 1 + (1 | g)", {"y": y, "g": g.astype(str)}, "glmmtmb", family="poisson").certificate()
    assert not found.certified
    assert found.verdict != "a different model", str(found)
