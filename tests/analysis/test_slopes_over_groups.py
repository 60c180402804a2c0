"""Slopes of the response that is averaged over the groups: against simulated groups, differences and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

import unimix as um
from unimix.analysis.prediction.variance_error import variance_error


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """Forty groups of twelve rows, whose slopes of x differ."""
    rng = np.random.default_rng(0)
    g, n = np.repeat(np.arange(40), 12), 480
    x, f = rng.normal(size=n), rng.choice(["u", "v"], n)
    effects = rng.normal(size=(40, 2)) @ np.array([[1.2, 0.3], [0.0, 0.8]])
    eta = 0.3 + x * (1 + effects[g, 1]) + effects[g, 0] + 0.5 * (f == "v")
    made = pd.DataFrame({"x": x, "f": f, "g": g, "t": rng.uniform(1, 3, n), "s": rng.uniform(size=n)})
    made["c"] = rng.poisson((5 + 0.4 * x + 0.5 * effects[g, 0] + 0.2 * effects[g, 1] * x) ** 2)
    return made.assign(y=(rng.random(n) < special.expit(eta)).astype(int), k=rng.poisson(made["t"] * np.exp(eta / 2)))


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> um.FitResult:
    return um.fit("y ~ x * f + I(x^2) + (1 + x | g)", data, "pls", family="binomial")


NODES = special.roots_hermitenorm(80)


def by_hand(fit: um.FitResult, x: float, v: bool, beta: np.ndarray, covariance: np.ndarray | None = None) -> float:
    """E h'(eta + u_0 + u_1 x) (eta' + u_1) over the effects (u_0, u_1), by quadrature in two dimensions."""
    root = np.linalg.cholesky(np.asarray(fit.random[0].covariance) if covariance is None else covariance)
    first, second = (a.ravel() for a in np.meshgrid(NODES[0], NODES[0]))
    weight = np.outer(NODES[1], NODES[1]).ravel() / NODES[1].sum() ** 2
    u = root @ np.vstack([first, second])
    b = dict(zip(fit.fixed.terms, beta, strict=True))
    eta = b["Intercept"] + b["f[T.v]"] * v + (b["x"] + b["x:f[T.v]"] * v) * x + b["I(x^2)"] * x**2 + u[0] + u[1] * x
    rate = b["x"] + b["x:f[T.v]"] * v + 2 * b["I(x^2)"] * x + u[1]
    return float(weight @ (special.expit(eta) * special.expit(-eta) * rate))


def test_they_are_the_means_of_each_groups_slope(fit: um.FitResult) -> None:
    """1e-7: two quadratures. Standard errors have derivatives by differences: 1e-6.

    The covariance matrix of all estimates is held against a likelihood by itself in test_over_groups.py; here the
    derivatives about the SDs and the correlation are.
    """
    beta, error_of_variances = np.asarray(fit.fixed.estimate), variance_error(fit)[0]
    assert error_of_variances is not None
    covariance, block = error_of_variances.joint, fit.random[0]
    theta = np.array([*np.log(block.sd), np.arctanh(block.correlation[0][1])])

    def covariance_at(theta: np.ndarray) -> np.ndarray:
        sd, r = np.exp(theta[:2]), np.tanh(theta[2])
        return np.outer(sd, sd) * np.array([[1, r], [r, 1]])

    for x in (-1.5, 0.0, 0.7):
        found = fit.slopes("x", by="f", at={"x": x}, average="groups").table
        for i, v in enumerate((False, True)):
            assert found["estimate"].iloc[i] == pytest.approx(by_hand(fit, x, v, beta), rel=1e-7)
            steps = np.eye(len(beta)) * 1e-4
            gradient = [(by_hand(fit, x, v, beta + s) - by_hand(fit, x, v, beta - s)) / 2e-4 for s in steps]
            for s in np.eye(3) * 1e-4:
                ends = [by_hand(fit, x, v, beta, covariance_at(theta + t * s)) for t in (1, -1)]
                gradient.append((ends[0] - ends[1]) / 2e-4)
            error = np.sqrt(np.array(gradient) @ covariance @ np.array(gradient))
            assert found["std_error"].iloc[i] == pytest.approx(error, rel=1e-6)


def test_they_are_those_of_simulated_groups(fit: um.FitResult) -> None:
    """Half a million groups: four standard errors of their mean slope."""
    effects = np.random.default_rng(1).multivariate_normal([0, 0], np.asarray(fit.random[0].covariance), 500_000)
    new, step = {"x": [0.7], "f": ["v"]}, 1e-5
    low, high = (
        float(fit.predict({"x": [0.7 + s], "f": ["v"]}, level="population", kind="link")[0]) for s in (-step, step)
    )
    eta, rate = (low + high) / 2 + effects @ [1, 0.7], (high - low) / (2 * step) + effects[:, 1]
    made = special.expit(eta) * special.expit(-eta) * rate
    found = float(fit.slopes("x", by="f", at=new, average="groups")["estimate"].iloc[0])
    assert abs(found - made.mean()) < 4 * made.std() / np.sqrt(len(made))


def test_marginal_coefficients_are_those_of_simulated_groups(fit: um.FitResult, data: pd.DataFrame) -> None:
    """GLMMadaptive's marginal_coefs: the regression of the logits of mean responses on the columns; 20,000 groups.

    Their means have an error of 0.5 / sqrt(20,000) at most, and the logits of the middle rows four times that.
    """
    found = np.linalg.lstsq(fit.design().x, special.logit(fit.predict(data, average="groups")), rcond=None)[0]
    effects = np.random.default_rng(3).multivariate_normal([0, 0], np.asarray(fit.random[0].covariance), 20_000)
    eta = fit.predict(data, level="population", kind="link")
    z = fit.design().blocks[0].z
    made = np.array([special.expit(e + effects @ row).mean() for e, row in zip(eta, z, strict=True)])
    brute = np.linalg.lstsq(fit.design().x, special.logit(made), rcond=None)[0]
    np.testing.assert_allclose(found, brute, atol=4 * 4 * 0.5 / np.sqrt(20_000))
    assert abs(found[1]) < abs(fit.fixed_effects.loc["x", "estimate"])  # nearer to zero than within a group


@pytest.mark.parametrize(
    ("response", "family"),
    [
        ("y", um.families.Binomial(link="probit")),
        ("y", um.families.Binomial(link="cloglog")),
        ("k", um.families.Poisson()),
        ("c", um.families.Poisson(link="sqrt")),
    ],
)
def test_they_are_derivatives_of_predictions(response: str, family: Any, data: pd.DataFrame) -> None:
    """Central differences of predict(average="groups"), whose error is 1e-7 of the slope; offsets are held."""
    offset = " + offset(log(t))" if family.link == "log" else ""
    made = um.fit(f"{response} ~ x * f + (1 + x | g){offset}", data, "pls", family=family)
    held = {"t": 2.0} if offset else {}
    found = made.slopes("x", by="f", at={"x": 0.4, **held}, average="groups").table
    changes = [
        made.comparisons("x", newdata={"x": 0.4, "f": f, "t": 2.0}, comparison="dydx", average="groups") for f in "uv"
    ]
    for i, f in enumerate("uv"):
        ends = [made.predict({"x": [0.4 + h], "f": [f], "t": [2.0]}, average="groups")[0] for h in (-1e-3, 1e-3)]
        assert found["estimate"].iloc[i] == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=1e-5)
        assert found["estimate"].iloc[i] == pytest.approx(changes[i]["estimate"].iloc[0], rel=1e-4)
        assert found["std_error"].iloc[i] == pytest.approx(changes[i]["std_error"].iloc[0], rel=1e-4)


def test_their_contrasts_and_hypotheses_have_the_joint_covariance(fit: um.FitResult) -> None:
    slopes = fit.slopes("x", by="f", at={"x": [-1, 0.7]}, average="groups")
    apart = slopes.contrasts(adjust="none").table
    tested = slopes.hypotheses("b0 = b1").table.iloc[0]
    for column in ("estimate", "std_error", "p_value"):
        assert tested[column] == pytest.approx(apart[column].iloc[0], rel=1e-9)
    twice = slopes.contrasts({"u": [-1, 1, 0, 0], "v": [0, 0, -1, 1]}).contrasts("revpairwise").table.iloc[0]
    both = slopes.hypotheses("b3 - b2 = b1 - b0").table.iloc[0]
    assert twice["std_error"] == pytest.approx(both["std_error"], rel=1e-9)
    assert (
        "Slopes of the mean response averaged over the groups with the error of the estimated variances."
        in " ".join(slopes.notes)
    )


def test_a_posterior_draws_them(data: pd.DataFrame) -> None:
    """Of few draws: within half a standard error of Laplace's, and exactly those of a comparison at the same point."""
    formula, part = "y ~ x * f + (1 + x | g)", data[:240]
    drawn = um.fit(formula, part, um.backends.Bayes(draws=100), family="binomial", seed=1)
    found = drawn.slopes("x", by="f", at={"x": 0.7}, average="groups")
    fit = um.fit(formula, part, "pls", family="binomial")
    laplace = fit.slopes("x", by="f", at={"x": 0.7}, average="groups").table
    assert (np.abs(found["estimate"] - laplace["estimate"]) < 0.5 * laplace["std_error"]).all()
    changes = drawn.comparisons("x", newdata={"x": 0.7, "f": "v"}, comparison="dydx", average="groups").table
    for column in ("estimate", "std_error", "lower", "upper"):
        assert found[column].iloc[1] == pytest.approx(changes[column].iloc[0], rel=1e-4)
    assert "p_direction" in found.contrasts()
    # contrasts of contrasts of responses that are averaged over the groups, draw by draw
    means = drawn.emmeans(["x", "f"], at={"x": [-1, 0, 1]}, average="groups")
    second = means.contrasts("consecutive", simple="x").contrasts({"it": [1, -1]}).table
    third = means.hypotheses(["(b1 - b0) - (b2 - b1) = 0", "(b4 - b3) - (b5 - b4) = 0"]).table
    for column in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(second[column], third[column], rtol=1e-9)


@pytest.mark.r
def test_engines_agree(fit: um.FitResult, data: pd.DataFrame) -> None:
    """1e-3 of a standard error: the optima of the engines."""
    other = um.fit(fit.formula, data, "lme4", family="binomial")
    found, mine = (m.slopes("x", by="f", average="groups").table for m in (other, fit))
    assert (np.abs(found["estimate"] - mine["estimate"]) < 1e-3 * mine["std_error"]).all()


def test_a_loaded_result_has_them(fit: um.FitResult, data: pd.DataFrame) -> None:
    loaded = um.FitResult.from_json(fit.to_json()).with_data(data)
    pd.testing.assert_frame_equal(
        loaded.slopes("x", by="f", average="groups").table, fit.slopes("x", by="f", average="groups").table, rtol=1e-9
    )


def test_what_has_no_such_slope_is_refused(data: pd.DataFrame) -> None:
    logged = um.fit("log(t) ~ x + (1 | g)", data, "pls")
    with pytest.raises(um.OptionError, match=r"fit.emmeans\('x', at=\{'x': \[0, 1\]\}, kind='response', bias_adjust"):
        logged.slopes("x", average="groups")
    steep = um.fit(
        "y ~ s + (0 + sqrt(s) | g)", data.assign(s=np.where(data["s"] < 0.1, 0, data["s"])), "pls", family="binomial"
    )
    with pytest.raises(um.DataError, match="the random effects' columns have no slope at s = 0"):
        steep.slopes("s", at={"s": 0}, average="groups")


def test_an_offset_and_a_slope_of_its_own_move_with_the_predictor(data: pd.DataFrame) -> None:
    """log(t) as offset and as random slope: central differences of predict(average="groups"), 1e-7."""
    fit = um.fit("k ~ x * f + offset(log(t)) + (1 + log(t) | g)", data, "pls", family="poisson")
    found = fit.slopes("t", by="f", at={"t": 2.0, "x": 0.5}, average="groups")["estimate"]
    for i, f in enumerate("uv"):
        ends = fit.predict({"f": [f] * 2, "x": [0.5] * 2, "t": [2 - 1e-4, 2 + 1e-4]}, average="groups")
        assert found.iloc[i] == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=1e-7)


def test_a_level_without_rows_has_no_slope_of_its_response(data: pd.DataFrame) -> None:
    """Its slope on the link scale is known, as that of all levels; its response is not."""
    part = data.assign(h=np.tile(list("pqr"), 160))
    fit = um.fit("k ~ f * h + x + (1 | g)", part[~((part["f"] == "v") & (part["h"] == "r"))], "pls", family="poisson")
    found = fit.slopes("x", by=["f", "h"], average="groups")
    assert found["estimate"].isna().tolist() == [False] * 5 + [True]
    assert fit.slopes("x", by=["f", "h"])["estimate"].notna().all()
    assert len(found.contrasts(adjust="none")) == 10
    assert "'u, p - v, r'" in found.contrasts(adjust="none").notes[-1]
    with pytest.raises(um.DataError, match="Slopes of x: 1 of 1 rows cannot be estimated"):
        fit.slopes("x", at={"f": "v", "h": "r"}, average="groups")
