"""Slopes of predictors: against closed forms, analytic derivatives and the derivatives of SciPy's splines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import interpolate

import unimix as um
from unimix.analysis.means.derivatives import derivative_rows
from unimix.analysis.means.reference_grid import PopulationRows


def test_slopes_are_sums_of_coefficients(pigs: um.FitResult) -> None:
    b = pigs.fixed_effects["estimate"]
    found = pigs.slopes("Time", by="Cu")
    expected = [b["Time"], b["Time"] + b["Time:Cu[T.Cu035]"], b["Time"] + b["Time:Cu[T.Cu175]"]]
    np.testing.assert_allclose(found.table["estimate"], expected, rtol=1e-9)
    assert found.table["std_error"].iloc[0] == pytest.approx(pigs.fixed_effects.loc["Time", "std_error"], rel=1e-8)
    assert found.table["df"].iloc[0] == pytest.approx(pigs.fixed_effects.loc["Time", "df"], rel=1e-6)
    pairs = found.contrasts(adjust="none").table.set_index("contrast")
    row = pigs.fixed_effects.loc["Time:Cu[T.Cu035]"]
    assert pairs.loc["Cu000 - Cu035", "estimate"] == pytest.approx(-row["estimate"], rel=1e-8)
    assert pairs.loc["Cu000 - Cu035", "p_value"] == pytest.approx(row["p_value"], rel=1e-6)
    one = pigs.slopes("Time").table
    assert one["estimate"].iloc[0] == pytest.approx(np.mean(expected), rel=1e-9)
    curve = um.fit("Weight ~ poly(Time, 2) + (1 | Pig)", um.load_dataset("dietox"), "pls")
    at = [float(curve.slopes("Time", at={"Time": t}).table["estimate"].iloc[0]) for t in (2, 10)]
    new = pd.DataFrame({"Time": [1.99, 2.01, 9.99, 10.01]})
    eta = curve.predict(new, level="population")
    np.testing.assert_allclose(at, [(eta[1] - eta[0]) / 0.02, (eta[3] - eta[2]) / 0.02], rtol=1e-6)


def test_slopes_at_several_values_are_not_averaged() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + I(Days**2) + (1 | Subject)", data, "pls")
    found = fit.slopes("Days", at={"Days": [0, 5]}).table
    b = fit.fixed.estimate
    assert found["estimate"].to_numpy() == pytest.approx([b[1], b[1] + 10 * b[2]], rel=1e-6)


def test_slopes_that_data_cannot_tell_are_empty() -> None:
    data = um.load_dataset("sleepstudy")
    data["f"] = np.array(list("cab"))[data["Subject"].astype(int) % 3]
    data.loc[data["f"] == "c", "Days"] = 2
    fit = um.fit("Reaction ~ Days * f + (1 | Subject)", data, "pls")
    found = fit.slopes("Days", by="f")
    assert found.table["estimate"].isna().tolist() == [False, False, True]
    assert "Empty rows cannot be estimated" in str(found)
    own = um.fit("Reaction ~ Days * f + (1 | Subject)", data[data["f"] != "c"], "pls")
    # level c says nothing about the others' slopes, but for the variances that it shares
    assert found.table["estimate"].to_numpy()[:2] == pytest.approx(
        own.slopes("Days", by="f").table["estimate"], rel=1e-6
    )
    assert found.contrasts()["contrast"].tolist() == ["a - b"]
    with pytest.raises(um.DataError, match="Slopes of Days: 1 of 1 rows cannot be estimated"):
        fit.slopes("Days")


CURVES: dict[str, tuple[str, Any]] = {
    "log(w)": ("w", lambda d: [1 / d["w"]]),
    "I(1 / w)": ("w", lambda d: [-1 / d["w"] ** 2]),
    "sqrt(z + 1) + log1p(z)": ("z", lambda d: [0.5 / np.sqrt(d["z"] + 1), 1 / (1 + d["z"])]),
    "year + I(year^2)": ("year", lambda d: [1 + 0 * d["year"], 2 * d["year"]]),
    "I(w^10 / 1e20)": ("w", lambda d: [10 * d["w"] ** 9 / 1e20]),
    "scale(z) * f": ("z", lambda d: [1 / d["z"].std() + 0 * d["z"], 0 * d["z"], (d["f"] == "b") / d["z"].std()]),
}


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    w = np.exp(rng.uniform(np.log(0.01), np.log(1000), 200))
    w[:3] = 0.01, 1000, 0.6
    z = np.where(rng.random(200) < 0.2, 0.0, rng.exponential(size=200) * 50)
    made = pd.DataFrame({"w": w, "z": z, "year": 2000.0 + rng.integers(0, 20, 200), "x": rng.normal(size=200)})
    return made.assign(y=2 * np.log(w) + rng.normal(size=200), f=rng.choice(["a", "b"], 200))


@pytest.mark.parametrize("formula", list(CURVES))
def test_derivatives_of_columns_are_the_analytic_ones(curves: pd.DataFrame, formula: str) -> None:
    """1e-9: within which two steps agree, or rounding is left of columns that are large beside their slopes."""
    name, derivative = CURVES[formula]
    fit = um.fit(f"y ~ {formula}", curves, "statsmodels")
    rows = PopulationRows(fit, fit.design())
    found = derivative_rows(rows, curves, name, "it").x
    np.testing.assert_allclose(found[:, 1:], np.column_stack(derivative(curves)), rtol=1e-9, atol=1e-14)
    fit = um.fit("y ~ poly(year, 3)", curves, "statsmodels")
    found = derivative_rows(PopulationRows(fit, fit.design()), curves, "year", "it").x[:, 1:]
    centred = curves["year"] - 2010
    for k in range(3):  # polynomials through the columns themselves
        column = np.polynomial.Polynomial.fit(centred, fit.design().x[:, k + 1], 3)
        np.testing.assert_allclose(found[:, k], column.deriv()(centred), atol=1e-10)


def test_derivatives_of_splines_are_those_of_scipys(curves: pd.DataFrame) -> None:
    """Natural (ns, cr) and periodic (cc) cubic splines are those through their values at the knots; 1e-8 of 1."""
    x = curves["x"].to_numpy()
    ends = [float(x.min()), float(x.max())]
    knots = [ends[0], -0.7, 0.1, 0.8, ends[1]]
    at = np.append(x, [-0.7, 0.1, 0.8])  # on the knots too
    for call, kind in (("ns", "natural"), ("cr", "natural"), ("cc", "periodic"), ("bs", "")):
        fit = um.fit(f"y ~ {call}(x, knots=c(-0.7, 0.1, 0.8))", curves, "pls")
        rows = PopulationRows(fit, fit.design())
        found = derivative_rows(rows, pd.DataFrame({"x": at}), "x", "it").x[:, 1:]
        values = rows.full(pd.DataFrame({"x": knots}), "it").x[:, 1:]
        if kind:
            values[-1] = values[0] if kind == "periodic" else values[-1]
            spline: Any = interpolate.CubicSpline(knots, values, bc_type=kind)
        else:
            full = np.array([ends[0]] * 3 + knots + [ends[1]] * 3)
            spline = interpolate.BSpline(full, np.eye(7), 3)
        expected = spline(at, 1)[:, -found.shape[1] :]
        np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max(), err_msg=call)


def test_slopes_of_skewed_predictors(curves: pd.DataFrame) -> None:
    fit = um.fit("y ~ log(w)", curves, "pls")
    b = fit.fixed.estimate[1]
    for w in (0.01, 0.6, 1, 1000, 5000):
        assert fit.slopes("w", at={"w": w}).table["estimate"].iloc[0] == pytest.approx(b / w, rel=1e-9)
    averaged = fit.comparisons("w", comparison="dydx").table.iloc[0]
    assert averaged["estimate"] == pytest.approx(b * np.mean(1 / curves["w"]), rel=1e-9)
    assert averaged["std_error"] == pytest.approx(fit.fixed.std_error[1] * np.mean(1 / curves["w"]), rel=1e-9)
    curve = um.fit("y ~ bs(x, df=5) * f", curves, "pls")
    found = curve.comparisons("x", comparison="dydx").table["estimate"].iloc[0]
    inside = curves[(curves["x"] > curves["x"].min() + 1e-5) & (curves["x"] < curves["x"].max() - 1e-5)]
    eta = [curve.predict(inside.assign(x=inside["x"] + h), level="population") for h in (1e-5, -1e-5)]
    rates = curve.comparisons("x", comparison="dydx", average=False).table.set_index("row")["estimate"]
    np.testing.assert_allclose(rates.loc[inside.index], (eta[0] - eta[1]) / 2e-5, atol=1e-5)
    assert found == pytest.approx(rates.mean(), rel=1e-9)


def test_slopes_of_what_stands_in_the_offset(curves: pd.DataFrame) -> None:
    """The slope of the linear predictor: 1 / w of log(w), known without error, beside a coefficient if there is one."""
    counts = curves.assign(n=np.arange(200) % 5)
    fit = um.fit("n ~ x + offset(log(w))", counts, "pls", family="poisson")
    row = fit.slopes("w", at={"w": 4}).table.iloc[0]
    assert (row["estimate"], row["std_error"]) == (pytest.approx(0.25, rel=1e-9), 0.0)
    both = um.fit("n ~ x + log(w) + offset(log(w))", counts, "pls", family="poisson")
    row = both.slopes("w", at={"w": 4}).table.iloc[0]
    assert row["estimate"] == pytest.approx((1 + both.fixed_effects.loc["log(w)", "estimate"]) / 4, rel=1e-9)
    link = both.comparisons("w", newdata={"w": 4.0, "x": 0.0}, comparison="dydx", kind="link").table.iloc[0]
    assert link["estimate"] == pytest.approx(row["estimate"], rel=1e-9)


def test_where_there_is_no_slope_there_is_no_number(curves: pd.DataFrame) -> None:
    step = um.fit("y ~ I(year > 2005)", curves, "pls")
    with pytest.raises(um.DataError, match=r"the model has no slope of year at year = 2005 \(\d+ of 200 rows\)"):
        step.comparisons("year", comparison="dydx")
    root = um.fit("y ~ sqrt(z)", curves, "pls")
    with pytest.raises(um.DataError, match=r"Slopes of z: the model has no slope of z at z = 0 \(1 of 1 rows\)"):
        root.slopes("z", at={"z": 0})
    b = root.fixed.estimate[1]
    assert root.slopes("z", at={"z": 4}).table["estimate"].iloc[0] == pytest.approx(b / 4, rel=1e-9)


def test_numbers_in_c_are_levels(curves: pd.DataFrame) -> None:
    data = curves.assign(i=lambda d: (d["year"] % 3 + 1) * 0.5)  # 0.5, 1, 1.5
    fit = um.fit("y ~ C(i) * x", data, "pls")
    text = um.fit("y ~ t * x", data.assign(t=data["i"].map("{:.1f}".format)), "pls")
    for weights in ("equal", "proportional"):
        one, other = (f.emmeans("x", weights=weights).table for f in (fit, text))
        pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    assert fit.slopes("x").table["estimate"].iloc[0] == pytest.approx(text.slopes("x").table["estimate"].iloc[0])
    found = fit.emmeans("i")
    assert found.table["i"].tolist() == [0.5, 1, 1.5]
    np.testing.assert_allclose(found.table["estimate"], text.emmeans("t").table["estimate"], rtol=1e-9)
    changes = text.comparisons("t").table
    for variables, rows in (("i", [0, 1]), ({"i": (0.5, 1)}, [0]), ({"i": ("0.5", 1.5)}, [1])):
        table = fit.comparisons(variables).table
        np.testing.assert_allclose(table["estimate"], changes["estimate"].iloc[rows], rtol=1e-9)
    with pytest.raises(um.OptionError, match=r"'2' is not a level of i that was fitted: 0\.5, 1, 1\.5"):
        fit.comparisons({"i": (1, 2)})
    with pytest.raises(um.OptionError, match="'i' is a factor and has no slope"):
        fit.slopes("i")
    with pytest.raises(um.DataError, match=r"levels that the fitted model does not know: 2\.5"):
        fit.emmeans("i", at={"i": 2.5})
