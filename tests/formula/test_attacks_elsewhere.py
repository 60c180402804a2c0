"""Texts that try to run something, in every argument beside the formula, and in saved results. Nothing runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attacks import PYTHON, UNICODE, R, left_behind

import unimix as um
from unimix.backends.bayes import Bayes

FORMULA = "count ~ x + f + (1 | g)"


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIMIX_CANARY", raising=False)
    with left_behind(tmp_path) as found:
        yield
    assert found == []


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {"count": rng.poisson(3, 48), "x": rng.normal(size=48), "f": list("abc") * 16, "g": np.arange(48) // 8}
    )


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> um.FitResult:
    return um.fit(FORMULA, data)


@pytest.mark.parametrize("attack", PYTHON + R + UNICODE)
def test_arguments_of_a_fit_run_nothing(attack: str, data: pd.DataFrame) -> None:
    engine = Bayes(draws=100, chains=2)
    carriers: list[dict[str, Any]] = [
        {"ziformula": f"~ {attack}", "family": "poisson", "backend": "glmmtmb"},
        {"dispformula": f"~ {attack}", "family": "nb", "backend": "glmmtmb"},
        {"contrasts": {"f": attack}},
        {"contrasts": {"f": f"contr.treatment({attack})"}},
        {"contrasts": {attack: "sum"}},
        {"weights": attack},
        {"offset": attack},
        {"family": attack},
        {"family": f"poisson({attack})"},
        {"backend": attack},
        {"options": {attack: 1}},
        {"priors": {attack: um.priors.Normal(0, 1)}, "backend": engine},
        {"priors": {f"sd(g: {attack})": um.priors.HalfNormal(1)}, "backend": engine},
        {"priors": {"x": attack}, "backend": engine},
    ]
    for carrier in carriers:
        if carrier == {"contrasts": {"f": attack}} and attack in ("ｘ", "х"):
            continue
        with pytest.raises(um.UnimixError):
            um.explain(FORMULA, data, **carrier)


@pytest.mark.parametrize("attack", PYTHON + R + UNICODE)
def test_questions_to_a_result_run_nothing(attack: str, fit: um.FitResult) -> None:
    for ask in (
        lambda: fit.hypotheses(f"{attack} = 0"),
        lambda: fit.hypotheses(f"x = {attack}"),
        lambda: fit.emmeans(attack),
        lambda: fit.emmeans(f"~ {attack}"),
        lambda: fit.contrasts("f", attack),
        lambda: fit.emmeans("f", at={attack: 1}),
        lambda: fit.emmeans("f", at={"f": attack}),
        lambda: fit.comparisons(attack),
        lambda: fit.confint(parameters=attack),
        lambda: fit.coefficients(attack),
        lambda: fit.plot.population(attack),
    ):
        if "x" in attack and len(attack) < 12 and not set("()|~") & set(attack):
            continue  # 1 * x or x == 1: these are quantities
        with pytest.raises(um.UnimixError):
            ask()


@pytest.mark.parametrize("attack", PYTHON + R + UNICODE)
def test_saved_results_run_nothing(attack: str, fit: um.FitResult, data: pd.DataFrame) -> None:
    for change in (
        {"formula": f"count ~ {attack} + (1 | g)"},
        {"formula": f"count ~ x + f + (1 | {attack})"},
        {"ziformula": f"~ {attack}"},
        {"dot_columns": [attack], "formula": "count ~ . + (1 | g)"},
        {"contrasts": {"f": {"kind": attack, "base": None, "matrix": [], "labels": []}}},
        {"contrasts": {"f": {"kind": "treatment", "base": attack, "matrix": [], "labels": []}}},
        {"states": {attack: {"map": [[attack, attack]]}}, "formula": f"count ~ x + {attack} + (1 | g)"},
        {"offset_column": attack},
    ):
        content = json.loads(fit.to_json())
        content["model"]["encoding"] |= change
        with pytest.raises(um.UnimixError):
            um.FitResult.from_json(json.dumps(content)).predict(data)
