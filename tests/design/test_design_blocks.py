"""Large designs are built and judged by blocks of rows: the same columns and the same verdicts as in one piece."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.design import aliasing
from unimix.design.design import build_design
from unimix.formula.interpreter import parse

N = 600
RNG = np.random.default_rng(5)
# sorted by f, so that most blocks lack most of its levels
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "z": RNG.normal(size=N),
        "f": np.repeat(list("abcdef"), N // 6),
        "h": RNG.choice(list("uvw"), N),
        "g": RNG.integers(0, 30, N),
    }
)


@pytest.mark.parametrize(
    ("formula", "coding"),
    [
        ("y ~ f * x + poly(z, 3) + h + (1 + x | g)", None),
        ("y ~ 0 + f:h + x:f + (1 | g)", None),
        ("y ~ f + poly(x, 2):h + (1 | g)", None),
        ("y ~ f + bs(x, df=4) + (1 + f | g)", {"f": "sum"}),
    ],
)
def test_columns_do_not_depend_on_the_blocks(formula, coding, monkeypatch):
    spec = parse(formula)
    whole = build_design(spec, FRAME, contrasts=coding)
    monkeypatch.setattr(aliasing, "CELLS", 37)
    parts = build_design(spec, FRAME, contrasts=coding)
    assert parts.fixed_names == whole.fixed_names
    assert parts.encoding == whole.encoding
    np.testing.assert_array_equal(parts.x, whole.x)
    for a, b in zip(parts.blocks, whole.blocks, strict=True):
        np.testing.assert_array_equal(a.z, b.z)


def test_the_triangular_factor_has_the_gram_matrix_of_the_rows(monkeypatch):
    monkeypatch.setattr(aliasing, "CELLS", 60)
    x = RNG.normal(size=(205, 6)) * np.logspace(-3, 3, 6)
    r = aliasing.triangular_factor(lambda part: x[part], *x.shape)
    assert r.shape == (6, 6)
    # backward stable: relative to the columns' lengths, not to the matrix's
    scale = np.linalg.norm(x, axis=0)
    np.testing.assert_allclose((r / scale).T @ (r / scale), (x / scale).T @ (x / scale), atol=1e-14)


@pytest.mark.parametrize("cells", [40, 10**6])
def test_dependent_columns_are_found_in_blocks(cells, monkeypatch):
    monkeypatch.setattr(aliasing, "CELLS", cells)
    x = RNG.normal(size=(300, 3))
    twice = np.column_stack([np.ones(300), x[:, 0], 1e8 + x[:, 1], x[:, 0] - 2e-4 * x[:, 1], 3 + 2 * x[:, 0], x[:, 2]])
    assert aliasing.independent_columns(twice) == (0, 1, 2, 5)
    year = np.column_stack([np.ones(300), 2000 + RNG.integers(0, 20, 300), np.zeros(300)])
    assert aliasing.independent_columns(year) == (0, 1)


@pytest.mark.parametrize("cells", [40, 10**6])
@pytest.mark.parametrize("offset", [None, 5.0])
def test_the_residual_is_that_of_least_squares(cells, offset, monkeypatch):
    monkeypatch.setattr(aliasing, "CELLS", cells)
    x = np.column_stack([np.ones(400), RNG.normal(size=400), 2000 + RNG.integers(0, 30, 400)])
    weights = RNG.uniform(0.5, 3, 400)
    y = x @ [3.0, 2.0, -1.0] + 1e-3 * RNG.normal(size=400)
    off = None if offset is None else offset * RNG.normal(size=400)
    target = y if off is None else y - off
    root = np.sqrt(weights)
    residual = np.linalg.lstsq(root[:, None] * x, root * target, rcond=None)[1][0]
    found = aliasing.residual_scale(y, x, weights, off)
    # differences of numbers near 2000 with a residual of 0.001: six digits are left
    assert found == pytest.approx(np.sqrt(residual / 400), rel=1e-6)
    assert aliasing.residual_scale(x @ [3.0, 2.0, -1.0], x, None, None) == 0.0


@pytest.mark.parametrize(("bar", "asked"), [("|", "45,150 variances and covariances"), ("||", "300 variances")])
def test_a_factor_of_hundreds_of_levels_is_no_slope(bar: str, asked: str) -> None:
    """Written for (1 | protein/peptide): a message of a few lines, before any column is built, by explain, too."""
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"protein": np.repeat(np.arange(60), 20), "y": rng.normal(size=1200)})
    data["peptide"] = np.repeat([f"pep{k:03d}" for k in range(300)], 4)
    for call in (um.fit, um.explain):
        with pytest.raises(um.DataError) as error:
            call(f"y ~ 1 + (peptide {bar} protein)", data, "pls")
        told = str(error.value)
        assert f"asks for {asked}, because peptide is a factor of 300 levels" in told
        assert "Is (1 | protein/peptide) meant? Type:\n    (1 | protein/peptide)" in told
        assert len(told.splitlines()) == 3
    assert um.fit("y ~ 1 + (1 | protein/peptide)", data, "pls").n_groups == {"protein": 60, "peptide:protein": 300}
    numbers = data.assign(day=rng.permutation(np.arange(1200) % 150))
    with pytest.raises(um.DataError, match=r"Is \(1 \| protein/day\) meant"):
        um.fit("y ~ 1 + (0 + C(day) || protein)", numbers, "pls")
