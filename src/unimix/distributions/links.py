"""Link functions and their derivatives: eta = g(mu)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_LARGE = 500.0
_TINY = 1e-300
_ROOT_2PI = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Link:
    """A link function g with eta = g(mu).

    Attributes:
        forward: The link, eta as a function of mu.
        inverse: The inverse link, mu as a function of eta.
        slope: First derivative d mu / d eta as a function of eta.
        curvature: Second derivative d^2 mu / d eta^2 as a function of eta.
        positive: Whether eta must be positive for mu to exist.
    """

    forward: Function
    inverse: Function
    slope: Function
    curvature: Function
    positive: bool = False


def _exp(eta: FloatArray) -> FloatArray:
    return np.asarray(np.exp(np.clip(eta, -_LARGE, _LARGE)))


def _normal(eta: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * eta * eta) / _ROOT_2PI)


def _logit_slope(eta: FloatArray) -> FloatArray:
    mu = special.expit(eta)
    return np.asarray(mu * special.expit(-eta))


def _cloglog_slope(eta: FloatArray) -> FloatArray:
    return np.asarray(np.exp(np.clip(eta, -_LARGE, 50.0) - _exp(np.minimum(eta, 50.0))))


def _cauchit(eta: FloatArray) -> FloatArray:
    # 1/2 + atan(eta)/pi without cancellation in the lower tail
    return np.asarray(np.where(eta < -1, np.arctan(-1 / np.minimum(eta, -1.0)) / np.pi, 0.5 + np.arctan(eta) / np.pi))


LINKS: dict[str, Link] = {
    "identity": Link(lambda m: m, lambda e: e, np.ones_like, np.zeros_like),
    "log": Link(np.log, _exp, _exp, _exp),
    "sqrt": Link(np.sqrt, np.square, lambda e: 2.0 * e, lambda e: np.full_like(e, 2.0), positive=True),
    "inverse": Link(
        lambda m: 1.0 / m, lambda e: 1.0 / e, lambda e: -1.0 / (e * e), lambda e: 2.0 / e**3, positive=True
    ),
    "inverse_squared": Link(
        lambda m: 1.0 / (m * m), lambda e: e**-0.5, lambda e: -0.5 * e**-1.5, lambda e: 0.75 * e**-2.5, positive=True
    ),
    "logit": Link(
        special.logit, special.expit, _logit_slope, lambda e: _logit_slope(e) * (special.expit(-e) - special.expit(e))
    ),
    "probit": Link(special.ndtri, special.ndtr, _normal, lambda e: -e * _normal(e)),
    "cloglog": Link(
        lambda m: np.log(-np.log1p(-m)),
        lambda e: -np.expm1(-_exp(e)),
        _cloglog_slope,
        lambda e: _cloglog_slope(e) * (1.0 - _exp(np.minimum(e, 50.0))),
    ),
    "loglog": Link(
        lambda m: -np.log(-np.log(m)),
        lambda e: np.exp(-_exp(-e)),
        lambda e: _cloglog_slope(-e),
        lambda e: -_cloglog_slope(-e) * (1.0 - _exp(np.minimum(-e, 50.0))),
    ),
    "cauchit": Link(
        lambda m: np.tan(np.pi * (m - 0.5)),
        _cauchit,
        lambda e: 1.0 / (np.pi * (1.0 + e * e)),
        lambda e: -2.0 * e / (np.pi * (1.0 + e * e) ** 2),
    ),
}


def log_complement(link: str, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log mu and log(1 - mu) for a link onto (0, 1), accurate in both tails.

    Args:
        link: Name of the link: logit, probit, cloglog, loglog or cauchit.
        eta: Linear predictor, any shape.
    """
    if link == "logit":
        return special.log_expit(eta), special.log_expit(-eta)
    if link == "probit":
        return special.log_ndtr(eta), special.log_ndtr(-eta)
    if link == "cloglog":
        hazard = _exp(eta)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(-np.expm1(-hazard), _TINY)), -hazard
    if link == "loglog":
        return log_complement("cloglog", -eta)[::-1]
    return np.log(np.maximum(_cauchit(eta), _TINY)), np.log(np.maximum(_cauchit(-eta), _TINY))


def log_slope(link: str, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log (d mu / d eta), and the ratio of the second to the first derivative, for a link onto (0, 1).

    Args:
        link: Name of the link: logit, probit, cloglog, loglog or cauchit.
        eta: Linear predictor, any shape.
    """
    if link == "logit":
        up, down = special.log_expit(eta), special.log_expit(-eta)
        return up + down, np.exp(down) - np.exp(up)
    if link == "probit":
        return -0.5 * eta * eta - np.log(_ROOT_2PI), -eta
    if link == "cloglog":
        hazard = _exp(eta)
        return eta - hazard, 1.0 - hazard
    if link == "loglog":
        logs, bend = log_slope("cloglog", -eta)
        return logs, -bend
    square = 1.0 + eta * eta
    return -np.log(np.pi * square), -2.0 * eta / square
