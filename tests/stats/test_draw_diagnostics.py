"""Draws with names, and diagnostics of draws, against formulas written down plainly, closed forms and simulation.

The same numbers are asked of both generations of ArviZ.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal, special, stats

from unimix.stats.draw_diagnostics import (
    compare_left_out,
    effective_size,
    leave_one_out,
    pareto_k,
    rhat,
    with_groups,
    with_names,
)

FloatArray = npt.NDArray[np.float64]


def autoregressive(phi: float, shape: tuple[int, int], seed: int = 1) -> FloatArray:
    """Chains of a stationary AR(1) process with variance one."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape) * np.sqrt(1 - phi**2)
    noise[:, 0] = rng.normal(size=shape[0])
    return np.asarray(signal.lfilter([1.0], [1.0, -phi], noise, axis=1))


def plain_rhat(values: FloatArray) -> float:
    """R-hat of split chains: Vehtari and others (2021), equations 1 to 4, with normal scores of equation 14."""
    half = values.shape[1] // 2
    split = np.concatenate([values[:, :half], values[:, -half:]])
    found = []
    for quantity in (split, np.abs(split - np.median(split))):
        ranks = stats.rankdata(quantity).reshape(quantity.shape)
        z = special.ndtri((ranks - 0.375) / (quantity.size + 0.25))
        within = z.var(axis=1, ddof=1).mean()
        between = half * z.mean(axis=1).var(ddof=1)
        found.append(np.sqrt((half - 1) / half + between / (half * within)))
    return float(max(found))


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_rhat_is_that_of_the_paper(shift: float) -> None:
    values = autoregressive(0.3, (4, 400)) + shift * np.arange(4)[:, None]
    assert rhat(values) == pytest.approx(plain_rhat(values), rel=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_effective_sizes_are_those_of_autoregressive_chains(phi: float) -> None:
    """N (1 - phi) / (1 + phi) for the mean. With 20 seeds the estimates were between 0.93 and 1.06 of it."""
    values = autoregressive(phi, (4, 5000))
    true = values.size * (1 - phi) / (1 + phi)
    assert effective_size(values, "mean") == pytest.approx(true, rel=0.15)
    assert effective_size(values, "bulk") == pytest.approx(true, rel=0.15)  # the scores are those of a normal process
    beyond = (values < np.quantile(values, 0.05)).astype(float)
    above = (values < np.quantile(values, 0.95)).astype(float)
    ends = [effective_size(v, "mean") for v in (beyond, above)]
    assert effective_size(values, "tail") == pytest.approx(min(ends), rel=0.02)


@pytest.mark.parametrize("k", [0.2, 0.7, 1.1])
def test_pareto_k_is_that_of_simulated_weights(k: float) -> None:
    """The tail holds 3 sqrt(S) weights, and the error of k is (1 + k) / sqrt(3 sqrt(S)): four of them are allowed."""
    weights = stats.genpareto.rvs(k, loc=1 / k, size=100_000, random_state=1)  # exactly Pareto
    error = (1 + k) / np.sqrt(3 * np.sqrt(weights.size))
    assert pareto_k(np.log(weights)) == pytest.approx(k, abs=4 * error)


def normal_model(y: FloatArray, shape: tuple[int, int] = (4, 4000)) -> tuple[FloatArray, FloatArray]:
    """Draws of the mean of a normal sample with SD one under a flat prior, and the log-likelihood of each row."""
    mean = np.random.default_rng(2).normal(y.mean(), 1 / np.sqrt(len(y)), size=shape)
    return mean, stats.norm.logpdf(y, mean[..., None], 1.0)


def exactly_left_out(y: FloatArray) -> FloatArray:
    """Log density of each row given the others, N(mean of the others, 1 + 1 / (n - 1))."""
    n = len(y)
    others = (y.sum() - y) / (n - 1)
    return np.asarray(stats.norm.logpdf(y, others, np.sqrt(1 + 1 / (n - 1))))


def test_leaving_one_out_has_the_exact_density_of_a_normal_sample() -> None:
    """Independent draws: the Monte Carlo error of the sum of 30 rows is about 0.01."""
    y = np.random.default_rng(3).normal(size=30)
    mean, rows = normal_model(y)
    draws = with_names({"posterior": {"mean": mean}})
    found = leave_one_out(rows, draws)
    exact = exactly_left_out(y)
    assert found.elpd_loo == pytest.approx(exact.sum(), abs=0.04)
    within = special.logsumexp(rows, axis=(0, 1)) - np.log(mean.size)
    assert found.p_loo == pytest.approx((within - exact).sum(), abs=0.04)
    # n or n - 1 degrees of freedom, as ArviZ 0.x and 1.x have
    assert found.se == pytest.approx(np.sqrt(30 * exact.var()), rel=0.03)
    assert np.asarray(found.pareto_k).shape == (30,)
    assert np.asarray(found.pareto_k).max() < 0.5


def test_models_are_compared_by_the_sum_of_differences() -> None:
    y = np.random.default_rng(3).normal(0.4, size=30)
    mean, rows = normal_model(y)
    at_zero = np.broadcast_to(stats.norm.logpdf(y), rows.shape) + 1e-9 * mean[..., None]
    draws = with_names({"posterior": {"mean": mean}})
    table = compare_left_out({"zero": leave_one_out(at_zero, draws), "mean": leave_one_out(rows, draws)})
    gain = exactly_left_out(y) - stats.norm.logpdf(y)
    best, other = ("mean", "zero") if gain.sum() > 0 else ("zero", "mean")
    assert list(table.index) == [best, other]
    assert table.loc[best, "elpd_diff"] == 0
    assert table.loc[other, "elpd_diff"] == pytest.approx(-abs(gain.sum()), abs=0.04)
    assert table.loc[other, "se_diff"] == pytest.approx(np.sqrt(30 * gain.var()), rel=0.04)
    assert table["weight"].sum() == pytest.approx(1.0)
    assert list(table.columns) == ["elpd", "se", "p_loo", "elpd_diff", "se_diff", "weight"]


def test_draws_have_names_groups_and_attributes() -> None:
    rng = np.random.default_rng(1)
    effects, y = rng.normal(size=(2, 5, 3)), rng.normal(size=4)
    made = with_names(
        {"posterior": {"effects(g)": effects}, "observed_data": {"y": y}, "constant_data": {}},
        coords={"g level": ["a", "b", "c"], "row": [1, 2, 3, 4]},
        dims={"effects(g)": ["g level"], "y": ["row"]},
        attributes={"/": {"formula": "y ~ (1 | g)"}, "posterior": {"sampling_time": 1.5}},
    )
    assert made.posterior["effects(g)"].dims == ("chain", "draw", "g level")
    np.testing.assert_array_equal(made.posterior["effects(g)"].sel({"g level": "b"}), effects[..., 1])
    assert made.observed_data["y"].dims == ("row",)
    assert made.posterior.attrs["sampling_time"] == 1.5
    assert made.attrs["formula"] == "y ~ (1 | g)"
    assert not hasattr(made, "constant_data")


def test_further_groups_leave_the_object_as_it_was() -> None:
    import xarray as xr

    made = with_names({"posterior": {"b": np.zeros((2, 5))}})
    whole = with_groups(made, {"log_likelihood": xr.Dataset({"y": (("chain", "draw", "row"), np.ones((2, 5, 3)))})})
    assert whole.log_likelihood["y"].shape == (2, 5, 3)
    assert not hasattr(made, "log_likelihood")
    assert "log_likelihood" not in str(made)
    assert np.shares_memory(whole.posterior["b"].to_numpy(), made.posterior["b"].to_numpy())
