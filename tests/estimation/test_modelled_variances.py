"""``dispformula=`` of linear models: against an n x n density that is written down here, closed forms and truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_normal import dense_normal
from scipy import optimize, stats

import unimix as um

METHODS = ("REML", "ML")
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "groups": ("y ~ x * arm + (x | id)", {"dispformula": "~ arm"}),
    "cell means": ("y ~ x + (1 | id)", {"dispformula": "~ 0 + arm"}),
    "covariate and weights": ("y ~ x + arm", {"dispformula": "~ visit + arm", "weights": "w"}),
    "crossed": ("moved ~ x + (1 | id) + (1 | visit)", {"dispformula": "~ arm"}),
    "offset": ("y ~ x + offset(w) + (1 | id)", {"dispformula": "~ x"}),
    "ar1": ("y ~ x + arm + (1 | id)", {"dispformula": "~ arm", "residual": "ar1(visit | id)", "weights": "w"}),
    "us": ("y ~ x * arm", {"dispformula": "~ arm", "residual": "us(visit | id)"}),
}


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """36 persons in two arms, up to five visits, and residuals three times as variable in one arm."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"id": np.repeat(np.arange(36), 5), "visit": np.tile(np.arange(5), 36)})
    frame["arm"] = np.where(frame["id"] % 2 == 0, "a", "b")
    frame["x"], frame["w"] = rng.normal(size=180), rng.uniform(0.5, 2.0, 180)
    root = np.linalg.cholesky(0.5 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    noise = (rng.normal(size=(36, 5)) @ root.T).ravel() * np.where(frame["arm"] == "a", 1.0, 3.0)
    effects = rng.normal(size=(36, 2)) * [2.0, 0.7]
    frame["y"] = 3 + frame["x"] + effects[frame["id"], 0] + effects[frame["id"], 1] * frame["x"] + noise
    frame["moved"] = frame["y"] + np.array([0.0, 2.0, -2.0, 4.0, -4.0])[frame["visit"]]
    return frame[rng.uniform(size=180) < 0.9].sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def fits(trial: pd.DataFrame) -> dict[tuple[str, str], um.FitResult]:
    return {(name, m): um.fit(f, trial, method=m, **more) for name, (f, more) in MODELS.items() for m in METHODS}


class Dense:
    """The density of all rows: sd_i = exp(w_i'gamma) / sqrt(weight), correlations by time, and effects of groups."""

    def __init__(self, fit: um.FitResult, data: pd.DataFrame) -> None:
        design = fit.design()
        self.fit, self.x = fit, design.x
        self.y = design.y - (0.0 if design.offset is None else design.offset)
        assert design.dispersion is not None
        self.w = design.dispersion.x
        self.root = np.sqrt(np.ones(design.n) if design.weights is None else design.weights)
        self.blocks = [(b.z, b.codes, len(b.terms)) for b in design.blocks]
        self.k = self.w.shape[1]
        self.same = data["id"].to_numpy()[:, None] == data["id"].to_numpy()
        self.visit = data["visit"].to_numpy()
        lower = [np.linalg.cholesky(np.asarray(b.covariance))[np.tril_indices(len(b.terms))] for b in fit.random]
        part = fit.residual_part
        own = np.empty(0) if part is None else np.append(part.sd[1:], part.estimates)
        self.at = np.concatenate([fit.parts["dispersion"].estimate, *lower, own])

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        sd, at = np.exp(self.w @ theta[: self.k]) / self.root, self.k
        v, part = np.zeros((len(sd), len(sd))), self.fit.residual_part
        for z, codes, q in self.blocks:
            lower = np.zeros((q, q))
            lower[np.tril_indices(q)] = theta[at : at + q * (q + 1) // 2]
            at += q * (q + 1) // 2
            v += (codes[:, None] == codes) * (z @ lower @ lower.T @ z.T)
        if part is None:
            return np.asarray(v + np.diag(sd**2))
        times = len(part.times)
        sds = np.append(1.0, theta[at : at + len(part.sd) - 1]) if len(part.sd) > 1 else np.ones(times)
        r = theta[at + len(part.sd) - 1 :]
        if len(r) == 1:
            correlation = r[0] ** np.abs(np.subtract.outer(np.arange(times), np.arange(times)))
        else:
            correlation = np.eye(times)
            correlation[np.tril_indices(times, -1)] = r
            correlation = correlation + np.tril(correlation, -1).T
        c = np.outer(sds, sds) * correlation
        return np.asarray(v + self.same * np.outer(sd, sd) * c[np.ix_(self.visit, self.visit)])

    def parts(self, theta: np.ndarray, *, reml: bool) -> tuple[float, np.ndarray, np.ndarray]:
        return dense_normal(self.matrix(theta), self.x, self.y, reml=reml)

    def value(self, theta: np.ndarray, *, reml: bool) -> float:
        return self.parts(theta, reml=reml)[0]

    def hessian(self, *, reml: bool, h: float = 1e-3) -> np.ndarray:
        def value(move: np.ndarray) -> float:
            return self.value(self.at + move, reml=reml)

        unit = h * np.eye(len(self.at))
        return np.array(
            [[(value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * h * h) for b in unit] for a in unit]
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_likelihood_effects_and_optimum(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, name: str, method: str
) -> None:
    """The value and the effects follow from the reported parameters (rounding), and no parameter moves it up."""
    fit, reml = fits[name, method], method == "REML"
    dense = Dense(fit, trial)
    value, beta, cov = dense.parts(dense.at, reml=reml)
    assert fit.status.state == "converged"
    assert fit.log_likelihood == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(fit.fixed.estimate, beta, rtol=1e-7)
    np.testing.assert_allclose(fit.fixed.covariance, cov, rtol=1e-7)
    steps = 1e-4 * np.eye(len(dense.at))
    slopes = [(dense.value(dense.at + s, reml=reml) - dense.value(dense.at - s, reml=reml)) / 2e-4 for s in steps]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-4)  # a slope of 1e-4 moves nothing visibly
    assert fit.criteria.n_parameters == fit.design().p + len(dense.at)
    certificate = fit.certificate()
    assert certificate.verdict == "certified"
    assert certificate.check("standard errors of the dispersion").passed


@pytest.mark.parametrize("name", ["groups", "covariate and weights", "ar1"])
def test_uncertainty_from_finite_differences(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, name: str
) -> None:
    """Errors of the dispersion, and 2 v^2 / var(v), from the dense Hessian by differences (accurate to about 1e-5)."""
    fit = fits[name, "REML"]
    dense = Dense(fit, trial)
    spread = np.linalg.inv(-dense.hessian(reml=True))
    np.testing.assert_allclose(fit.parts["dispersion"].covariance, spread[: dense.k, : dense.k], rtol=1e-3, atol=1e-7)
    unit = 1e-3 * np.eye(len(dense.at))
    up = [np.diag(dense.parts(dense.at + u, reml=True)[2]) for u in unit]
    down = [np.diag(dense.parts(dense.at - u, reml=True)[2]) for u in unit]
    slopes = (np.array(up) - np.array(down)) / 2e-3
    variance = np.einsum("ap,ab,bp->p", slopes, spread, slopes)
    df = 2 * np.diag(dense.parts(dense.at, reml=True)[2]) ** 2 / variance
    np.testing.assert_allclose(fit.fixed.df, df, rtol=1e-3)


def test_kenward_roger_of_separate_variances(trial: pd.DataFrame) -> None:
    """Kenward & Roger (1997), first-order, with n x n matrices.

    The two variances are log-linear, so that V is linear in them up to the chain rule, which a first-order adjustment
    does not see: derivatives in the variances and in the log standard deviations give the same matrix.
    """
    fit = um.fit("y ~ x * arm + (1 | id)", trial, dispformula="~ arm", df_method="kenward-roger")
    dense = Dense(fit, trial)
    inverse, x = np.linalg.inv(dense.matrix(dense.at)), dense.x
    phi = np.linalg.inv(x.T @ inverse @ x)
    projection = inverse - inverse @ x @ phi @ x.T @ inverse
    in_b = (trial["arm"] == "b").to_numpy()
    changes = [np.diag((~in_b).astype(float)), np.diag(in_b.astype(float)), dense.same.astype(float)]
    turned = [projection @ c for c in changes]
    w = np.linalg.inv([[0.5 * np.sum(a * b.T) for b in turned] for a in turned])
    first = [-x.T @ inverse @ c @ inverse @ x for c in changes]
    added = np.zeros_like(phi)
    for i in range(3):
        for j in range(3):
            q = x.T @ inverse @ changes[i] @ inverse @ changes[j] @ inverse @ x
            added += w[i, j] * (q - first[i] @ phi @ first[j])
    adjusted = phi + 2 * phi @ added @ phi
    np.testing.assert_allclose(np.asarray(fit.fixed.std_error) ** 2, np.diag(adjusted), rtol=1e-5)
    slopes = np.array([np.diag(phi @ p @ phi) for p in first])
    df = 2 * np.diag(phi) ** 2 / np.einsum("ap,ab,bp->p", slopes, w, slopes)
    np.testing.assert_allclose(fit.fixed.df, df, rtol=1e-5)


def test_two_arms_are_welchs_test() -> None:
    """Two means with two variances by REML: the arms' own variances, Welch's statistic and his degrees of freedom."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"arm": np.repeat(["a", "b"], [12, 25])})
    data["y"] = rng.normal(size=37) * np.repeat([1.0, 4.0], [12, 25]) + 2 * (data["arm"] == "b")
    fit = um.fit("y ~ arm", data, dispformula="~ 0 + arm")
    own = [data.loc[data["arm"] == a, "y"] for a in "ab"]
    np.testing.assert_allclose(np.exp(fit.parts["dispersion"].estimate), [y.std() for y in own], rtol=1e-6)
    # the variance of a log standard deviation from n - 1 degrees of freedom, by the observed information
    np.testing.assert_allclose(fit.parts["dispersion"].std_error, [(2 * (len(y) - 1)) ** -0.5 for y in own], rtol=1e-6)
    welch = stats.ttest_ind(own[1], own[0], equal_var=False)
    assert fit.fixed.statistic[1] == pytest.approx(welch.statistic, rel=1e-6)
    assert fit.fixed.df[1] == pytest.approx(welch.df, rel=1e-6)
    contrast = fit.emmeans("arm").contrasts().table
    assert abs(contrast["statistic"].iloc[0]) == pytest.approx(welch.statistic, rel=1e-6)
    assert contrast["df"].iloc[0] == pytest.approx(welch.df, rel=1e-6)
    other = um.fit("y ~ arm", data.assign(arm=pd.Categorical(data["arm"], ["b", "a"])), dispformula="~ arm")
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-9)
    assert other.parts["dispersion"].estimate[0] == pytest.approx(fit.parts["dispersion"].estimate[1], rel=1e-6)


def test_variances_by_arm_are_those_of_a_diagonal_residual(trial: pd.DataFrame) -> None:
    """``residual="diag(arm | id)"`` says the same: likelihood, effects and degrees of freedom."""
    one = um.fit("y ~ x + (1 | id)", trial, dispformula="~ arm")
    two = um.fit("y ~ x + (1 | id)", trial, residual="diag(arm | id)")
    assert one.log_likelihood == pytest.approx(two.log_likelihood, abs=1e-8)
    assert two.residual_part is not None
    sds = np.exp(np.cumsum(one.parts["dispersion"].estimate))
    np.testing.assert_allclose(sds, two.residual_part.sd, rtol=1e-5)
    columns = ["estimate", "std_error", "df"]
    np.testing.assert_allclose(one.fixed_effects[columns], two.fixed_effects[columns], rtol=1e-4)


def test_weights_are_known_ratios_of_variances(trial: pd.DataFrame) -> None:
    """The variance of a row is sd^2 / w: weights exp(-2c) in an arm take c from its log standard deviation."""
    formula, in_b = "y ~ x * arm + (1 | id)", trial["arm"] == "b"
    plain = um.fit(formula, trial, dispformula="~ arm")
    weighed = um.fit(formula, trial, dispformula="~ arm", weights=np.where(in_b, np.exp(-2 * 0.7), 1.0))
    assert weighed.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-8)
    moved = plain.parts["dispersion"].estimate - weighed.parts["dispersion"].estimate
    np.testing.assert_allclose(moved, [0.0, 0.7], atol=1e-6)
    coded = um.fit(formula, trial, dispformula="~ arm", contrasts={"arm": "sum"})
    mean, half = coded.parts["dispersion"].estimate
    first, ratio = plain.parts["dispersion"].estimate
    np.testing.assert_allclose([mean + half, -2 * half], [first, ratio], atol=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e6)])
def test_units_of_the_response(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, scale: float, shift: float
) -> None:
    """Only the intercepts and the value change: log sd by log(scale), and the REML value by (n - p) log(scale)."""
    fit = fits["groups", "REML"]
    other = um.fit(MODELS["groups"][0], trial.assign(y=scale * trial["y"] + shift), dispformula="~ arm")
    moved = np.array([np.log(scale), 0.0])
    np.testing.assert_allclose(other.parts["dispersion"].estimate, fit.parts["dispersion"].estimate + moved, atol=1e-6)
    n, p = fit.design().x.shape
    assert other.log_likelihood == pytest.approx(fit.log_likelihood - (n - p) * np.log(scale), abs=1e-6)
    np.testing.assert_allclose(other.fixed.df, fit.fixed.df, rtol=1e-5)
    assert other.certificate().verdict == "certified"


def test_prediction_intervals_have_the_rows_own_residual(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame
) -> None:
    """Henderson's error variance with the n x n matrices, plus exp(2 w'gamma) of the new row."""
    fit = fits["groups", "REML"]
    new = trial.iloc[:6]
    told = fit.predict(new, interval="prediction")
    dense = Dense(fit, trial)
    z, codes, _ = dense.blocks[0]
    inverse = np.linalg.inv(dense.matrix(dense.at))
    d = np.asarray(fit.random[0].covariance)
    for i in range(6):
        across = (codes == codes[i]) * (z @ d @ z[i])  # covariances of the row's effect with all responses
        x = dense.x[i] - dense.x.T @ inverse @ across
        error = z[i] @ d @ z[i] - across @ inverse @ across + x @ np.asarray(fit.fixed.covariance) @ x
        total = error + np.exp(2 * dense.w[i] @ fit.parts["dispersion"].estimate)
        assert told["std_error"].iloc[i] == pytest.approx(np.sqrt(total), rel=1e-6)
    assert (told["upper"] > told["estimate"]).all()
    lacking = fit.predict(new.assign(arm=[None, *new["arm"][1:]]), interval="prediction")
    assert lacking["upper"].isna().tolist() == [True, *[False] * 5]
    bare = um.fit("y ~ x + (1 | id)", trial, dispformula="~ arm")
    means = bare.predict(new.drop(columns="arm"), interval="confidence")  # a mean has no residual
    assert means["upper"].notna().all()
    with pytest.raises(um.DataError, match="lack arm, on which the residual variance depends"):
        bare.predict(new.drop(columns="arm"), interval="prediction")


def test_prediction_degrees_of_freedom() -> None:
    """A new response of an arm without group effects: the arm's own t interval, mean +- t(n - 1) s sqrt(1 + 1/n)."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"arm": np.repeat(["a", "b"], [12, 25])})
    data["y"] = rng.normal(size=37) * np.repeat([1.0, 4.0], [12, 25])
    fit = um.fit("y ~ arm", data, dispformula="~ arm")
    told = fit.predict(pd.DataFrame({"arm": ["a", "b"]}), interval="prediction", level="population")
    for i, a in enumerate("ab"):
        y = data.loc[data["arm"] == a, "y"]
        reach = stats.t.ppf(0.975, len(y) - 1) * y.std() * np.sqrt(1 + 1 / len(y))
        assert told["upper"].iloc[i] == pytest.approx(y.mean() + reach, rel=1e-6)


def test_residuals_and_simulations(fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame) -> None:
    """Residuals are divided by the standard deviation of their row; simulations have V (5.5 SE of 13,000 pairs)."""
    fit = fits["ar1", "REML"]
    dense = Dense(fit, trial)
    v = dense.matrix(dense.at)
    population = dense.x @ np.asarray(fit.fixed.estimate)
    drawn = fit.simulate(4000, seed=5) - population
    size = np.sqrt(np.outer(np.diag(v), np.diag(v)))
    assert (np.abs(drawn.T @ drawn / 4000 - v) / size).max() < 5.5 * np.sqrt(2 / 4000)
    plain = fits["covariate and weights", "REML"]
    sd = np.exp(Dense(plain, trial).w @ plain.parts["dispersion"].estimate) / np.sqrt(trial["w"])
    for kind in ("pearson", "standardized"):
        np.testing.assert_allclose(plain.residuals(kind), plain.residuals() / sd, rtol=1e-10)
    simulated = plain.simulate(4000, seed=2).std(axis=0)
    assert np.abs(simulated / sd - 1).max() < 4.5 / np.sqrt(2 * 4000)
    with pytest.raises(um.OptionError, match="not defined where the dispersion has a model"):
        plain.residuals("deviance")


@pytest.mark.parametrize("name", ["groups", "ar1"])
def test_saved_and_loaded(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, name: str, tmp_path: Any
) -> None:
    fit = fits[name, "REML"]
    loaded = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    assert loaded == fit
    assert loaded.design().fingerprint() == fit.design().fingerprint()
    bare = um.FitResult.from_json(fit.to_json())
    again = bare.with_data(trial)
    assert again.certificate().verdict == "certified"
    pd.testing.assert_frame_equal(again.emmeans("x", at={"x": [0]}).table, fit.emmeans("x", at={"x": [0]}).table)
    assert um.refit(bare, trial).log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    with pytest.raises(um.UnimixError, match="differ"):
        bare.with_data(trial.assign(arm=trial["arm"].map({"a": "b", "b": "a"})))


def test_bootstrap_and_wald_intervals(fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame) -> None:
    """Every parameter has its replicates; Wald intervals of an SD are symmetric on the log scale."""
    fit = fits["groups", "REML"]
    boot = fit.bootstrap(4, seed=1, source="parametric")
    assert {"dispersion(Intercept)", "dispersion(arm[T.b])", "sd(x | id)"} <= set(boot.replicates)
    assert boot.replicates.notna().all(axis=None)
    cases = um.fit("y ~ x + (1 | id)", trial, dispformula="~ x").bootstrap(4, seed=1, source="cases")
    assert cases.replicates.notna().all(axis=None)
    table = fit.confint(method="wald").table
    spread = np.sqrt(np.diag(np.linalg.inv(-Dense(fit, trial).hessian(reml=True))))
    row = table.loc["dispersion(arm[T.b])"]
    assert row["upper"] - row["estimate"] == pytest.approx(1.959964 * spread[1], rel=1e-3)
    # sd(Intercept) = L_11
    row = table.loc["sd(Intercept | id)"]
    assert np.log(row["upper"] / row["estimate"]) == pytest.approx(1.959964 * spread[2] / row["estimate"], rel=1e-3)


def test_profile_intervals(trial: pd.DataFrame) -> None:
    """At each end the dense ML likelihood, maximised over all other parameters, is lower by half of 3.84."""
    fit = um.fit("y ~ x + (1 | id)", trial, dispformula="~ arm", method="ML")
    dense, table = Dense(fit, trial), fit.confint(method="profile").table
    names = ["Intercept", "x", "sd(Intercept | id)", "dispersion(Intercept)", "dispersion(arm[T.b])"]
    assert set(table.index) == set(names)
    theta = dense.at
    start = np.concatenate([fit.fixed.estimate, theta[2:], theta[:2]])

    def minus(at: np.ndarray) -> float:
        """Minus the log-likelihood at fixed effects, SD of the groups, and coefficients of the dispersion."""
        v = dense.matrix(np.append(at[3:], at[2]))
        rest = dense.y - dense.x @ at[:2]
        return float(0.5 * (len(rest) * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + rest @ np.linalg.solve(v, rest)))

    for name in ("x", "sd(Intercept | id)", "dispersion(arm[T.b])"):
        j = names.index(name)
        for side in ("lower", "upper"):
            others = np.delete(np.arange(5), j)

            def held(free: np.ndarray, j: int = j, end: float = table.loc[name, side]) -> float:
                return minus(np.insert(free, j, end))

            lowest = optimize.minimize(held, start[others], method="BFGS", options={"gtol": 1e-5}).fun
            assert fit.log_likelihood + lowest == pytest.approx(0.5 * stats.chi2.ppf(0.95, 1), abs=1e-4)


def test_missing_values_of_the_dispersion(trial: pd.DataFrame) -> None:
    """A row whose dispersion variable is missing is left out and counted, and the rest is fitted alone."""
    holes = trial.assign(arm=trial["arm"].where(trial.index > 9))
    fit = um.fit("y ~ x + (1 | id)", holes, dispformula="~ arm")
    assert fit.n_obs == len(trial) - 10
    assert fit.log_likelihood == pytest.approx(
        um.fit("y ~ x + (1 | id)", trial.iloc[10:], dispformula="~ arm").log_likelihood, abs=1e-9
    )


# --- in words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~ arm + (1 | id)", "Random terms in dispformula are not supported"),
        ("~ arm + offset(x)", "An offset in dispformula is not supported"),
        ("~ 0 + x", r"(?s)without an intercept.*These can: backend='glmmtmb'"),
        ("~ site", "1 row .* residual variance of their own"),
    ],
)
def test_refused_formulas(trial: pd.DataFrame, text: str, message: str) -> None:
    data = trial.assign(site=np.where(trial.index == 3, "far", "near"))
    with pytest.raises(um.UnimixError, match=message):
        um.fit("y ~ x + (1 | id)", data, dispformula=text)


def test_refused_models(trial: pd.DataFrame) -> None:
    for arguments, message in [
        ({"dispformula": "~ factor(visit)", "residual": "us(visit | id)"}, "variances of their own: leave one out"),
        ({"dispformula": "~ arm", "sigma": 1.0}, "known residual standard deviation"),
        ({"dispformula": "~ arm", "method": "ML", "df_method": "kenward-roger"}, "belong to REML"),
    ]:
        with pytest.raises(um.UnimixError, match=message):
            um.fit("y ~ x", trial, **arguments)
    long = pd.DataFrame({"y": np.random.default_rng(1).normal(size=1200), "x": np.arange(1200.0)})
    with pytest.raises(um.UnsupportedModelError, match=r"1,200 different rows.*Round"):
        um.fit("y ~ x", long, dispformula="~ x")


@pytest.mark.parametrize("formula", ["y ~ x * arm", "y ~ x * arm + (1 | id)"])
def test_an_arm_that_is_fitted_exactly_is_no_maximum(trial: pd.DataFrame, formula: str) -> None:
    """The variance of the arm goes to zero and the likelihood to infinity: said in words, and never certified."""
    data = trial.assign(y=np.where(trial["arm"] == "a", 1 + 2 * trial["x"], trial["y"]))
    fit = um.fit(formula, data, dispformula="~ arm")
    assert fit.status.state == "not_converged"
    assert "fits these rows exactly" in " ".join(fit.status.messages)
    assert not fit.certificate().verdict.startswith("certified")


@pytest.mark.r
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["groups", "crossed", "offset"])
def test_glmmtmb_has_the_same_answer(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, name: str, method: str
) -> None:
    """glmmTMB by another likelihood and optimiser: its value, all estimates in standard errors, and its errors."""
    formula, more = MODELS[name]
    fit, other = fits[name, method], um.fit(formula, trial, "glmmtmb", method=method, **more)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert (np.abs(other.fixed.estimate - fit.fixed.estimate) / fit.fixed.std_error).max() < 1e-4
    one, two = fit.parts["dispersion"], other.parts["dispersion"]
    assert (np.abs(one.estimate - two.estimate) / one.std_error).max() < 1e-4
    np.testing.assert_allclose(two.std_error, one.std_error, rtol=1e-4)
    np.testing.assert_allclose(other.fixed.df, fit.fixed.df, rtol=1e-3)
    assert other.certificate().verdict == "certified"
    weighed = "multiply the log-likelihood"
    with pytest.raises(um.UnsupportedModelError, match=rf"(?s){weighed}.*These can: backend='pls'"):
        um.fit("y ~ x", trial, "glmmtmb", dispformula="~ arm", weights="w")
