"""Ordered responses in pls: against plain integrals, known truth and R's ordinal; predictions and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special, stats

import unimix as um
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.glmm.separation import separated_categories

FORMULA = "rating ~ x + (1 | g)"


def ratings(seed: int = 1, n_groups: int = 40, n_rows: int = 12) -> pd.DataFrame:
    """Ratings from 1 to 4 with thresholds -1, 0.5 and 2, slope 0.8 and standard deviation 0.7 of the groups."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), n_rows)
    x = rng.normal(size=len(g))
    latent = 0.8 * x + rng.normal(0, 0.7, n_groups)[g] + rng.logistic(size=len(g))
    rating = 1 + np.digitize(latent, [-1.0, 0.5, 2.0])
    return pd.DataFrame({"rating": rating, "x": x, "g": g.astype(str)})


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return ratings()


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> Any:
    return um.fit(FORMULA, data, family="cumulative", backend="pls")


def test_truth(fit: Any) -> None:
    """Within 4 standard errors (480 rows), and the standard deviation within a third."""
    assert fit.converged
    assert abs(fit.fixed.estimate[0] - 0.8) < 4 * fit.fixed.std_error[0]
    table = fit.thresholds
    assert (np.abs(table["estimate"] - [-1.0, 0.5, 2.0]) < 4 * table["std_error"]).all()
    assert fit.random[0].sd[0] == pytest.approx(0.7, rel=0.34)
    assert fit.criteria.n_parameters == 5


def test_without_groups_by_scipy(data: pd.DataFrame) -> None:
    """The likelihood written plainly and maximised by scipy: 1e-7 in the maximum, 1e-4 in estimates."""
    plain = um.fit("rating ~ x", data, family="cumulative", backend="pls")
    codes, x = data["rating"].to_numpy() - 1, data["x"].to_numpy()

    def loss(at: np.ndarray) -> float:
        ends = np.array([-np.inf, at[0], at[0] + np.exp(at[1]), at[0] + np.exp(at[1]) + np.exp(at[2]), np.inf])
        p = special.expit(ends[codes + 1] - at[3] * x) - special.expit(ends[codes] - at[3] * x)
        return -float(np.log(p).sum())

    best = optimize.minimize(loss, [-1.0, 0.0, 0.0, 0.5], method="BFGS", options={"gtol": 1e-6})
    assert plain.log_likelihood == pytest.approx(-best.fun, abs=1e-7)
    assert plain.fixed.estimate[0] == pytest.approx(best.x[3], abs=1e-4)
    gaps = best.x[0] + np.concatenate([[0.0], np.cumsum(np.exp(best.x[1:3]))])
    np.testing.assert_allclose(plain.thresholds["estimate"], gaps, atol=1e-4)
    # the delta method for the thresholds: BFGS's own inverse Hessian is rough, so that it is computed by differences
    step, d = 1e-4, np.eye(4) * 1e-4
    hessian = np.array(
        [
            [loss(best.x + a + b) - loss(best.x + a - b) - loss(best.x - a + b) + loss(best.x - a - b) for b in d]
            for a in d
        ]
    ) / (4 * step**2)
    turn = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, np.exp(best.x[1]), 0.0, 0.0]])
    errors = np.sqrt(np.diag(turn @ np.linalg.inv(hessian) @ turn.T))
    np.testing.assert_allclose(plain.thresholds["std_error"].iloc[:2], errors, rtol=1e-3)


def test_quadrature_against_integrals(data: pd.DataFrame) -> None:
    """One group at a time by adaptive integration at pls's estimates, to 1e-6 (25 nodes)."""
    few = data[data["g"].astype(int) < 10]
    found = um.fit(FORMULA, few, family="cumulative", backend="pls", method="AGQ")
    ends = np.concatenate([[-np.inf], found.thresholds["estimate"], [np.inf]])
    sd, slope = float(found.random[0].sd[0]), float(found.fixed.estimate[0])

    def likelihood(rows: pd.DataFrame) -> float:
        codes, eta = rows["rating"].to_numpy() - 1, slope * rows["x"].to_numpy()

        def density(u: float) -> float:
            p = special.expit(ends[codes + 1] - eta - sd * u) - special.expit(ends[codes] - eta - sd * u)
            return float(np.prod(p) * stats.norm.pdf(u))

        return float(np.log(integrate.quad(density, -8, 8, epsabs=0, epsrel=1e-9)[0]))

    assert found.log_likelihood == pytest.approx(sum(likelihood(rows) for _, rows in few.groupby("g")), abs=1e-6)


def test_saved_and_loaded(fit: Any, data: pd.DataFrame) -> None:
    loaded = um.FitResult.from_json(fit.to_json())
    assert loaded == fit
    pd.testing.assert_frame_equal(loaded.thresholds, fit.thresholds)
    assert loaded.with_data(data).family == fit.family
    assert "Thresholds (flexible)" in fit.summary()
    assert list(fit.tidy("thresholds")["term"]) == ["1|2", "2|3", "3|4"]


def test_certificate(fit: Any) -> None:
    certificate = fit.certificate()
    assert certificate.verdict == "certified", str(certificate)
    assert "standard errors of the thresholds" in str(certificate)


def test_forms_of_the_response(fit: Any, data: pd.DataFrame) -> None:
    """Integers, ordered categories, and text with an order are the same model; another order is another one."""
    names = np.array(["none", "some", "much", "most"])
    text = data.assign(rating=names[data["rating"] - 1])
    ordered = text.assign(rating=pd.Categorical(text["rating"], categories=list(names), ordered=True))
    given = um.fit(FORMULA, text, family=um.families.cumulative(categories=list(names)), backend="pls")
    declared = um.fit(FORMULA, ordered, family="cumulative", backend="pls")
    for other in (given, declared):
        assert other.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-9)
        assert list(other.thresholds.index) == ["none|some", "some|much", "much|most"]
    with pytest.raises(um.DataError, match="is text, whose values have no order"):
        um.fit(FORMULA, text, family="cumulative", backend="pls")
    with pytest.raises(um.DataError, match="categorical without an order"):
        um.fit(FORMULA, ordered.assign(rating=ordered["rating"].cat.as_unordered()), family="cumulative")


@pytest.mark.parametrize(
    ("change", "formula", "told"),
    [
        (lambda d: d.assign(rating=d["rating"] + 0.5), FORMULA, "are not whole numbers"),
        (lambda d: d.assign(rating=(d["rating"] > 2).astype(int)), FORMULA, "Two categories are family='binomial'"),
        (lambda d: d, "rating ~ 0 + x + (1 | g)", "leaves the intercept out"),
        (lambda d: d.assign(rating=np.arange(len(d))), FORMULA, "more than the 60 categories"),
    ],
)
def test_nonsense_is_refused(data: pd.DataFrame, change: Any, formula: str, told: str) -> None:
    with pytest.raises(um.DataError, match=told):
        um.fit(formula, change(data), family="cumulative", backend="pls")


def test_empty_categories(data: pd.DataFrame) -> None:
    gap = data.assign(rating=data["rating"].replace({4: 6}))
    with pytest.raises(um.DataError, match="equidistant thresholds depend on it"):
        um.fit(FORMULA, gap, family=um.families.cumulative(threshold="equidistant"), backend="pls")


def _gain(design: Any, move: np.ndarray) -> np.ndarray:
    """Change of every row's log probability along a direction of (coefficients, thresholds), at far multiples of it."""
    rng = np.random.default_rng(1)
    cuts, beta = np.sort(rng.normal(size=len(move) - design.p)), rng.normal(size=design.p)

    def rows(times: float) -> np.ndarray:
        at = np.concatenate([beta, cuts]) + times * move
        ends = np.concatenate([[-np.inf], at[design.p :], [np.inf]])
        codes, eta = design.y.astype(int), design.x @ at[: design.p]
        return np.log(special.expit(ends[codes + 1] - eta) - special.expit(ends[codes] - eta))

    return rows(5.0) - rows(0.0)


@pytest.mark.parametrize(
    ("formula", "named"),
    [("y ~ apart", ("apart", "0|1", "1|2")), ("y ~ z + low", ("low",)), ("y ~ z", ()), ("y ~ middle", ())],
)
def test_separated_categories(formula: str, named: tuple[str, ...]) -> None:
    """``apart`` orders all rows, ``low`` is 1 in lowest categories only, ``middle`` in middle ones only.

    Along the direction that separates, no row's probability falls: more of ``apart`` and thresholds between its values,
    or less of ``low``. ``middle`` raises no probability without end, because a middle category is bounded on two sides.
    """
    rng, y = np.random.default_rng(2), np.repeat([0, 1, 2], 30)
    frame = pd.DataFrame({"y": y, "z": rng.normal(size=90), "apart": y + 0.1 * rng.random(90)})
    frame["low"] = ((y == 0) & (np.arange(90) % 3 == 0)).astype(float)
    frame["middle"] = ((y == 1) & (np.arange(90) % 3 == 0)).astype(float)
    design = build_design(parse(formula), frame, family="cumulative")
    assert separated_categories(design) == named
    if not named:
        assert um.fit(formula, frame, family="cumulative").certificate().verdict == "certified"
        return
    move = {"apart": np.array([1.0, 0.5, 1.5]), "low": np.array([0.0, -1.0, 0.0, 0.0])}[named[0]]
    gain = _gain(design, move)
    assert gain.min() > -1e-12
    assert gain.max() > 0.1
    with pytest.raises(um.FitError, match=f"Separation: some combination of {named[0]}"):
        um.fit(formula, frame, family="cumulative")


def test_predictions(fit: Any) -> None:
    """Probabilities add up to one; intervals have the delta method's errors by differences of the estimates."""
    new = {"x": [-1.0, 0.0, 2.0]}
    shares = fit.predict(new, level="population")
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    ends = np.concatenate([[-np.inf], fit.thresholds["estimate"], [np.inf]])
    cuts = special.expit(ends - fit.fixed.estimate[0] * np.array(new["x"])[:, None])
    np.testing.assert_allclose(shares, np.diff(cuts, axis=1), rtol=1e-9)
    mean = fit.predict(new, level="population", kind="mean")
    np.testing.assert_allclose(mean, shares.to_numpy() @ [1, 2, 3, 4], rtol=1e-12)
    above = fit.predict(new, level="population", kind="exceedance")
    np.testing.assert_allclose(above["> 1"], 1 - shares[1], rtol=1e-9)
    part = fit.parts["thresholds"]
    at = np.concatenate([fit.fixed.estimate, part.estimate])
    joint = np.block([[fit.fixed.covariance, part.cross_covariance], [part.cross_covariance.T, part.covariance]])

    def mean_of(p: np.ndarray) -> np.ndarray:
        cuts = special.expit(np.concatenate([[-np.inf], p[1:], [np.inf]]) - p[0] * np.array(new["x"])[:, None])
        return np.diff(cuts, axis=1) @ np.arange(1, 5)

    gradient = np.array([(mean_of(at + d) - mean_of(at - d)) / 2e-5 for d in 1e-5 * np.eye(4)]).T
    table = fit.predict(new, level="population", kind="mean", interval="confidence").table
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(gradient @ joint @ gradient.T)), rtol=1e-6)
    assert (table["lower"] < table["estimate"]).all()
    assert table["upper"].max() < 4


def test_simulated_responses_are_categories(fit: Any) -> None:
    drawn = fit.simulate(20, seed=1)
    assert set(np.unique(drawn)) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "ask",
    [
        lambda fit: fit.fitted,
        lambda fit: fit.residuals(),
        lambda fit: fit.residuals("pearson"),
        lambda fit: fit.r2(),
        lambda fit: fit.icc(),
        lambda fit: fit.robust(),
        lambda fit: fit.influence(),
        lambda fit: fit.augment(),
        lambda fit: fit.draws(5),
        lambda fit: fit.posterior_predictive(5),
        lambda fit: fit.overdispersion(),
        lambda fit: fit.effect_sizes(),
        lambda fit: fit.collinearity(),
        lambda fit: fit.comparisons("x"),
        lambda fit: fit.plot.diagnostics(),
        lambda fit: fit.predict(average="groups"),
        lambda fit: fit.predict(level="group", interval="confidence"),
    ],
)
def test_what_needs_a_number_is_refused(fit: Any, ask: Any) -> None:
    with pytest.raises(um.UnsupportedModelError, match=r"category|Intervals of an ordered response"):
        ask(fit)


def test_other_engines_refuse(data: pd.DataFrame) -> None:
    with pytest.raises(um.UnsupportedModelError, match="backend='pls'"):
        um.fit(FORMULA, data, family="cumulative", backend="bayes")


# library(ordinal); f <- clmm(rating ~ x + (1 | g), data, link = ..., Hess = TRUE, nAGQ = 1 or 15), ordinal 2022.11.16
CLMM = {
    ("logit", "Laplace"): (
        [-1.091079161, 0.375593197, 1.717022941, 0.809642947],
        [0.140516608, 0.131682598, 0.155662949, 0.102017365],
        0.541298643,
        -617.379212722,
    ),
    ("probit", "Laplace"): (
        [-0.6531982548, 0.2291381184, 1.0189844328, 0.4788862343],
        [0.0839869436, 0.0807731028, 0.0897439382, 0.0589485611],
        0.3349705848,
        -618.0655971547,
    ),
    ("logit", "AGQ"): (
        [-1.091489448, 0.375830041, 1.717828136, 0.809749640],
        [0.141040996, 0.132248361, 0.156137194, 0.102022346],
        0.546649918,
        -617.282719799,
    ),
}


@pytest.mark.parametrize(("link", "method"), list(CLMM))
def test_against_clmm(data: pd.DataFrame, link: str, method: str) -> None:
    """R's ordinal: 1e-4 SE where it converged, 2e-3 in errors and 1e-5 in the maximum, which are of its own Hessian."""
    estimates, errors, sd, log_likelihood = CLMM[link, method]
    ours = um.fit(FORMULA, data, family=f"cumulative({link})", method=method)
    found = np.concatenate([ours.thresholds["estimate"], ours.fixed.estimate])
    np.testing.assert_allclose(found, estimates, atol=1e-3 * min(errors))
    np.testing.assert_allclose(np.concatenate([ours.thresholds["std_error"], ours.fixed.std_error]), errors, rtol=2e-3)
    assert ours.random[0].sd[0] == pytest.approx(sd, rel=1e-3)
    assert ours.log_likelihood == pytest.approx(log_likelihood, abs=1e-5)
