"""``residual=``: estimates, tests and simulations against an n x n density that is written down here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_normal import dense_normal

import unimix as um

DAYS = np.array([0.0, 1.0, 2.5, 6.0])
TEXTS = [
    "us(visit | id)",
    "cs(visit | id)",
    "cs(visit | id, hom=TRUE)",
    "ar1(visit | id)",
    "ar1(visit | id, hom=FALSE)",
    "toep(visit | id, hom=TRUE)",
    "car1(day | id)",
    "exp(day | id)",
    "gau(day | id, hom=FALSE)",
    "diag(visit | id)",
    "cs(1 | id)",
]


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """A trial of 40 persons and 4 visits in two arms, with 15 % of the rows missing and weights."""
    rng = np.random.default_rng(11)
    c = np.outer([1.0, 1.3, 1.5, 2.0], [1.0, 1.3, 1.5, 2.0]) * 0.6 ** np.abs(np.subtract.outer(range(4), range(4)))
    e = rng.multivariate_normal(np.zeros(4), c, size=40)
    rows = [
        {
            "id": f"p{i:02d}",
            "arm": "ab"[i % 2],
            "visit": v,
            "day": DAYS[v],
            "y": 5 + v * (0.5 + 0.4 * (i % 2)) + e[i, v],
        }
        for i in range(40)
        for v in range(4)
        if rng.uniform() < 0.85
    ]
    frame = pd.DataFrame(rows)
    frame = frame.assign(
        w=rng.uniform(0.5, 2.0, len(frame)), own=frame["y"] + 2 * rng.normal(size=40)[frame["id"].str[1:].astype(int)]
    )
    return frame.sample(frac=1, random_state=3)


@pytest.fixture(scope="module")
def fits(trial: pd.DataFrame) -> dict[tuple[str, str], um.FitResult]:
    return {(t, m): um.fit("y ~ arm * visit", trial, residual=t, weights="w", method=m) for t in TEXTS for m in METHODS}


METHODS = ("REML", "ML")


class Dense:
    """The density of all rows, from standard deviations and parameters of correlations as the manual defines them."""

    def __init__(self, fit: um.FitResult, data: pd.DataFrame, weights: bool = True) -> None:
        design = fit.design()
        self.x, self.y = design.x, design.y
        self.same = data["id"].to_numpy()[:, None] == data["id"].to_numpy()
        self.visit, self.day = data["visit"].to_numpy(), data["day"].to_numpy()
        self.scale = np.sqrt(data["w"].to_numpy()) if weights else np.ones(len(data))
        part = fit.residual_part
        assert part is not None
        self.text, self.n_sd = part.text, len(part.sd)
        self.at = np.append(part.sd, part.estimates)

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        sd, r = theta[: self.n_sd], theta[self.n_sd :]
        sds = sd[self.visit] if self.n_sd > 1 else np.full(len(self.y), sd[0])
        lag = np.abs(np.subtract.outer(self.visit, self.visit))
        gap = np.abs(np.subtract.outer(self.day, self.day))
        form = self.text.split("(")[0].removeprefix("hom").removeprefix("het")
        if form == "us":
            table = np.zeros((4, 4))
            table[np.tril_indices(4, -1)] = r
            correlation = (table + table.T + np.eye(4))[np.ix_(self.visit, self.visit)]
        elif form == "cs":
            correlation = np.where(np.eye(len(self.y)) == 1, 1.0, r[0] if len(r) else 0.0)
        elif form == "toep":
            correlation = np.append(1.0, r)[lag]
        elif form == "diag":
            correlation = np.eye(len(self.y))
        else:
            correlation = {
                "ar1": lambda: np.sign(r[0]) ** lag * np.abs(r[0]) ** lag,
                "car1": lambda: r[0] ** gap,
                "exp": lambda: np.exp(-gap / r[0]),
                "gau": lambda: np.exp(-((gap / r[0]) ** 2)),
            }[form]()
        return np.asarray(correlation * self.same * np.outer(sds / self.scale, sds / self.scale))

    def parts(self, theta: np.ndarray, *, reml: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """Log-likelihood, effects and their covariance matrix by generalised least squares."""
        return dense_normal(self.matrix(theta), self.x, self.y, reml=reml)

    def value(self, theta: np.ndarray, *, reml: bool) -> float:
        return self.parts(theta, reml=reml)[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", TEXTS)
def test_likelihood_effects_and_optimum(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, text: str, method: str
) -> None:
    """The value and the effects follow from the reported parameters (rounding), and no parameter moves it up."""
    fit, reml = fits[text, method], method == "REML"
    dense = Dense(fit, trial)
    value, beta, cov = dense.parts(dense.at, reml=reml)
    assert fit.status.state == "converged"
    assert fit.log_likelihood == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(fit.fixed.estimate, beta, rtol=1e-8)
    np.testing.assert_allclose(fit.fixed.covariance, cov, rtol=1e-7)
    steps = 1e-4 * np.eye(len(dense.at)) * np.maximum(np.abs(dense.at), 0.1)
    slopes = [(dense.value(dense.at + s, reml=reml) - dense.value(dense.at - s, reml=reml)) / 2e-4 for s in steps]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-4)  # a slope of 1e-4 per relative step moves nothing visibly
    assert fit.criteria.n_parameters == fit.design().p + len(dense.at)
    assert fit.certificate().verdict == "certified"


@pytest.mark.parametrize("text", ["us(visit | id)", "ar1(visit | id, hom=FALSE)", "exp(day | id)"])
def test_satterthwaite_from_finite_differences(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, text: str
) -> None:
    """2 v^2 / var(v) with the information of the parameters themselves, by differences (accurate to about 1e-5)."""
    dense = Dense(fits[text, "REML"], trial)
    m, h = len(dense.at), 1e-3
    unit = h * np.eye(m)

    def value(move: np.ndarray) -> float:
        return dense.value(dense.at + move, reml=True)

    hessian = np.array(
        [[(value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * h * h) for b in unit] for a in unit]
    )
    up = [np.diag(dense.parts(dense.at + u, reml=True)[2]) for u in unit]
    down = [np.diag(dense.parts(dense.at - u, reml=True)[2]) for u in unit]
    slopes = (np.array(up) - np.array(down)) / (2 * h)
    variance = np.einsum("ap,ab,bp->p", slopes, np.linalg.inv(-hessian), slopes)
    df = 2 * np.diag(dense.parts(dense.at, reml=True)[2]) ** 2 / variance
    np.testing.assert_allclose(fits[text, "REML"].fixed.df, df, rtol=1e-3)


def test_kenward_roger_of_an_unstructured_matrix(trial: pd.DataFrame) -> None:
    """Kenward & Roger (1997), equations 3 and 4, with the n x n matrices; V is linear in the ten (co)variances."""
    fit = um.fit("y ~ arm * visit", trial, residual="us(visit | id)", weights="w", df_method="kenward-roger")
    dense = Dense(fit, trial)
    inverse = np.linalg.inv(dense.matrix(dense.at))
    phi = np.linalg.inv(dense.x.T @ inverse @ dense.x)
    projection = inverse - inverse @ dense.x @ phi @ dense.x.T @ inverse
    weight = dense.same / np.outer(dense.scale, dense.scale)
    changes = []
    for i, j in zip(*np.tril_indices(4), strict=True):
        cell = np.zeros((4, 4))
        cell[i, j] = cell[j, i] = 1.0
        changes.append(cell[np.ix_(dense.visit, dense.visit)] * weight)
    turned = [projection @ c for c in changes]
    w = np.linalg.inv([[0.5 * np.sum(a * b.T) for b in turned] for a in turned])
    first = [-dense.x.T @ inverse @ c @ inverse @ dense.x for c in changes]
    lifted = [inverse @ c for c in changes]
    added = np.zeros_like(phi)
    for i in range(10):
        for j in range(10):
            q = dense.x.T @ lifted[i] @ lifted[j] @ inverse @ dense.x
            added += w[i, j] * (q - first[i] @ phi @ first[j])
    adjusted = phi + 2 * phi @ added @ phi
    np.testing.assert_allclose(np.asarray(fit.fixed.std_error) ** 2, np.diag(adjusted), rtol=1e-6)
    slopes = np.array([np.diag(phi @ p @ phi) for p in first])
    df = 2 * np.diag(phi) ** 2 / np.einsum("ap,ab,bp->p", slopes, w, slopes)
    np.testing.assert_allclose(fit.fixed.df, df, rtol=1e-6)


def test_group_effects_within_the_residuals_groups(trial: pd.DataFrame) -> None:
    """Value, modes and their variances with a random slope, against V = ZDZ' + R and D Z'V^-1 (y - X beta)."""
    fit = um.fit("own ~ arm * visit + (1 | id)", trial, residual="ar1(visit | id)")
    assert fit.certificate().verdict == "certified"
    dense, d = Dense(fit, trial, weights=False), float(fit.random[0].covariance[0, 0])
    z = (trial["id"].to_numpy()[:, None] == np.array(fit.random[0].levels)).astype(float)
    r = dense.matrix(dense.at)
    v = r + d * z @ z.T
    inverse = np.linalg.inv(v)
    information = dense.x.T @ inverse @ dense.x
    rest = dense.y - dense.x @ np.asarray(fit.fixed.estimate)
    n, p = dense.x.shape
    logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1]
    assert fit.log_likelihood == pytest.approx(-0.5 * ((n - p) * np.log(2 * np.pi) + logs + rest @ inverse @ rest))
    np.testing.assert_allclose(fit.random[0].modes[:, 0], d * z.T @ inverse @ rest, atol=1e-7)
    spread = d - d**2 * np.diag(z.T @ inverse @ z)
    np.testing.assert_allclose(fit.random[0].mode_covariance[:, 0, 0], spread, rtol=1e-6)


def test_compound_symmetry_is_a_random_intercept(trial: pd.DataFrame) -> None:
    """The same likelihood, effects, standard errors and degrees of freedom, whichever of the two is written."""
    mixed = um.fit("own ~ arm * visit + (1 | id)", trial)
    plain = um.fit("own ~ arm * visit", trial, residual="cs(1 | id)")
    assert plain.log_likelihood == pytest.approx(mixed.log_likelihood, abs=1e-8)
    columns = ["estimate", "std_error", "df"]
    np.testing.assert_allclose(plain.fixed_effects[columns], mixed.fixed_effects[columns], rtol=1e-5)
    for verb in (
        lambda f: f.emmeans("arm").table[["estimate", "std_error", "df"]],
        lambda f: f.anova().table[["den_df", "F"]],
    ):
        np.testing.assert_allclose(verb(plain).to_numpy(float), verb(mixed).to_numpy(float), rtol=1e-5)
    assert um.fit("y ~ arm * visit + (1 | id)", trial, residual="cs(1 | id)").status.state == "not_identified"


def test_variances_by_time_are_weighted_least_squares_of_each_stratum() -> None:
    """With a mean for each visit, REML estimates each variance by its own sum of squares over n_v - 1."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"id": np.repeat(range(30), 3), "visit": np.tile(list("abc"), 30)})
    data["y"] = rng.normal(size=90) * np.tile([1.0, 2.0, 4.0], 30)
    fit = um.fit("y ~ visit", data, residual="diag(visit | id)")
    assert fit.residual_part is not None
    np.testing.assert_allclose(fit.residual_part.sd, data.groupby("visit")["y"].std(), rtol=1e-6)
    assert np.isnan(fit.sigma)


@pytest.mark.parametrize("text", ["us(visit | id)", "exp(day | id)"])
def test_saved_and_loaded(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame, text: str, tmp_path: Any
) -> None:
    fit = fits[text, "REML"]
    loaded = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    assert loaded == fit
    assert loaded.design().fingerprint() == fit.design().fingerprint()
    pd.testing.assert_frame_equal(loaded.emmeans("arm").table, fit.emmeans("arm").table, rtol=1e-8)
    bare = um.FitResult.from_json(fit.to_json())
    assert bare.with_data(trial).certificate().verdict == "certified"
    assert um.refit(bare, trial).log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    with pytest.raises(um.UnimixError, match="differ"):
        bare.with_data(trial.assign(id=trial["id"].to_numpy()[::-1]))


def test_rows_in_another_order_or_unit(trial: pd.DataFrame, fits: dict[tuple[str, str], um.FitResult]) -> None:
    """Estimates do not depend on the order of the rows or the unit of weights; SDs follow the response's unit."""
    fit = fits["us(visit | id)", "REML"]
    other = um.fit(
        "y ~ arm * visit", trial.iloc[::-1].assign(y=lambda d: 1e3 * d["y"], w=lambda d: 4 * d["w"]),
        residual="us(visit | id)", weights="w",
    )  # fmt: skip
    assert fit.residual_part is not None
    assert other.residual_part is not None
    np.testing.assert_allclose(other.residual_part.sd, 2e3 * np.asarray(fit.residual_part.sd), rtol=1e-5)
    np.testing.assert_allclose(other.residual_part.estimates, fit.residual_part.estimates, atol=1e-6)
    np.testing.assert_allclose(other.fixed.df, fit.fixed.df, rtol=1e-4)


def test_simulated_residuals_have_the_estimated_covariance(
    fits: dict[tuple[str, str], um.FitResult], trial: pd.DataFrame
) -> None:
    """Covariances of 4000 simulations; their standard errors are at most sqrt(2 / 4000) of the variances."""
    fit = fits["us(visit | id)", "REML"]
    dense = Dense(fit, trial)
    v = dense.matrix(dense.at)
    drawn = fit.simulate(4000, seed=5) - fit.fitted
    size = np.sqrt(np.outer(np.diag(v), np.diag(v)))
    off = np.abs(drawn.T @ drawn / 4000 - v) / size
    # 9,000 different pairs: the largest of as many normal errors is below 5.5 standard errors
    assert off.max() < 5.5 * np.sqrt(2 / 4000)


def test_bootstrap_repeats_the_correlations(trial: pd.DataFrame) -> None:
    """Resampled persons keep their visits, and every parameter of the residuals has its replicates."""
    fit = um.fit("y ~ arm * visit", trial, residual="ar1(visit | id)")
    for source in ("parametric", "cases"):
        boot = fit.bootstrap(6, seed=1, source=source)
        assert set(boot.states) == {"converged"}
        assert "correlation at lag 1 | residual" in boot.replicates
        assert boot.replicates.notna().all(axis=None)


# --- in words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(visit | id)", "write the name of the structure"),
        ("ar1(1 | id)", "name the column of the times"),
        ("ar1(visit + day | id)", "not a column of times"),
        ("us(visit | id, hom=TRUE)", "us"),
        ("ar1(visit | id/arm)", "name a column or a:b"),
        ("ar1(visi | id)", "did you mean 'visit'"),
        ("diag(visit | id, hom=TRUE)", "leave it out"),
        ("~ ar1(visit | id)", "no '~'"),
        ("ar1(day | id)", r"car1\(day \| id\)"),
        ("us(visit | arm)", r"arm a has \d+ rows at 0.*Name the group within which times differ"),
        ("ar1(arm | id)", "order of the times"),
    ],
)
def test_faults_of_the_structure(trial: pd.DataFrame, text: str, message: str) -> None:
    with pytest.raises(um.UnimixError, match=f"(?is){message}"):
        um.fit("y ~ arm * visit", trial, residual=text)


def test_faults_of_the_data(trial: pd.DataFrame) -> None:
    once = trial.drop_duplicates("id")
    with pytest.raises(um.DataError, match="more than one row"):
        um.fit("y ~ arm", once, residual="ar1(visit | id)")
    apart = trial[~((trial["visit"] == 3) & trial["id"].isin(trial.loc[trial["visit"] == 0, "id"]))]
    with pytest.raises(um.DataError, match="rows at both 0 and 3"):
        um.fit("y ~ arm", apart, residual="us(visit | id)")


def test_refused_models(trial: pd.DataFrame) -> None:
    for arguments, message in [
        ({"backend": "statsmodels"}, r"(?s)correlations of residuals.*These can:.*backend='pls'"),
        ({"family": "poisson"}, "Gaussian model"),
    ]:
        with pytest.raises(um.UnimixError, match=message):
            um.fit("y ~ arm", trial.assign(y=1 + trial.index % 5), residual="ar1(visit | id)", **arguments)
    with pytest.raises(um.UnsupportedModelError, match=r"several id share these effects"):
        um.fit("y ~ visit + (1 | arm)", trial, residual="ar1(visit | id)")
    with pytest.raises(um.UnsupportedModelError, match="parts of the rows"):
        um.cross_validate("y ~ arm + (1 | id)", trial, residual="ar1(visit | id)")
    first, second = (um.fit("y ~ arm", trial, residual=r, method="ML") for r in TEXTS[:2])
    with pytest.raises(um.DataError, match="covariance of their residuals"):
        um.anova(first, second)


WORKING = {
    "anova", "augment", "bootstrap", "certificate", "coefficients", "collinearity", "comparisons", "confint",
    "contrasts", "converged", "design", "dispersion_parameters", "emmeans", "family", "fitted", "fixed_cov",
    "fixed_effects", "formula", "from_json", "glance", "group_effects", "group_effects_sd", "hypotheses", "load",
    "log_likelihood", "n_groups", "n_obs", "native", "predict", "predict_to", "refuse", "report", "residuals",
    "save", "sigma", "simulate", "singular", "slopes", "spec", "summary", "tidy", "to_json", "to_marginaleffects",
    "variance_components", "with_data", "aic", "bic", "deviance", "backend", "posterior", "log_evidence",
    "log_evidence_error", "plot", "residual_part", "prior_predictive", "model_graph", "reweighted",
    "prior_sensitivity", "overdispersion", "check_zeros", "dispersion_effects", "zero_inflation",
    "thresholds", "simulated_residuals", "johnson_neyman", "random_pca", "drop1", "heterogeneity",
    "citations", "smooths", "smooth_terms",
}  # fmt: skip
REFUSED = {
    "robust": {}, "draws": {}, "posterior_predictive": {}, "loo": {}, "r2": {}, "icc": {}, "effect_sizes": {},
    "check": {}, "influence": {}, "to_html": {},
    "level_means": {"group": "id"},
}  # fmt: skip


def test_every_verb_works_or_is_refused(trial: pd.DataFrame) -> None:
    """A new verb belongs to one of the two lists: none may take correlated residuals as independent ones."""
    fit = um.fit("y ~ arm * visit + (1 | id)", trial, residual="ar1(visit | id)")
    verbs = {name for name in dir(um.FitResult) if not name.startswith("_")}
    assert verbs <= WORKING | REFUSED.keys()
    for name, arguments in REFUSED.items():
        with pytest.raises(um.UnsupportedModelError, match="assumes independent residuals"):
            getattr(fit, name)(**arguments)
    for refused in (
        lambda: fit.confint("profile"),
        lambda: fit.predict(interval="prediction"),
        lambda: fit.predict(interval="confidence"),
        lambda: fit.plot.diagnostics(draw=False),
        lambda: fit.plot.population(draw=False),
        lambda: fit.plot.shrinkage(draw=False),
        lambda: fit.plot.groups(draw=False),
        lambda: fit.plot.posterior_predictive(draw=False),
        lambda: um.power(fit, "visit", n_sim=2),
    ):
        with pytest.raises(um.UnsupportedModelError, match="assumes independent residuals"):
            refused()
    with pytest.raises(um.UnsupportedModelError, match="independent residuals"):
        um.ranova(fit)


def test_intervals_of_population_means_are_those_of_emmeans(fits: dict[tuple[str, str], um.FitResult]) -> None:
    fit = fits["us(visit | id)", "REML"]
    grid = pd.DataFrame({"arm": ["a", "b"], "visit": [1, 1]})
    predicted = fit.predict(grid, level="population", interval="confidence")
    means = fit.emmeans("arm", at={"visit": 1}).table[["lower", "upper"]]
    np.testing.assert_allclose(predicted[["lower", "upper"]], means, rtol=1e-8)


def test_tables_name_every_parameter(fits: dict[tuple[str, str], um.FitResult]) -> None:
    fit = fits["us(visit | id)", "REML"]
    tidy = fit.tidy("ran_pars").set_index("term")["estimate"]
    assert list(tidy.index[:4]) == [f"sd__{v}" for v in range(4)]
    assert "cor__0.3" in tidy
    assert len(fit.variance_components) == 10
    ar1 = fits["ar1(visit | id)", "REML"]
    assert list(ar1.tidy("ran_pars")["term"]) == ["sd__Observation", "ar1__correlation_at_lag_1"]
    assert "Residuals, ar1(visit | id) in 40 id" in ar1.summary()
    assert "residual ar1(visit | id)" in str(um.table(ar1)) or "correlation at lag 1" in str(um.table(ar1))
    assert "correlation at lag 1" in ar1.report()
