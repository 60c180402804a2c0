"""The search for separated rows: against one linear program of all rows, and on data of a size that it cannot take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy
from scipy import sparse

import unimix as um
from unimix.likelihood.glmm import separation
from unimix.likelihood.glmm.separation import _separation

FloatArray = npt.NDArray[np.float64]


def by_one_program(columns: FloatArray, sign: FloatArray) -> npt.NDArray[np.bool_]:
    """Overlapping rows by Konis' program: max sum s, s <= sign * x'd, 0 <= s <= 1, x'd = 0 where the sign is 0."""
    signed, tied = sign[sign != 0, None] * columns[sign != 0], columns[sign == 0]
    m, p = signed.shape
    fixed = sparse.hstack([sparse.csr_matrix(tied), sparse.csr_matrix((len(tied), m))])
    found = scipy.optimize.linprog(
        np.concatenate([np.zeros(p), -np.ones(m)]),
        A_ub=sparse.hstack([sparse.csr_matrix(-signed), sparse.eye(m)]),
        b_ub=np.zeros(m),
        A_eq=fixed if len(tied) else None,
        b_eq=np.zeros(len(tied)) if len(tied) else None,
        bounds=[(None, None)] * p + [(0.0, 1.0)] * m,
        method="highs",
    )
    overlaps = np.ones(len(sign), dtype=bool)
    overlaps[sign != 0] = found.x[p:] <= 0.5
    return overlaps


def random_case(k: int) -> tuple[FloatArray, FloatArray]:
    """Whole or continuous columns, with and without an intercept; separated wholly, partly, nearly or not at all."""
    rng = np.random.default_rng(k)
    n, p = int(rng.integers(4, 60)), int(rng.integers(1, 6))
    x = rng.integers(-1, 3, size=(n, p)).astype(float) if k % 2 else rng.normal(size=(n, p))
    if k % 3 == 0:
        x[:, 0] = 1.0
    sign = np.sign(x @ rng.integers(-1, 2, size=p) + (0.3 * rng.normal(size=n) if k % 5 == 0 else 0.0))
    if k % 7 == 0:
        sign = rng.choice([-1.0, 1.0], size=n)
    if k % 4:
        sign[sign == 0] = rng.choice([-1.0, 1.0], int((sign == 0).sum()))
    return x, sign


def test_the_separated_rows_are_those_of_one_program_of_all_rows() -> None:
    separated = 0
    for k in range(150):
        x, sign = random_case(k)
        overlaps, decided = _separation(x, sign)
        assert decided
        assert np.array_equal(overlaps, by_one_program(x, sign)), k
        separated += not overlaps.all()
    assert 50 < separated < 140


def test_a_growing_set_of_rows_finds_what_all_rows_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separation, "AT_ONCE", 4)
    for k in range(100):
        x, sign = random_case(k)
        assert np.array_equal(_separation(x, sign)[0], by_one_program(x, sign)), k


@pytest.mark.parametrize("shift", [0.0, 2000.0])
def test_separated_rows_among_many_distinct_ones(shift: float) -> None:
    """One level of 107 rows always succeeds, among 200,000 rows that overlap; far from zero, too."""
    rng = np.random.default_rng(0)
    n = 200_000
    x = rng.normal(size=(n, 3))
    special = np.arange(n) % 1869 == 0
    y = rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))
    columns = np.column_stack([np.ones(n), x + shift, special])
    assert _separation(columns, np.where(y, 1.0, -1.0))[0].all()
    overlaps, decided = _separation(columns, np.where(y | special, 1.0, -1.0))
    assert decided
    assert np.array_equal(overlaps, ~special)


def test_many_levels_stay_sparse() -> None:
    rng = np.random.default_rng(1)
    code = rng.integers(0, 200, 30_000)
    columns = np.eye(200)[code]
    columns[:, 0] = 1.0
    y = (rng.random(30_000) < 0.6) | (code == 17) | (code == 90)
    overlaps, decided = _separation(columns, np.where(y, 1.0, -1.0))
    assert decided
    assert np.array_equal(overlaps, (code != 17) & (code != 90))


@pytest.fixture(scope="module")
def large() -> dict[str, FloatArray]:
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=25_000), (np.arange(25_000) % 500 == 0).astype(float)
    return {"x": x, "z": z, "y": ((rng.random(25_000) < 1 / (1 + np.exp(-x))) | (z == 1)).astype(float)}


@pytest.mark.parametrize("engine", ["statsmodels", "pls"])
def test_standard_errors_of_large_separated_data(large: dict[str, FloatArray], engine: str) -> None:
    fit = um.fit("y ~ x + z", large, engine, family="binomial")
    assert not fit.converged
    errors = fit.fixed_effects["std_error"]
    assert np.isinf(errors["z"])
    # the likelihood of the other rows is what remains
    rest = um.fit("y ~ x", {k: v[large["z"] == 0] for k, v in large.items()}, engine, family="binomial")
    assert errors[["Intercept", "x"]].to_numpy() == pytest.approx(rest.fixed_effects["std_error"].to_numpy(), rel=1e-4)


def test_an_unfinished_search_is_told(large: dict[str, FloatArray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separation, "MOST_SECONDS", 0.0)
    fit = um.fit("y ~ x + z", large, "statsmodels", family="binomial")
    assert any("not decided within 0 s" in message for message in fit.status.messages)
    assert fit.certificate().verdict == "not checkable"
    found = fit.check().table.loc["separation"]
    assert "not decided" in str(found.to_dict())
