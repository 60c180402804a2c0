"""What is free, what a fit will need, and refusals before it starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.backends import limits
from unimix.backends.cost import Pace, work_of

GROUPS: list[tuple[dict[str, str], list[float]]] = [
    ({"memory.max": "max", "memory.current": "100", "memory.stat": "anon 1"}, []),
    ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 200"}, [500.0]),
    ({"memory.max": "1000", "memory.current": "700", "memory.stat": ""}, [300.0]),
    ({}, []),
]


@pytest.mark.parametrize(("files", "left"), GROUPS)
def test_control_groups_are_read(files: dict[str, str], left: list[float], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    assert limits._free(tmp_path, "memory.max", "memory.current", "inactive_file") == left


@pytest.mark.parametrize(("size", "text"), [(1.23e9, "1.2 GB"), (48e9, "48 GB"), (3.4e8, "340 MB"), (1e5, "less")])
def test_sizes_are_written(size: float, text: str) -> None:
    assert 1e6 < limits.available() < 1e15
    assert limits.in_words(size).startswith(text)


def crossed(rows: int, levels: int, others: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    made: dict[str, Any] = {"g": rng.integers(0, levels, rows), "h": rng.integers(0, others, rows)}
    return made | {"x": rng.normal(size=rows), "y": rng.normal(size=rows)}


def test_what_does_not_fit_into_memory_is_refused_before_it_starts() -> None:
    made = crossed(20_000, 1000, 300)
    engine = um.backends.Statsmodels(max_tied_rows=10**9)
    with pytest.raises(um.UnsupportedModelError) as error:
        um.fit("y ~ x + (1 | g) + (1 | h)", made, engine, memory_limit="1 GB")
    told = str(error.value)
    assert "memory: it would need about 3.2 GB for crossed factors of 1,000 x 300 levels (g, h): 20,000 rows" in told
    assert "and memory_limit is 1 GB\n" in told
    able = told.splitlines()[-1]
    assert able.startswith("These can: ")
    assert "backend='pls' (" in able
    assert " MB)" in able
    with pytest.raises(um.LimitError):  # a user who knows better is believed
        um.fit("y ~ x + (1 | g) + (1 | h)", made, engine, memory_limit="none", time_limit=0.2)


def test_without_a_limit_the_free_memory_counts() -> None:
    made = crossed(200_000, 5000, 1000)
    with pytest.raises(um.UnsupportedModelError, match=r"320 GB for .* are free here \(memory_limit='none' fits"):
        um.fit("y ~ x + (1 | g) + (1 | h)", made, um.backends.Statsmodels(max_tied_rows=10**9))


def test_explain_prints_the_estimates() -> None:
    text = str(um.explain("y ~ x + (1 | g) + (1 | h)", crossed(4000, 300, 200), "pls"))
    assert "Memory and time (pls): about " in text
    assert "\n  lme4: about " in text


def test_small_models_are_fitted_without_a_look_at_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the control groups took a tenth of a refit; models of a few MB fit wherever Python runs."""

    def nobody() -> float:
        raise AssertionError

    monkeypatch.setattr("unimix.backends.cost.available", nobody)
    um.fit("y ~ x + (1 | g)", crossed(400, 20, 8), "pls")
    with pytest.raises(AssertionError):
        um.fit("y ~ x + (1 | g) + (1 | h)", crossed(20_000, 1000, 800), "pls")


def test_every_unit_of_work_has_a_price() -> None:
    design = um.fit("y ~ x + (1 + x | g) + (1 | h)", crossed(400, 20, 8), "pls").design()
    assert set(work_of(design)) == {f.name for f in dataclasses.fields(Pace)}


def test_estimated_times_grow_with_the_work() -> None:
    """benchmarks/costs.py holds the estimates against measurements; here more of anything takes longer."""

    def seconds(formula: str, rows: int, levels: int, others: int) -> float:
        made = crossed(rows, levels, others)
        made["k"] = np.array([f"k{code:02d}" for code in np.arange(rows) % 30])
        found = um.backends.Pls.pace.seconds(um.fit(formula, made, "pls").design())
        assert found is not None
        return found

    simple = seconds("y ~ x + (1 | g)", 2_000, 50, 30)
    assert simple < seconds("y ~ x + (1 | g)", 20_000, 50, 30)
    assert simple < seconds("y ~ x + k + (1 | g)", 2_000, 50, 30)
    assert (
        simple < seconds("y ~ x + (1 + x | g)", 2_000, 50, 30) < seconds("y ~ x + (1 + x | g) + (1 | h)", 2_000, 50, 30)
    )
    assert 10 * simple < seconds("y ~ x + (0 + k || g)", 2_000, 50, 30)
