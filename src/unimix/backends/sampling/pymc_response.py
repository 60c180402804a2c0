"""The distribution of the response in PyMC, for every family and link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unimix.backends.sampling.draws import observed_response
from unimix.design.arrays import Design


def write_response(design: Design, eta: Any, parameters: Sequence[Any]) -> None:
    """Add the observed variable ``y`` to the model of the context, or a potential if rows have weights.

    Args:
        design: Design that holds the response, weights and trials.
        eta: Linear predictor with offset, shape (n,).
        parameters: Variables of the dispersion parameters, in the family's order.
    """
    import pymc as pm
    import pytensor.tensor as pt

    family = design.family
    gaussian = family.name == "gaussian"
    y = observed_response(design)
    eta = pt.broadcast_to(pt.as_tensor(eta), (design.n,))
    parts = list(parameters)
    weights = None if design.weights is None else pm.Data("weights", design.weights, dims="row")
    if gaussian and weights is not None:
        parts = [parts[0] / pt.sqrt(weights)]
    trials = None if design.trials is None else pm.Data("trials", design.trials.astype(int), dims="row")
    observed = pm.Data("observed", y, dims="row")
    name, given = _distribution(design, eta, parts, trials)
    if weights is None or gaussian:
        getattr(pm, name)("y", **given, observed=observed, dims="row")
        return
    pm.Potential("y", weights * pm.logp(getattr(pm, name).dist(**given), observed), dims="row")


def _distribution(design: Design, eta: Any, p: Sequence[Any], trials: Any) -> tuple[str, dict[str, Any]]:
    family = design.family
    if family.name == "binomial" and family.link == "logit":
        return "Binomial", {"n": trials, "logit_p": eta}
    mu = mean_of(family.link, eta)
    match family.label:
        case "gaussian":
            return "Normal", {"mu": mu, "sigma": p[0]}
        case "binomial":
            return "Binomial", {"n": trials, "p": mu}
        case "poisson":
            return "Poisson", {"mu": mu}
        case "gamma":
            return "Gamma", {"alpha": 1 / p[0], "beta": 1 / (p[0] * mu)}
        case "inverse_gaussian":
            return "Wald", {"mu": mu, "lam": 1 / p[0]}
        case "negative_binomial":
            return "NegativeBinomial", {"mu": mu, "alpha": p[0]}
        case "negative_binomial_1":
            return "NegativeBinomial", {"mu": mu, "alpha": mu / p[0]}
        case "beta_binomial":
            return "BetaBinomial", {"n": trials, "alpha": mu * p[0], "beta": (1 - mu) * p[0]}
        case "lognormal":
            return "LogNormal", {"mu": eta - p[0] ** 2 / 2, "sigma": p[0]}
        case "exponential":
            return "Exponential", {"lam": 1 / mu}
        case "beta":
            return "Beta", {"alpha": mu * p[0], "beta": (1 - mu) * p[0]}
        case _:
            return "StudentT", {"nu": p[1], "mu": mu, "sigma": p[0]}


def mean_of(link: str, eta: Any) -> Any:
    """Mean mu = g^-1(eta) as a PyTensor expression."""
    import pymc as pm
    import pytensor.tensor as pt

    match link:
        case "identity":
            return eta
        case "log":
            return pt.exp(eta)
        case "logit":
            return pm.math.invlogit(eta)
        case "probit":
            return pm.math.invprobit(eta)
        case "cloglog":
            return -pt.expm1(-pt.exp(eta))
        case "cauchit":
            return 0.5 + pt.arctan(eta) / np.pi
        case "sqrt":
            return pt.sqr(pt.switch(eta > 0, eta, np.nan))
        case "inverse":
            return 1 / eta
        case _:
            return pt.switch(eta > 0, eta, np.nan) ** -0.5
