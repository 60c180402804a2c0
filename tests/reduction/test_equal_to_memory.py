"""A fit of reduced rows is the fit of the rows in memory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unimix as um

SAME = 1e-10
"""Part of a standard error: both fits take the same Newton steps, and rounding is all that differs."""
OF_VARIANCES = 1e-8
"""The criterion is flat in a variance that is nearly zero (model "sums"): rounding of 1e-16 moves it by its square
root, and estimates by a tenth of it in standard errors (6e-10 with NumPy 2.5).
"""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "intercept": ("y ~ x + f + (1 | g)", {}),
    "slope with weights": ("y ~ x * f + (x | g)", {"weights": "w"}),
    "crossed by ML": ("y ~ x + f + (x || g) + (1 | h)", {"method": "ML"}),
    "nested with an offset": ("y ~ x + (1 | g/inner)", {"offset": "o"}),
    "learnt from all rows": ("y ~ scale(x) + C(t) + f + offset(o) + (1 | g)", {"df_method": "kenward-roger"}),
    "on the boundary": ("y ~ center(x) + f + (0 + f | g)", {}),
    "aliased": ("y ~ x + I(2 * x) + f + (1 | g)", {}),
    "knots": ("log(exp(y)) ~ ns(x, knots=c(4, 5)) + (1 | g)", {}),
    "sums": ("y ~ f * t + (1 | g) + (0 + x | h)", {"contrasts": {"f": "sum"}}),
    "no groups": ("y ~ x + f", {"weights": "w"}),
}


def make(n: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "g": rng.integers(0, 40, n) * 7,
            "h": rng.choice(list("abcdefghij"), n),
            "x": rng.normal(size=n) + 5,
            "f": rng.choice(["u", "v", "w"], n, p=[0.5, 0.3, 0.2]),
            "w": rng.uniform(0.5, 3, n),
            "o": rng.normal(size=n),
            "t": rng.integers(0, 4, n),
        }
    )
    data["inner"] = [f"{g}_{k}" for g, k in zip(data["g"], rng.choice(list("pqr"), n), strict=True)]
    u, v = rng.normal(size=(280, 2)), rng.normal(size=10)
    data["y"] = 1 + 0.3 * data["x"] + 0.5 * (data["f"] == "v") + u[data["g"], 0] + 0.3 * u[data["g"], 1] * data["x"]
    data["y"] += v[data["h"].map(ord) - 97] + rng.normal(size=n)
    data.loc[5, "x"] = data.loc[99, "y"] = np.nan
    data.loc[77, "f"] = None
    return data


DATA = make()


def apart(rows: um.FitResult, reduced: um.FitResult) -> float:
    """The largest difference of two fits: estimates in standard errors, everything else relative."""
    a, b = rows.fixed, reduced.fixed
    differences = [
        np.abs(a.estimate - b.estimate) / a.std_error,
        np.abs(a.std_error / b.std_error - 1),
        np.abs(np.nan_to_num(a.df / b.df, nan=1.0) - 1),
        np.atleast_1d(rows.sigma / reduced.sigma - 1),
        np.atleast_1d((rows.log_likelihood - reduced.log_likelihood) / rows.log_likelihood),
    ]
    for p, q in zip(rows.random, reduced.random, strict=True):
        size = np.abs(p.modes).max()
        differences += [np.abs(p.covariance - q.covariance) / np.abs(p.covariance).max(), np.abs(p.unit / q.unit - 1)]
        differences += [np.abs(p.modes - q.modes) / size, np.abs(p.mode_sd - q.mode_sd) / size]
    return float(max(np.abs(d).max() for d in differences))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows")
    for i in range(4):
        DATA.iloc[i::4].to_parquet(path / f"part{i}.parquet")
    return path


@pytest.fixture(scope="module", params=list(MODELS))
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[um.FitResult, um.FitResult]:
    formula, arguments = MODELS[request.param]
    return um.fit(formula, DATA, **arguments), um.fit(formula, str(folder), **arguments)


def test_every_number_is_the_same(both: tuple[um.FitResult, um.FitResult]) -> None:
    rows, reduced = both
    assert (np.abs(rows.fixed.estimate - reduced.fixed.estimate) / rows.fixed.std_error).max() < 0.1 * OF_VARIANCES
    assert apart(rows, reduced) < OF_VARIANCES
    assert rows.fixed.terms == reduced.fixed.terms
    assert rows.model.aliased == reduced.model.aliased
    assert (rows.n_obs, rows.model.n_dropped, rows.model.missing) == (
        reduced.n_obs,
        reduced.model.n_dropped,
        reduced.model.missing,
    )
    assert [b.levels for b in rows.random] == [b.levels for b in reduced.random]
    assert rows.model.weighted == reduced.model.weighted
    assert [rows.aic, rows.bic, rows.criteria.df_residual] == pytest.approx(
        [reduced.aic, reduced.bic, reduced.criteria.df_residual], rel=1e-12
    )
    assert rows.status.state == reduced.status.state
    assert rows.summary().replace("pls", "") == reduced.summary().replace("pls", "")


def test_what_follows_from_the_fit_is_the_same(both: tuple[um.FitResult, um.FitResult]) -> None:
    rows, reduced = both
    assert reduced.certificate().verdict == rows.certificate().verdict
    if not rows.model.aliased:
        np.testing.assert_allclose(reduced.anova().table, rows.anova().table, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(reduced.confint().table, rows.confint().table, rtol=1e-8)
    if rows.random:
        np.testing.assert_allclose(reduced.r2().table["value"], rows.r2().table["value"], rtol=OF_VARIANCES)
        np.testing.assert_allclose(reduced.icc().table, rows.icc().table, rtol=OF_VARIANCES)
    new = DATA.dropna().iloc[:20]
    np.testing.assert_allclose(reduced.predict(new), rows.predict(new), rtol=OF_VARIANCES)
    for interval in ("confidence", "prediction"):
        mine, theirs = (fit.predict(new, interval=interval).table for fit in (reduced, rows))
        np.testing.assert_allclose(mine, theirs, rtol=1e-7)
    if "f" in rows.model.encoding.predictors:
        for weights in ("equal", "proportional"):
            mine, theirs = (fit.emmeans("f", weights=weights).table for fit in (reduced, rows))
            np.testing.assert_allclose(mine[["estimate", "std_error"]], theirs[["estimate", "std_error"]], rtol=1e-9)


@functools.cache
def some_rows() -> um.FitResult:
    return um.fit("y ~ x + f + (x | g)", DATA.iloc[:500])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), batch=st.integers(40, 600), parts=st.integers(1, 4))
def test_batches_order_and_partition_do_not_matter(seed: int, batch: int, parts: int) -> None:
    formula, rows = "y ~ x + f + (x | g)", some_rows()
    shuffled = DATA.iloc[np.random.default_rng(seed).permutation(500)]
    pieces = np.array_split(np.arange(500), parts)
    reduced = um.reduce(shuffled, formula, batch_rows=batch)
    whole = um.reduce(shuffled.iloc[pieces[0]], formula, batch_rows=batch)
    for piece in pieces[1:]:
        whole = whole + um.reduce(shuffled.iloc[piece], formula, batch_rows=batch, like=whole)
    assert apart(rows, um.fit(formula, reduced)) < SAME
    assert apart(rows, um.fit(formula, whole)) < SAME


def test_one_reduction_is_fitted_by_smaller_formulas() -> None:
    reduced = um.reduce(DATA, "y ~ x + f + (x | g) + (1 | h)")
    used = DATA.dropna()
    fits = []
    for formula in ("y ~ x + (1 | g)", "y ~ x + f + (1 | h)", "y ~ x + f + (x | g) + (1 | h)"):
        fits.append(um.fit(formula, reduced))
        assert apart(um.fit(formula, used), fits[-1]) < SAME
    mine = um.anova(fits[0], um.fit("y ~ x + f + (1 | g)", reduced)).table
    theirs = um.anova(um.fit("y ~ x + (1 | g)", used), um.fit("y ~ x + f + (1 | g)", used)).table
    np.testing.assert_allclose(mine.to_numpy(float), theirs.to_numpy(float), rtol=1e-8)
    assert um.compare_ic(*(um.refit(f, method="ML") for f in fits)).table["aic"].notna().all()
    columns = um.explain("y ~ x + (1 | g)", reduced).columns  # real rows, not the compressed ones
    assert columns.set_index("name")["first values"]["Intercept"].eq("1 1 1 1").all()


def test_terms_are_left_out_as_in_memory() -> None:
    formula, used = "y ~ x + f + (0 + f | g)", DATA.dropna()
    rows, reduced = um.fit(formula, used), um.fit(formula, um.reduce(used, formula))
    for test in (um.ranova, um.drop1):
        mine, theirs = test(reduced).table, test(rows).table
        assert list(mine.index) == list(theirs.index)
        np.testing.assert_allclose(mine.to_numpy(float), theirs.to_numpy(float), rtol=1e-7, atol=1e-9)


def test_profiles_are_the_same() -> None:
    formula = "y ~ x + (1 | g)"
    rows, reduced = um.fit(formula, DATA), um.fit(formula, um.reduce(DATA, formula))
    mine, theirs = (f.confint(method="profile").table for f in (reduced, rows))
    np.testing.assert_allclose(mine, theirs, rtol=1e-7)


def test_means_a_million_standard_deviations_away() -> None:
    formula = "y ~ x + f + (1 | g)"
    far = DATA.assign(x=DATA["x"] + 1e6, y=DATA["y"] + 1e6)
    rows, reduced = um.fit(formula, far), um.fit(formula, um.reduce(far, formula, batch_rows=100))
    near = um.fit(formula, DATA)
    # adding 1e6 rounds each value to 1e-10 of an SD, in memory as here
    slope = list(rows.fixed.terms).index("x")
    for other in (rows, near):
        off = (reduced.fixed.estimate - other.fixed.estimate)[slope] / other.fixed.std_error[slope]
        assert abs(off) < 1e-6
    assert reduced.log_likelihood == pytest.approx(near.log_likelihood, abs=1e-5)


def test_long_identifiers_are_not_merged() -> None:
    big = DATA.dropna().assign(g=2**60 + DATA["g"])
    rows, reduced = um.fit("y ~ x + (1 | g)", big), um.fit("y ~ x + (1 | g)", um.reduce(big, "y ~ x + (1 | g)"))
    assert [b.levels for b in rows.random] == [b.levels for b in reduced.random]
    assert apart(rows, reduced) < SAME
