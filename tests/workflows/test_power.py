"""Power by simulation against the noncentral t distribution, and against the level where there is no effect."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um
from unimix.errors import OptionError, UnsupportedModelError


@pytest.fixture(scope="module")
def trial():
    """A balanced design: two arms between 12 groups of four rows."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 4)
    data = pd.DataFrame({"g": g, "arm": np.where(g % 2 == 0, "a", "b"), "y": rng.normal(size=48)})
    data["y"] += rng.normal(size=12)[g]
    return data


def exact(effect, sd, sigma, n_groups, n_rows, alpha=0.05):
    """Power of the t test of two balanced arms: the group means are independent."""
    se = 2 * np.sqrt((sd**2 + sigma**2 / n_rows) / n_groups)
    df = n_groups - 2
    reach = stats.t.ppf(1 - alpha / 2, df)
    return stats.nct.sf(reach, df, effect / se) + stats.nct.cdf(-reach, df, effect / se)


def test_power_is_that_of_the_t_test_of_group_means(trial):
    fit = um.fit("y ~ arm + (1 | g)", trial, "pls")
    truth = {"sd(Intercept | g)": 1.0, "sigma": 1.0}
    found = um.power(
        fit, "arm[T.b]", value=1.5, parameters=truth, n_groups=[8, 12, 24], n_rows=4, n_sim=150, seed=1
    ).table
    for row in found.itertuples():
        theory = exact(1.5, 1.0, 1.0, row.n_groups, 4)
        # four binomial standard errors; Satterthwaite's df exceed n - 2 where the variance is estimated as zero
        assert abs(row.power - theory) < 4 * np.sqrt(theory * (1 - theory) / 150) + 0.03
        assert row.lower < row.power < row.upper
        assert row.n_obs == 4 * row.n_groups
    assert found["power"].is_monotonic_increasing
    # what is significant at low power is too large
    assert found["exaggeration"].iloc[0] > 1.15 > found["exaggeration"].iloc[2]
    assert found["estimate"].iloc[2] == pytest.approx(1.5, abs=4 * 0.46 / np.sqrt(150))


def test_without_an_effect_power_is_the_level(trial):
    fit = um.fit("y ~ arm + (1 | g)", trial, "pls")
    found = um.power(fit, "arm[T.b]", value=0, parameters={"sd(Intercept | g)": 1.0}, n_sim=200, seed=2).table
    assert found["lower"].iloc[0] < 0.05 < found["upper"].iloc[0]
    term = um.power(fit, "arm", parameters={"arm[T.b]": 0.0, "sd(Intercept | g)": 1.0}, n_sim=200, seed=2).table
    assert term["power"].iloc[0] == found["power"].iloc[0]  # one coefficient: F is t squared


def test_linear_models_have_their_t_test():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": np.tile([0.0, 1.0], 10), "y": rng.normal(size=20)})
    fit = um.fit("y ~ x", data, "statsmodels")
    found = um.power(fit, "x", value=1.0, parameters={"sigma": 1.0}, n_rows=[20, 40], n_sim=200, seed=1).table
    for row in found.itertuples():
        se, df = np.sqrt(4 / row.n_obs), row.n_obs - 2
        theory = stats.nct.sf(stats.t.ppf(0.975, df), df, 1.0 / se)
        assert abs(row.power - theory) < 4 * np.sqrt(theory * (1 - theory) / 200)
    assert found["n_groups"].isna().all()
    ax = um.power(fit, "x", value=1.0, n_rows=[20, 40], n_sim=20, seed=1).plot()
    assert ax.get_xlabel() == "rows"
    assert next(len(line.get_xdata()) for line in ax.lines) == 2


@pytest.mark.r
def test_generalised_models_and_other_engines(trial):
    trial = trial.assign(hit=(trial["y"] > 0).astype(int))
    fit = um.fit("hit ~ arm + (1 | g)", trial, "pls", family="binomial")
    found = um.power(fit, "arm[T.b]", value=2.0, parameters={"sd(Intercept | g)": 0.3}, n_groups=40, n_sim=30, seed=1)
    assert found.table["power"].iloc[0] > 0.8
    lme4 = um.fit("y ~ arm + (1 | g)", trial, "lme4")
    pls = um.fit("y ~ arm + (1 | g)", trial, "pls")
    same = [um.power(f, "arm[T.b]", value=1.0, parameters={"sd(Intercept | g)": 1.0, "sigma": 1.0, "Intercept": 0.0},
                     n_sim=25, seed=4).table for f in (lme4, pls)]  # fmt: skip
    assert np.allclose(same[0]["power"], same[1]["power"])
    assert np.allclose(same[0]["estimate"], same[1]["estimate"], rtol=1e-4)


def test_notes_and_processes(trial):
    fit = um.fit("y ~ arm + (1 | g)", trial, "pls")
    one = um.power(fit, "arm", n_sim=12, seed=1)
    assert "The true effect is the estimate" in one.notes[0]
    two = um.power(fit, "arm", n_sim=12, seed=1, n_jobs=2)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert one.truth["sigma"] == pytest.approx(fit.sigma)
    loaded = type(fit).from_json(fit.to_json())
    pd.testing.assert_frame_equal(um.power(loaded.with_data(trial), "arm", n_sim=12, seed=1).table, one.table)


@pytest.mark.r
def test_what_makes_no_sense_is_refused(trial):
    fit = um.fit("y ~ arm + (1 | g)", trial, "pls")
    with pytest.raises(OptionError, match=r"Did you mean 'arm'"):
        um.power(fit, "arms")
    with pytest.raises(OptionError) as caught:
        um.power(fit, "arm", value=1, alpha=5, n_sim=0, n_groups=[1], parameters={"sigm": 1, "sd(Intercept | g)": -1})
    for told in ("value= is for one coefficient", "alpha=5", "n_sim=0", "n_groups=1", "'sigma'", "a positive number"):
        assert told in str(caught.value)
    with pytest.raises(OptionError, match="not estimable"):
        um.power(fit, "arm", n_groups=2, n_rows=1)
    ticks = um.load_dataset("grouseticks")
    zero = um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, "glmmtmb", family="poisson", ziformula="~ 1")
    with pytest.raises(UnsupportedModelError, match="zero"):
        um.power(zero, "YEAR")


def test_crossed_designs_name_the_factor_that_grows() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame([(a, b) for a in range(6) for b in range(8)], columns=["g", "h"])
    frame["x"], frame["y"] = rng.normal(size=48), rng.normal(size=48)
    fit = um.fit("y ~ x + (1 | g) + (1 | h)", frame, "pls")
    with pytest.raises(OptionError, match=r"name one of 'g', 'h' as group="):
        um.power(fit, "x", value=0.5, n_groups=[4, 12], n_sim=2, seed=1)
    found = um.power(fit, "x", value=0.5, n_groups=[4, 12], group="g", n_sim=2, seed=1)
    assert found.group == "g"
    assert found.table["n_groups"].tolist() == [4, 12]
    assert found.table["n_obs"].tolist() == [32, 96]
    for view in (str(found), found._repr_html_(), found.to_markdown(), found.to_latex()):
        assert "levels of g" in view
    other = um.power(fit, "x", value=0.5, n_groups=[4, 16], group="h", n_sim=2, seed=1).table
    assert other["n_obs"].tolist() == [24, 96]
    assert found.plot().get_xlabel() == "levels of g"


def test_designs_have_random_numbers_of_their_own() -> None:
    """The same design twice: with the same numbers both estimates would be equal to the last digit."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(list("abcdef"), 5), "x": rng.normal(size=30), "y": rng.normal(size=30)})
    fit = um.fit("y ~ x + (1 | g)", frame, "pls")
    table = um.power(fit, "x", value=0.5, n_groups=[6, 6], n_sim=5, seed=1).table
    assert abs(table["estimate"].iloc[0] - table["estimate"].iloc[1]) > 1e-6
    again = um.power(fit, "x", value=0.5, n_groups=[6, 6], n_sim=5, seed=1).table
    pd.testing.assert_frame_equal(again, table)


def test_rows_of_an_observation_level_effect_are_all_levels() -> None:
    """Counts with an effect per row: more rows are more levels of it."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 4), "row": np.arange(32), "x": rng.normal(size=32)})
    frame["c"] = rng.poisson(3, 32)
    fit = um.fit("c ~ x + (1 | g) + (1 | row)", frame, "pls", family="poisson")
    from unimix.stats.simulation import resized

    made = resized(fit.design(), fit.design().blocks[0].codes, None, 12)
    levels = {b.group: b.n_levels for b in made.blocks}
    assert levels == {"g": 8, "row": 96}
    with pytest.raises(OptionError, match=r"n_groups=12\.5: give a whole number of groups, at least 2"):
        um.power(fit, "x", n_groups=12.5)
