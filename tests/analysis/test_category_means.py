"""Marginal means of ordered responses against R's emmeans, and against differences of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "category_means_r.json").read_text())
DATA = pd.DataFrame(REFERENCE["data"])
MODELS: dict[str, tuple[str, str]] = {
    "mixed": ("score ~ dose * arm + x + (1 | rater)", "cumulative"),
    "probit": ("score ~ dose + arm * x", "cumulative(probit)"),
}


@pytest.fixture(scope="module")
def fits() -> dict[str, um.FitResult]:
    return {name: um.fit(formula, DATA, family=family) for name, (formula, family) in MODELS.items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["probability", "exceedance", "mean"])
def test_they_are_those_of_emmeans(fits: dict[str, um.FitResult], model: str, kind: Any) -> None:
    """clmm and pls stop within 1e-4 standard errors of each other, and differ by 1e-3 in the Hessian's derivatives."""
    table, expected = fits[model].emmeans("dose", kind=kind).table, REFERENCE["answers"][model][kind]
    away = (table["estimate"] - expected["estimate"]) / np.array(expected["std_error"])
    np.testing.assert_allclose(away, 0.0, atol=1e-3)
    np.testing.assert_allclose(table["std_error"], expected["std_error"], rtol=2e-3)
    assert (table["lower"] > (1.0 if kind == "mean" else 0.0)).all()
    assert (table["upper"] < (4.0 if kind == "mean" else 1.0)).all()


@pytest.mark.parametrize("model", MODELS)
def test_differences_within_a_category_are_those_of_emmeans(fits: dict[str, um.FitResult], model: str) -> None:
    found = fits[model].contrasts("dose", kind="probability", adjust="none").table
    expected = REFERENCE["answers"][model]["pairs"]
    assert list(found["category"].astype(str).drop_duplicates()) == list("1234")
    np.testing.assert_allclose(found["estimate"], expected["estimate"], atol=1e-3 * max(expected["std_error"]))
    np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=2e-3)
    np.testing.assert_allclose(found["p_value"], expected["p_value"], rtol=2e-2, atol=1e-4)


def test_they_are_averages_of_predictions(fits: dict[str, um.FitResult]) -> None:
    fit = fits["mixed"]
    cell = pd.DataFrame({"dose": "mid", "arm": ["a", "b"], "x": 0.5})
    for kind in ("probability", "mean"):
        found = fit.emmeans("dose", at={"dose": ["mid"], "x": [0.5]}, kind=kind).table
        predicted = np.asarray(fit.predict(cell, level="population", kind=kind)).reshape(2, -1)
        np.testing.assert_allclose(found["estimate"], predicted.mean(axis=0), rtol=1e-12)
        one = fit.emmeans("arm", at={"dose": ["mid"], "x": [0.5]}, kind=kind).table
        alone = fit.predict(cell, level="population", kind=kind, interval="confidence").table
        columns = ["estimate", "std_error", "lower", "upper"]
        np.testing.assert_allclose(one[columns], alone[columns], rtol=1e-10)
    by_arm = fit.emmeans("dose", by="arm", kind="probability")
    assert list(by_arm.contrasts().table.columns[:3]) == ["arm", "category", "contrast"]
    np.testing.assert_allclose(by_arm.table.groupby(["arm", "dose"], observed=True)["estimate"].sum(), 1.0, rtol=1e-12)


def test_equal_imputations_have_the_answers_of_one_fit(fits: dict[str, um.FitResult]) -> None:
    formula, family = MODELS["mixed"]
    imputed = um.fit_imputed(formula, [DATA, DATA], family=family, backend="pls")
    for kind in ("probability", "mean"):
        pooled, single = imputed.emmeans("dose", kind=kind).table, fits["mixed"].emmeans("dose", kind=kind).table
        np.testing.assert_allclose(pooled[["estimate", "std_error"]], single[["estimate", "std_error"]], rtol=1e-8)


def test_a_loaded_fit_has_them(fits: dict[str, um.FitResult]) -> None:
    loaded = um.FitResult.from_json(fits["mixed"].to_json()).with_data(DATA)
    for kind in ("probability", "mean"):
        found, expected = (fit.emmeans("dose", kind=kind).table for fit in (loaded, fits["mixed"]))
        np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("response", r"categories have no mean without scores\. Choose 'probability', 'exceedance', 'mean' or 'link'"),
        ("prob", r"kind='prob': choose 'probability', 'exceedance', 'mean' or 'link'"),
    ],
)
def test_other_kinds_are_refused(fits: dict[str, um.FitResult], kind: Any, said: str) -> None:
    with pytest.raises(um.OptionError, match=said):
        fits["mixed"].emmeans("dose", kind=kind)
    plain = um.fit("x ~ dose", DATA)
    with pytest.raises(um.OptionError, match="is for ordered categories, family='cumulative'"):
        plain.emmeans("dose", kind="mean")
    renamed = um.fit("score ~ category", DATA.rename(columns={"dose": "category"}), family="cumulative")
    with pytest.raises(um.OptionError, match="rename the predictor"):
        renamed.emmeans("category", kind="probability")
    assert len(renamed.emmeans("category", kind="mean").table) == 3
