"""R's ordinal beside unimix's own engine: parity, published tables, the faults of clmm, refusals, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

pytestmark = pytest.mark.r


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """200 ratings of 20 groups, crossed with an equal number of levels and with a smaller one, in random order.

    The standard deviations are 0.6 between the levels of g, 1.2 of h and 0.9 of k.
    """
    rng = np.random.default_rng(3)
    n = 200
    codes = [rng.permutation(np.arange(n) % levels) for levels in (20, 20, 5)]
    x, o = rng.normal(size=n), 0.5 * rng.normal(size=n)
    latent = 0.8 * x + o + rng.logistic(size=n)
    for code, sd in zip(codes, (0.6, 1.2, 0.9), strict=True):
        latent += sd * rng.normal(size=code.max() + 1)[code]
    frame = {"rating": 1 + np.digitize(latent, [-1.0, 0.3, 1.5]), "x": x, "o": o}
    frame |= {name: [f"{name}{k:02d}" for k in code] for name, code in zip("ghk", codes, strict=True)}
    return pd.DataFrame(frame | {"w": rng.integers(1, 4, n).astype(float)})


def same(theirs: um.FitResult, ours: um.FitResult, *, errors: float = 1e-3, value: float = 1e-6) -> None:
    """Two maxima: log-likelihoods to 1e-6, estimates to 1e-3 standard errors (clmm's search ends at 1e-4), standard
    errors to 1e-3 (differences of one step of 1e-4), modes to 1e-3 standard deviations of the effects."""
    assert theirs.converged
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=value)
    both = [(f.thresholds, f.fixed_effects) for f in (theirs, ours)]
    for own, wanted in zip(*both, strict=True):
        move = np.abs(own["estimate"] - wanted["estimate"]) / wanted["std_error"]
        assert move.max() < 1e-3 if len(move) else True
        np.testing.assert_allclose(own["std_error"], wanted["std_error"], rtol=errors)
    for block, expected in zip(theirs.random, ours.random, strict=True):
        np.testing.assert_allclose(block.sd, expected.sd, rtol=1e-3, atol=1e-3)
        assert np.abs(np.asarray(block.modes) - expected.modes).max() < 1e-3 * np.max(expected.sd)
        covariance = np.asarray(expected.mode_covariance)
        np.testing.assert_allclose(block.mode_covariance, covariance, atol=3e-3 * np.abs(covariance).max())


LINKS = ("logit", "probit", "cloglog", "loglog", "cauchit")
EQUAL: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{link}, no groups": ("rating ~ x", {"family": f"cumulative({link})"}) for link in LINKS},
    **{
        f"{link}, groups": ("rating ~ x + (1 | g)", {"family": f"cumulative({link})"})
        for link in ("logit", "probit", "cauchit")
    },
    "quadrature": ("rating ~ x + (1 | g)", {"method": "AGQ"}),
    "symmetric": ("rating ~ x + (1 | g)", {"family": um.families.cumulative(threshold="symmetric")}),
    "equidistant": ("rating ~ x", {"family": um.families.cumulative(threshold="equidistant")}),
    "weights and offset": ("rating ~ x + (1 | g)", {"weights": "w", "offset": "o"}),
    "weights and offset, no groups": ("rating ~ x", {"weights": "w", "offset": "o"}),
    "no predictor": ("rating ~ 1 + (1 | g)", {}),
    # the rows are all that clmm orders its terms by: k has fewer levels than h, and is written first
    "slopes, crossed, offset": ("rating ~ x + (1 | k) + (0 + x | h)", {"offset": "o"}),
}


@pytest.mark.parametrize("name", EQUAL)
def test_both_engines_find_the_same_maximum(name: str, data: pd.DataFrame) -> None:
    """With the cauchit link clm ends at estimates of a likelihood that is off by 1e-5 a row, and both at 1e-6."""
    formula, given = EQUAL[name]
    arguments: dict[str, Any] = {"family": "cumulative", **given}
    same(um.fit(formula, data, "ordinal", **arguments), um.fit(formula, data, "pls", **arguments))


def test_correlated_effects(data: pd.DataFrame) -> None:
    """Errors within the 1e-2 that the certificate allows: the correlation is nearly 1, where differences are rough."""
    theirs, ours = (um.fit("rating ~ x + (1 + x | k)", data, e, family="cumulative") for e in ("ordinal", "pls"))
    same(theirs, ours, errors=1e-2, value=1e-5)
    assert theirs.random[0].correlation[1, 0] == pytest.approx(ours.random[0].correlation[1, 0], abs=1e-3)


def test_standard_deviations_belong_to_their_factors(data: pd.DataFrame) -> None:
    """clmm 2022.11-16 exchanges the names of the variances of factors with equal numbers of levels."""
    theirs, ours = (um.fit("rating ~ x + (1 | g) + (1 | h)", data, e, family="cumulative") for e in ("ordinal", "pls"))
    same(theirs, ours)
    sds = [float(block.sd[0]) for block in theirs.random]
    assert abs(sds[0] - sds[1]) > 0.1
    for block, sd in zip(theirs.random, sds, strict=True):
        # at the maximum a variance is the mean of squared modes and their variances (a fixed point of EM)
        squares = np.asarray(block.modes)[:, 0] ** 2 + np.asarray(block.mode_covariance)[:, 0, 0]
        assert squares.mean() == pytest.approx(sd**2, rel=0.05)


# Christensen, A tutorial on fitting cumulative link mixed models with clmm2 from the ordinal package, and Cumulative
# Link Models with the R package ordinal: thresholds and coefficients with their standard errors, log-likelihood.
WINE = {
    "rating ~ temp + contact": (
        [-1.3444, 1.2508, 3.4669, 5.0064, 2.5031, 1.5278],
        [0.5171, 0.4379, 0.5978, 0.7309, 0.5287, 0.4766],
        -86.49,
    ),
    "rating ~ temp + contact + (1 | judge)": (
        [-1.6237, 1.5134, 4.2285, 6.0888, 3.0630, 1.8349],
        [0.6824, 0.6038, 0.8090, 0.9725, 0.5954, 0.5125],
        -81.57,
    ),
}


@pytest.mark.parametrize("formula", WINE)
def test_published_tables(formula: str) -> None:
    """Four printed decimals of estimates and errors, two of the log-likelihood."""
    estimates, errors, value = WINE[formula]
    fit = um.fit(formula, um.load_dataset("wine"), "ordinal", family="cumulative")
    found = pd.concat([fit.thresholds, fit.fixed_effects])
    np.testing.assert_allclose(found["estimate"], estimates, atol=1e-4)
    np.testing.assert_allclose(found["std_error"], errors, atol=1e-4)
    assert fit.log_likelihood == pytest.approx(value, abs=5e-3)
    if fit.random:
        assert float(fit.random[0].sd[0]) == pytest.approx(1.131, abs=1e-3)
        assert fit.native is not None
        assert fit.certificate().verdict == "certified"


def test_compare_and_certify(data: pd.DataFrame) -> None:
    found = um.compare("rating ~ x + (1 | g)", data, backends=["pls", "ordinal"], family="cumulative")
    assert found.verdicts.loc["ordinal", "verdict"] == "numerically equal"
    assert str(found.certify()).count("certified. These are the numbers of this model") == 2


Table = Callable[[um.FitResult], Any]
AFTER: dict[str, Table] = {
    "probabilities": lambda f: f.predict({"temp": ["cold", "warm"]}, level="population"),
    "mean": lambda f: (
        f.predict({"temp": ["cold", "warm"]}, level="population", interval="confidence", kind="mean").table
    ),
    "groups": lambda f: f.predict(),
    "emmeans": lambda f: f.emmeans("temp").table,
    "mean categories": lambda f: f.emmeans("temp", kind="mean").table,
    "contrasts": lambda f: f.emmeans("temp", kind="probability").contrasts().table,
    "wald": lambda f: f.confint().table,
    "profile": lambda f: f.confint("profile", parameters="temp[T.warm]").table,
    "anova": lambda f: f.anova().table,
    "drop1": lambda f: um.drop1(f).table,
    "simulated": lambda f: pd.DataFrame(f.simulated_residuals(20, seed=1).table["statistic"]),
}


def numbers(found: Any) -> np.ndarray:
    return np.asarray(pd.DataFrame(found).select_dtypes("number").to_numpy(dtype=float))


def test_what_follows_a_fit() -> None:
    """The same numbers as after the other engine, and of the loaded result: 1e-3 of the largest of each table."""
    wine = um.load_dataset("wine")
    formula = "rating ~ temp + (1 | judge)"
    theirs, ours = (um.fit(formula, wine, e, family="cumulative") for e in ("ordinal", "pls"))
    loaded = um.FitResult.from_json(theirs.to_json()).with_data(wine)
    for name, how in AFTER.items():
        wanted = numbers(how(ours))
        size = 1e-3 * np.nanmax(np.abs(wanted[np.isfinite(wanted)]))
        np.testing.assert_allclose(numbers(how(theirs)), wanted, atol=size, err_msg=name)
        np.testing.assert_allclose(numbers(how(loaded)), numbers(how(theirs)), rtol=1e-6, atol=1e-9, err_msg=name)
    assert np.isfinite(theirs.bootstrap(2, seed=1).replicates.to_numpy()).all()
    smaller = um.fit("rating ~ 1 + (1 | judge)", wine, "ordinal", family="cumulative")
    assert um.anova(smaller, theirs).table["p_value"].iloc[1] == pytest.approx(
        um.anova(um.fit(smaller.formula, wine, family="cumulative"), ours).table["p_value"].iloc[1], rel=1e-3
    )


@pytest.mark.parametrize(
    ("formula", "arguments", "told"),
    [
        ("rating ~ x + (1 | two)", {}, "two: clmm needs at least three levels"),
        ("rating ~ x + (1 + x | g)", {"family": "cumulative(cauchit)"}, "log density of one row is not concave"),
        ("rating ~ x + (1 | g) + (1 | h)", {"method": "AGQ"}, "quadrature for one random intercept"),
        ("rating ~ x + (0 + x | g)", {"method": "AGQ"}, "quadrature for one random intercept"),
        ("rating ~ x + (1 | g)", {"method": "AGQ", "family": "cumulative(loglog)"}, "takes one for the other"),
        ("rating ~ x", {"options": {"control": {"iter.max": 5}}}, "clm has a search of its own"),
        ("rating ~ x + cs(0 + k | g)", {}, "unstructured covariances only"),
        ("rating ~ x + (1 | g)", {"priors": {"x": um.priors.Normal(0, 1)}, "method": "posterior"}, "no posterior"),
        ("x ~ rating + (1 | g)", {"family": "gaussian"}, "ordered responses only"),
    ],
)
def test_what_it_cannot_fit_is_refused_before_the_fit(
    formula: str, arguments: dict[str, Any], told: str, data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(um.backends.Ordinal, "load", lambda _: pytest.fail("R was loaded"))
    frame = data.assign(two=np.where(data["h"] < "h10", "a", "b"))
    with pytest.raises(um.UnsupportedModelError, match=told):
        um.fit(formula, frame, "ordinal", **{"family": "cumulative", **arguments})


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(um.OptionError, match=r"control=.*Input should be 'gradTol'"):
        um.backends.Ordinal(control={"maxiter": 3})


def test_the_slower_code_of_one_intercept(data: pd.DataFrame) -> None:
    """The quicker code of clmm 2022.11-16 takes the links cloglog and loglog for each other."""
    arguments = {"family": "cumulative(loglog)", "offset": "o", "weights": "w"}
    fit = um.fit("rating ~ x + (1 | g)", data, "ordinal", **arguments)
    same(fit, um.fit("rating ~ x + (1 | g)", data, "pls", **arguments))
    assert fit.engine.call == (
        'clmm(y ~ 1 + x0 + offset(off) + (1 | g0), link = "loglog", threshold = "flexible", weights = w, '
        "useMatrix = TRUE)"
    )
    assert {"ordinal", "Matrix", "R"} <= set(fit.engine.versions)


def test_separation_gives_no_number(data: pd.DataFrame) -> None:
    """clm itself calls a coefficient of 65 with a standard error of two million converged."""
    frame = data.assign(best=np.where(data["rating"] == 4, "yes", "no"))
    with pytest.raises(um.FitError, match=r"Separation: some combination of best\[T.yes\], 3\|4 predicts"):
        um.fit("rating ~ best + x", frame, "ordinal", family="cumulative")
