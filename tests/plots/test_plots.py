"""Pictures: the data they show against the result, what is drawn against the data, and images against stored ones."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import unimix as um

IMAGES = Path(__file__).parents[1] / "data" / "images"
if tuple(map(int, mpl.__version__.split(".")[:2])) >= (3, 11):  # letters have other widths
    IMAGES /= "matplotlib_3.11"
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
PIGS = "Weight ~ poly(Time, 2) + Cu + (1 + Time | Pig)"


@pytest.fixture(scope="module")
def sleep() -> um.FitResult:
    return um.fit(SLEEP, um.load_dataset("sleepstudy"), "pls")


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit(PIGS, um.load_dataset("dietox"), "pls")


@pytest.fixture(scope="module")
def ticks() -> um.FitResult:
    return um.fit("TICKS ~ cHEIGHT + (1 | BROOD)", um.load_dataset("grouseticks"), "pls", family="poisson")


@pytest.fixture(scope="module")
def drawn() -> um.FitResult:
    sampler = um.backends.PyMC(sampler="pymc", cores=1, draws=200, tune=150, chains=2, retry=False)
    priors = {"Days": um.priors.Normal(0, 30), "sd(Subject: Intercept)": um.priors.HalfNormal(50)}
    return um.fit(SLEEP, um.load_dataset("sleepstudy"), sampler, seed=1, priors=priors)


def test_lines_are_the_predictions_of_the_models(sleep: um.FitResult) -> None:
    found = sleep.plot.groups(levels=["308", "372"], n_draws=5, draw=False)
    assert list(dict.fromkeys(found["level"])) == ["308", "372"]
    assert (found.attrs["x"], found.attrs["group"], found.attrs["n_levels"]) == ("Days", "Subject", 18)
    data = um.load_dataset("sleepstudy")
    for level, own in found.groupby("level"):
        line = own[own["kind"] == "partial"]
        new = pd.DataFrame({"Days": line["x"].astype(float), "Subject": level})
        np.testing.assert_allclose(line["y"], sleep.predict(new), rtol=1e-10)
        assert (line["lower"] < line["y"]).all()
        assert (line["upper"] > line["y"]).all()
        mine = data[data["Subject"] == level]
        slope, intercept = np.polyfit(mine["Days"], mine["Reaction"], 1)
        alone = own[own["kind"] == "no"]
        np.testing.assert_allclose(alone["y"], intercept + slope * alone["x"].astype(float), rtol=1e-8)
        slope, intercept = np.polyfit(data["Days"], data["Reaction"], 1)
        whole = own[own["kind"] == "complete"]
        np.testing.assert_allclose(whole["y"], intercept + slope * whole["x"].astype(float), rtol=1e-8)
        assert len(own[own["kind"] == "data"]) == 10
        assert own[own["kind"] == "draw"]["draw"].nunique() == 5


def test_curves_hold_other_predictors_at_the_levels_own_values(pigs: um.FitResult) -> None:
    data = um.load_dataset("dietox")
    level = str(data["Pig"].iloc[-1])
    found = pigs.plot.groups(levels=[level], draw=False)
    line = found[found["kind"] == "partial"]
    cu = data[data["Pig"].astype(str) == level]["Cu"].iloc[0]
    new = pd.DataFrame({"Time": line["x"].astype(float), "Cu": cu, "Pig": level})
    np.testing.assert_allclose(line["y"], pigs.predict(new), rtol=1e-9)
    other = next(c for c in data["Cu"].unique() if c != cu)
    moved = pigs.plot.groups(levels=[level], at={"Cu": other}, draw=False)
    np.testing.assert_allclose(moved[moved["kind"] == "partial"]["y"], pigs.predict(new.assign(Cu=other)), rtol=1e-9)
    assert len(pigs.plot.groups(levels=5, draw=False)["level"].unique()) == 5


def test_lines_of_a_generalised_model_are_expected_responses(ticks: um.FitResult) -> None:
    found = ticks.plot.groups("cHEIGHT", levels=3, draw=False)
    line = found[(found["kind"] == "partial") & (found["level"] == found["level"].iloc[0])]
    new = pd.DataFrame({"cHEIGHT": line["x"].astype(float), "BROOD": line["level"]})
    np.testing.assert_allclose(line["y"], ticks.predict(new), rtol=1e-9)
    assert (line["y"] > 0).all()
    with pytest.raises(um.DataError, match="no predictor that varies within BROOD"):
        ticks.plot.groups(draw=False)


def test_the_band_is_that_of_the_joint_error(sleep: um.FitResult) -> None:
    """Quantiles of 1,000 draws: within 12 % of the exact standard error."""
    from unimix.analysis.summaries.partial_pooling import level_estimates

    found = sleep.plot.groups(levels=["335"], n_draws=0, draw=False)
    line = found[found["kind"] == "partial"]
    at_zero = line.iloc[0]
    estimates = level_estimates(sleep)
    sd = estimates.partial_sd[estimates.levels.index("335"), 0]
    assert float(at_zero["upper"] - at_zero["lower"]) / (2 * 1.959964) == pytest.approx(sd, rel=0.12)
    assert "draw" not in set(found["kind"])


def test_pictures_show_their_data(sleep: um.FitResult) -> None:
    axes = sleep.plot.groups(levels=4)
    assert len(axes) == 4
    assert axes[0].get_title(loc="left") == "308  (n = 10)"
    labels = [t.get_text() for t in axes[0].figure.legends[0].get_texts()]
    assert labels == ["complete pooling", "partial pooling", "no pooling", "its uncertainty"] or set(labels) == {
        "complete pooling", "partial pooling", "no pooling", "its uncertainty",
    }  # fmt: skip
    caterpillar = sleep.plot.caterpillar(draw=False)
    (first, second) = sleep.plot.caterpillar()
    np.testing.assert_allclose(
        np.sort(np.concatenate([line.get_xdata() for line in second.get_lines()[1:]])),
        np.sort(caterpillar[caterpillar["term"] == "Days"]["estimate"]),
    )
    assert first.get_title(loc="left") == "Intercept"
    modes = sleep.group_effects["Subject"]["Days"]
    own = caterpillar[caterpillar["term"] == "Days"].set_index("level")
    np.testing.assert_allclose(own["estimate"], modes.loc[own.index])
    assert own["estimate"].is_monotonic_increasing
    reach = 1.959964 * sleep.group_effects_sd["Subject"]["Days"].loc[own.index]
    np.testing.assert_allclose(own["upper"] - own["estimate"], reach, rtol=1e-6)


def test_shrinkage_shows_where_estimates_moved(sleep: um.FitResult, pigs: um.FitResult) -> None:
    found = sleep.plot.shrinkage(draw=False)
    assert [t for _, t in found.columns[:2]] == ["Intercept", "Days"]
    np.testing.assert_allclose(found["partial"], sleep.coefficients("Subject"), rtol=1e-10)
    ax = sleep.plot.shrinkage()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept", "Days")
    assert sleep.plot.shrinkage("Days").get_xlabel() == "Days"
    assert [t for _, t in pigs.plot.shrinkage(draw=False).columns[:2]] == ["Intercept", "poly(Time, 2)[1]"]
    with pytest.raises(um.OptionError, match=r"'days' is not a coefficient of Subject's levels. Did you mean 'Days'"):
        sleep.plot.shrinkage("days")


def test_ridges_are_the_distribution_of_each_levels_coefficient(sleep: um.FitResult) -> None:
    """Mean within 5 Monte Carlo errors of 4,000 draws; the density integrates to one."""
    from unimix.analysis.summaries.partial_pooling import level_estimates

    found = sleep.plot.ridge("Days", draw=False)
    estimates = level_estimates(sleep)
    for level, own in found.groupby("level"):
        at = estimates.levels.index(level)
        assert np.trapezoid(own["density"], own["x"]) == pytest.approx(1.0, abs=0.01)
        gap = own["mean"].iloc[0] - estimates.partial[at, 1]
        assert abs(gap) < 5 * estimates.partial_sd[at, 1] / np.sqrt(4000)
    assert sleep.plot.ridge("Days").get_xlabel().startswith("Days")
    with pytest.raises(um.OptionError, match=r"'Day' is not a coefficient of this model. Did you mean 'Days'"):
        sleep.plot.ridge("Day")


def test_replications_have_the_fitted_means_and_the_residual_spread(sleep: um.FitResult, ticks: um.FitResult) -> None:
    """Within 5 Monte Carlo errors of 4,000 replications, row by row."""
    from unimix.analysis.prediction.draws import conditional_at
    from unimix.stats.joint_error import predictor_variance

    found = sleep.posterior_predictive(4000, seed=1)
    design = sleep.design()
    error = predictor_variance(conditional_at(sleep, design), design.x, [design.blocks[0].z], [design.blocks[0].codes])
    spread = np.sqrt(error + sleep.sigma**2)
    assert (np.abs(found.mean(axis=0) - sleep.fitted) < 5 * spread / np.sqrt(4000)).all()
    np.testing.assert_allclose(found.std(axis=0), spread, rtol=0.08)
    counts = ticks.posterior_predictive(500, seed=1)
    assert (counts == counts.round()).all()
    np.testing.assert_array_equal(sleep.posterior_predictive(3, seed=5), sleep.posterior_predictive(3, seed=5))
    shown = ticks.plot.posterior_predictive(20, draw=False)
    observed = shown[shown["draw"] == -1].set_index("x")["density"]
    assert shown.attrs["discrete"]
    assert observed.sum() <= 1.0 + 1e-12


def test_diagnostics_are_the_results_own(sleep: um.FitResult) -> None:
    found = sleep.plot.diagnostics(draw=False)
    np.testing.assert_allclose(found["residual"], sleep.residuals() / sleep.sigma)
    np.testing.assert_allclose(found["fitted"], sleep.fitted)
    assert found["leverage"].between(0, 1).all()
    order = np.argsort(found["residual"].to_numpy())
    assert (np.diff(found["residual_quantile"].to_numpy()[order]) >= 0).all()
    axes = sleep.plot.diagnostics()
    assert [a.get_title(loc="left") for a in axes][-1] == "Q-Q of Days | Subject"


def test_a_forest_of_engines(sleep: um.FitResult) -> None:
    other = um.fit(SLEEP, um.load_dataset("sleepstudy"), "statsmodels")
    found = sleep.plot.forest(other, sleep, draw=False)
    assert list(dict.fromkeys(found["engine"])) == ["pls", "statsmodels", "pls (2)"]
    assert len(sleep.plot.forest(other)) == found["name"].nunique()


@pytest.mark.mcmc
def test_draws_are_shown_and_the_prior_is_pymcs(drawn: um.FitResult) -> None:
    frame = drawn.plot.trace(draw=False)
    assert {"fixed[Intercept]", "fixed[Days]", "sd(Subject)[Days]", "sigma"} <= set(frame.columns)
    np.testing.assert_allclose(frame["fixed[Days]"].mean(), drawn.fixed_effects.loc["Days", "estimate"], rtol=1e-9)
    assert drawn.plot.trace().shape == (len(frame.columns) - 2, 2)
    assert np.ravel(drawn.plot.rank(["fixed"])).size == 2
    with pytest.raises(um.OptionError, match=r"'sigm' is not a variable of the posterior. Did you mean 'sigma'"):
        drawn.plot.trace(["sigm"])
    prior = drawn.prior_predictive(300, seed=1)
    assert prior.shape == (300, 180)
    spread = prior[:, 9].std() - prior[:, 0].std()  # nine days under a slope's prior SD of 30
    assert spread > 50
    assert drawn.plot.prior_predictive(20).get_xlabel() == "Reaction"
    assert "standardised(Subject)" in drawn.plot.model_graph(draw=False)
    assert not drawn.plot.model_graph().axison
    thin = drawn.draws(200)
    assert thin.beta.shape == (200, 2)
    assert thin.effects[0].shape == (200, 18, 2)
    lines = drawn.plot.groups(levels=["308"], n_draws=10, draw=False)
    middle = lines[lines["kind"] == "partial"].iloc[0]
    assert middle["lower"] < middle["y"] < middle["upper"]


def test_chains_are_drawn_from_their_draws() -> None:
    """Every chain has its line and its bars, whose mean height is the level that all should reach."""
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "bayes", seed=1)
    frame = fit.plot.trace(["fixed", "sigma"], draw=False)
    assert list(frame.columns) == ["chain", "draw", "fixed[Intercept]", "fixed[Days]", "sigma"]
    axes = fit.plot.trace(["fixed", "sigma"], linewidth=3)
    assert axes.shape == (3, 2)
    for chain, own in frame.groupby("chain"):
        density, trace = (ax.lines[int(chain)] for ax in axes[2])
        np.testing.assert_array_equal(trace.get_ydata(), own["sigma"])
        assert trace.get_linewidth() == density.get_linewidth() == 3
        assert np.trapezoid(density.get_ydata(), density.get_xdata()) == pytest.approx(1, abs=0.01)
    (ax,) = fit.plot.rank(["sigma"])
    heights = np.reshape([bar.get_height() for bar in ax.patches], (4, 20))
    np.testing.assert_allclose(heights.mean(axis=1), 0.5)
    assert np.abs(heights - 0.5).max() < 0.5 * 5 / np.sqrt(1000 / 20)  # five standard errors of a count of 50
    apart = frame.assign(sigma=frame["sigma"] + 100 * frame["chain"])
    from unimix.plots.chains import draw_rank

    (ax,) = draw_rank(apart[["chain", "draw", "sigma"]])
    heights = np.reshape([bar.get_height() for bar in ax.patches], (4, 20))
    np.testing.assert_allclose(heights, 2.0 * np.kron(np.eye(4), np.ones(5)), atol=0.1)  # equal draws share a rank


def test_transitions_that_diverged_are_marked() -> None:
    from unimix.analysis.plot_data.by_plot import chain_densities
    from unimix.plots.chains import draw_trace

    chain, draw = np.divmod(np.arange(40), 20)
    draws = pd.DataFrame({"chain": chain, "draw": draw, "b": np.sin(np.arange(40.0)), "fixed": 1.0})
    draws.attrs["diverging"] = [i in {3, 30} for i in range(40)]
    densities = chain_densities(draws)
    assert set(densities["name"]) == {"b"}  # equal draws have no density
    left, right = draw_trace(draws, densities)[0]
    np.testing.assert_array_equal(left.lines[-1].get_xdata(), draws["b"].iloc[[3, 30]])
    np.testing.assert_array_equal(right.lines[-1].get_xdata(), [3, 10])


def test_what_an_engine_lacks_is_said(sleep: um.FitResult) -> None:
    for call in (sleep.plot.trace, sleep.plot.rank):
        with pytest.raises(um.UnimixError, match="pls does not sample; use backend='pymc'"):
            call()
    for call in (sleep.plot.prior_predictive, sleep.plot.model_graph):
        with pytest.raises(um.UnimixError, match="pls has no prior; use backend='pymc'"):
            call()
    with pytest.raises(um.OptionError, match=r"x='days' is not a predictor of this model. Did you mean 'Days'"):
        sleep.plot.groups("days")
    with pytest.raises(um.DataError, match=r"'999': not a level of Subject"):
        sleep.plot.groups(levels=["999"])
    with pytest.raises(um.OptionError, match=r"at=\{'Dose': ...\} is not a column"):
        sleep.plot.groups(at={"Dose": 1})
    plain = um.fit("Reaction ~ Days", um.load_dataset("sleepstudy"), "pls")
    with pytest.raises(um.DataError, match="no grouping factor to pool over"):
        plain.plot.caterpillar()
    assert "Plots of Reaction ~ Days: .caterpillar()" in repr(plain.plot)


def test_a_loaded_result_draws_with_its_data(sleep: um.FitResult) -> None:
    again = um.FitResult.from_json(sleep.to_json())
    data = um.load_dataset("sleepstudy")
    assert len(again.plot.caterpillar()) == 2
    with pytest.raises(um.DataError, match="holds no data"):
        again.plot.groups()
    a, b = (f.plot.groups(levels=2, draw=False) for f in (again.with_data(data), sleep))
    pd.testing.assert_frame_equal(a, b, rtol=1e-7)
    assert len(again.with_data(data).plot.diagnostics()) == 6


def test_a_cross_validation_and_a_pooling_draw_themselves() -> None:
    data = um.load_dataset("sleepstudy")
    found = um.cross_validate(SLEEP, data, ["pls"], folds=3)
    axes = found.plot(["rmse", "coverage"])
    assert [a.get_title(loc="left") for a in axes] == ["rmse", "coverage"]
    pool = um.pooling(SLEEP, data, ["pls", "statsmodels"])
    labels = [t.get_text() for t in pool.plot(levels=2)[0].figure.legends[0].get_texts()]
    assert "statsmodels" in labels
    assert pool.plot_shrinkage("Days").get_xlabel() == "Days"


def test_the_line_of_the_population(sleep: um.FitResult, ticks: um.FitResult) -> None:
    found = sleep.plot.population(n_draws=7, draw=False)
    line = found[found["kind"] == "population"]
    new = pd.DataFrame({"Days": line["x"].astype(float), "Subject": "308"})
    np.testing.assert_allclose(line["y"], sleep.predict(new, level="population"), rtol=1e-10)
    x = np.column_stack([np.ones(len(line)), line["x"].astype(float)])
    sd = np.sqrt(np.einsum("ni,ij,nj->n", x, np.asarray(sleep.fixed.covariance), x))
    np.testing.assert_allclose((line["upper"] - line["lower"]) / (2 * 1.959964), sd, rtol=0.12)  # 1,000 draws
    assert found[found["kind"] == "draw"]["draw"].nunique() == 7
    assert len(found[found["kind"] == "data"]) == 180
    assert ticks.plot.population().get_xlabel() == "cHEIGHT"
    plain = um.fit("Reaction ~ Days", um.load_dataset("sleepstudy"), "pls")
    assert set(plain.plot.population(draw=False)["kind"]) == {"data", "population", "draw"}


PICTURES = {
    "population": lambda s, p, t: s.plot.population(),
    "groups": lambda s, p, t: s.plot.groups(levels=6, columns=3),
    "groups_curved": lambda s, p, t: p.plot.groups(levels=4),
    "shrinkage": lambda s, p, t: s.plot.shrinkage(),
    "shrinkage_one": lambda s, p, t: s.plot.shrinkage("Days"),
    "caterpillar": lambda s, p, t: s.plot.caterpillar(),
    "caterpillar_many": lambda s, p, t: t.plot.caterpillar(),
    "ridge": lambda s, p, t: s.plot.ridge("Days"),
    "forest": lambda s, p, t: s.plot.forest(),
    "predictive": lambda s, p, t: s.plot.posterior_predictive(20),
    "predictive_counts": lambda s, p, t: t.plot.posterior_predictive(20),
    "diagnostics": lambda s, p, t: s.plot.diagnostics(),
}


@pytest.mark.parametrize("name", [*PICTURES, "means", "given axes"])
def test_a_dollar_in_a_name_is_no_mathematics(name: str) -> None:
    """Of ``$x_{`` matplotlib would make a fault of its own syntax, when the picture is drawn."""
    rng = np.random.default_rng(1)
    n = 96
    data = pd.DataFrame({"Days": rng.normal(size=n), "$x_{": rng.normal(size=n)})
    data["f"] = np.array(["$a_{", "b", "c"])[rng.integers(0, 3, n)]
    data["Subject"] = np.array([f"{i}$^{{" for i in range(8)])[np.arange(n) % 8]
    data["y"] = data["Days"] * (1 + 0.5 * (np.arange(n) % 8)) + rng.normal(size=n)
    fit = um.fit("y ~ Days + `$x_{` + f + (1 + Days | Subject)", data, "pls")
    if name == "means":
        axes = fit.emmeans("f").plot()
    elif name == "given axes":
        axes = fit.plot.population("Days", ax=plt.subplots()[1])
    else:
        axes = PICTURES[name](fit, fit, fit)
    figure = np.ravel(axes)[0].figure
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    texts = [t.get_text() for ax in np.ravel(axes) for t in ax.findobj(Text)] + [t.get_text() for t in figure.texts]
    assert any("$" in text for text in texts)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(
    name: str, sleep: um.FitResult, pigs: um.FitResult, ticks: um.FitResult, tmp_path: Path
) -> None:
    """RMS of 8 of 255: other versions of matplotlib shift text by a pixel; another line or panel is beyond it.

    ``UNIMIX_NEW_IMAGES=1`` writes them anew: look at every one.
    """
    import os

    figure = np.ravel(PICTURES[name](sleep, pigs, ticks))[0].figure
    stored = IMAGES / f"{name}.png"
    if os.environ.get("UNIMIX_NEW_IMAGES"):
        figure.savefig(stored, dpi=45)
    found = tmp_path / f"{name}.png"
    figure.savefig(found, dpi=45)
    assert compare_images(str(stored), str(found), tol=8) is None
