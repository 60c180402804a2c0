"""cross_validate: against loops by hand, simulation with known truth, and ArviZ."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, RepeatedKFold

import unimix as um
from unimix.stats.scores import normal_crps

PIGS = "Weight ~ Time + (1 + Time | Pig)"


def pigs(count: int = 15) -> pd.DataFrame:
    data = um.load_dataset("dietox")
    kept = list(dict.fromkeys(data["Pig"]))[:count]
    return data[data["Pig"].isin(kept)].reset_index(drop=True)


def groups(seed: int = 4, levels: int = 30, n: int = 12, slope_sd: float = 0.7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), n)
    x = rng.normal(size=len(g))
    y = 1 + x + rng.normal(0, 1.5, levels)[g] + rng.normal(0, slope_sd, levels)[g] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k:02d}" for k in g]})


@pytest.fixture(scope="module")
def by_rows() -> um.CrossValidation:
    return um.cross_validate(PIGS, pigs(), ["pls", "statsmodels"], folds=4, seed=3)


def test_scores_are_those_of_a_loop_by_hand(by_rows: um.CrossValidation) -> None:
    """Complete pooling by statsmodels' OLS, no pooling by OLS per pig, partial pooling by fit and predict."""
    data = pigs()
    rows = by_rows.rows
    for fold in range(4):
        test = np.sort(rows[(rows["model"] == "no pooling") & (rows["fold"] == fold)]["position"].to_numpy())
        train = data.drop(index=test)
        held = data.loc[test]
        ols = sm.OLS(train["Weight"], sm.add_constant(train["Time"])).fit()
        made = {"complete pooling (pls)": ols.predict(sm.add_constant(held["Time"])).to_numpy()}
        mixed = um.fit(PIGS, train, "pls")
        made["partial pooling (pls)"] = mixed.predict(held)
        alone = np.empty(len(held))
        for k, (_, row) in enumerate(held.iterrows()):
            own = train[train["Pig"] == row["Pig"]]
            alone[k] = np.polyval(np.polyfit(own["Time"], own["Weight"], 1), row["Time"])
        made["no pooling"] = alone
        for label, mean in made.items():
            found = rows[(rows["model"] == label) & (rows["fold"] == fold)].set_index("position").loc[test]
            np.testing.assert_allclose(found["mean"], mean, rtol=1e-7)
            np.testing.assert_allclose(found["observed"], held["Weight"])
    ols_rows = rows[(rows["model"] == "complete pooling (pls)") & (rows["fold"] == 3)].set_index("position").loc[test]
    frame = ols.get_prediction(sm.add_constant(held["Time"])).summary_frame()
    sd = np.sqrt(frame["mean_se"] ** 2 + ols.scale).to_numpy()
    np.testing.assert_allclose(ols_rows["log_score"], stats.norm.logpdf(held["Weight"], frame["mean"], sd), rtol=1e-7)
    np.testing.assert_allclose(ols_rows["upper"], frame["mean"] + 1.959964 * sd, rtol=1e-6)
    crps = normal_crps(held["Weight"].to_numpy(), frame["mean"].to_numpy(), sd)
    np.testing.assert_allclose(ols_rows["crps"], crps, rtol=1e-7)


def test_the_table_follows_from_the_rows(by_rows: um.CrossValidation) -> None:
    table, rows = by_rows.table, by_rows.rows
    own = rows[rows["model"] == "no pooling"]
    error = own["mean"] - own["observed"]
    assert table.loc["no pooling", "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert table.loc["no pooling", "mae"] == pytest.approx(error.abs().mean())
    inside = own["observed"].between(own["lower"], own["upper"])
    assert table.loc["no pooling", "coverage"] == pytest.approx(inside.mean())
    robust = sm.OLS((error**2).to_numpy(), np.ones(len(own))).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(own["level"])[0]}
    )
    expected = robust.bse[0] / (2 * np.sqrt((error**2).mean()))
    assert table.loc["no pooling", "rmse_se"] == pytest.approx(expected, rel=1e-6)
    assert len(by_rows.folds) == 4 * 4
    gap = by_rows.differences("rmse", "no pooling")
    assert gap.loc["complete pooling (pls)", "difference"] == pytest.approx(
        table.loc["complete pooling (pls)", "rmse"] - table.loc["no pooling", "rmse"]
    )
    assert gap.loc["no pooling", "difference"] == 0
    assert by_rows.best("rmse") in table.index


def test_every_row_is_held_out_once_and_every_level_stays_in_training(by_rows: um.CrossValidation) -> None:
    data = pigs()
    for _, own in by_rows.rows.groupby("model"):
        assert sorted(own["position"]) == list(range(len(data)))
        for _, fold in own.groupby("fold"):
            assert (fold.groupby("level").size() < data.groupby("Pig").size().loc[fold["level"].unique()]).all()


def test_engines_share_their_folds_and_agree(by_rows: um.CrossValidation) -> None:
    """1e-3 of a log score: statsmodels ends within 1e-5 of the optimum."""
    a, b = (by_rows.table.loc[f"partial pooling ({e})"] for e in ("pls", "statsmodels"))
    np.testing.assert_allclose(
        a[["rmse", "mae", "crps"]].astype(float), b[["rmse", "mae", "crps"]].astype(float), rtol=1e-3
    )


def test_the_same_seed_gives_the_same_numbers_in_any_number_of_processes(by_rows: um.CrossValidation) -> None:
    again = um.cross_validate(PIGS, pigs(), ["pls", "statsmodels"], folds=4, seed=3, n_jobs=2)
    pd.testing.assert_frame_equal(again.rows, by_rows.rows, rtol=1e-9)
    other = um.cross_validate(PIGS, pigs(), ["pls"], folds=4, seed=4, pooling=["none"])
    before = by_rows.rows[by_rows.rows["model"] == "no pooling"]
    assert set(other.rows.query("fold == 0")["position"]) != set(before.query("fold == 0")["position"])


def test_whole_levels_left_out_and_no_pooling_says_why_not() -> None:
    found = um.cross_validate(PIGS, pigs(), ["pls"], split="groups", folds=5)
    assert found.why == {"no pooling": "no pooling cannot predict a new Pig: it has no regression for it."}
    assert "no pooling" not in found.table.index
    for _, own in found.rows.groupby(["model", "level"]):
        assert len(set(own["fold"])) == 1
    data = pigs()
    fold = found.rows[found.rows["fold"] == 0]
    mine = fold[fold["model"] == "partial pooling (pls)"].set_index("position")
    fit = um.fit(PIGS, data.drop(index=mine.index), "pls")
    np.testing.assert_allclose(mine["mean"], fit.predict(data.loc[mine.index], level="population"), rtol=1e-7)
    x = np.column_stack([np.ones(len(mine)), data.loc[mine.index, "Time"]])
    spread = np.einsum("ni,ij,nj->n", x, np.asarray(fit.fixed.covariance) + fit.random[0].covariance, x) + fit.sigma**2
    np.testing.assert_allclose((mine["upper"] - mine["mean"]) / 1.959964, np.sqrt(spread), rtol=1e-5)


def test_partial_pooling_wins_where_it_is_the_truth_and_its_intervals_cover() -> None:
    """360 rows of a simulated mixed model: coverage within 4 binomial errors of 95 %, best log score and CRPS."""
    found = um.cross_validate("y ~ x + (1 + x | g)", groups(n=6, levels=60), ["pls"], folds=6, seed=1)
    table = found.table
    for metric in ("rmse", "crps"):
        assert table.loc["partial pooling (pls)", metric] == table[metric].min()
    assert table.loc["partial pooling (pls)", "log_score"] == table["log_score"].max()
    assert abs(table.loc["partial pooling (pls)", "coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 360)
    assert found.differences("log_score").loc["complete pooling (pls)", "ratio"] < -3
    new = um.cross_validate("y ~ x + (1 + x | g)", groups(n=6, levels=60), ["pls"], split="groups", seed=1).table
    assert abs(new.loc["partial pooling (pls)", "coverage"] - 0.95) < 0.05


def test_scikit_learns_splitters_and_pairs_of_positions() -> None:
    data = pigs(8)
    run: Any = {"backends": ["pls"], "pooling": ["partial"]}
    by_group = um.cross_validate(PIGS, data, split=LeaveOneGroupOut(), **run)
    assert by_group.n_folds == 8
    assert "LeaveOneGroupOut" in str(by_group)
    own = list(GroupKFold(4).split(data, groups=data["Pig"]))
    pairs = um.cross_validate(PIGS, data, split=own, **run)
    same = um.cross_validate(PIGS, data, split=GroupKFold(4), **run)
    assert pairs.n_folds == 4
    assert sorted(pairs.rows["position"]) == sorted(same.rows["position"]) == list(range(len(data)))
    twice = um.cross_validate(
        "Weight ~ Time", data, ["pls"], split=RepeatedKFold(n_splits=3, n_repeats=2, random_state=1)
    )
    assert twice.n_folds == 6
    assert len(twice.rows) == 2 * len(data)
    assert list(twice.table.index) == ["pls"]


def test_positions_are_those_of_the_data_as_given() -> None:
    data = pigs(6)
    data.loc[[3, 10], "Weight"] = np.nan
    splits = list(KFold(3, shuffle=True, random_state=2).split(data))
    found = um.cross_validate(PIGS, data, ["pls"], split=splits, pooling=["partial"])
    assert set(found.rows["position"]) == set(range(len(data))) - {3, 10}
    merged = found.rows.merge(data.reset_index(), left_on="position", right_on="index")
    np.testing.assert_allclose(merged["observed"], merged["Weight"])
    assert (merged["level"].astype(str) == merged["Pig"].astype(str)).all()
    shifted = data.set_index(pd.Index(np.arange(len(data)) + 100))
    again = um.cross_validate(PIGS, shifted, ["pls"], split=splits, pooling=["partial"])
    pd.testing.assert_frame_equal(again.rows, found.rows)


def test_weights_and_offsets_as_arrays_go_with_their_rows() -> None:
    data = groups(levels=8)
    w, o = np.linspace(0.5, 3, len(data)), np.linspace(-1, 1, len(data))
    arrays = um.cross_validate("y ~ x + (1 | g)", data, ["pls"], weights=w, offset=o, folds=3)
    named = um.cross_validate("y ~ x + (1 | g)", data.assign(w=w, o=o), ["pls"], weights="w", offset="o", folds=3)
    pd.testing.assert_frame_equal(arrays.rows, named.rows)
    plain = um.cross_validate("y ~ x + (1 | g)", data, ["pls"], folds=3)
    assert not np.allclose(plain.rows["mean"], named.rows["mean"])


def test_rows_that_cannot_be_predicted_are_counted_with_their_reason() -> None:
    data = groups(levels=6)
    data["f"] = np.where(np.arange(len(data)) < 2, "rare", np.where(data["x"] > 0, "a", "b"))
    pairs = [(np.arange(2, len(data)), np.array([0, 1, 2, 3])[:3]), (np.arange(10, len(data)), np.arange(5))]
    with pytest.raises(um.OptionError, match="Fold 1 of split= trains on 1 of its own test rows"):
        um.cross_validate("y ~ f + (1 | g)", data, ["pls"], split=pairs)
    pairs[0] = (np.arange(3, len(data)), np.arange(3))
    found = um.cross_validate("y ~ f + (1 | g)", data, ["pls"], split=pairs, pooling=["complete", "partial"])
    assert found.why["partial pooling (pls)"].startswith("4 rows without a prediction ('f' has levels in the new data")
    assert found.table["n"].tolist() == [4, 4]
    single = groups(levels=5)
    single.loc[0, "g"] = "alone"
    held = um.cross_validate("y ~ x + (1 | g)", single, ["pls"], folds=5)
    assert "1 row without a prediction (a g without training rows)" in held.why["no pooling"]
    assert held.table.loc["no pooling", "n"] == len(single) - 1
    assert held.n_common == len(single)


def test_a_fit_that_fails_is_a_line_and_not_the_end() -> None:
    data = groups(levels=6, n=8)
    data["z"] = 0.0
    data.loc[data["g"] == "g00", "z"] = np.arange(8.0)
    pairs = [(np.flatnonzero(data["g"] == "g01"), np.array([0, 1])), (np.arange(4, len(data)), np.arange(4))]
    found = um.cross_validate("y ~ x + (1 | g)", data, ["pls"], split=pairs)
    assert (found.fits["error"] != "").any()
    assert "1 of 2 folds failed (DataError" in found.why["partial pooling (pls)"]
    assert found.table["n"].tolist() == [4, 4, 4]  # what all of them predict
    assert found.rows[found.rows["model"] == "complete pooling (pls)"]["mean"].notna().sum() == 6


def test_generalised_models_are_scored_on_their_responses() -> None:
    """Log scores of a Poisson GLM without groups against its own density, integrated over the predictor's error."""
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"x": rng.normal(size=120)})
    data["y"] = rng.poisson(np.exp(0.8 + 0.5 * data["x"]))
    pairs = [(np.arange(40, 120), np.arange(40))]
    found = um.cross_validate("y ~ x", data, ["pls"], split=pairs, family="poisson")
    rows = found.rows
    glm = sm.GLM(data["y"][40:], sm.add_constant(data["x"][40:]), family=sm.families.Poisson()).fit()
    x = sm.add_constant(data["x"][:40]).to_numpy()
    m, s = x @ glm.params.to_numpy(), np.sqrt(np.einsum("ni,ij,nj->n", x, glm.cov_params().to_numpy(), x))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    rate = np.exp(m + s * nodes[:, None])
    expected = np.log(
        (weights[:, None] * stats.poisson.pmf(data["y"][:40].to_numpy(), rate)).sum(axis=0) / weights.sum()
    )
    np.testing.assert_allclose(rows["log_score"], expected, atol=2e-3)  # 200 quantiles against 60 nodes
    np.testing.assert_allclose(rows["mean"], np.exp(m + s**2 / 2), rtol=1e-3)


def test_trials_stay_with_their_rows() -> None:
    data = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    found = um.cross_validate(formula, data, ["pls"], family="binomial", folds=4, pooling=["partial"])
    assert (found.rows["log_score"] <= 0).all()  # probabilities of counts
    merged = found.rows.merge(data.reset_index(), left_on="position", right_on="index")
    np.testing.assert_allclose(merged["observed"], merged["incidence"] / merged["size"])
    steps = merged["lower"] * merged["size"]
    assert (np.abs(steps - steps.round()) < 0.51).all()


def test_metrics_of_ones_own() -> None:
    data = groups(levels=6)
    found = um.cross_validate("y ~ x + (1 | g)", data, ["pls"], folds=3, metrics={"bias": lambda y, mean: mean - y})
    own = found.rows[found.rows["model"] == "no pooling"]
    assert found.table.loc["no pooling", "bias"] == pytest.approx((own["mean"] - own["observed"]).mean())
    few = um.cross_validate("y ~ x + (1 | g)", data, ["pls"], folds=3, metrics=["mae"])
    assert list(few.table.columns) == ["mae", "mae_se", "n"]


def test_a_posterior_is_scored_by_its_draws_with_psis_loo_beside() -> None:
    """Log score within 0.05 of the frequentist one (weak priors); ArviZ's pointwise values from hand-made densities."""
    data = groups(levels=8, n=10)
    formula = "y ~ x + (1 | g)"
    sampler = um.backends.Bayes(draws=1000, chains=2)
    found = um.cross_validate(formula, data, [sampler, "pls"], folds=2, seed=2)
    table = found.table
    assert (
        abs(table.loc["partial pooling (bayes)", "log_score"] - table.loc["partial pooling (pls)", "log_score"]) < 0.05
    )
    assert found.loo.loc["partial pooling (bayes)", "bad_k"] == 0
    assert (
        abs(found.loo.loc["partial pooling (bayes)", "mean"] - table.loc["partial pooling (bayes)", "log_score"]) < 0.15
    )
    fit = um.fit(formula, data, sampler, seed=2)
    from unimix.analysis.prediction.loo import pointwise_log_likelihood

    values = pointwise_log_likelihood(fit)
    posterior = fit.posterior.posterior
    one = posterior.isel(chain=1, draw=7)
    fixed, effects = one["fixed"].to_numpy(), one["effects(g)"].to_numpy()
    levels = pd.Index(one["g level"].to_numpy()).get_indexer(data["g"])
    eta = fixed[0] + fixed[1] * data["x"] + effects[levels, 0]
    np.testing.assert_allclose(values[1, 7], stats.norm.logpdf(data["y"], eta, float(one["sigma"])), rtol=1e-9)
    with pytest.raises(um.UnimixError, match="pls does not sample"):
        um.fit(formula, data, "pls").loo()


@pytest.mark.r
def test_engines_of_r_run_in_processes_of_their_own() -> None:
    data = pigs(6)
    found = um.cross_validate(PIGS, data, ["lme4"], folds=2, n_jobs=2, pooling=["partial"])
    alone = um.cross_validate(PIGS, data, ["lme4"], folds=2, pooling=["partial"])
    np.testing.assert_allclose(found.rows["mean"], alone.rows["mean"], rtol=1e-8)
    assert os.getpid()


def test_wrong_arguments_are_answered_together() -> None:
    data = groups(levels=4)
    formula = "y ~ x + (1 | g)"
    with pytest.raises(um.OptionError, match=r"ci_level=2: give a probab.*\npooling: 'half' is not one of complete"):
        um.cross_validate(formula, data, ["pls"], pooling=["half"], ci_level=2)
    with pytest.raises(um.OptionError, match=r"split='group': choose 'rows'"):
        um.cross_validate(formula, data, ["pls"], split="group")
    with pytest.raises(um.OptionError, match="folds=9: give a whole number between 2 and 4, the number of levels"):
        um.cross_validate(formula, data, ["pls"], split="groups", folds=9)
    with pytest.raises(um.DataError, match=r"no grouping factor: use split='rows'"):
        um.cross_validate("y ~ x", data, ["pls"], split="groups")
    with pytest.raises(um.OptionError, match=r"'rsme' is unknown. Did you mean 'rmse'"):
        um.cross_validate(formula, data, ["pls"], metrics=["rsme"])
    with pytest.raises(um.OptionError, match=r"positions go from 0 to 47, so -1 is not one"):
        um.cross_validate(formula, data, ["pls"], split=[(np.array([1, 2, 3]), np.array([-1]))])
    with pytest.raises(um.OptionError, match="Nothing to validate: no pooling cannot predict a new g"):
        um.cross_validate(formula, data, ["pls"], split="groups", pooling=["none"])
    found = um.cross_validate(formula, data, ["pls"], folds=2, pooling=["partial"])
    with pytest.raises(um.OptionError, match=r"'rsme' was not computed. Did you mean 'rmse'"):
        found.differences("rsme")
    with pytest.raises(um.OptionError, match="is not a model with predictions"):
        found.differences("rmse", "lme4")
