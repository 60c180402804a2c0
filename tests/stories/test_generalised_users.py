"""What a first user of generalised models ran into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def series() -> pd.DataFrame:
    """Counts of 30 persons at up to 8 times, by two arms; times vary more than persons."""
    rng = np.random.default_rng(11)
    rows = []
    for person in range(30):
        u = rng.normal(size=8)
        rows += [(person, f"t{t}", rng.normal(), u[t]) for t in range(8) for _ in range(2) if rng.uniform() > 0.25]
    made = pd.DataFrame(rows, columns=["g", "tf", "x", "u"])
    made["arm"] = np.where(made["g"] % 2, "B", "A")
    return made.assign(count=rng.poisson(np.exp(0.5 + 0.4 * made["x"] + 0.6 * made["u"])), g=made["g"].astype(str))


@pytest.mark.r
def test_dispersion_model_without_groups_has_the_ml_likelihood() -> None:
    """A closed form: independent normals whose logarithms of sigma are linear."""
    frame = pd.DataFrame({"x": RNG.normal(size=200)})
    frame["y"] = frame["x"] + RNG.normal(size=200) * np.exp(0.4 * frame["x"])
    fit = um.fit("y ~ x", frame, "glmmtmb", dispformula="~ x", method="ML")
    log_sigma = fit.dispersion_effects["estimate"].to_numpy() @ [np.ones(200), frame["x"]]
    z = (frame["y"] - fit.fitted) / np.exp(log_sigma)
    assert fit.log_likelihood == pytest.approx(
        float((-0.5 * z**2 - log_sigma - 0.5 * np.log(2 * np.pi)).sum()), abs=1e-6
    )
    assert (fit.criteria.criterion, fit.model.method) == ("ML", "ML")
    assert "Dispersion (log sigma)" in str(fit)
    assert "Dispersion (log sigma)" in fit._repr_html_()
    for method in ("REML", "ML"):
        theirs = um.fit("y ~ x", frame, "glmmtmb", dispformula="~ x", method=method)
        ours = um.fit("y ~ x", frame, dispformula="~ x", method=method)
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-6)


@pytest.mark.parametrize("backend", ["lme4", "pymer4"])
def test_standard_errors_of_glmer_are_those_of_its_criterion(series: pd.DataFrame, backend: str) -> None:
    """lme4's own differences are up to 16 % off here; glmmTMB's derivatives are exact (1e-3: its Hessian's)."""
    fit = um.fit("count ~ x + (arm | tf)", series, backend, family="poisson")
    exact = um.fit("count ~ x + (arm | tf)", series, "glmmtmb", family="poisson")
    np.testing.assert_allclose(fit.fixed.std_error, exact.fixed.std_error, rtol=2e-3 + 1e-3)


@pytest.mark.r
def test_weights_count_copies_in_every_number(series: pd.DataFrame) -> None:
    weighted = series.assign(w=RNG.integers(1, 4, len(series)))
    copies = weighted.loc[weighted.index.repeat(weighted["w"])]
    for formula, backend in (("count ~ x", "lme4"), ("count ~ x", "pls"), ("count ~ x + (1 | g)", "pls")):
        once = um.fit(formula, weighted, backend, family="poisson", weights="w").glance().iloc[0]
        again = um.fit(formula, copies, backend, family="poisson").glance().iloc[0]
        for name in ("logLik", "AIC", "BIC", "df.residual", "dispersion"):
            assert once[name] == pytest.approx(again[name], rel=1e-6), name


@pytest.mark.r
def test_needless_zero_inflation_is_a_status() -> None:
    """Fewer zeros than the Poisson distribution has: the logit runs off to minus infinity."""
    count = RNG.poisson(3, 400)
    count[np.flatnonzero(count == 0)[::2]] = 3
    frame = pd.DataFrame({"x": RNG.normal(size=400), "y": count, "g": np.tile(list("abcdefgh"), 50)})
    fit = um.fit("y ~ x + (1 | g)", frame, "glmmtmb", family="poisson", ziformula="~ 1")
    assert fit.status.state == "not_converged"
    assert "no zero inflation" in fit.status.messages[0]


def monthly() -> pd.DataFrame:
    months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug"]
    k = np.tile(np.arange(8), 25)
    frame = pd.DataFrame({"k": k, "y": RNG.poisson(3, 200), "g": np.repeat(np.arange(25), 8).astype(str)})
    frame["text"] = [months[i] for i in k]
    frame["ordered"] = pd.Categorical(frame["text"], categories=months)
    frame["quarter"] = pd.Categorical([f"{2020 + i // 4}Q{i % 4 + 1}" for i in k])
    frame["centred"], frame["half"] = k - 3, k / 2 - 1.5
    frame["as_text"] = (k - 3).astype(str)
    frame["day"] = pd.to_datetime([f"2020-{i + 1:02d}-01" for i in k])
    frame["gap"] = pd.Categorical(frame["text"].where(frame["text"] != "apr", "may"), categories=months)
    frame["unequal"] = np.array([0, 1, 2, 3, 4, 5, 6, 9])[k]
    return frame


@pytest.mark.r
def test_orders_of_time_that_are_known() -> None:
    frame = monthly()
    terms = ["ordered", "quarter", "C(centred)", "C(half)", "C(day)", "C(k)"]
    values = [um.fit(f"y ~ 1 + ar1(0 + {t} | g)", frame, "glmmtmb", family="poisson").log_likelihood for t in terms]
    np.testing.assert_allclose(values, values[0], atol=1e-5)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("text", "cannot know the order of the times"),
        ("as_text", "as text sorts"),
        ("gap", "no row has apr"),
        ("C(unequal)", "needs equally spaced times"),
    ],
)
def test_orders_of_time_that_are_not_known(term: str, words: str) -> None:
    with pytest.raises(um.DataError, match=words):
        um.fit(f"y ~ 1 + ar1(0 + {term} | g)", monthly(), "glmmtmb", family="poisson")


@pytest.mark.r
def test_gamma_models_of_all_engines_agree_with_named_kinds_of_errors() -> None:
    frame = pd.DataFrame({"x": RNG.normal(size=300)})
    frame["y"] = RNG.gamma(2, np.exp(0.3 * frame["x"]))
    same = um.compare("y ~ x", frame, backends=["statsmodels", "lme4", "glmmtmb", "pls"], family="gamma")
    same.assert_agree()
    assert same.verdicts.loc["glmmtmb", "verdict"] == "expected to differ"
    assert {c.verdict for c in same.certificates.values()} == {"certified"}


@pytest.mark.r
def test_tables_and_messages(series: pd.DataFrame) -> None:
    inflated = series.assign(count=series["count"] * (RNG.uniform(size=len(series)) > 0.3))
    fit = um.fit("count ~ x + (1 | g)", inflated, "glmmtmb", family="poisson", ziformula="~ x")
    assert (fit.tidy("all")["effect"] == "zero_inflation").sum() == 2
    odds = fit.tidy("zero_inflation", exponentiate=True)
    np.testing.assert_allclose(odds["estimate"], np.exp(fit.zero_inflation["estimate"]))
    assert "Zero inflation (logit of the probability" in fit._repr_html_()
    with pytest.raises(um.OptionError, match="type kind='pearson'"):
        fit.residuals(type="pearson")  # type: ignore[call-arg]
    plain = um.fit("count ~ x", series, "statsmodels", family="poisson")
    other = um.fit("count ~ x", series, "glmmtmb", family="nbinom2")
    with pytest.raises(um.DataError, match=r"order or family(.|\n)*poisson\(log\)(.|\n)*negative_binomial\(log\)"):
        um.compare(plain, other)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"exposure": "x"}, "offset on the log scale"),
        ({"ziformula": "x"}, "ziformula starts with '~': write '~ x'"),
        ({"weights": np.zeros(len(series))}, "They count copies of a row"),
    ]
    for given, words in cases:
        with pytest.raises(um.UnimixError, match=words):
            um.fit("count ~ x", series, "glmmtmb", family="poisson", **given)


@pytest.mark.r
def test_the_sentence_of_a_gaussian_model_with_a_log_link(series: pd.DataFrame) -> None:
    frame = series.assign(y=np.exp(0.2 * series["x"]) + 0.1 * RNG.normal(size=len(series)) + 2)
    text = str(um.fit("y ~ x", frame, "lme4", family="gaussian(log)"))
    assert "(maximum likelihood)" in text
    assert "degrees of freedom" not in text.split("Residual standard deviation")[1].split("\n", maxsplit=1)[0]


@pytest.mark.r
@pytest.mark.parametrize("method", ["ML", "REML"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_least_squares_of_glmmtmb_divide_by_the_residual_df(method: str, weights: str | None) -> None:
    """Closed form of weighted least squares; under ML glmmTMB itself divides by n."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.normal(size=40), "y": rng.normal(size=40), "w": rng.uniform(0.5, 2.0, 40)})
    fit = um.fit("y ~ x", frame, "glmmtmb", method=method, weights=weights)
    w = np.ones(40) if weights is None else frame["w"].to_numpy()
    x = np.column_stack([np.ones(40), frame["x"]])
    inverse = np.linalg.inv(x.T @ (w[:, None] * x))
    beta = inverse @ x.T @ (w * frame["y"])
    variance = float(w @ (frame["y"] - x @ beta) ** 2) / 38
    assert fit.sigma == pytest.approx(np.sqrt(variance), rel=1e-6)
    assert fit.fixed_effects["std_error"].tolist() == pytest.approx(np.sqrt(variance * np.diag(inverse)), rel=1e-6)
    assert fit.certificate().verdict == "certified"
