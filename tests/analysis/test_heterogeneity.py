"""Known variances of rows: estimates, verbs, and the heterogeneity of a meta-analysis.

References are metafor 3.8-1 (R 4.2) on its own data sets dat.bcg (log risk ratios) and dat.konstantopoulos2011:
``rma(yi, vi)``, ``rma(yi, vi, mods = ~ ablat)``, with ``test = "knha"`` and ``confint``, and
``rma.mv(yi, vi, random = ~ 1 | district/school)``. The coefficients, Q, I2 and H2 of the first are also printed in
metafor's README. metafor stops its search for tau^2 at changes of 1e-5, hence the tolerances of 2e-4 beside it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import unimix as um
from support.satterthwaite import df_by_differences

CLOSE = partial(pytest.approx, rel=2e-4)
VACCINATED = [(4, 119), (6, 300), (3, 228), (62, 13536), (33, 5036), (180, 1361), (8, 2537)]
VACCINATED += [(505, 87886), (29, 7470), (17, 1699), (186, 50448), (5, 2493), (27, 16886)]
CONTROLS = [(11, 128), (29, 274), (11, 209), (248, 12619), (47, 5761), (372, 1079), (10, 619)]
CONTROLS += [(499, 87892), (45, 7232), (65, 1600), (141, 27197), (3, 2338), (29, 17825)]
LATITUDE = [44, 55, 42, 52, 13, 44, 19, 13, 27, 42, 18, 33, 33]


def bcg() -> pd.DataFrame:
    """Log risk ratios of 13 trials of the BCG vaccine (Colditz et al. 1994), with their known variances."""
    (a, b), (c, d) = (np.array(x, dtype=float).T for x in (VACCINATED, CONTROLS))
    y = np.log((a / (a + b)) / (c / (c + d)))
    v = 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    return pd.DataFrame({"yi": y, "vi": v, "w": 1 / v, "ablat": LATITUDE, "study": [f"s{k}" for k in range(13)]})


def schools(seed: int = 3) -> pd.DataFrame:
    """Estimates of schools within districts, with known variances."""
    rng = np.random.default_rng(seed)
    district = np.repeat(np.arange(11), rng.integers(2, 8, size=11))
    v = rng.uniform(0.02, 0.2, size=len(district))
    y = 0.2 + rng.normal(0, 0.4, 11)[district] + rng.normal(0, 0.3, len(v)) + rng.normal(0, np.sqrt(v))
    x = rng.normal(size=len(v))
    columns = {"yi": y + 0.3 * x, "vi": v, "w": 1 / v, "x": x, "district": district, "school": np.arange(len(v))}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def trials() -> um.FitResult:
    return um.fit("yi ~ 1 + (1 | study)", bcg(), weights="w", sigma=1)


@pytest.fixture(scope="module")
def latitude() -> um.FitResult:
    return um.fit("yi ~ ablat + (1 | study)", bcg(), weights="w", sigma=1)


@pytest.fixture(scope="module")
def nested() -> um.FitResult:
    return um.fit("yi ~ x + (1 | district/school)", schools(), weights="w", sigma=1)


def dense(y: np.ndarray, x: np.ndarray, v: np.ndarray, reml: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """(Restricted) log likelihood, in lme4's convention, coefficients and their covariance, at V written out."""
    inverse = np.linalg.inv(v)
    cov = np.linalg.inv(x.T @ inverse @ x)
    beta = cov @ x.T @ inverse @ y
    rest = y - x @ beta
    n, p = x.shape
    value = -0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + rest @ inverse @ rest)
    if reml:
        value += 0.5 * (p * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1])
    return float(value), beta, cov


def test_bcg_is_that_of_metafor(trials: um.FitResult) -> None:
    assert trials.fixed.estimate[0] == CLOSE(-0.714532348)
    assert np.sqrt(trials.fixed.covariance[0, 0]) == CLOSE(0.179781532)
    # metafor adds log|X'X| / 2 to the restricted likelihood
    assert trials.log_likelihood + 0.5 * np.log(13) == pytest.approx(-12.2023714155, abs=1e-6)
    assert trials.criteria.n_parameters == 2
    found = trials.heterogeneity()
    assert (found.q, found.df, found.i2, found.h2) == CLOSE((152.233008, 12, 0.92221386, 12.8557608))
    assert found.p_value == CLOSE(1.99676459e-26)
    row = found.table.loc["study"]
    assert row[["tau2", "std_error", "lower", "upper"]].tolist() == CLOSE(
        [0.313243326, 0.166425783, 0.119695312817, 1.11148626222]
    )
    fixed = found.fixed.loc["Intercept"]
    assert fixed[["std_error", "df", "p_value", "lower", "upper"]].tolist() == CLOSE(
        [0.180791745519, 12, 0.00192001508, -1.108443723, -0.320620974]
    )
    # metafor's README: predict(rma(test = "knha"), transf = exp) gives the prediction interval 0.14 to 1.76
    assert np.exp(found.prediction[["lower", "upper"]].to_numpy()[0]) == pytest.approx([0.14, 1.76], abs=0.005)
    assert "I2 = 92.2%" in str(found)


def test_predictors_are_those_of_metafor(latitude: um.FitResult) -> None:
    found = latitude.heterogeneity({"ablat": [10, 50]})
    assert found.table.loc["study", ["tau2", "lower", "upper"]].tolist() == pytest.approx(
        [0.0763546947, 0.016687848561, 0.784864028], rel=6e-4
    )
    assert (found.q, found.i2, found.h2, found.p_value) == CLOSE(
        (30.7330900107, 0.683931305, 3.16386917, 0.001214290987)
    )
    assert found.fixed["std_error"].tolist() == CLOSE([0.28393003742, 0.00820154179601])
    assert found.fixed["p_value"].tolist() == CLOSE([0.394751838, 0.00456554558896])
    assert found.prediction[["estimate", "lower", "upper"]].to_numpy().ravel().tolist() == CLOSE(
        [-0.0395523149, -0.807052924666, 0.727948294854, -1.2036187520265, -1.948814762868, -0.458422741184]
    )
    assert not len(latitude.heterogeneity().prediction)
    wald = latitude.heterogeneity(tests="wald").fixed
    assert wald["df"].tolist() == list(latitude.fixed.df)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_nested_levels_are_at_the_maximum_of_a_dense_likelihood(method: str) -> None:
    """Another optimiser, Nelder and Mead's, on V written out; both end within 1e-8 of the log likelihood."""
    data = schools()
    fit = um.fit("yi ~ x + (1 | district/school)", data, weights="w", sigma=1, method=method)
    same = np.equal.outer(data["district"].to_numpy(), data["district"].to_numpy()).astype(float)
    x = np.column_stack([np.ones(len(data)), data["x"]])

    def value(sds: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        v = np.diag(data["vi"]) + sds[0] ** 2 * same + sds[1] ** 2 * np.eye(len(data))
        return dense(data["yi"].to_numpy(), x, v, method == "REML")

    best = optimize.minimize(lambda s: -value(s)[0], [0.3, 0.3], method="Nelder-Mead", options={"xatol": 1e-7})
    ours = value(np.array([b.sd[0] for b in fit.random]))
    assert fit.log_likelihood == pytest.approx(ours[0], abs=1e-9)
    assert fit.log_likelihood == pytest.approx(-best.fun, abs=1e-8)
    assert [b.sd[0] for b in fit.random] == pytest.approx(np.abs(best.x), rel=1e-4)
    assert fit.fixed.estimate == pytest.approx(ours[1], rel=1e-9)
    assert fit.fixed.covariance == pytest.approx(ours[2], rel=1e-9)
    assert fit.sigma == 1.0
    assert fit.certificate().verdict == "certified"


def test_schools_are_those_of_metafor() -> None:
    """I2 by level of rma.mv's model, from the formula on metafor's page on multilevel models, by the dense P."""
    data = schools()
    fit = um.fit("yi ~ 1 + (1 | district/school)", data, weights="w", sigma=1)
    found = fit.heterogeneity()
    w, ones = np.diag(1 / data["vi"]), np.ones((len(data), 1))
    p = w - w @ ones @ np.linalg.inv(ones.T @ w @ ones) @ ones.T @ w
    tau2 = np.array([float(b.covariance[0, 0]) for b in fit.random])
    expected = tau2 / (tau2.sum() + (len(data) - 1) / np.trace(p))
    assert found.table["I2"].tolist() == pytest.approx([*expected, expected.sum()])
    assert found.tests == "wald"
    with pytest.raises(um.UnsupportedModelError, match="kenward-roger"):
        fit.heterogeneity(tests="knapp-hartung")


def test_degrees_of_freedom_by_differences_of_the_dense_likelihood(nested: um.FitResult) -> None:
    """Satterthwaite's 2 v^2 / (g' H^-1 g) from central differences, whose error is about 1e-5."""
    data = schools()
    same = np.equal.outer(data["district"].to_numpy(), data["district"].to_numpy()).astype(float)
    x = np.column_stack([np.ones(len(data)), data["x"]])

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        v = np.diag(data["vi"]) + theta[0] * same + theta[1] * np.eye(len(data))
        value, _, cov = dense(data["yi"].to_numpy(), x, v, True)
        return value, np.diag(cov)

    centre = np.array([float(b.covariance[0, 0]) for b in nested.random])
    assert nested.fixed.df == pytest.approx(df_by_differences(at, centre), rel=1e-3)


def test_kenward_and_roger_use_the_components_alone() -> None:
    """Their matrix from its definition (1997, eq. 3) with V written out; V is linear in both components."""
    data = schools()
    fit = um.fit("yi ~ x + (1 | district/school)", data, weights="w", sigma=1, df_method="kenward-roger")
    same = np.equal.outer(data["district"].to_numpy(), data["district"].to_numpy()).astype(float)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    t = [float(b.covariance[0, 0]) for b in fit.random]
    parts = [same, np.eye(len(data))]
    inverse = np.linalg.inv(np.diag(data["vi"]) + t[0] * parts[0] + t[1] * parts[1])
    phi = np.linalg.inv(x.T @ inverse @ x)
    whole = inverse - inverse @ x @ phi @ x.T @ inverse
    information = 0.5 * np.array([[np.trace(whole @ a @ whole @ b) for b in parts] for a in parts])
    w = np.linalg.inv(information)
    p = [-x.T @ inverse @ a @ inverse @ x for a in parts]
    q = [[x.T @ inverse @ a @ inverse @ b @ inverse @ x for b in parts] for a in parts]
    inner = sum(w[i, j] * (q[i][j] - p[i] @ phi @ p[j]) for i in range(2) for j in range(2))
    adjusted = phi + 2 * phi @ inner @ phi
    assert fit.fixed.std_error == pytest.approx(np.sqrt(np.diag(adjusted)), rel=1e-7)


def test_common_effect_has_z_tests_and_a_closed_form() -> None:
    data = bcg()
    fit = um.fit("yi ~ 1", data, weights="w", sigma=1)
    mean = float(np.average(data["yi"], weights=data["w"]))
    assert (fit.fixed.estimate[0], fit.fixed.std_error[0]) == pytest.approx((mean, data["w"].sum() ** -0.5))
    assert fit.fixed.df_method == "normal"
    value = float(np.sum(-0.5 * np.log(2 * np.pi * data["vi"]) - 0.5 * (data["yi"] - mean) ** 2 / data["vi"]))
    assert fit.log_likelihood == pytest.approx(value)
    assert fit.certificate().verdict == "certified"
    assert fit.confint("profile").table.loc["Intercept", "lower"] == pytest.approx(
        mean - 1.959964 * fit.fixed.std_error[0]
    )
    assert fit.heterogeneity().i2 == pytest.approx(1 - 12 / 152.233008082)


def test_profile_of_the_variance_solves_the_dense_likelihood_ratio(trials: um.FitResult) -> None:
    data, ones = bcg(), np.ones((13, 1))
    y = data["yi"].to_numpy()
    ends = trials.confint("profile", parameters="random").table.loc["sd(Intercept | study)", ["lower", "upper"]]
    best = um.fit("yi ~ 1 + (1 | study)", data, weights="w", sigma=1, method="ML").log_likelihood
    for end in ends:
        value = dense(y, ones, np.diag(data["vi"] + end**2), False)[0]
        assert 2 * (best - value) == pytest.approx(1.959964**2, abs=1e-4)
    assert "sigma" not in trials.confint().table.index


def test_the_test_of_the_variance_compares_restricted_likelihoods(latitude: um.FitResult) -> None:
    """ranova: the model without trial effects has V = diag(v); its restricted likelihood is written out."""
    data = bcg()
    x = np.column_stack([np.ones(13), data["ablat"]])
    alone = dense(data["yi"].to_numpy(), x, np.diag(data["vi"]), True)[0]
    assert um.ranova(latitude).table["log_likelihood"].iloc[1] == pytest.approx(alone, rel=1e-10)


def test_simulations_have_the_known_variances(trials: um.FitResult) -> None:
    """4,000 draws: a variance is known within 2.2 per cent, and ten per cent is four and a half of that."""
    drawn = trials.simulate(4000, seed=1)
    expected = bcg()["vi"] + trials.random[0].sd[0] ** 2
    assert drawn.var(axis=0) == pytest.approx(expected.to_numpy(), rel=0.1)
    kept = trials.simulate(4000, seed=1, effects="kept")
    assert kept.var(axis=0) == pytest.approx(bcg()["vi"].to_numpy(), rel=0.1)


def test_bootstrap_and_saved_results_keep_the_known_variance(trials: um.FitResult) -> None:
    replicates = trials.bootstrap(20, seed=1).replicates
    assert list(replicates.columns) == ["Intercept", "sd(Intercept | study)"]
    assert replicates.notna().all(axis=None)
    loaded = um.FitResult.from_json(trials.to_json()).with_data(bcg())
    assert loaded.heterogeneity().table.equals(trials.heterogeneity().table)
    assert loaded.model.sigma == 1.0
    assert "Residual (known)" in str(trials)


def test_a_level_per_row_with_a_variance_of_zero_is_singular() -> None:
    data = pd.DataFrame({"y": [0.1, 0.12, 0.11, 0.13], "w": [10.0, 12, 9, 11], "g": list("abcd")})
    fit = um.fit("y ~ 1 + (1 | g)", data, weights="w", sigma=1)
    assert fit.status.state == "singular"
    found = fit.heterogeneity()
    assert (found.tau2, found.i2, found.h2) == pytest.approx((0, 0, 1), abs=1e-12)
    assert found.table.loc["g", ["lower", "upper"]].tolist() == [0, 0]


def test_what_needs_an_estimated_residual_variance_is_refused(trials: um.FitResult) -> None:
    for verb in (trials.r2, trials.icc):
        with pytest.raises(um.UnsupportedModelError, match="heterogeneity"):
            verb()
    with pytest.raises(um.UnsupportedModelError, match="Pooling compares"):
        um.pooling("yi ~ 1 + (1 | study)", bcg(), weights="w", sigma=1)
    given = um.fit("yi ~ 1 + (1 | study)", bcg(), weights=1 / bcg()["vi"], sigma=1)
    with pytest.raises(um.DataError, match="known variance"):
        given.predict({"study": "new"}, interval="prediction", new_levels="sample")
    known = trials.predict({"study": "new", "w": 1e12}, interval="prediction", new_levels="sample").table
    inside = given.predict({"study": "new"}, interval="confidence", new_levels="sample").table
    assert known.iloc[0].tolist() == pytest.approx(inside.iloc[0].tolist(), rel=1e-6)


def test_misuse_is_refused_in_words() -> None:
    data = bcg()
    for wrong in (0, -1, "1", float("inf"), True):
        with pytest.raises(um.OptionError, match="sigma="):
            um.fit("yi ~ 1 + (1 | study)", data, weights="w", sigma=wrong)  # type: ignore[arg-type]
    with pytest.raises(um.OptionError, match="Gaussian"):
        um.fit("study ~ 1", data.assign(study=[0, 1] * 6 + [0]), family="binomial", sigma=1)
    with pytest.raises(um.UnsupportedModelError, match="backend='pls'"):
        um.fit("yi ~ 1 + (1 | study)", data, "statsmodels", weights="w", sigma=1)
    with pytest.raises(um.DataError, match="cannot be distinguished"):
        um.fit("yi ~ 1 + (1 | study)", data, weights="w")
    sleep = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
    with pytest.raises(um.UnsupportedModelError, match="sigma=1"):
        sleep.heterogeneity()
