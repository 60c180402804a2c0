"""Models with a relationship matrix beside a dense likelihood that is written out here, verb by verb."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import optimize

import unimix as um
from support.satterthwaite import df_by_differences

FloatArray = npt.NDArray[np.float64]
exactly = partial(pytest.approx, rel=1e-7, abs=1e-9)
COUNT, FIRST = 40, 100


def family() -> pd.DataFrame:
    """The relationship matrix of 40 animals of three generations."""
    rng = np.random.default_rng(2)
    young = range(FIRST, FIRST + COUNT)
    sire = [int(rng.integers(0, 4)) if k < 15 else int(rng.integers(FIRST, FIRST + 7)) for k in range(COUNT)]
    dam = [int(rng.integers(4, 9)) if k < 15 else int(rng.integers(FIRST + 7, FIRST + 15)) for k in range(COUNT)]
    return um.pedigree(pd.DataFrame({"animal": list(young), "sire": sire, "dam": dam}))


def records() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    a = family().loc[range(FIRST, FIRST + COUNT), range(FIRST, FIRST + COUNT)].to_numpy()
    root = np.linalg.cholesky(a)
    animal = np.repeat(np.arange(COUNT), rng.integers(1, 4, size=COUNT))
    x, herd = rng.normal(size=len(animal)), rng.integers(0, 6, size=len(animal))
    y = 2 + x + (root @ rng.normal(0, 1.2, COUNT))[animal] + (root @ rng.normal(0, 0.6, COUNT))[animal] * x
    y += rng.normal(0, 0.7, 6)[herd] + rng.normal(size=len(animal))
    return pd.DataFrame({"y": y, "x": x, "animal": animal + FIRST, "herd": herd})


def pieces(fit: um.FitResult, data: pd.DataFrame) -> tuple[list[FloatArray], list[FloatArray]]:
    """Z (n, L q) and Cov(b) (L q, L q) of each block, level by level."""
    columns, covariances = [], []
    for block in fit.random:
        levels = list(block.levels)
        codes = np.array([levels.index(v) for v in data[block.group]])
        z = np.column_stack([np.ones(len(data)) if t == "Intercept" else data[t] for t in block.terms])
        wide = np.zeros((len(data), len(levels), z.shape[1]))
        wide[np.arange(len(data)), codes] = z
        known = family().loc[levels, levels].to_numpy() if block.group == "animal" else np.eye(len(levels))
        columns.append(wide.reshape(len(data), -1))
        covariances.append(np.kron(known, np.asarray(block.covariance)))
    return columns, covariances


def dense(y: FloatArray, x: FloatArray, v: FloatArray, *, reml: bool) -> tuple[float, FloatArray, FloatArray]:
    inverse = np.linalg.inv(v)
    cov = np.linalg.inv(x.T @ inverse @ x)
    beta = cov @ x.T @ inverse @ y
    rest = y - x @ beta
    value = -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + rest @ inverse @ rest)
    if reml:
        value += 0.5 * (len(beta) * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1])
    return float(value), beta, cov


def columns_of(data: pd.DataFrame) -> FloatArray:
    return np.column_stack([np.ones(len(data)), data["x"]])


@pytest.fixture(scope="module")
def slopes() -> um.FitResult:
    return um.fit("y ~ x + (1 + x | animal) + (1 | herd)", records(), relationship={"animal": family()})


@pytest.fixture(scope="module")
def alone() -> um.FitResult:
    """No factor without a matrix."""
    return um.fit("y ~ x + (1 | animal)", records(), relationship={"animal": family()})


@pytest.fixture(params=["slopes", "alone"])
def fit(request: pytest.FixtureRequest) -> um.FitResult:
    made: um.FitResult = request.getfixturevalue(request.param)
    return made


def test_likelihood_modes_and_their_variances_are_dense_ones(fit: um.FitResult) -> None:
    data = records()
    z, covariances = pieces(fit, data)
    x, y = columns_of(data), data["y"].to_numpy()
    v = fit.sigma**2 * np.eye(len(data)) + sum(a @ c @ a.T for a, c in zip(z, covariances, strict=True))
    value, beta, cov = dense(y, x, v, reml=True)
    assert fit.log_likelihood == exactly(value)
    assert fit.fixed.estimate == exactly(beta)
    assert fit.fixed.covariance == exactly(cov)
    inverse = np.linalg.inv(v)
    for block, a, c in zip(fit.random, z, covariances, strict=True):
        q = len(block.terms)
        assert np.asarray(block.modes).ravel() == exactly(c @ a.T @ inverse @ (y - x @ beta))
        given = (c - c @ a.T @ inverse @ a @ c).reshape(-1, q, len(block.levels), q)
        own = np.array([given[k, :, k] for k in range(len(block.levels))])
        assert np.asarray(block.mode_covariance) == exactly(own)
    assert fit.certificate().verdict == "certified"


def test_estimates_are_those_of_another_method() -> None:
    """One row per animal: with A = U D U', rotated rows are independent with variances s2a d + s2 (Kang et al. 2008,
    Genetics 178:1709); the restricted likelihood is then maximised over the ratio alone."""
    data = records().drop_duplicates("animal")
    found = um.fit("y ~ x + (1 | animal)", data, relationship={"animal": family()})
    ids = data["animal"].tolist()
    d, u = np.linalg.eigh(family().loc[ids, ids].to_numpy())
    x, y = u.T @ columns_of(data), u.T @ data["y"].to_numpy()
    n, p = x.shape

    def minus(log_ratio: float) -> float:
        w = 1 / (np.exp(log_ratio) * d + 1)
        gram = x.T @ (w[:, None] * x)
        rest = y - x @ np.linalg.solve(gram, x.T @ (w * y))
        s2 = np.sum(w * rest**2) / (n - p)
        logs = (n - p) * (np.log(2 * np.pi * s2) + 1) - np.log(w).sum() + np.linalg.slogdet(gram)[1]
        return float(0.5 * logs)

    best = optimize.minimize_scalar(minus, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10})
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-8)
    assert 2 * np.log(found.random[0].sd[0] / found.sigma) == pytest.approx(best.x, abs=1e-4)


def test_degrees_of_freedom_by_differences_of_the_dense_likelihood(alone: um.FitResult) -> None:
    """Satterthwaite's 2 v^2 / (g' H^-1 g) from central differences, whose error is about 1e-5."""
    data = records()
    z, covariances = pieces(alone, data)
    unit = z[0] @ covariances[0] @ z[0].T / float(alone.random[0].covariance[0, 0])
    x, y = columns_of(data), data["y"].to_numpy()

    def at(theta: FloatArray) -> tuple[float, FloatArray]:
        value, _, cov = dense(y, x, theta[0] * unit + theta[1] * np.eye(len(y)), reml=True)
        return value, np.diag(cov)

    centre = np.array([float(alone.random[0].covariance[0, 0]), alone.sigma**2])
    assert alone.fixed.df == pytest.approx(df_by_differences(at, centre), rel=1e-3)


def test_intervals_of_predictions_have_the_joint_error_of_henderson(fit: um.FitResult) -> None:
    """Var(x'(beta_hat - beta) + z'(b_hat - b)) from the inverse of the mixed-model equations, written out."""
    data = records()
    z, covariances = pieces(fit, data)
    wide, penalty = np.hstack(z), np.zeros((sum(a.shape[1] for a in z),) * 2)
    start = 0
    for c in covariances:
        stop = start + len(c)
        penalty[start:stop, start:stop] = np.linalg.inv(c)
        start = stop
    both = np.hstack([columns_of(data), wide])
    equations = both.T @ both / fit.sigma**2
    equations[2:, 2:] += penalty
    expected = np.sqrt(np.einsum("ni,ij,nj->n", both, np.linalg.inv(equations), both))
    table = fit.predict(interval="confidence").table
    assert table["std_error"].to_numpy() == exactly(expected)
    hat = np.einsum("ni,ij,nj->n", both, np.linalg.inv(equations), both) / fit.sigma**2
    assert fit.influence().table["leverage"].to_numpy() == exactly(hat)


def test_influence_is_that_of_generalised_least_squares_without_the_rows(fit: um.FitResult) -> None:
    data = records()
    z, covariances = pieces(fit, data)
    v = fit.sigma**2 * np.eye(len(data)) + sum(a @ c @ a.T for a, c in zip(z, covariances, strict=True))
    x, y = columns_of(data), data["y"].to_numpy()
    animal = int(data["animal"].iloc[5])
    kept = np.flatnonzero(data["animal"] != animal)
    beta = dense(y[kept], x[kept], v[np.ix_(kept, kept)], reml=True)[1]
    found = fit.influence("animal").estimates.loc[animal]
    assert found.to_numpy() == exactly(beta)


def test_simulated_effects_have_the_relations(alone: um.FitResult) -> None:
    """The covariance of 6,000 draws: standard errors are about 0.03 of the variances, the bound is five of them."""
    data = records()
    z, covariances = pieces(alone, data)
    v = alone.sigma**2 * np.eye(len(data)) + z[0] @ covariances[0] @ z[0].T
    drawn = np.cov(alone.simulate(6000, seed=4).T)
    error = np.sqrt((v**2 + np.outer(np.diag(v), np.diag(v))) / 6000)
    assert (np.abs(drawn - v) < 5 * error).all()


def test_refits_keep_the_matrix(alone: um.FitResult) -> None:
    data = records()
    again = um.refit(alone, method="ML")
    expected = um.fit("y ~ x + (1 | animal)", data, relationship={"animal": family()}, method="ML")
    assert again.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-9)
    replicates = alone.bootstrap(10, seed=1).replicates
    assert replicates.notna().all(axis=None)
    assert replicates["sd(Intercept | animal)"].std() > 0
    left_out = alone.influence("animal", refit=True)
    animal = int(data["animal"].iloc[5])
    without = um.fit("y ~ x + (1 | animal)", data[data["animal"] != animal], relationship={"animal": family()})
    assert left_out.estimates.loc[animal].to_numpy() == pytest.approx(without.fixed.estimate, rel=1e-5)
    null = um.ranova(alone).table
    assert len(null) == 2


def test_r2_counts_the_variances_of_inbred_levels(alone: um.FitResult) -> None:
    data = records()
    a = np.diag(family().loc[data["animal"], data["animal"]].to_numpy())
    variance = float(alone.random[0].covariance[0, 0]) * a.mean()
    assert alone.icc().adjusted == pytest.approx(variance / (variance + alone.sigma**2))


def test_profiles_solve_the_dense_likelihood_ratio(alone: um.FitResult) -> None:
    data = records()
    z, covariances = pieces(alone, data)
    unit = z[0] @ covariances[0] @ z[0].T / float(alone.random[0].covariance[0, 0])
    x, y = columns_of(data), data["y"].to_numpy()
    best = um.refit(alone, method="ML").log_likelihood
    end = float(alone.confint("profile", parameters="sigma").table.loc["sigma", "upper"])

    def minus(log_sd: float) -> float:
        return -dense(y, x, np.exp(2 * log_sd) * unit + end**2 * np.eye(len(y)), reml=False)[0]

    held = -optimize.minimize_scalar(minus, bounds=(-5, 3), method="bounded", options={"xatol": 1e-9}).fun
    assert 2 * (best - held) == pytest.approx(1.959964**2, abs=1e-4)


def test_what_needs_independent_levels_is_refused(alone: um.FitResult, tmp_path: Path) -> None:
    with pytest.raises(um.UnsupportedModelError, match="independent"):
        alone.robust()
    with pytest.raises(um.UnsupportedModelError, match="Pooling is of independent levels"):
        um.pooling("y ~ x + (1 | animal)", records(), relationship={"animal": family()})
    with pytest.raises(um.UnimixError, match="copies"):
        alone.bootstrap(10, source="cases", seed=1)
    with pytest.raises(um.UnsupportedModelError, match="relationship to the others"):
        alone.predict({"x": 1.0, "animal": 1}, interval="prediction", new_levels="sample")
    assert np.isfinite(alone.predict({"x": 1.0, "animal": 1}, new_levels="population"))
    related = {"animal": family()}
    scores = um.cross_validate(
        "y ~ x + (1 | animal)", records(), relationship=related, split="groups", folds=2, pooling=["partial"]
    )
    assert "2 of 2 folds failed" in str(scores)
    assert "depends on its relationship" in str(scores)
    loaded = um.FitResult.load(alone.save(tmp_path / "fit.zip"))
    with pytest.raises(um.DataError, match="relationship matrix of animal"):
        loaded.with_data(records())
