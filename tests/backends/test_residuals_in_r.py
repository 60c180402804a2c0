"""Correlated residuals in R by nlme and glmmTMB; nlme's other models, refusals, and errors that become a status."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.r.nlme_layout import layout_of
from unimix.testing.simulated import simulate_rich

pytestmark = pytest.mark.r

DAYS = np.array([0.0, 0.04, 1.0, 30.0])
"""Steps of an hour to a month: corCAR1 itself starts at a correlation of 0.2 per unit, which is none over a month."""


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """40 persons at 4 visits with growing variances, in random order, with missing rows and weights.

    The first person lacks the first visit, which varIdent then does not take as its reference.
    """
    rng = np.random.default_rng(5)
    sd = np.array([1.0, 1.3, 1.6, 2.2])
    e = rng.multivariate_normal(
        np.zeros(4), np.outer(sd, sd) * 0.6 ** np.abs(np.subtract.outer(range(4), range(4))), 40
    )
    own = rng.normal(0, 1.5, 40)
    rows = [
        {"id": f"p{i:02d}", "arm": "ab"[i % 2], "visit": v, "day": DAYS[v], "y": v + e[i, v] + own[i], "e": v + e[i, v]}
        for i in range(40)
        for v in range(4)
        if (i, v) != (0, 0) and rng.uniform() < 0.85
    ]
    frame = pd.DataFrame(rows)
    frame["w"] = rng.uniform(0.3, 3.0, len(frame))
    return frame.sample(frac=1, random_state=2)


CASES = {
    "us": ("e ~ arm * visit", "us(visit | id)", "REML"),
    "us with weights": ("e ~ arm * visit", "us(visit | id)", "ML"),
    "cs": ("e ~ visit", "cs(visit | id)", "REML"),
    "cs without times": ("e ~ visit", "cs(1 | id)", "ML"),
    "toep": ("e ~ visit", "toep(visit | id)", "REML"),
    "homtoep": ("e ~ visit", "toep(visit | id, hom=TRUE)", "ML"),
    "ar1": ("y ~ visit + (1 | id)", "ar1(visit | id)", "REML"),
    "hetar1 with weights": ("e ~ visit", "ar1(visit | id, hom=FALSE)", "ML"),
    "car1": ("e ~ visit", "car1(day | id)", "REML"),
    "exp": ("y ~ visit + (1 | id)", "exp(day | id)", "ML"),
    "hetgau": ("e ~ visit", "gau(day | id, hom=FALSE)", "REML"),
    "diag": ("y ~ visit + (1 + arm || id)", "diag(visit | id)", "ML"),
}


@pytest.mark.parametrize("case", ["us with weights", "ar1", "car1", "diag"])
def test_the_residuals_of_glmmtmb_are_those_of_pls(trial: pd.DataFrame, case: str) -> None:
    """glmmTMB's own residuals keep a variance of 1.5e-8 (1.1.5), which moves the log-likelihood by up to 1e-6.

    Its standard errors are of the observed information of all parameters, as the certificate confirms: they differ by
    up to 15 per cent here.
    """
    formula, residual, method = CASES[case]
    arguments = {"residual": residual, "method": method, "weights": "w" if "weights" in case else None}
    ours, theirs = (um.fit(formula, trial, b, **arguments) for b in ("pls", "glmmtmb"))
    assert theirs.status.state == ours.status.state == "converged"
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-5)
    assert (np.abs(theirs.fixed.estimate - ours.fixed.estimate) / ours.fixed.std_error).max() < 1e-3
    np.testing.assert_allclose(theirs.fixed.std_error, ours.fixed.std_error, rtol=0.2)
    np.testing.assert_allclose(theirs.fixed.df, ours.fixed.df, rtol=1e-2)
    assert ours.residual_part is not None
    assert theirs.residual_part is not None
    covariance, size = ours.residual_part.covariance, np.diag(ours.residual_part.covariance).max()
    np.testing.assert_allclose(theirs.residual_part.covariance, covariance, atol=1e-3 * size)
    assert theirs.certificate().verdict == "certified"


def test_glmmtmb_names_the_structures_that_it_lacks(trial: pd.DataFrame) -> None:
    with pytest.raises(um.UnsupportedModelError, match=r"glmmTMB 1\.1\.5 has no hetar1"):
        um.fit("e ~ visit", trial, "glmmtmb", residual="ar1(visit | id, hom=FALSE)")


@pytest.mark.parametrize("case", CASES)
def test_the_residuals_of_nlme_are_those_of_pls(trial: pd.DataFrame, case: str) -> None:
    """nlminb ends where the likelihood is flat to 1e-8 of a unit: 1e-4 standard errors, 1e-3 of a covariance.

    Two programs share nothing but the columns: order, parametrisation, weights and constants are tested together.
    """
    formula, residual, method = CASES[case]
    arguments = {"residual": residual, "method": method, "weights": "w" if "weights" in case else None}
    ours, theirs = (um.fit(formula, trial, b, **arguments) for b in ("pls", "nlme"))
    assert theirs.status.state == ours.status.state
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-6)
    assert (np.abs(theirs.fixed.estimate - ours.fixed.estimate) / ours.fixed.std_error).max() < 1e-4
    np.testing.assert_allclose(theirs.fixed.std_error, ours.fixed.std_error, rtol=1e-4)
    np.testing.assert_allclose(theirs.fixed.df, ours.fixed.df, rtol=1e-3)
    assert ours.residual_part is not None
    assert theirs.residual_part is not None
    covariance, size = ours.residual_part.covariance, np.diag(ours.residual_part.covariance).max()
    np.testing.assert_allclose(theirs.residual_part.covariance, covariance, atol=1e-3 * size)
    for name, effects in ours.group_effects.items():
        np.testing.assert_allclose(theirs.group_effects[name], effects, atol=2e-3)
    assert theirs.certificate().verdict.startswith("certified") or ours.status.state == "not_identified"


def test_a_comparison_shows_the_residuals_and_tests_agree(trial: pd.DataFrame) -> None:
    found = um.compare(
        "e ~ arm * visit",
        trial,
        backends=["pls", "nlme"],
        residual="us(visit | id)",
        df_method="kenward-roger",
    )
    assert found.verdicts.loc["nlme", "verdict"] == "numerically equal"
    differences = found.differences["nlme"]
    assert [n for p, n in differences.index if p == "sd (ratio)"] == [f"Residual, {v}" for v in range(4)]
    assert len(differences["correlation (difference)"]) == 6
    assert np.abs(differences["correlation (difference)"]).max() < 1e-3
    ours, theirs = (found.results[b].contrasts("arm", by="visit") for b in ("pls", "nlme"))
    for column in ("estimate", "std_error", "df", "p_value"):
        np.testing.assert_allclose(theirs.table[column], ours.table[column], rtol=1e-3, atol=1e-4)


CROSSED = ("y ~ x + (1 | g) + (1 | h)", "y ~ x + (1 + x | g) + (1 + u || h)", "y ~ x + (1 | g/sub) + (1 | h)")


@pytest.mark.parametrize("formula", CROSSED)
def test_crossed_effects_are_those_of_pls(formula: str) -> None:
    """Pinheiro and Bates's device is the same model; tolerances of the search as above."""
    data = simulate_rich()
    ours, theirs = (um.fit(formula, data, b) for b in ("pls", "nlme"))
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-4)
    np.testing.assert_allclose(theirs.fixed.estimate, ours.fixed.estimate, rtol=1e-4)
    for mine, other in zip(theirs.random, ours.random, strict=True):
        np.testing.assert_allclose(mine.sd, other.sd, atol=0.01 * ours.sigma)
    for name, effects in ours.group_effects.items():
        np.testing.assert_allclose(theirs.group_effects[name], effects, atol=0.01)
    assert layout_of(theirs.design()).crossed


def test_levels_of_equal_factors_keep_their_names(trial: pd.DataFrame) -> None:
    """Two factors of the same groups are one to nlme; their levels may have another order."""
    reversed_ = trial.assign(same=trial["id"].map(lambda name: f"q{99 - int(name[1:])}"))
    ours, theirs = (um.fit("y ~ visit + (1 | id) + (0 + arm | same)", reversed_, b) for b in ("pls", "nlme"))
    assert theirs.log_likelihood == pytest.approx(ours.log_likelihood, abs=1e-4)
    total = [
        np.asarray(f.group_effects["same"].sum(axis=1).to_numpy()[::-1] + f.group_effects["id"].iloc[:, 0])
        for f in (ours, theirs)
    ]
    assert np.corrcoef(*total)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("formula", "residual", "words"),
    [
        ("y ~ visit + (1 | id:half)", "ar1(visit | id)", "nlme takes the residuals of the innermost group together"),
        ("y ~ visit + (1 | site)", "ar1(visit | id)", "several id share these effects"),
        ("y ~ visit + (1 + day | id) + (1 + day | site)", None, "the levels of a crossed factor can share variances"),
        ("y ~ 0", "ar1(visit | id)", "gls estimates coefficients"),
    ],
)
def test_what_nlme_would_replace_or_cannot_say_is_refused(
    trial: pd.DataFrame, formula: str, residual: str | None, words: str
) -> None:
    """nlme itself only warns where it takes the correlation within the innermost factor: another model."""
    data = trial.assign(half=trial["visit"] // 2, site=trial["visit"] * 3 + trial["w"].gt(1))
    with pytest.raises(um.UnsupportedModelError, match=words):
        um.fit(formula, data, "nlme", residual=residual)


def test_crossed_effects_have_a_limit() -> None:
    with pytest.raises(um.UnsupportedModelError, match="option max_crossed"):
        um.fit("y ~ x + (1 | g) + (1 | h)", simulate_rich(), um.backends.Nlme(max_crossed=3))


@pytest.mark.parametrize("residual", ["us(visit | id)", None])
def test_a_search_that_is_cut_off_is_a_status(trial: pd.DataFrame, residual: str | None) -> None:
    """Of gls too, which stops with an error itself (3.1-162)."""
    cut = um.backends.Nlme(control={"msMaxIter": 1, "maxIter": 1, "niterEM": 0}, restarts=0)
    formula = "y ~ arm * visit" if residual else "y ~ visit + (1 + day | id)"
    fit = um.fit(formula, trial, cut, residual=residual)
    assert fit.status.state == "not_converged"
    assert any("iteration limit" in m for m in fit.status.messages)


def test_a_variance_that_is_not_zero_is_called_a_boundary() -> None:
    """Groups with equal means have the variance zero; nlme's logarithm of it ends somewhere."""
    data = pd.DataFrame({"y": [1.0, 3.0, 2.0] * 8, "g": np.repeat(np.arange(8), 3)})
    fit = um.fit("y ~ 1 + (1 | g)", data, "nlme")
    assert 0 < fit.random[0].sd[0] < 1e-3 * fit.sigma
    assert fit.status.state == "singular"
    assert "never zero" in fit.provenance["singular"]
    assert fit.certificate().verdict == "certified at the boundary"


def test_a_residual_variance_that_tends_to_zero_is_a_boundary() -> None:
    """At the second time the response is a person's own effect, without a residual; pls ends at the variance zero."""
    rng = np.random.default_rng(4)
    own, noise = rng.normal(0, 1, 30), rng.normal(0, 1, (30, 3)) * np.array([1.0, 0.0, 0.7])
    rows = [{"id": i, "t": t, "y": own[i] + noise[i, t]} for i in range(30) for t in range(3)]
    fits = [um.fit("y ~ C(t) + (1 | id)", pd.DataFrame(rows), b, residual="diag(t | id)") for b in ("pls", "nlme")]
    assert [f.status.state for f in fits] == ["singular", "singular"]
    assert fits[1].log_likelihood == pytest.approx(fits[0].log_likelihood, abs=1e-4)
    assert fits[1].residual_part is not None
    assert 0 < fits[1].residual_part.sd[1] < 0.02


def test_settings_that_change_the_model_are_refused() -> None:
    """lmeControl(sigma=) fixes the residual standard deviation."""
    with pytest.raises(um.OptionError, match="msMaxIter"):
        um.backends.Nlme(control={"sigma": 1.0})
