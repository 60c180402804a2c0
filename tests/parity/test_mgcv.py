"""Smooths ``s(x)`` against R's mgcv, on data of R itself.

Linear models agree in everything: the ML criterion to rounding, the REML criterion up to a constant that does not
depend on the response (the columns of the straight line have other units), curve, standard errors and effective degrees
of freedom. mgcv's ML and REML of generalised models are other criteria than Laplace's approximation of glmer and pls:
the fixed effects are those that maximise the joint density with the curve, or are integrated out too. They are compared
with mgcv's own definition of ML, written down here.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, gammaln

import unimix as um
from unimix.design.smooths import mixed_design

pytestmark = pytest.mark.r

LINEAR: dict[str, tuple[str, str, str, str, int]] = {
    "motorcycle": ("mcycle", "accel ~ s(times, k=20)", "accel ~ s(times, k = 20)", "times", 1),
    "motorcycle, cr": ("mcycle", "accel ~ s(times, bs='cr')", "accel ~ s(times, bs = 'cr')", "times", 1),
    "motorcycle, ps": ("mcycle", "accel ~ s(times, k=15, bs='ps')", "accel ~ s(times, k = 15, bs = 'ps')", "times", 1),
    "cars, two smooths": ("mtcars", "mpg ~ s(wt, k=6) + s(hp, k=6)", "mpg ~ s(wt, k = 6) + s(hp, k = 6)", "wt", 2),
    "air, a factor": ("air", "Ozone ~ month + s(Temp)", "Ozone ~ month + s(Temp)", "Temp", 1),
    "air, random intercepts": ("air", "Ozone ~ s(Temp) + (1 | month)", "Ozone ~ s(Temp) + s(month, bs = 're')",
                               "Temp", 1),
    "a straight line": ("line", "y ~ s(x)", "y ~ s(x)", "x", 1),
}  # fmt: skip
SCRIPT = """
suppressMessages(library(mgcv))
data(mcycle, package = "MASS")
air <- na.omit(airquality); air$month <- factor(paste0("m", air$Month))
line <- data.frame(x = (1:60) / 7); line$y <- 2 + 3 * line$x + rep(c(0.2, -0.2, -0.2, 0.2), 15)
set.seed(1)
numbers <- function(v) paste0("[", paste(format(as.numeric(v), digits = 17, trim = TRUE), collapse = ","), "]")
column <- function(v) if (is.numeric(v)) numbers(v) else paste0('["', paste(v, collapse = '","'), '"]')
tell <- function(data, formula, x, n) {
  grid <- data[rep(1, 9), ]
  grid[[x]] <- seq(min(data[[x]]) - 1, max(data[[x]]) + 1, length.out = 9)
  response <- all.vars(formula)[1]
  fits <- list()
  for (m in c("REML", "ML")) for (shift in 0:1) {
    d <- data
    if (shift) d[[response]] <- rev(d[[response]])
    g <- gam(formula, data = d, method = m, control = list(epsilon = 1e-12, newton = list(conv.tol = 1e-11)))
    left <- if (length(g$smooth) > n) g$smooth[[length(g$smooth)]]$label else NULL
    p <- predict(g, grid, se.fit = TRUE, exclude = left)
    own <- vapply(g$smooth[1:n], function(s) sum(g$edf[s$first.para:s$last.para]), 0)
    fits[[length(fits) + 1]] <- paste0('{"value":', numbers(-g$gcv.ubre), ',"edf":', numbers(own), ',"fit":',
      numbers(p$fit), ',"se":', numbers(p$se.fit), ',"sigma":', numbers(sqrt(g$sig2)), "}")
  }
  columns <- paste0('"', names(data), '":', vapply(data, column, ""), collapse = ",")
  others <- paste0('"', names(grid), '":', vapply(grid, column, ""), collapse = ",")
  paste0('{"data":{', columns, '},"grid":{', others, '},"fits":[', paste(fits, collapse = ","), "]}")
}
"""
BINOMIAL = """
d <- subset(mtcars, select = c(am, wt, carb, hp))
generalised <- function(formula, family) {
  g <- gam(formula, data = d, family = family, method = "ML",
           control = list(epsilon = 1e-13, newton = list(conv.tol = 1e-11)))
  paste0('{"value":', numbers(-g$gcv.ubre), ',"edf":', numbers(sum(g$edf) - 1), ',"eta":', numbers(predict(g)), "}")
}
columns <- paste0('"', names(d), '":', vapply(d, column, ""), collapse = ",")
cat('{"data":{', columns, '},"am":', generalised(am ~ s(wt, k = 5), binomial), ',"carb":',
    generalised(carb ~ s(hp, k = 5), poisson), "}", sep = "")
"""


def _run(script: str) -> Any:
    done = subprocess.run(["Rscript", "-"], input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def mgcv() -> dict[str, Any]:
    calls = [f'"{name}": \', tell({data}, {r}, "{x}", {n}), \'' for name, (data, _, r, x, n) in LINEAR.items()]
    return dict(_run(SCRIPT + "cat('{" + ", ".join(calls) + "}', sep = '')"))


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_are_those_of_gam(mgcv: dict[str, Any], name: str) -> None:
    _, formula, _, _, _ = LINEAR[name]
    known, data = mgcv[name], pd.DataFrame(mgcv[name]["data"])
    grid, response = pd.DataFrame(known["grid"]), formula.split(" ~ ")[0]
    apart = []
    for method, turned, wanted in zip(["REML", "REML", "ML", "ML"], [0, 1, 0, 1], known["fits"], strict=True):
        own = data.assign(**{response: data[response].to_numpy()[::-1]}) if turned else data
        fit = um.fit(formula, own, method=method)
        apart.append(fit.log_likelihood - wanted["value"][0])
        # mgcv stops its search at a relative change of 1e-11 of its criterion, in logarithms of the penalties
        np.testing.assert_allclose([s.edf for s in fit.smooths], wanted["edf"], atol=1e-3)
        shown = fit.predict(grid, level="population", interval="confidence").table
        error = np.array(wanted["se"])
        assert np.abs((shown["estimate"] - wanted["fit"]) / error).max() < 1e-4
        if method == "REML":  # under ML mgcv's residual variance is not that of the criterion
            np.testing.assert_allclose(shown["std_error"], error, rtol=1e-4)
            assert fit.sigma == pytest.approx(wanted["sigma"][0], rel=1e-5)
        assert fit.certificate().verdict in ("certified", "certified at the boundary")
    assert apart[0] == pytest.approx(apart[1], abs=1e-6)  # the constant of REML
    assert np.abs(apart[2:]).max() < 1e-6


@pytest.fixture(scope="module")
def generalised() -> Any:
    return _run(SCRIPT + BINOMIAL)


@pytest.mark.parametrize("name", ["am", "carb"])
def test_generalised_models_have_another_criterion_than_gam(generalised: Any, name: str) -> None:
    known = generalised
    data, wanted = pd.DataFrame(known["data"]), known[name]
    family = "binomial" if name == "am" else "poisson"
    fit = um.fit("am ~ s(wt, k=5)" if name == "am" else "carb ~ s(hp, k=5)", data, family=family)
    design = mixed_design(fit.design())
    both, y, p = np.hstack([design.x, design.blocks[0].z]), design.y, design.p

    def joint_mode(log_sd: float) -> tuple[float, np.ndarray]:
        """mgcv's ML: Laplace's approximation over the curve at the coefficients that maximise the joint density."""
        penalty = np.append(np.zeros(p), np.full(both.shape[1] - p, np.exp(-2 * log_sd)))
        c = np.zeros(both.shape[1])
        for _ in range(100):
            eta = both @ c
            mu = expit(eta) if name == "am" else np.exp(eta)
            w = mu * (1 - mu) if name == "am" else mu
            step = np.linalg.solve(both.T @ (w[:, None] * both) + np.diag(penalty), both.T @ (y - mu) - penalty * c)
            c = c + step
            if np.abs(step).max() < 1e-12:
                break
        rows = y * eta - np.logaddexp(0, eta) if name == "am" else y * eta - mu - gammaln(y + 1)
        z = both[:, p:]
        inside = np.eye(z.shape[1]) + np.exp(2 * log_sd) * z.T @ (w[:, None] * z)
        return float(rows.sum() - 0.5 * penalty @ c**2 - 0.5 * np.linalg.slogdet(inside)[1]), c

    best = minimize(
        lambda t: -joint_mode(t[0])[0], [0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    value, c = joint_mode(float(best.x[0]))
    assert value == pytest.approx(wanted["value"][0], abs=1e-6)
    spread = np.sqrt(np.diag(fit.fixed.covariance).max())
    assert np.abs(both @ c - np.array(wanted["eta"])).max() < 1e-4 * spread
    # Laplace's approximation at its own maximum is at least as high as at the joint mode, and near it
    assert value - 1e-9 <= fit.log_likelihood <= value + 0.05
    assert fit.smooths[0].edf == pytest.approx(wanted["edf"][0], abs=0.05)
