"""Cluster-robust standard errors: against clubSandwich, the paper's formulas, statsmodels and simulation."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, special, stats

import unimix as um
from unimix.stats.cluster_robust import Cluster, sandwich

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "robust_r.json").read_text())
# formula, data, clusters, and the coefficients that are tested together
MODELS = {
    "sleep": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", "Subject", [1]),
    "pigs": ("Weight ~ Time * Cu + Evit + (1 + Time | Pig)", "dietox", "Pig", [2, 3]),
    "litters": ("Weight ~ Time * Cu + (1 | Litter) + (1 | Pig)", "dietox", "Litter", [4, 5]),
    "plain": ("distance ~ Sex * age", "orthodont", "Subject", [1, 3]),
}


def fitted(name: str) -> tuple[um.FitResult, Any]:
    formula, dataset, cluster, _ = MODELS[name]
    data = um.load_dataset(dataset)
    return um.fit(formula, data, "pls"), data[cluster] if name == "plain" else cluster


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_clubsandwich(name: str) -> None:
    """1e-6: lme4's optimum and ours differ by about 1e-8; without random effects the numbers agree to 1e-13."""
    fit, cluster = fitted(name)
    for kind, expected in R[name].items():
        robust = fit.robust(kind, cluster)
        np.testing.assert_allclose(robust.fixed.std_error, expected["std_error"], rtol=1e-6)
        np.testing.assert_allclose(robust.fixed.df, expected["df"], rtol=1e-6)
        joint = robust.hypotheses([f"b{i} = 0" for i in MODELS[name][3]], joint=True).table.iloc[0]
        assert joint["F"] == pytest.approx(expected["F"], rel=1e-6)
        assert joint["den_df"] == pytest.approx(expected["den_df"], rel=1e-6)
        assert joint["p_value"] == pytest.approx(expected["p_value"], rel=1e-5)


def dense(clusters: list[Cluster], weights: np.ndarray) -> tuple[np.ndarray, float]:
    """CR2, and eta of the Hotelling-Zhang test, with all rows in one matrix (Pustejovsky & Tipton 2018, section 3)."""
    x = np.vstack([c.x for c in clusters])
    n, ends = len(x), np.cumsum([0, *(len(c.x) for c in clusters)])
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    v = np.zeros((n, n))
    for part, c in zip(parts, clusters, strict=True):
        v[part, part] = c.v
    bread = np.linalg.inv(x.T @ np.linalg.solve(v, x))
    residual_maker = np.eye(n) - x @ bread @ x.T @ np.linalg.inv(v)
    error = residual_maker @ v @ residual_maker.T
    meat, lines = np.zeros_like(bread), []
    for part, c in zip(parts, clusters, strict=True):
        root = special_root(c.v, 0.5)  # any root gives the same adjustment: here the symmetric one
        adjusted = root @ special_root(root @ error[part, part] @ root, -0.5) @ root
        line = bread @ c.x.T @ np.linalg.inv(c.v) @ adjusted
        meat += np.outer(line @ c.residual, line @ c.residual)
        lines.append(weights @ line @ residual_maker[part])
    omega = sum(line @ v @ line.T for line in lines)
    turned = [special_root(omega, -0.5) @ line for line in lines]
    total = 0.0
    for a in turned:
        for b in turned:
            u = a @ v @ b.T
            total += np.sum(np.outer(np.diag(u), np.diag(u))) + np.sum(u * u.T)
    return meat, len(weights) * (len(weights) + 1) / total


def special_root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-10 * values.max()
    return np.asarray((vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T)


def test_three_hypotheses_together_follow_the_paper() -> None:
    rng = np.random.default_rng(3)
    clusters = []
    for size in (3, 5, 4, 6, 2, 7, 4, 5):
        root = rng.normal(size=(size, size))
        clusters.append(Cluster(rng.normal(size=(size, 4)), rng.normal(size=size), root @ root.T + np.eye(size)))
    weights = rng.normal(size=(3, 4))
    found = sandwich(clusters, "CR2")
    covariance, eta = dense(clusters, weights)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-8)
    beta = rng.normal(size=4)
    statistic, q, denominator, _ = found.hotelling(weights, beta)
    assert (q, denominator) == (3, pytest.approx(eta - 2, rel=1e-8))
    wald = weights @ beta @ np.linalg.solve(weights @ covariance @ weights.T, weights @ beta)
    assert statistic == pytest.approx((eta - 2) / (3 * eta) * wald, rel=1e-8)
    assert found.hotelling(weights[:1], beta)[2] == pytest.approx(found.df(weights[:1])[0], rel=1e-10)


def test_units_of_the_predictors_do_not_matter() -> None:
    """Days in nanodays: the columns are made orthonormal first."""
    data = um.load_dataset("sleepstudy").assign(Small=lambda d: d["Days"] * 1e9)
    plain = um.fit("Reaction ~ Days + (Days | Subject)", data, "pls").robust()
    small = um.fit("Reaction ~ Small + (Small | Subject)", data, "pls").robust()
    np.testing.assert_allclose(small.fixed.std_error * [1, 1e9], plain.fixed.std_error, rtol=1e-6)
    np.testing.assert_allclose(small.fixed.df, plain.fixed.df, rtol=1e-6)


def test_a_generalised_linear_model_has_the_errors_of_statsmodels() -> None:
    ticks = um.load_dataset("grouseticks")
    fit = um.fit("TICKS ~ YEAR + cHEIGHT", ticks, "pls", family="poisson")
    design = fit.design()
    codes = pd.factorize(ticks["BROOD"])[0]
    own = sm.GLM(design.y, design.x, family=sm.families.Poisson())
    found = own.fit(tol=1e-12, cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False})
    np.testing.assert_allclose(fit.robust("CR0", ticks["BROOD"]).fixed.std_error, found.bse, rtol=1e-6)
    ratio = fit.robust("CR1", ticks["BROOD"]).fixed.std_error / fit.robust("CR0", ticks["BROOD"]).fixed.std_error
    count = codes.max() + 1
    np.testing.assert_allclose(ratio, np.sqrt(count / (count - 1)), rtol=1e-12)


def test_a_generalised_mixed_model_has_whites_errors_of_its_own_likelihood(herds: um.FitResult) -> None:
    """Laplace's approximation of every herd written down, and differentiated numerically: 1e-5 of a standard error."""
    design = herds.design()
    codes, trials = design.blocks[0].codes, np.asarray(design.trials)
    successes = design.y * trials

    def value(theta: np.ndarray, herd: int) -> float:
        rows = codes == herd
        fixed, k, n = design.x[rows] @ theta[:-1], successes[rows], trials[rows]

        def penalised(u: float) -> float:
            eta = fixed + theta[-1] * u
            return float(-(k * eta - n * np.logaddexp(0, eta)).sum() + u * u / 2)

        mode = 0.0
        for _ in range(20):  # Newton's method
            p = special.expit(fixed + theta[-1] * mode)
            step = theta[-1] * (k - n * p).sum() - mode
            mode += step / (1 + theta[-1] ** 2 * (n * p * (1 - p)).sum())
        p = special.expit(fixed + theta[-1] * mode)
        return -penalised(mode) - 0.5 * float(np.log1p(theta[-1] ** 2 * (n * p * (1 - p)).sum()))

    at = np.append(herds.fixed.estimate, herds.random[0].sd)
    steps = np.eye(len(at)) * 1e-3

    def scores(theta: np.ndarray) -> np.ndarray:
        return np.array(
            [[(value(theta + d, j) - value(theta - d, j)) / 2e-3 for d in steps] for j in range(codes.max() + 1)]
        )

    hessian = np.array([(scores(at + d).sum(axis=0) - scores(at - d).sum(axis=0)) / 2e-3 for d in steps])
    moved = scores(at) @ np.linalg.inv(-hessian)
    np.testing.assert_allclose(herds.robust("CR0").fixed.std_error, np.sqrt(np.diag(moved.T @ moved))[:-1], rtol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_dispersion_parameters_within_bounds_have_their_own_scale(sign: int) -> None:
    """A skew normal response: White's errors of its density, by scipy's skewnorm, differentiated numerically.

    Only the span of the parameters matters: here location, logarithm of the scale and shape. 1e-4 is what differences
    of differences leave.
    """
    rng = np.random.default_rng(4)
    x, codes = rng.normal(size=300), np.repeat(np.arange(30), 10)
    y = sign * (0.4 * rng.normal(size=30)[codes] + stats.skewnorm(5).rvs(300, random_state=rng)) + 0.3 * x
    fit = um.fit("y ~ x", {"y": y, "x": x}, "pls", family="skew_normal")

    def values(theta: np.ndarray) -> np.ndarray:
        scale, shape = np.exp(theta[2]), theta[3]
        shift = scale * shape / np.sqrt(1 + shape**2) * np.sqrt(2 / np.pi)  # of the mean from the location
        return np.asarray(stats.skewnorm.logpdf(y, shape, theta[0] + theta[1] * x - shift, scale))

    start = [*fit.fixed.estimate, np.log(1.2), 3.0 * sign]
    at = optimize.minimize(
        lambda t: -values(t).sum(), start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}
    ).x
    assert fit.fixed.estimate == pytest.approx(at[:2], abs=1e-4)
    steps = 1e-4 * np.eye(4)
    scores = np.array([(values(at + d) - values(at - d)) / 2e-4 for d in steps]).T
    hessian = np.array(
        [
            [
                (values(at + a + b) - values(at + a - b) - values(at - a + b) + values(at - a - b)).sum() / 4e-8
                for b in steps
            ]
            for a in steps
        ]
    )
    by_cluster = np.array([scores[codes == j].sum(axis=0) for j in range(30)])
    moved = by_cluster @ np.linalg.inv(hessian)
    expected = np.sqrt(np.diag(moved.T @ moved))[:2]
    np.testing.assert_allclose(fit.robust("CR0", codes).fixed.std_error, expected, rtol=1e-3)


def test_everything_after_the_fit_takes_them() -> None:
    data = um.load_dataset("orthodont")
    fit = um.fit("distance ~ Sex * age + (1 | Subject)", data, "pls")
    robust = fit.robust()
    v, terms = np.asarray(robust.fixed.covariance), list(robust.fixed.terms)
    error = float(np.sqrt(v[terms.index("age"), terms.index("age")]))
    slopes = robust.slopes("age", by="Sex").table
    assert slopes["std_error"].iloc[0] == pytest.approx(error)
    assert slopes["df"].iloc[0] == pytest.approx(robust.fixed_effects.loc["age", "df"])
    changes = robust.comparisons("age", by="Sex").table
    assert changes["std_error"].iloc[0] == pytest.approx(error)
    assert robust.hypotheses("age = 0").table["std_error"].iloc[0] == pytest.approx(error)
    tests = robust.anova()
    assert tests["F"]["Sex:age"] == pytest.approx(robust.fixed_effects["statistic"].iloc[-1] ** 2)
    assert "Hotelling-Zhang" in str(tests)
    assert "sum_sq" not in tests
    row = np.array([1, 0, 9, 0])
    interval = robust.predict({"Sex": ["Male"], "age": [9]}, level="population", interval="confidence").table
    assert interval["std_error"].iloc[0] == pytest.approx(np.sqrt(row @ v @ row))
    assert interval["std_error"].iloc[0] == pytest.approx(
        robust.emmeans("Sex", at={"age": 9}).table["std_error"].iloc[0]
    )
    assert robust.confint(parameters="age").table.iloc[0, 1:].tolist() == pytest.approx(
        robust.fixed_effects.loc["age", ["lower", "upper"]].tolist()
    )
    assert "cluster-robust standard errors (CR2, 27 clusters of Subject)" in str(um.table([fit, robust]))
    assert "cluster-robust" in robust.summary()
    assert "CR2, 27 clusters of Subject" in str(robust.emmeans("Sex"))
    normal = robust.emmeans("Sex", df_method="normal").table
    assert np.isinf(normal["df"]).all()
    np.testing.assert_allclose(normal["std_error"], robust.emmeans("Sex").table["std_error"])
    np.testing.assert_array_equal(robust.predict(), fit.predict())
    with pytest.raises(um.OptionError, match="cluster-robust standard errors have 'satterthwaite'"):
        robust.emmeans("Sex", df_method="kenward-roger")


def test_loaded_and_pickled_fits_have_them(herds: um.FitResult) -> None:
    fit, cluster = fitted("sleep")
    data = um.load_dataset("sleepstudy")
    expected = fit.robust("CR2", cluster)
    loaded = um.FitResult.from_json(fit.to_json()).with_data(data)
    np.testing.assert_allclose(loaded.robust("CR2", cluster).fixed.std_error, expected.fixed.std_error, rtol=1e-10)
    again = pickle.loads(pickle.dumps(expected)).with_data(data)
    np.testing.assert_allclose(again.slopes("Days").table["df"], expected.slopes("Days").table["df"], rtol=1e-10)
    of_herds = um.FitResult.from_json(herds.to_json()).with_data(um.load_dataset("cbpp")).robust("CR1")
    np.testing.assert_allclose(of_herds.fixed.std_error, herds.robust("CR1").fixed.std_error, rtol=1e-8)
    assert "CR1, 15 clusters of herd" in str(of_herds.emmeans("period"))


def test_labels_are_those_of_the_rows_that_were_fitted() -> None:
    data = um.load_dataset("orthodont")
    holes = data.assign(age=data["age"].where(data.index % 9 != 4))
    fit = um.fit("distance ~ Sex * age", holes, "pls")
    whole = fit.robust("CR2", data["Subject"])
    part = fit.robust("CR2", data["Subject"][holes["age"].notna()].tolist())
    np.testing.assert_array_equal(whole.fixed.std_error, part.fixed.std_error)
    assert "27 clusters of Subject" in whole.fixed.std_error_kind


def test_what_has_no_robust_errors_is_refused(herds: um.FitResult) -> None:
    fit, _ = fitted("litters")
    with pytest.raises(um.OptionError, match="kind='CR9': choose CR0"):
        fit.robust("CR9")  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="rows of one level of Litter are in several clusters"):
        fit.robust("CR2", "Pig")
    with pytest.raises(um.OptionError, match=r"cluster='pig' is not a grouping factor.*Did you mean 'Pig'"):
        fit.robust("CR2", "pig")
    with pytest.raises(um.OptionError, match="cluster= has 3 labels, and the data have 861 rows"):
        fit.robust("CR2", [1, 2, 3])
    with pytest.raises(um.OptionError, match="all rows are in one cluster"):
        fit.robust("CR2", np.ones(861))
    with pytest.raises(um.OptionError, match="has no grouping factor: say by cluster="):
        fitted("plain")[0].robust()
    with pytest.raises(um.OptionError, match="choose 'CR0' or 'CR1'"):
        herds.robust("CR2")
    crossed = um.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", um.load_dataset("penicillin"), "pls")
    with pytest.raises(um.OptionError, match="none is outermost"):
        crossed.robust()
    teeth = um.load_dataset("orthodont")
    per_sex = um.fit("distance ~ Sex * age", teeth, "pls")
    with pytest.raises(um.UnsupportedModelError, match="without one of the clusters of Sex"):
        per_sex.robust("CR3", "Sex")
    robust = fit.robust()
    asked: dict[str, Any] = {
        "drop1": lambda: um.drop1(robust),
        "anova": lambda: um.anova(robust, fit),
        "ranova": lambda: um.ranova(robust),
        "bootstrap_test": lambda: um.bootstrap_test(robust, fit, 2),
    }
    for name, ask in asked.items():
        with pytest.raises(um.UnimixError, match=rf"um\.{name} compares likelihoods[\s\S]*robust\.anova"):
            ask()
    with pytest.raises(um.UnimixError, match=r"um\.power .* model-based standard errors"):
        um.power(robust, "Time", n_sim=2)
    for name in ("certificate", "draws", "bootstrap", "to_json", "influence", "simulate", "heterogeneity"):
        with pytest.raises(um.UnimixError, match=f"{name} follows from the estimated variances"):
            getattr(robust, name)()
    with pytest.raises(um.UnimixError, match="plot follows from"):
        _ = robust.plot
    for arguments in ({"interval": "confidence"}, {"interval": "prediction", "level": "population"}):
        with pytest.raises(um.OptionError, match="level='population', interval='confidence'"):
            robust.predict(**arguments)
    with pytest.raises(um.OptionError, match="cluster-robust intervals are Wald"):
        robust.confint("profile")


def test_a_posterior_has_none() -> None:
    posterior = um.fit(
        "distance ~ age + (1 | Subject)", um.load_dataset("orthodont"), um.backends.Bayes(draws=100), seed=1
    )
    with pytest.raises(um.UnimixError, match="A posterior has no cluster-robust standard errors"):
        posterior.robust()


def test_intervals_hold_where_the_model_is_wrong() -> None:
    """A random slope that the model leaves out: 12 clusters, 300 data sets. CR2's 95% intervals hold 95% of the time
    (binomial standard error 1.3%, bounds at 3); those of the model hold less than 80%, because the slope's variance is
    taken for residual.
    """
    rng = np.random.default_rng(11)
    clusters, n, held = 12, 8, np.zeros(300, dtype=bool)
    x = np.tile(np.linspace(-1, 1, n), (clusters, 1))
    model = []
    for i in range(len(held)):
        y = rng.normal(size=(clusters, 1)) + (0.5 + rng.normal(size=(clusters, 1))) * x + rng.normal(size=(clusters, n))
        columns = np.stack([np.ones(n), x[0]], axis=1)
        v = np.ones((n, n)) + np.eye(n)
        beta = np.linalg.lstsq(np.vstack([columns] * clusters), y.ravel())[0]  # GLS and OLS agree in this layout
        parts = [Cluster(columns, row - columns @ beta, v) for row in y]
        found = sandwich(parts, "CR2")
        reach = float(special.stdtrit(found.df(np.eye(2))[1], 0.975))
        held[i] = abs(beta[1] - 0.5) < reach * np.sqrt(found.covariance[1, 1])
        model.append(abs(beta[1] - 0.5) < 1.96 * np.sqrt(1 / (clusters * np.sum(x[0] ** 2))))
    assert 0.91 < held.mean() < 0.99
    assert np.mean(model) < 0.8
