"""Our columns against those of lme4 itself, stored by tests/data/design_r.R."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unimix.design.design import build_design
from unimix.formula.interpreter import parse

STORED = json.loads((Path(__file__).parents[1] / "data" / "design_r.json").read_text())
CASES = {case["formula"]: case for case in STORED["cases"]}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Categorical(v["values"], categories=v["levels"]) if isinstance(v, dict) else v
            for name, v in STORED["data"].items()
        }
    )


def r_name(ours: str) -> frozenset[str]:
    """The factors of one of our column names, each as R writes it."""
    if ours == "Intercept":
        return frozenset(["(Intercept)"])
    parts = re.split(r":(?![^(]*\))", ours)
    parts = [re.sub(r"\[(?:T\.)?([^\]]*)\]$", r"\1", part) for part in parts]
    return frozenset(re.sub(r" \*\* ", "^", part) for part in parts)


def names(r_columns: list[str]) -> list[frozenset[str]]:
    return [frozenset(re.split(r":(?![^(]*\))", name)) for name in r_columns]


def projector(x: np.ndarray) -> np.ndarray:
    q, _ = np.linalg.qr(x)
    return q @ q.T


@pytest.mark.parametrize("formula", CASES)
def test_the_fixed_columns_are_those_of_lme4(formula, frame):
    case = CASES[formula]
    design = build_design(parse(formula), frame)
    theirs = np.array(case["x"]).T
    assert design.x.shape == theirs.shape
    np.testing.assert_allclose(design.y, case["y"], atol=1e-12)
    np.testing.assert_allclose(projector(design.x), projector(theirs), atol=1e-10)
    by_name = dict(zip(names(case["names"]), theirs.T, strict=True))
    matched = [name for name in design.fixed_names if r_name(name) in by_name]
    for name in matched:
        column = design.x[:, design.fixed_names.index(name)]
        np.testing.assert_allclose(column, by_name[r_name(name)], atol=1e-10, err_msg=name)
    # R gives `y ~ f:h` one column too many and lme4 drops it; formulaic never makes it
    if formula not in {"y ~ f:h + (1 | g)", "y ~ f * h - f + (1 | g)"}:
        assert len(matched) == design.p


@pytest.mark.parametrize("formula", CASES)
def test_the_random_columns_are_those_of_lme4(formula, frame):
    theirs = [
        (re.sub(r"\.\d+$", "", block["group"]), frozenset(names(block["terms"])), block)
        for block in CASES[formula]["blocks"]
    ]
    design = build_design(parse(formula), frame)
    assert len(theirs) == len(design.blocks)
    for block in design.blocks:
        mine = [r_name(term) for term in block.terms]
        found = [b for group, terms, b in theirs if group == block.group and terms == frozenset(mine)]
        assert len(found) == 1, (block.group, block.terms)
        columns = dict(zip(names(found[0]["terms"]), found[0]["z"], strict=True))
        for j, term in enumerate(mine):
            np.testing.assert_allclose(block.z[:, j], columns[term], atol=1e-10)
        assert [str(block.levels[code]) for code in block.codes] == found[0]["level"]
        assert [str(level) for level in block.levels] == found[0]["levels"]
