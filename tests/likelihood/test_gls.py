"""Generalised least squares and conditional modes, held against dense algebra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from unimix.likelihood.lmm import gls

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    z: FloatArray
    codes: npt.NDArray[np.int64]
    n_levels: int


def case(kind: str) -> tuple[FloatArray, FloatArray, list[Block]]:
    rng = np.random.default_rng(4)
    n = 60
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n) + 3 * x[:, 1]
    outer = np.sort(np.r_[np.arange(7), rng.integers(7, size=n - 7)])
    inner = np.unique(outer * 3 + rng.integers(3, size=n), return_inverse=True)[1]
    other = np.r_[np.arange(5), rng.integers(5, size=n - 5)]
    slopes = Block(x.copy(), outer, 7)
    made = {
        "none": [],
        "one": [slopes],
        "independent": [Block(x[:, :1], outer, 7), Block(x[:, 1:], outer, 7)],
        "nested": [slopes, Block(x[:, :1], inner, int(inner.max()) + 1)],
        "crossed": [slopes, Block(x[:, :1], other, 5), Block(x[:, :1], inner, int(inner.max()) + 1)],
    }
    return y, x, made[kind]


def covariances_of(blocks: list[Block], kind: str) -> tuple[FloatArray, ...]:
    full = np.array([[2.0, 0.7], [0.7, 0.9]])
    values = {
        "regular": full,
        "zero": np.zeros((2, 2)),
        "rank one": np.outer([1.0, -0.5], [1.0, -0.5]),
        "first zero": np.diag([0.0, 1.3]),
        "huge": 1e10 * full,
    }
    return tuple(values[kind][: b.z.shape[1], : b.z.shape[1]] for b in blocks)


def spread(block: Block) -> FloatArray:
    wide = np.zeros((len(block.codes), block.n_levels, block.z.shape[1]))
    wide[np.arange(len(block.codes)), block.codes] = block.z
    return wide.reshape(len(block.codes), -1)


@pytest.mark.parametrize("kind", ["none", "one", "independent", "nested", "crossed"])
@pytest.mark.parametrize("size", ["regular", "zero", "rank one", "first zero"])
def test_equals_dense_algebra(kind: str, size: str) -> None:
    y, x, blocks = case(kind)
    covariances, sigma = covariances_of(blocks, size), 1.3
    found = gls.solve(y, x, blocks, covariances, sigma)
    wide = [spread(b) for b in blocks]
    whole = [np.kron(np.eye(b.n_levels), c) for b, c in zip(blocks, covariances, strict=True)]
    v = sigma**2 * np.eye(len(y)) + sum((z @ c @ z.T for z, c in zip(wide, whole, strict=True)), np.zeros((1, 1)))
    vi = np.linalg.inv(v)
    cov = np.linalg.inv(x.T @ vi @ x)
    beta = cov @ x.T @ vi @ y
    r = y - x @ beta
    np.testing.assert_allclose(found.beta, beta, rtol=1e-9)
    np.testing.assert_allclose(found.beta_cov, cov, rtol=1e-9)
    ml = -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + r @ vi @ r)
    assert found.log_likelihood == pytest.approx(ml, abs=1e-9)
    reml = ml + 0.5 * (x.shape[1] * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1])
    assert found.log_likelihood_reml == pytest.approx(reml, abs=1e-9)
    assert found.quadratic == pytest.approx(sigma**2 * r @ vi @ r)
    for block, z, c, modes, covs in zip(blocks, wide, whole, found.modes, found.mode_covs, strict=True):
        np.testing.assert_allclose(modes.ravel(), c @ z.T @ vi @ r, atol=1e-10)
        conditional = c - c @ z.T @ vi @ z @ c
        for level in range(block.n_levels):
            at = slice(level * block.z.shape[1], (level + 1) * block.z.shape[1])
            np.testing.assert_allclose(covs[level], conditional[at, at], atol=1e-10)


def test_large_variances_do_not_cancel() -> None:
    # With an infinite variance of the intercepts the slope is the within-groups estimate.
    y, x, blocks = case("independent")
    found = gls.solve(y, x, blocks[:1], (np.array([[1e12]]),), 1.0)
    codes = blocks[0].codes
    dx, dy = (v - (np.bincount(codes, v) / np.bincount(codes))[codes] for v in (x[:, 1], y))
    assert found.beta[1] == pytest.approx(dx @ dy / (dx @ dx), rel=1e-8)
    assert found.beta_cov[1, 1] == pytest.approx(1 / (dx @ dx), rel=1e-8)


def test_without_fixed_effects() -> None:
    y, _, blocks = case("one")
    found = gls.solve(y, np.empty((len(y), 0)), blocks, covariances_of(blocks, "regular"), 1.0)
    assert found.beta.shape == (0,)
    assert found.log_likelihood == pytest.approx(found.log_likelihood_reml)


@pytest.mark.parametrize("reml", [True, False])
def test_profile_is_the_maximum_over_sigma(reml: bool) -> None:
    y, x, blocks = case("nested")
    relative = covariances_of(blocks, "regular")
    best, sigma = gls.profile(y, x, blocks, relative, reml=reml)

    def value(s: float) -> float:
        found = gls.solve(y, x, blocks, tuple(s**2 * c for c in relative), s)
        return found.log_likelihood_reml if reml else found.log_likelihood

    assert value(sigma) == pytest.approx(best, abs=1e-9)
    assert best > max(value(0.999 * sigma), value(1.001 * sigma))


@pytest.mark.parametrize(("kind", "count"), [("one", 7), ("independent", 7), ("nested", 7), ("crossed", 1)])
def test_tied_levels(kind: str, count: int) -> None:
    _, _, blocks = case(kind)
    found, sets = gls.tied_levels(blocks)
    assert found == count
    assert [len(s) for s in sets] == [b.n_levels for b in blocks]
    rows = [s[b.codes] for s, b in zip(sets, blocks, strict=True)]
    assert all((r == rows[0]).all() for r in rows)


def test_cost_goes_by_levels_not_by_their_square() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(20_000), 3)
    block = Block(np.ones((len(codes), 1)), codes, 20_000)
    found = gls.solve(rng.normal(size=len(codes)), np.ones((len(codes), 1)), [block], (np.eye(1),), 1.0)
    assert found.mode_covs[0].shape == (20_000, 1, 1)
    np.testing.assert_allclose(found.mode_covs[0], 0.25)
