"""Responses of generalised models: what is refused, and the ways to write successes, exposures and weights."""

from __future__ import annotations

import numpy as np
import pytest
from generalised_data import RESPONSES as DATA
from scipy import stats

import unimix as um

# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "family", "changes", "words"),
    [
        ("count ~ x", "poisson", {"count": -1}, r"not allowed \(-1\).*whole numbers"),
        ("size ~ x", "poisson", {}, r"whole numbers from 0.*offset"),
        ("rate ~ x", "binomial", {}, r"how many trials.*weights=.*cbind"),
        ("count ~ x", "binomial", {}, r"not between 0 and 1.*cbind"),
        ("three ~ x", "binomial", {}, r"3 levels \(a, b, c\).*needs two"),
        ("yes ~ x", "binomial", {"yes": 1}, r"Every trial of yes is a success"),
        ("yes ~ x", "binomial", {"yes": 0}, r"Every trial of yes is a failure"),
        ("cbind(hits, misses) ~ x", "poisson", {}, r"family='binomial'"),
        ("cbind(hits, misses, trials) ~ x", "binomial", {}, r"cbind takes two columns"),
        ("cbind(hits, three) ~ x", "binomial", {}, r"numeric column of counts"),
        ("cbind(size, misses) ~ x", "binomial", {}, r"size: .*whole numbers"),
        ("size ~ x", "gamma", {"size": 0.0}, r"must be positive"),
        ("share ~ x", "beta", {"share": 1.0}, r"strictly between 0 and 1"),
        ("three ~ x", "poisson", {}, r"categorical"),
        ("answer ~ x", "gaussian", {}, r"family='binomial'"),
    ],
)
def test_responses_that_do_not_suit_are_refused_in_words(formula, family, changes, words):
    data = DATA.copy()
    for name, value in changes.items():
        data[name] = data[name].astype(float)
        rows = slice(None) if name == "yes" else [3]
        data.loc[data.index[rows], name] = value
    with pytest.raises(um.DataError, match=words):
        um.fit(formula, data, "lme4", family=family)


@pytest.mark.parametrize(
    ("weights", "words"), [("size", r"numbers of trials, whole numbers"), ("five", r"whole numbers of successes")]
)
def test_proportions_need_trials_that_make_whole_successes(weights, words):
    with pytest.raises(um.DataError, match=words):
        um.fit("rate ~ x", DATA.assign(five=5.0), "lme4", family="binomial", weights=weights)


def test_cbind_and_weights_together_are_refused():
    with pytest.raises(um.DataError, match="leave weights= out"):
        um.fit("cbind(hits, misses) ~ x", DATA, "lme4", family="binomial", weights="trials")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"family": "poisson", "method": "REML"}, "'Laplace'"),
        ({"family": "poisson", "method": "ML"}, "'Laplace'"),
        ({"method": "Laplace"}, "'REML' or 'ML'"),
        ({"family": "poisson", "df_method": "kenward-roger"}, "z tests"),
        ({"family": "binomial(logt)"}, "logit"),
    ],
)
def test_criteria_belong_to_families(arguments, words):
    with pytest.raises(um.OptionError, match=words):
        um.fit("yes ~ x + (1 | g)", DATA, "lme4", **arguments)


def test_parts_belong_to_families():
    with pytest.raises(um.OptionError, match="structural zeros"):
        um.fit("size ~ x", DATA, "glmmtmb", family="gamma", ziformula="~ 1")
    with pytest.raises(um.OptionError, match="has none"):
        um.fit("count ~ x", DATA, "glmmtmb", family="poisson", dispformula="~ x")
    with pytest.raises(um.FormulaError, match="not a column"):
        um.fit("count ~ x", DATA, "glmmtmb", family="poisson", ziformula="~ nothere")
    with pytest.raises(um.FormulaError, match="Random terms in ziformula"):
        um.fit("count ~ x", DATA, "glmmtmb", family="poisson", ziformula="~ (1 | g)")
    with pytest.raises(um.FormulaError, match="starts with '~': write '~ x'"):
        um.fit("count ~ x", DATA, "glmmtmb", family="poisson", ziformula="x")


# --- the same model in other words -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb"])
def test_all_ways_to_write_successes_give_one_answer(backend):
    given = {"family": "binomial"}
    counted = um.fit("cbind(hits, misses) ~ x + (1 | g)", DATA, backend, **given)
    shares = um.fit("rate ~ x + (1 | g)", DATA, backend, weights="trials", **given)
    rounded = um.fit("rate ~ x + (1 | g)", DATA.assign(rate=DATA["rate"].round(5)), backend, weights="trials", **given)
    rows = DATA.loc[DATA.index.repeat(DATA["trials"])].copy()
    rows["one"] = np.concatenate(
        [np.r_[np.ones(h), np.zeros(m)] for h, m in zip(DATA["hits"], DATA["misses"], strict=True)]
    )
    long = um.fit("one ~ x + (1 | g)", rows, backend, **given)
    for other in (shares, rounded, long):
        np.testing.assert_allclose(other.fixed.estimate, counted.fixed.estimate, atol=1e-5)
        np.testing.assert_allclose(other.fixed.std_error, counted.fixed.std_error, rtol=1e-3)
    # Row by row the binomial coefficients are missing.
    constant = float(np.sum(np.log(stats.binom.pmf(DATA["hits"], DATA["trials"], 0.5)) + DATA["trials"] * np.log(2)))
    assert counted.log_likelihood - long.log_likelihood == pytest.approx(constant, abs=1e-4)


@pytest.mark.r
def test_success_is_true_the_second_level_or_one():
    wanted = um.fit("yes ~ x", DATA, "lme4", family="binomial")
    flag = um.fit("flag ~ x", DATA, "lme4", family="binomial")
    words = um.fit("word ~ x", DATA.assign(word=np.where(DATA["flag"], "yes", "no")), "lme4", family="binomial")
    for other in (flag, words):
        np.testing.assert_allclose(other.fixed.estimate, wanted.fixed.estimate, rtol=1e-9)
    assert "word: yes counts as success, no as failure." in words.notes


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb", "pymer4"])
def test_exposure_is_an_offset_in_the_linear_predictor(backend):
    data = DATA.assign(log_exposure=np.log(DATA["exposure"]))
    fit = um.fit("count ~ x + offset(log(exposure)) + (1 | g)", data, backend, family="poisson")
    again = um.fit("count ~ x + (1 | g)", data, backend, family="poisson", offset="log_exposure")
    np.testing.assert_allclose(again.fixed.estimate, fit.fixed.estimate, atol=1e-8)
    double = fit.predict(data.assign(exposure=2 * data["exposure"]))
    np.testing.assert_allclose(double, 2 * fit.fitted, rtol=1e-9)
    np.testing.assert_allclose(np.log(fit.fitted), fit.predict(kind="link"), rtol=1e-9)


@pytest.mark.parametrize("backend", ["lme4", "glmmtmb"])
def test_weights_count_rows(backend):
    """A whole weight is as many copies of the row, for families without a dispersion."""
    data = DATA.assign(w=np.random.default_rng(3).integers(1, 4, len(DATA)))
    copies = data.loc[data.index.repeat(data["w"])]
    weighted = um.fit("count ~ x + (1 | g)", data, backend, family="poisson", weights="w")
    repeated = um.fit("count ~ x + (1 | g)", copies, backend, family="poisson")
    np.testing.assert_allclose(weighted.fixed.estimate, repeated.fixed.estimate, atol=1e-5)
    np.testing.assert_allclose(weighted.fixed.std_error, repeated.fixed.std_error, rtol=1e-3)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-5)
