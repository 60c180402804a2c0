"""Saved results that were damaged: loading refuses them in words, or all that is shown of them works.

``UNIMIX_FUZZ=20000`` in the environment damages that many texts instead of the usual number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from damage import VIEWS, damaged, questions

import unimix as um
from unimix.testing import simulate_rich

ASKED = os.environ.get("UNIMIX_FUZZ", "")
NUMBER = int(ASKED) if ASKED.isdigit() else 300
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("y ~ poly(x, 2) * f + (1 + x || g) + (1 | h)", {"weights": "w", "offset": "off"}),
    "counts": ("count ~ x + f + (1 + x | g)", {"family": "poisson"}),
    "shares": ("cbind(succ, fail) ~ C(f, contr.sum) + x + (1 | g)", {"family": "binomial"}),
    "without groups": ("y ~ x + f", {"contrasts": {"f": "sum"}}),
    "sampled": ("y ~ x + f + (1 | g)", {"backend": "bayes", "seed": 1}),
}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    frame = simulate_rich(n_groups=6, n_per_group=9)
    frame["succ"] = np.minimum(frame["count"], 3)
    frame["fail"] = 3 - frame["succ"]
    return frame.set_index(pd.Index([f"row {i}" for i in range(len(frame))], name="who"))


@pytest.fixture(scope="module")
def texts(data: pd.DataFrame) -> dict[str, str]:
    return {name: um.fit(formula, data, **options).to_json() for name, (formula, options) in MODELS.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers of 1e308 overflow
def test_a_damaged_text_is_refused_or_shown(texts: dict[str, str]) -> None:
    rng = np.random.default_rng(2026)
    loaded = 0
    for i in range(NUMBER):
        text = damaged(texts[list(texts)[i % len(texts)]], rng)
        try:
            fit = um.FitResult.from_json(text)
        except um.DataError:
            continue
        loaded += 1
        for view in VIEWS.values():
            view(fit)
    assert 0.1 * NUMBER < loaded < 0.5 * NUMBER  # the damage is neither always found nor never


@pytest.mark.filterwarnings("ignore")
def test_what_a_damaged_result_is_asked_is_answered_or_refused(texts: dict[str, str], data: pd.DataFrame) -> None:
    rng = np.random.default_rng(7)
    asked = list(questions(data).values())
    for i in range(NUMBER // 10):
        try:
            fit = um.FitResult.from_json(damaged(texts[list(texts)[i % len(texts)]], rng))
        except um.DataError:
            continue
        for question in asked:
            try:
                question(fit)
            except um.UnimixError:
                continue


def change(text: str, *path: Any, to: Callable[[Any], Any]) -> str:
    """The text with one value replaced."""
    content = json.loads(text)
    parent = content
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = to(parent[path[-1]])
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "to", "told"),
    [
        (("fixed", "estimate", "values"), lambda v: v[:-1], r"fixed\.estimate: the shape \[9\] does not hold 8 values"),
        (("fixed", "terms"), lambda v: v[:-1], r"fixed: estimate has the shape \(9,\), not \(8,\)"),
        (("fixed", "estimate", "values", 0), lambda v: "1.0", "'1.0' is not a number"),
        (("fixed", "estimate", "values", 0), lambda v: 10**400, "too many digits"),
        (("fixed", "level"), lambda v: 95, r"fixed\.level: Input should be less than 1"),
        (("random", 0, "levels"), lambda v: [*v, "a"], r"random\.0: modes has the shape \(6, 1\), not \(7, 1\)"),
        (("model", "n_obs"), lambda v: "54", r"model\.n_obs: Input should be a valid integer"),
        (("model", "n_obs"), lambda v: 53, "contradict each other or were never fitted: rows, positions of rows"),
        (("model", "family"), lambda v: "gauss", r"family='gauss\(identity\)' is unknown"),
        (("model", "groups", "g"), lambda v: 7, "never fitted: levels"),
        (("model", "encoding", "kept"), lambda v: v[1:], "never fitted: fixed effects"),
        (("model", "encoding", "states"), lambda v: {"poly(x, 2)": {"map": 3}}, "not the state of a function"),
        (("status", "n_draws"), lambda v: 100, "draws have an R-hat"),
        (("rows", "weights", "values", 1), lambda v: -v, "never fitted: weights"),
        (("rows", "offset", "values", 1), lambda v: 1e300, "never fitted: offset"),
        (("rows", "observed", "values", 1), lambda v: None, "never fitted: response"),
        (("rows", "weights"), lambda v: None, ""),
        (("criteria", "sigma"), lambda v: -v, "not negative"),
        (("schema_version",), lambda v: 4, "it has schema version 4; this unimix reads 3. Update unimix$"),
    ],
)  # fmt: skip
def test_the_fault_is_told(texts: dict[str, str], path: tuple[Any, ...], to: Callable[[Any], Any], told: str) -> None:
    text = change(texts["linear"], *path, to=to)
    if not told:  # weights may be absent
        assert um.FitResult.from_json(text).rows.weights is None
        return
    with pytest.raises(um.DataError, match=told):
        um.FitResult.from_json(text)


def test_names_that_were_exchanged_are_found_when_the_data_are_given(texts: dict[str, str], data: pd.DataFrame) -> None:
    """The certificate needs the data, so such a result gets none."""
    for path in (("fixed", "terms"), ("random", 0, "terms")):
        text = change(texts["counts"], *path, to=lambda terms: terms[::-1])
        with pytest.raises(um.DataError, match="damaged or was changed: its formula has the columns Intercept, x"):
            um.FitResult.from_json(text).with_data(data)


def test_a_formula_that_does_not_fit_the_rest_is_found_when_it_is_needed(
    texts: dict[str, str], data: pd.DataFrame
) -> None:
    for formula, told in {
        "count ~ x + nothing + (1 + x | g)": "does not know nothing of its formula",
        "count ~ x + f": "does not know the random terms",
        "count ~ x + (1 + x | g)": "has 2 columns, and it keeps number 4",
    }.items():
        fit = um.FitResult.from_json(change(texts["counts"], "model", "encoding", "formula", to=lambda _, f=formula: f))
        str(fit)
        with pytest.raises(um.DataError, match=told):
            fit.predict(data)


@pytest.mark.parametrize("source", [None, 3, b"{}", "", "a\0b", "x" * 5000, "/", Path("/"), Path("/no/such/file")])
def test_what_is_no_source_is_told(source: Any) -> None:
    for saved in (um.FitResult, um.Comparison):
        with pytest.raises((um.DataError, um.OptionError)):
            saved.from_json(source)


def test_a_file_of_other_bytes_is_told(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_bytes(b"\xff\xfe\x00{")
    for saved in (um.FitResult, um.Comparison):
        with pytest.raises(um.DataError, match="not a saved"):
            saved.from_json(tmp_path / "fit.json")


def test_a_damaged_comparison_is_refused_or_shown(data: pd.DataFrame) -> None:
    whole = um.compare("y ~ x + (1 | g)", data, backends=["pls", "statsmodels"]).certify()
    text = whole.to_json()
    assert um.Comparison.from_json(text).to_json() == text
    rng = np.random.default_rng(11)
    for _ in range(NUMBER // 3):
        try:
            same = um.Comparison.from_json(damaged(text, rng))
        except um.DataError:
            continue
        with np.errstate(all="ignore"):
            _ = str(same), same._repr_html_(), same.to_json(), same.agree
            _ = same.estimates, same.std_errors, same.differences, same.verdicts
