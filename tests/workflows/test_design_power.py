"""Power from assumed numbers: the noncentral t distribution, um.power of a fit, layouts and units."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.errors import OptionError, UnsupportedModelError

ARMS = "y ~ arm + (1 | person)"
STUDY = {"person": 16, "time": [1, 2, 3, 4], "arm": ["control", "treated"]}
ASSUMED = {"fixed": {"arm[T.treated]": 1.2}, "random": {"person": 1.0}, "residual": 1.0, "between": {"arm": "person"}}


def two_arms(effect, sd, sigma, n_groups, n_rows, alpha=0.05):
    """Power of the t test of two balanced arms: the means of persons are independent."""
    se, df = 2 * np.sqrt((sd**2 + sigma**2 / n_rows) / n_groups), n_groups - 2
    reach = stats.t.ppf(1 - alpha / 2, df)
    return stats.nct.sf(reach, df, effect / se) + stats.nct.cdf(-reach, df, effect / se)


def test_balanced_arms_have_the_power_of_the_noncentral_t_distribution():
    found = um.design_power(ARMS, STUDY, **ASSUMED, n_groups=[10, 24], n_sim=120, seed=3)
    for row in found.table.itertuples():
        theory = two_arms(1.2, 1.0, 1.0, row.n_groups, 4)
        # four binomial standard errors; Satterthwaite's df exceed n - 2 where the variance is estimated as zero
        assert abs(row.power - theory) < 4 * np.sqrt(theory * (1 - theory) / 120) + 0.03
        assert row.n_obs == 4 * row.n_groups
    assert found.table["n_groups"].tolist() == [10, 24]
    assert found.varied == ("n_groups",)
    assert found.truth["arm[T.treated]"] == 1.2
    assert "raw units" in str(found)


def test_rows_within_persons_have_the_power_of_the_paired_t_test():
    layout = {"person": 12, "time": [1, 2, 3], "word": ["short", "long"]}
    found = um.design_power(
        "y ~ word + (1 | person)",
        layout,
        fixed={"word[T.long]": 0.5},
        random={"person": 2.0},
        residual=1.0,
        n_sim=100,
        seed=5,
    ).table.iloc[0]
    se, df = np.sqrt(2 / 36), 72 - 12 - 1  # the variance between persons cancels
    reach = stats.t.ppf(0.975, df)
    theory = stats.nct.sf(reach, df, 0.5 / se) + stats.nct.cdf(-reach, df, 0.5 / se)
    assert abs(found["power"] - theory) < 4 * np.sqrt(theory * (1 - theory) / 100)


def test_it_is_um_power_of_a_fit_with_the_same_parameters():
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"person": np.repeat(np.arange(12), 4), "x": np.tile([0.0, 1.0, 2.0, 3.0], 12)})
    pilot = um.fit("y ~ x + (1 + x | person)", rows.assign(y=rng.normal(size=48)))
    truth = {"sd(Intercept | person)": 1.0, "sd(x | person)": 0.2, "cor(Intercept, x | person)": 0.3}
    every = {"Intercept": 0.0, "x": 0.4, **truth, "sigma": 0.8}
    asked = {"n_groups": [8, 12], "n_rows": 4, "n_sim": 12, "seed": 2, "group": "person"}
    expected = um.power(pilot, "x", parameters=every, **asked)
    found = um.design_power("y ~ x + (1 + x | person)", rows, fixed={"x": 0.4}, random=truth, residual=0.8, **asked)
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.truth.to_dict() == pytest.approx(every)


def test_of_crossed_factors_the_one_that_is_varied_is_asked_for():
    crossed = "y ~ word + (1 | person) + (1 | item)"
    layout = {"person": 10, "item": 8, "word": ["short", "long"]}
    numbers = {
        "fixed": {"word[T.long]": 0.5},
        "random": {"person": 0.5, "item": 0.5},
        "residual": 1.0,
        "between": {"word": "item"},
    }
    with pytest.raises(OptionError, match="'person', 'item' as group="):
        um.design_power(crossed, layout, **numbers, n_groups=[10, 20])
    persons = um.design_power(crossed, layout, **numbers, n_groups=[10, 32], group="person", n_sim=12, seed=1).table
    items = um.design_power(crossed, layout, **numbers, n_groups=[8, 26], group="item", n_sim=12, seed=1).table
    assert (persons["n_obs"].tolist(), items["n_obs"].tolist()) == ([80, 256], [80, 260])
    # words are nested in conditions: more persons do not replace items
    assert items["power"].iloc[1] > persons["power"].iloc[1] + 0.2


def test_effects_may_be_in_standard_deviations_or_ratios():
    found = um.design_power(ARMS, STUDY, **{**ASSUMED, "fixed": {"arm[T.treated]": 0.5}}, units="d", n_sim=1, seed=1)
    assert found.truth["arm[T.treated]"] == pytest.approx(0.5 * np.sqrt(2))
    assert "Cohen's d" in str(found)
    assert "1.414" in str(found)
    slopes = um.design_power(
        "y ~ x + (x || person)", {"person": 6, "x": [0.0, 1.0]}, fixed={"x": 1.0},
        random={"sd(Intercept | person)": 1.0, "sd(x | person)": 2.0}, residual=1.0, units="d", n_sim=1, seed=1,
    )  # fmt: skip
    assert slopes.truth["x"] == pytest.approx(np.sqrt(1 + 1 + 4 / 2))
    odds = um.design_power(
        ARMS, STUDY, fixed={"Intercept": -0.5, "arm[T.treated]": 3.0}, random={"person": 0.5},
        between={"arm": "person"}, family="binomial", units="ratio", n_sim=3, seed=1,
    )  # fmt: skip
    assert odds.truth["arm[T.treated]"] == pytest.approx(np.log(3))
    assert odds.truth["Intercept"] == -0.5


def test_all_that_is_missing_or_wrong_is_said_at_once():
    with pytest.raises(
        OptionError,
        match=r"has no 'arm'.*\n.*fixed= lacks 'arm\[T.treated\]'.*\n.*random= lacks.*\n.*residual= lacks 'sigma'",
    ):
        um.design_power(ARMS, STUDY, fixed={"arm": 1.0}, between={"arm": "person"})
    with pytest.raises(OptionError, match="effect= names"):
        um.design_power(
            "y ~ arm * time + (1 | person)", STUDY, between={"arm": "person"}, random={"person": 1.0}, residual=1.0,
            fixed={"arm[T.treated]": 1.0, "time": 0.1, "arm[T.treated]:time": 0.2},
        )  # fmt: skip
    with pytest.raises(OptionError, match=r"units='D'.*\n.*has no 'school'"):
        um.design_power("y ~ time + (1 | school)", STUDY, fixed={"time": 1.0}, units="D")
    with pytest.raises(OptionError, match="is not a number of levels"):
        um.design_power(ARMS, STUDY, **{**ASSUMED, "between": {"arm": "time"}})
    with pytest.raises(OptionError, match="'ratio' is for a log"):
        um.design_power(ARMS, STUDY, **ASSUMED, units="ratio")
    with pytest.raises(UnsupportedModelError, match="response of a planned study is a name"):
        um.design_power("log(y) ~ arm + (1 | person)", STUDY, **ASSUMED)


def test_ordered_categories_are_refused():
    layout = {"person": 10, "arm": ["control", "treated"]}
    with pytest.raises(UnsupportedModelError, match=r"thresholds of ordered categories.*family='binomial'"):
        um.design_power("y ~ arm + (1 | person)", layout, family="cumulative", fixed={"arm[T.treated]": 1}, random={})
