"""Likelihood-ratio tests of the fixed terms, against R's drop1 and models written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um

HERDS = "cbind(incidence, size - incidence) ~ {} + (1 | herd)"


def test_a_generalised_model_has_the_tests_of_drop1() -> None:
    """R 4.2.2, lme4 1.1-31: drop1(glmer(...), test = "Chisq") gives LRT 25.61, p 1.151e-05."""
    herds = um.load_dataset("cbpp")
    fit = um.fit(HERDS.format("period"), herds, "pls", family="binomial")
    made = um.drop1(fit).table
    assert made.index.tolist() == ["<none>", "period"]
    assert made.loc["period", "chisq"] == pytest.approx(25.61, abs=5e-3)
    assert made.loc["period", "p_value"] == pytest.approx(1.151e-05, rel=5e-3)
    less = um.fit(HERDS.format("1"), herds, "pls", family="binomial")
    right = um.anova(less, fit).table.iloc[1]
    assert made.loc["period", ["chisq", "df", "p_value"]].tolist() == pytest.approx(
        right[["chisq", "df", "p_value"]].tolist(), rel=1e-6
    )
    assert made.loc["period", "aic"] == pytest.approx(less.aic, rel=1e-8)


def test_terms_that_others_contain_stay() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": rng.choice(list("uv"), 90), "b": rng.choice(list("xyz"), 90), "x": rng.normal(size=90)})
    data["g"], data["y"] = rng.choice(list("cdefgh"), 90), rng.normal(size=90)
    fit = um.fit("y ~ a * b + poly(x, 2) + (1 | g)", data, "pls")
    tests = um.drop1(fit)
    assert tests.table.index.tolist() == ["<none>", "poly(x, 2)", "a:b"]
    assert any("by ML" in note for note in tests.notes)
    whole = um.refit(fit, method="ML")
    less = um.fit("y ~ a + b + poly(x, 2) + (1 | g)", data, "pls", method="ML")
    assert tests.loc["a:b", "chisq"] == pytest.approx(2 * (whole.log_likelihood - less.log_likelihood), rel=1e-6)
    assert tests.loc["a:b", "df"] == 2
    plain = um.drop1(um.fit("y ~ a + x", data, "pls")).table
    rss = [float(np.sum(um.fit(f"y ~ {f}", data, "pls").residuals() ** 2)) for f in ("a + x", "x")]
    assert plain.loc["a", "chisq"] == pytest.approx(90 * np.log(rss[1] / rss[0]), rel=1e-8)


def test_separated_terms_have_their_likelihood_ratio() -> None:
    data = pd.DataFrame({"a": list("wwwxxyyzz") * 4, "y": [0, 1, 1, 1, 1, 0, 0, 1, 0] * 4})
    fit = um.fit("y ~ a", data, "pls", family="binomial")
    tests = um.drop1(fit)
    # closed form: log-likelihoods of proportions 8/12, 8/8, 0/8, 4/8 against 20/36
    whole = 8 * np.log(8 / 12) + 4 * np.log(4 / 12) + 8 * np.log(0.5)
    less = 20 * np.log(20 / 36) + 16 * np.log(16 / 36)
    assert tests.loc["a", "chisq"] == pytest.approx(2 * (whole - less), abs=1e-5)
    assert not tests.notes


def test_what_cannot_be_left_out() -> None:
    sleep = um.load_dataset("sleepstudy")
    with pytest.raises(um.DataError, match="no fixed terms"):
        um.drop1(um.fit("Reaction ~ 1 + (1 | Subject)", sleep, "pls"))
    with pytest.raises(um.OptionError, match=r"fit.drop1\(\)"):
        um.fit("Reaction ~ Days + (1 | Subject)", sleep, "pls").anova("IV")  # type: ignore[arg-type]
