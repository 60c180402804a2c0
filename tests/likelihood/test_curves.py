"""Smooths ``s(x)`` against smoothing splines, dense matrices, and the likelihood written down plainly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import make_smoothing_spline
from scipy.optimize import minimize
from scipy.special import gammaln

import unimix as um
from unimix.design.smooths import mixed_design
from unimix.fitted.smooth_parts import mixed_form

B_SPLINES = "y ~ bs(x, knots=c(0.2495, 0.5, 0.7505), lower_bound=-0.001, upper_bound=1.001)"


@pytest.fixture(scope="module")
def waves() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n, m = 160, 8
    group, x = np.repeat(np.arange(m), n // m), rng.uniform(0, 10, n)
    effect = 0.4 * rng.normal(size=m)[group]
    arm = rng.choice(["a", "b"], n)
    return pd.DataFrame(
        {
            "x": x,
            "g": [f"g{k}" for k in group],
            "arm": arm,
            "y": np.sin(x) + 0.2 * x + effect + 0.5 * (arm == "b") + 0.5 * rng.normal(size=n),
            "count": rng.poisson(np.exp(0.5 + 0.5 * np.sin(x) + effect)),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )


@pytest.fixture(scope="module")
def linear(waves: pd.DataFrame) -> um.FitResult:
    return um.fit("y ~ arm + s(x) + (1 | g)", waves, weights="w")


def _dense(fit: um.FitResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X of the fixed effects, all columns of the effects, and the number of the block of each."""
    design = mixed_design(fit.design())
    columns, owner = [], []
    for k, block in enumerate(design.blocks):
        one = np.eye(block.n_levels)[block.codes]
        for j in range(block.q):
            columns.append(one * block.z[:, [j]])
            owner += [k] * block.n_levels
    return design.x, np.hstack(columns), np.array(owner)


@pytest.mark.parametrize("bs", ["tp", "cr"])
def test_a_basis_of_all_values_is_the_smoothing_spline(bs: str) -> None:
    """With a function for each value the penalised fit is the natural cubic smoothing spline at the same penalty."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 3, 25))
    y = np.sin(3 * x) + 0.3 * rng.normal(size=25)
    fit = um.fit(f"y ~ s(x, k=25, bs='{bs}')", {"x": x, "y": y})
    # The penalty of the coefficients is that of the curve in other units: int f''^2 = c b'b.
    grid = np.linspace(x[0], x[-1], 40001)
    curve = fit.predict({"x": grid})
    bend = np.gradient(np.gradient(curve, grid), grid)
    b = np.asarray(fit.smooths[0].curve.modes)[0]
    c = float(np.trapezoid(bend[2:-2] ** 2, grid[2:-2]) / (b @ b))
    spline = make_smoothing_spline(x, y, lam=fit.sigma**2 / fit.smooths[0].sd ** 2 / c)
    # the integral of the numerical second derivatives is right to about 1e-4, which moves the curve by less than that
    np.testing.assert_allclose(fit.fitted, spline(x), atol=2e-4)


def test_the_penalty_spaces_are_those_of_their_definitions() -> None:
    """A curve without a penalty is the regression on all columns: natural splines for cr, B-splines for ps."""
    x = np.linspace(0, 1, 50)
    y = np.cos(9 * x)
    for bs, formula in (("cr", "y ~ ns(x, df=6)"), ("ps", B_SPLINES)):
        design = um.fit(f"y ~ s(x, k=7, bs='{bs}')", {"x": x, "y": y}).design()
        plain = um.fit(formula, {"x": x, "y": y}).design().x
        inside = design.x @ np.linalg.lstsq(design.x, plain)[0]
        np.testing.assert_allclose(inside, plain, atol=1e-8)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_the_likelihood_is_that_of_the_dense_model(waves: pd.DataFrame, method: str) -> None:
    fit = um.fit("y ~ arm + s(x) + (1 | g)", waves, weights="w", method=method)
    x, z, owner = _dense(fit)
    y, w = np.asarray(fit.rows.observed), waves["w"].to_numpy()

    def value(logs: np.ndarray) -> float:
        sds, sigma = np.exp(logs[:-1]), np.exp(logs[-1])
        v = (z * sds[owner] ** 2) @ z.T + np.diag(sigma**2 / w)
        solved = np.linalg.solve(v, np.column_stack([x, y]))
        information = x.T @ solved[:, :-1]
        rest = y - x @ np.linalg.solve(information, x.T @ solved[:, -1])
        out = np.linalg.slogdet(v)[1] + rest @ np.linalg.solve(v, rest) + len(y) * np.log(2 * np.pi)
        if method == "REML":
            out += np.linalg.slogdet(information)[1] - x.shape[1] * np.log(2 * np.pi)
        return -0.5 * float(out)

    at = np.log([fit.random[0].sd[0], fit.smooths[0].sd, fit.sigma])
    assert value(at) == pytest.approx(fit.log_likelihood, abs=1e-7)  # rounding of two dense determinants
    best = minimize(lambda t: -value(t), at + 0.2, method="BFGS")
    assert -best.fun <= fit.log_likelihood + 1e-7
    np.testing.assert_allclose(best.x, at, atol=1e-3)  # the differences of BFGS stop at a gradient of 1e-5


def test_covariance_and_edf_are_those_of_the_penalised_equations(linear: um.FitResult, waves: pd.DataFrame) -> None:
    x, z, owner = _dense(linear)
    w = waves["w"].to_numpy() / linear.sigma**2
    sds = np.array([linear.random[0].sd[0], linear.smooths[0].sd])[owner]
    both = np.hstack([x, z])
    penalty = np.diag(np.append(np.zeros(x.shape[1]), sds**-2.0))
    inverse = np.linalg.inv(both.T @ (w[:, None] * both) + penalty)
    names = [*mixed_form(linear).fixed.terms, *[""] * (owner == 0).sum(), *linear.smooths[0].curve.terms]
    own = [names.index(t) for t in linear.fixed.terms]
    np.testing.assert_allclose(linear.fixed.covariance, inverse[np.ix_(own, own)], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(linear.fixed.estimate, (inverse @ both.T @ (w * linear.rows.observed))[own], atol=1e-8)
    influence = inverse @ both.T @ (w[:, None] * both)
    columns = [names.index(t) for t in linear.smooths[0].columns]
    assert linear.smooths[0].edf == pytest.approx(np.diag(influence)[columns].sum(), abs=1e-8)


def test_degrees_of_freedom_of_the_curve_are_those_of_its_variance(linear: um.FitResult, waves: pd.DataFrame) -> None:
    """2 v^2 / var(v) with v and the information from the dense model, differentiated by differences."""
    x, z, owner = _dense(linear)
    y, w = np.asarray(linear.rows.observed), waves["w"].to_numpy()
    both = np.hstack([x, z])
    row = np.zeros(both.shape[1])
    new = linear.model.encoding.transform({"x": [3.0], "arm": ["b"]}, with_groups=False).x[0]
    names = [*mixed_form(linear).fixed.terms, *[""] * (owner == 0).sum(), *linear.smooths[0].curve.terms]
    row[[names.index(t) for t in linear.fixed.terms]] = new

    def parts(variances: np.ndarray) -> tuple[float, float]:
        v = (z * variances[:-1][owner]) @ z.T + np.diag(variances[-1] / w)
        inside = np.linalg.inv(v)
        information = x.T @ inside @ x
        rest = y - x @ np.linalg.solve(information, x.T @ inside @ y)
        reml = -0.5 * (np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1] + rest @ inside @ rest)
        precision = both.T @ ((w / variances[-1])[:, None] * both)
        precision += np.diag(np.append(np.zeros(x.shape[1]), 1 / variances[:-1][owner]))
        return float(reml), float(row @ np.linalg.solve(precision, row))

    at = np.array([linear.random[0].sd[0], linear.smooths[0].sd, linear.sigma]) ** 2
    steps = np.diag(1e-3 * at)
    slope = np.array([(parts(at + d)[1] - parts(at - d)[1]) / (2 * d.max()) for d in steps])
    bend = np.array(
        [
            [
                (parts(at + a + b)[0] - parts(at + a - b)[0] - parts(at - a + b)[0] + parts(at - a - b)[0])
                / (4 * a.max() * b.max())
                for b in steps
            ]
            for a in steps
        ]
    )
    wanted = 2 * parts(at)[1] ** 2 / (slope @ np.linalg.solve(-bend, slope))
    found = linear.emmeans("arm", at={"x": 3.0}).table.set_index("arm")
    # differences of a thousandth of each variance: their error is of the order of 1e-5
    assert found.loc["b", "df"] == pytest.approx(wanted, rel=1e-3)
    assert found.loc["b", "std_error"] ** 2 == pytest.approx(parts(at)[1], rel=1e-8)


def test_generalised_models_have_laplace_s_approximation(waves: pd.DataFrame) -> None:
    fit = um.fit("count ~ s(x) + (1 | g)", waves, family="poisson")
    x, z, owner = _dense(fit)
    y = waves["count"].to_numpy(float)

    def value(free: np.ndarray) -> float:
        sds, beta = np.exp(free[:2])[owner], free[2:]
        u = z * sds
        b = np.zeros(z.shape[1])
        for _ in range(60):
            mu = np.exp(x @ beta + u @ b)
            step = np.linalg.solve(np.eye(len(b)) + u.T @ (mu[:, None] * u), u.T @ (y - mu) - b)
            b = b + step
            if np.abs(step).max() < 1e-13:
                break
        eta = x @ beta + u @ b
        inside = np.eye(len(b)) + u.T @ (np.exp(eta)[:, None] * u)
        return float((y * eta - np.exp(eta) - gammaln(y + 1)).sum() - 0.5 * b @ b - 0.5 * np.linalg.slogdet(inside)[1])

    form = mixed_form(fit)
    at = np.array([*np.log([fit.random[0].sd[0], fit.smooths[0].sd]), *form.fixed.estimate])
    assert value(at) == pytest.approx(fit.log_likelihood, abs=1e-8)
    gradient = [(value(at + d) - value(at - d)) / 2e-5 for d in 1e-5 * np.eye(len(at))]
    np.testing.assert_allclose(gradient, 0, atol=1e-4)  # a search that ends 1e-9 below the maximum
    assert fit.certificate().verdict == "certified"


def test_a_straight_line_has_one_degree_of_freedom() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 1, 80)
    data = {"x": x, "y": 1 + 2 * x + 0.1 * np.where(np.arange(80) % 2, 1.0, -1.0)[np.argsort(np.argsort(x))]}
    fit, line = um.fit("y ~ s(x)", data), um.fit("y ~ x", data)
    assert fit.status.state == "singular"
    assert fit.smooths[0].edf == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(fit.fitted, line.fitted, atol=1e-8)
    assert "s(x) is a straight line" in fit.summary()
    assert fit.certificate().verdict == "certified at the boundary"
    ends = [f.predict({"x": [0.2, 3.0]}, interval="confidence").table for f in (fit, line)]
    np.testing.assert_allclose(ends[0]["std_error"], ends[1]["std_error"], rtol=1e-6)


def test_the_unit_of_the_predictor_changes_nothing(waves: pd.DataFrame) -> None:
    plain = um.fit("y ~ s(x)", waves, method="ML")
    moved = um.fit("y ~ s(x)", waves.assign(x=1e6 + 1e3 * waves["x"]), method="ML")
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)
    assert moved.smooths[0].sd == pytest.approx(plain.smooths[0].sd, rel=1e-6)
    np.testing.assert_allclose(moved.fitted, plain.fitted, atol=1e-7)


def test_two_smooths_are_estimated_together(waves: pd.DataFrame) -> None:
    data = waves.assign(v=np.random.default_rng(2).normal(size=len(waves)))
    fit = um.fit("y ~ s(x) + s(v, k=6, bs='cr')", data)
    x, z, owner = _dense(fit)
    sds = np.array([s.sd for s in fit.smooths])
    v = (z * sds[owner] ** 2) @ z.T + fit.sigma**2 * np.eye(len(data))
    solved = np.linalg.solve(v, np.column_stack([x, fit.rows.observed]))
    beta = np.linalg.solve(x.T @ solved[:, :-1], x.T @ solved[:, -1])
    np.testing.assert_allclose(mixed_form(fit).fixed.estimate, beta, atol=1e-8)
    modes = sds[owner] ** 2 * (z.T @ np.linalg.solve(v, fit.rows.observed - x @ beta))
    np.testing.assert_allclose(np.concatenate([s.curve.modes[0] for s in fit.smooths]), modes, atol=1e-7)
    assert list(fit.smooth_terms.index) == ["s(x)", 's(v, k=6, bs="cr")']
