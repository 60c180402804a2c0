"""The points under marginal means: observed responses and partial residuals, against statsmodels and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import unimix as um
from unimix.errors import DataError, OptionError, UnsupportedModelError


@pytest.fixture(scope="module")
def teeth() -> um.FitResult:
    return um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))


def data_of(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the points, numbered from 0."""
    return found[found["kind"] == "data"].reset_index(drop=True)


def test_observed_responses_stand_under_the_means_of_emmeans(teeth: um.FitResult) -> None:
    found = teeth.plot.means("age", by="Sex", at={"age": [8, 14]}, draw=False)
    frame = um.load_dataset("orthodont")
    points, means = data_of(found), found[found["kind"] == "mean"]
    np.testing.assert_array_equal(points["y"], frame["distance"])
    np.testing.assert_array_equal(points["age"], frame["age"])
    assert points["Sex"].tolist() == frame["Sex"].tolist()
    table = teeth.emmeans("age", by="Sex", at={"age": [8, 14]}).table
    np.testing.assert_array_equal(means[["y", "lower", "upper"]], table[["estimate", "lower", "upper"]])
    assert "Points: observed responses of 108 rows." in found.attrs["notes"]
    assert not len(data_of(teeth.plot.means("Sex", points=None, draw=False)))


def test_rows_at_values_that_are_not_shown_are_left_out_and_counted(teeth: um.FitResult) -> None:
    found = teeth.plot.means("Sex", at={"Sex": ["Female"]}, draw=False)
    assert set(found["Sex"]) == {"Female"}
    assert any("44 of 108 rows, those at the values shown" in note for note in found.attrs["notes"])


def test_partial_residuals_of_a_linear_model_are_those_by_hand() -> None:
    """Without group effects: the mean of the level at the covariate's mean, plus the residual of least squares."""
    frame = um.load_dataset("orthodont")
    fit = um.fit("distance ~ Sex + age", frame)
    ols = smf.ols("distance ~ Sex + age", frame).fit()
    points = data_of(fit.plot.means("Sex", points="partial", draw=False))
    expected = ols.predict(frame.assign(age=frame["age"].mean())) + ols.resid
    np.testing.assert_allclose(points["y"], expected, rtol=1e-9)  # the same least squares twice
    along = data_of(fit.plot.means("age", at={"age": [8, 11]}, points="partial", draw=False))
    share = (frame["Sex"] == "Female").to_numpy()
    female = ols.params.filter(like="Sex").item()
    sign = 1.0 if "Female" in ols.params.filter(like="Sex").index[0] else -1.0
    # the mean over the sexes with equal weights, at the row's own age
    expected = ols.predict(frame) + ols.resid - sign * female * (share - 0.5)
    np.testing.assert_allclose(along["y"], expected, rtol=1e-9)


def test_partial_residuals_leave_group_effects_out(teeth: um.FitResult) -> None:
    points = data_of(teeth.plot.means("Sex", points="partial", draw=False))
    means = teeth.emmeans("Sex").table.set_index("Sex")["estimate"]
    expected = points["Sex"].map(means).astype(float) + (teeth.rows.observed - np.asarray(teeth.fitted))
    np.testing.assert_allclose(points["y"], expected, rtol=1e-10)


def test_partial_residuals_on_a_link_are_working_residuals() -> None:
    frame = um.load_dataset("grouseticks").assign(YEAR=lambda d: d["YEAR"].astype(str))
    fit = um.fit("TICKS ~ YEAR + cHEIGHT", frame, family="poisson")
    glm = smf.glm("TICKS ~ YEAR + cHEIGHT", frame, family=sm.families.Poisson()).fit(tol=1e-12)
    points = data_of(fit.plot.means("YEAR", kind="link", points="partial", draw=False))
    at_mean = np.log(glm.predict(frame.assign(cHEIGHT=frame["cHEIGHT"].mean())))
    # both searches stop at about 1e-8 of the coefficients; residuals divide by means down to 0.1
    np.testing.assert_allclose(points["y"], at_mean + glm.resid_working, rtol=1e-5, atol=1e-5)


def test_a_transformed_response_is_turned_back_with_its_points() -> None:
    frame = um.load_dataset("sleepstudy")
    fit = um.fit("log(Reaction) ~ C(Days) + (1 | Subject)", frame)
    found = fit.plot.means("Days", draw=False)
    np.testing.assert_allclose(data_of(found)["y"], frame["Reaction"], rtol=1e-12)
    table = fit.emmeans("Days", kind="response").table
    np.testing.assert_array_equal(found[found["kind"] == "mean"]["y"], table["estimate"])
    logs = data_of(fit.plot.means("Days", kind="link", points="partial", draw=False))["y"]
    turned = data_of(fit.plot.means("Days", points="partial", draw=False))["y"]
    np.testing.assert_allclose(turned, np.exp(logs), rtol=1e-12)


def test_offsets_of_points_and_means_are_told_apart() -> None:
    frame = um.load_dataset("grouseticks").assign(YEAR=lambda d: d["YEAR"].astype(str), time=2.0)
    fit = um.fit("TICKS ~ YEAR + offset(log(time)) + (1 | BROOD)", frame, family="poisson")
    assert any("the means the mean offset" in note for note in fit.plot.means("YEAR", draw=False).attrs["notes"])


def test_shares_of_successes_are_the_responses() -> None:
    herds = um.load_dataset("cbpp")
    fit = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds, family="binomial")
    found = data_of(fit.plot.means("period", draw=False))
    np.testing.assert_allclose(found["y"], herds["incidence"] / herds["size"], rtol=1e-12)


def test_the_drawn_points_are_the_data_and_their_shifts_are_fixed(teeth: um.FitResult) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002  it must not change

    def drawn(seed: int) -> Any:
        (ax,) = teeth.plot.means("Sex", seed=seed)
        # three lines per colour: points, means; the intervals are a collection
        return ax.lines[0].get_xydata()

    first, again, other = drawn(0), drawn(0), drawn(1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:, 1], um.load_dataset("orthodont")["distance"])
    np.testing.assert_array_equal(first[:, 1], other[:, 1])
    assert (first[:, 0] != other[:, 0]).all()
    # a point stays nearer to its own category than to the next one
    assert (np.round(first[:, 0]) == (um.load_dataset("orthodont")["Sex"] == "Female")).all()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_numbers_on_the_axis_move_only_beside_their_mean(teeth: um.FitResult) -> None:
    (ax,) = teeth.plot.means("age", by="Sex", at={"age": [8, 11]})
    points = ax.lines[0].get_xydata()
    males = um.load_dataset("orthodont").query("Sex == 'Male'")
    moved = points[:, 0] != males["age"].to_numpy()
    np.testing.assert_array_equal(moved, (males["age"] == 8).to_numpy())
    assert (np.abs(points[:, 0] - males["age"]) < 0.3).all()
    (single,) = teeth.plot.means("age")
    np.testing.assert_array_equal(single.lines[0].get_xdata()[:4], um.load_dataset("orthodont")["age"][:4])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"points": "raw"}, OptionError, "choose 'response', 'partial' or None"),
        ({"kind": "link"}, OptionError, "take kind='response', points='partial' or points=None"),
        ({"points": "partial"}, OptionError, "with the log link take kind='link', or points='response'"),
        ({"seed": -1}, OptionError, "seed"),
    ],
)
def test_points_on_another_scale_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    ticks = um.fit("TICKS ~ C(YEAR) + (1 | BROOD)", um.load_dataset("grouseticks"), family="poisson")
    with pytest.raises(error, match=message):
        ticks.plot.means("YEAR", **options)


def test_rows_that_belong_to_no_mean_are_refused(teeth: um.FitResult) -> None:
    with pytest.raises(OptionError, match="81 of 108 rows have another value of age than those shown"):
        teeth.plot.means("Sex", by="age", at={"age": [8, 11]}, draw=False)
    frame = um.load_dataset("orthodont").rename(columns={"Sex": "kind"})
    with pytest.raises(OptionError, match="column 'kind' of their own: rename the predictor"):
        um.fit("distance ~ kind + (1 | Subject)", frame).plot.means("kind")
    with pytest.raises(DataError, match="holds no data"):
        um.FitResult.from_json(teeth.to_json()).plot.means("Sex")
    ordered = um.fit(
        "grade ~ Sex + (1 | Subject)",
        um.load_dataset("orthodont").assign(
            grade=lambda d: pd.cut(d["distance"], [0, 22, 26, 99], labels=["low", "middle", "high"])
        ),
        family="cumulative",
    )
    with pytest.raises(UnsupportedModelError):
        ordered.plot.means("Sex", kind="link", points="partial")
