"""A loaded result takes the data that were fitted, and no others: every column that was fitted is recognised."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.formula import allowed

Change = Callable[[pd.DataFrame], pd.DataFrame]
N = 120


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 6)
    frame = pd.DataFrame({"x": rng.normal(size=N), "z": rng.normal(size=N), "g": [f"g{i}" for i in g]})
    frame["h"], frame["f"] = np.tile(np.arange(6), 20), rng.permutation(list("abc") * 40)
    frame["w"], frame["o"] = rng.uniform(1, 2, N), rng.normal(size=N)
    frame["n"], frame["t"] = rng.integers(5, 9, N), np.tile(np.arange(6), 20)
    frame["s"] = rng.binomial(frame["n"], 0.4)
    frame["y"] = 2 + 0.3 * frame["x"] + rng.normal(size=20)[g] + rng.normal(size=N)
    return frame


def loaded(fit: um.FitResult) -> um.FitResult:
    return um.FitResult.from_json(fit.to_json())


def shuffled(name: str) -> Change:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{name: frame[name].sample(frac=1, random_state=3).to_numpy()})

    return change


FULL = "y ~ x + z + f + offset(t) + (1 + x | g) + (1 | h)"


@pytest.fixture(scope="module", params=["column", "array"])
def full(request: pytest.FixtureRequest, data: pd.DataFrame) -> tuple[str, um.FitResult]:
    offset = "o" if request.param == "column" else data["o"].to_numpy()
    return request.param, um.fit(FULL, data, "pls", weights="w", offset=offset)


def test_the_data_that_were_fitted_give_the_same_analyses(data: pd.DataFrame, full: tuple[str, um.FitResult]) -> None:
    whole = loaded(full[1]).with_data(data)
    assert whole.design().fingerprint() == full[1].design().fingerprint()
    pd.testing.assert_frame_equal(whole.anova().table, full[1].anova().table, rtol=1e-9)


@pytest.mark.parametrize("name", ["x", "z", "f", "g", "h", "y", "w", "o", "t"])
def test_every_column_that_was_fitted_is_recognised(
    data: pd.DataFrame, full: tuple[str, um.FitResult], name: str
) -> None:
    offset, fit = full
    other = shuffled(name)(data)
    if (name, offset) == ("o", "array"):  # the array is the result's own, and the column has no part in the model
        assert loaded(fit).with_data(other).design().fingerprint() == fit.design().fingerprint()
        return
    with pytest.raises(um.DataError, match=rf"not the data that were fitted: {name} differs"):
        loaded(fit).with_data(other)


def test_all_columns_that_differ_are_named(data: pd.DataFrame) -> None:
    again = loaded(um.fit("y ~ x + f + (1 | g)", data, "pls"))
    with pytest.raises(um.DataError, match="y, x, f differ"):
        again.with_data(shuffled("f")(shuffled("y")(data)).assign(x=data["x"] + 1e-3))


def test_what_has_no_effect_is_recognised_too(data: pd.DataFrame) -> None:
    """Fitted values do not change where a coefficient, or the variance of a factor, is zero."""
    flat = data.assign(y=np.tile([1.0, -1.0], N // 2), x=np.repeat([0.0, 1.0], N // 2), h=np.tile([0, 0, 1, 1], N // 4))
    fit = um.fit("y ~ x + (1 | h)", flat, "pls")
    assert abs(fit.fixed.estimate[1]) < 1e-9
    assert fit.singular
    again = loaded(fit)
    assert again.with_data(flat).design().fingerprint() == fit.design().fingerprint()
    for name in ("x", "h"):
        with pytest.raises(um.DataError, match=f"{name} differs"):
            again.with_data(shuffled(name)(flat))


def test_left_out_columns_are_recognised(data: pd.DataFrame) -> None:
    double = data.assign(v=2 * data["x"])
    again = loaded(um.fit("y ~ x + v + (1 | g)", double, "pls"))
    assert again.model.aliased == ("v",)
    with pytest.raises(um.DataError, match="v differs"):
        again.with_data(shuffled("v")(double))


@pytest.mark.parametrize("response", ["cbind(s, n - s)", "s / n"])
def test_trials_are_recognised(data: pd.DataFrame, response: str) -> None:
    weights = {} if response.startswith("cbind") else {"weights": "n"}
    formula = f"I({response}) ~ x + (1 | g)" if weights else f"{response} ~ x + (1 | g)"
    fit = um.fit(formula, data, "pls", family="binomial", **weights)
    again = loaded(fit)
    assert again.with_data(data).design().fingerprint() == fit.design().fingerprint()
    with pytest.raises(um.DataError, match="differ"):
        again.with_data(data.assign(s=2 * data["s"], n=2 * data["n"]))  # the same proportions of other trials


def test_rows_are_counted(data: pd.DataFrame) -> None:
    gaps = data.assign(x=data["x"].where(data.index % 10 != 3))
    again = loaded(um.fit("y ~ x + (1 | g)", gaps, "pls"))
    assert again.with_data(gaps).design().n_rows == N
    with pytest.raises(um.DataError, match="they have 130 rows, and the model was fitted to data of 120 rows"):
        again.with_data(pd.concat([gaps, gaps.head(10)], ignore_index=True))
    with pytest.raises(um.DataError, match="they have 108 rows"):
        again.with_data(gaps.dropna())
    with pytest.raises(um.DataError, match="1 of the 108 rows that were used have missing values"):
        again.with_data(gaps.assign(x=gaps["x"].where(gaps.index != 7)))
    with pytest.raises(um.DataError, match="g has levels that the fit does not have"):
        again.with_data(gaps.assign(g=gaps["g"].replace("g0", "other")))


def test_the_same_data_in_another_form_are_taken(data: pd.DataFrame) -> None:
    fit = um.fit("y ~ x + f + C(n) + (1 | g) + (1 | h)", data, "pls", weights="w")
    again = loaded(fit)
    text = io.StringIO(data.to_csv(index=False))
    forms = {
        "text file": pd.read_csv(text),
        "categories in another order": data.assign(f=pd.Categorical(data["f"], list("cab"))),
        "groups as text": data.assign(h=data["h"].astype(str)),
        "other index": data.set_index(np.arange(N)[::-1]),
        "mapping": data.to_dict("list"),
        "without response and weights": data.drop(columns=["y", "w"]),
        "more columns": data.assign(more=1.0),
    }
    for form, frame in forms.items():
        design = again.with_data(frame).design()
        np.testing.assert_allclose(design.x, fit.design().x, atol=1e-14, err_msg=form)
        assert [b.codes.tolist() for b in design.blocks] == [b.codes.tolist() for b in fit.design().blocks], form


def test_a_registered_function_that_changed_is_noticed(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "REGISTERED", dict(allowed.REGISTERED))
    monkeypatch.setattr("unimix.design.evaluate.REGISTERED", allowed.REGISTERED)
    allowed.REGISTERED["twice"] = lambda x: 2 * x
    again = loaded(um.fit("y ~ twice(x) + (1 | g)", data, "pls"))
    again.with_data(data)
    allowed.REGISTERED["twice"] = lambda x: 3 * x
    with pytest.raises(um.DataError, match="do not give the fitted values"):
        again.with_data(data)


def test_refit_takes_the_same_care(data: pd.DataFrame) -> None:
    again = loaded(um.fit("y ~ x + (1 | g)", data, "pls", offset=data["o"].to_numpy()))
    assert um.refit(again, data).log_likelihood == pytest.approx(again.log_likelihood, abs=1e-8)
    with pytest.raises(um.DataError, match="x differs"):
        um.refit(again, data.assign(x=5 * data["x"]))
