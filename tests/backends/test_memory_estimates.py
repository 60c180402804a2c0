"""What is free, what a fit will need, and refusals before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.backends import limits

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
    assert limits._left(tmp_path, "memory.max", "memory.current", "inactive_file") == left


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
    with pytest.raises(um.UnsupportedModelError, match=r"320 GB for .* are free here \(memory_limit='none' tries"):
        um.fit("y ~ x + (1 | g) + (1 | h)", made, um.backends.Statsmodels(max_tied_rows=10**9))


def test_explain_prints_the_estimates() -> None:
    text = str(um.explain("y ~ x + (1 | g) + (1 | h)", crossed(4000, 300, 200), "pls"))
    assert "Memory and time (pls): about " in text
    assert "\n  lme4: about " in text
