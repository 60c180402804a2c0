"""The joint error of fixed and group effects: against dense matrices, R's hat values and simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_effects import dense_error, dense_z

import unimix as um
from unimix.analysis.prediction.draws import conditional_at
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.stats.joint_error import conditional, draw_coefficients, leverage, predictor_variance

R = json.loads((Path(__file__).parents[1] / "data" / "pooling_r.json").read_text())


def crossed(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 90
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 7, n), "h": rng.integers(0, 5, n)})
    b, c = rng.normal(0, 1.5, (7, 2)), rng.normal(0, 1, 5)
    eta = 2 + data["x"] + b[data["g"], 0] + 0.5 * b[data["g"], 1] * data["x"] + c[data["h"]]
    data["y"] = eta + rng.normal(size=n)
    data["w"] = rng.uniform(0.5, 2, n)
    return data.assign(g="g" + data["g"].astype(str), h="h" + data["h"].astype(str))


MODELS = [
    "y ~ x + (1 + x | g) + (1 | h)",
    "y ~ x + (1 + x || g)",
    "y ~ x + (1 | g/h)",
    "y ~ 1 + (0 + x | g)",
]


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", MODELS)
def test_prediction_errors_are_those_of_the_dense_matrices(formula: str, weights: str | None) -> None:
    """1e-8: two exact ways, of which the dense one inverts a matrix of n rows."""
    fit = um.fit(formula, crossed(), "pls", weights=weights)
    joint, x, z = dense_error(fit)
    design = fit.design()
    rows = np.column_stack([x, z])
    found = predictor_variance(
        conditional_at(fit, design), x, [b.z for b in design.blocks], [b.codes for b in design.blocks]
    )
    np.testing.assert_allclose(found, np.einsum("ni,ij,nj->n", rows, joint, rows), rtol=1e-8)
    np.testing.assert_allclose(fit.fixed.covariance, joint[: design.p, : design.p], rtol=1e-6)


def test_a_new_level_adds_its_whole_variance() -> None:
    fit = um.fit(MODELS[0], crossed(), "pls")
    design = fit.design()
    at = conditional_at(fit, design)
    x, z = design.x[:1], [b.z[:1] for b in design.blocks]
    both_new = predictor_variance(at, x, z, [np.array([-1]), np.array([-1])])
    plain = x[0] @ fit.fixed.covariance @ x[0]
    more = sum(zk[0] @ np.asarray(b.covariance) @ zk[0] for zk, b in zip(z, fit.random, strict=True))
    assert both_new[0] == pytest.approx(plain + more, rel=1e-10)
    assert predictor_variance(at, x, [], [])[0] == pytest.approx(plain, rel=1e-12)


def test_draws_have_the_exact_covariance() -> None:
    """Means within 4.5 Monte Carlo errors; covariances within 5 % of the product of the SDs (20,000 draws: 0.7 %)."""
    fit = um.fit(MODELS[0], crossed(), "pls")
    joint, _, _ = dense_error(fit)
    modes = [b.modes for b in fit.random]
    beta, effects = draw_coefficients(
        conditional_at(fit, fit.design()), fit.fixed.estimate, modes, 20_000, np.random.default_rng(3)
    )
    draws = np.column_stack([beta, *(e.reshape(len(e), -1) for e in effects)])
    centre = np.concatenate([fit.fixed.estimate, *(np.asarray(m).ravel() for m in modes)])
    sd = np.sqrt(np.diag(joint))
    assert (np.abs(draws.mean(axis=0) - centre) < 4.5 * sd / np.sqrt(len(draws))).all()
    assert (np.abs(np.cov(draws.T) - joint) < 0.05 * np.outer(sd, sd)).all()


def test_zero_variances_do_no_harm() -> None:
    data = um.load_dataset("sleepstudy")
    fit = um.fit("Reaction ~ Days + (1 | Subject)", data, "pls")
    design = fit.design()
    at = conditional(
        design, fit.rows.linear_predictor, [np.zeros((1, 1))], fit.dispersion_parameters, fit.fixed.covariance
    )
    found = predictor_variance(at, design.x, [design.blocks[0].z], [design.blocks[0].codes])
    np.testing.assert_allclose(found, np.einsum("ni,ij,nj->n", design.x, fit.fixed.covariance, design.x), rtol=1e-10)


def test_half_takes_badly_scaled_and_singular_matrices() -> None:
    root = np.array([[1e6, 0, 0], [2.0, 1e-6, 0], [1e6, 0, 0]])
    cov = root @ root.T
    found = matrix_root(cov)
    size = np.sqrt(np.diag(cov))
    np.testing.assert_allclose((found @ found.T) / np.outer(size, size), cov / np.outer(size, size), atol=1e-9)


CASES = [
    ("hat_sleep", "sleepstudy", "Reaction ~ Days + (Days | Subject)", {}),
    ("hat_penicillin", "penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    ("hat_cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period", {"family": "binomial"}),
]


@pytest.mark.parametrize(("name", "dataset", "formula", "arguments"), CASES)
def test_leverage_is_rs(name: str, dataset: str, formula: str, arguments: dict[str, Any]) -> None:
    """2e-4: lme4's theta is right to about 1e-5, glm's working weights to 1e-6."""
    data = um.load_dataset(dataset)
    fit = um.fit(
        formula, data.assign(period=data["period"].astype(str)) if "period" in data else data, "pls", **arguments
    )
    design = fit.design()
    np.testing.assert_allclose(leverage(conditional_at(fit, design), design), R[name], rtol=2e-4)


def test_generalised_errors_are_those_of_the_dense_information() -> None:
    """With V from the engine, the modes' part by the inverse of the dense penalised information."""
    data = um.load_dataset("cbpp")
    fit = um.fit("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "pls", family="binomial")
    design = fit.design()
    z, x = dense_z(design), design.x
    mu = np.asarray(fit.fitted)
    w = design.trials * mu * (1 - mu)
    inverse = np.linalg.inv(z.T @ (w[:, None] * z) + np.eye(z.shape[1]) / fit.random[0].covariance[0, 0])
    rest = x - z @ inverse @ z.T @ (w[:, None] * x)
    expected = np.einsum("ni,ij,nj->n", z, inverse, z) + np.einsum("ni,ij,nj->n", rest, fit.fixed.covariance, rest)
    found = predictor_variance(conditional_at(fit, design), x, [design.blocks[0].z], [design.blocks[0].codes])
    np.testing.assert_allclose(found, expected, rtol=1e-7)
