"""Weakly informative default priors, scaled by the data.

The unit of the linear predictor is 1 for the log link and the links of probabilities; for the identity, square root and
inverse links it is the change that corresponds to one standard deviation of the response. The intercept, at the mean
of the predictors, has the prior Normal(link of the mean response, 2.5 units), and slopes have Normal(0, 2.5 units per
standard deviation of x). Standard deviations of group effects have HalfStudentT(4, 2.5 units per column scale), or one
unit for the identity link. The scaling follows Gelman, Jakulin, Pittau & Su (2008), Ann. Appl. Stat. 2:1360-1383.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.family import RANGES
from unimix.distributions.links import LINKS
from unimix.distributions.priors import Gamma, HalfStudentT, LogNormal, Prior, Uniform

FloatArray = npt.NDArray[np.float64]
WIDE = 2.5
POWERS = {"gamma": 2.0, "inverse_gaussian": 3.0, "tweedie": 1.5, "generalised_poisson": 1.0}
"""Power of the mean to which the variance is proportional; that of a Tweedie model lies between 1 and 2."""


@dataclass(frozen=True)
class Predictor:
    """Location and scale of the linear predictor.

    Attributes:
        centre: Linear predictor at the mean response, without offset.
        unit: Size of an ordinary change of the linear predictor.
        effect: Scale of the prior of a group effect's standard deviation.
        size: Root mean square of the linear predictor about zero.
    """

    centre: float
    unit: float
    effect: float
    size: float


def predictor_scale(design: Design) -> Predictor:
    """Centre and unit of the linear predictor.

    Args:
        design: Design in the user's columns, with the offset of a linear model subtracted from the response.
    """
    if design.is_linear:
        unit = spread(design.y)
        return Predictor(float(design.y.mean()), unit, unit, float(np.sqrt(np.mean(design.y**2))) or 1.0)
    link = LINKS[design.family.link]
    centre = link.forward(np.array([mean_response(design)]))
    unit = 1.0
    if design.family.link in ("identity", "sqrt", "inverse", "inverse_squared"):
        unit = spread(design.y) / abs(float(link.slope(centre)[0]))
    shift = 0.0 if design.offset is None else float(design.offset.mean())
    start = float(centre[0]) - shift
    effect = unit if design.family.link == "identity" else WIDE * unit
    return Predictor(start, unit, effect, float(np.hypot(start, unit)))


def mean_response(design: Design) -> float:
    """Mean of the response, moved into the range of the link if necessary."""
    y = design.y
    if design.trials is not None:
        return float(((y * design.trials).sum() + 0.5) / (design.trials.sum() + 1.0))
    if design.family.response in ("count", "positive_count"):
        return float((y.sum() + 0.5) / len(y))
    mean = float(y.mean())
    return mean if design.family.link == "identity" else max(mean, 0.1 * float(np.sqrt(np.mean(y**2))))


def dispersion_priors(design: Design) -> tuple[Prior, ...]:
    """Default prior of each dispersion parameter of the family, in order."""
    return tuple(_dispersion(design, name) for name in design.family.parameters)


def _dispersion(design: Design, name: str) -> Prior:
    variance = spread(design.y) ** 2
    if name == "sigma" and design.family.name == "lognormal":
        return HalfStudentT(4, spread(np.log(design.y)))
    if name == "sigma":
        weight = 1.0 if design.weights is None else float(design.weights.mean())
        return HalfStudentT(4, float(np.sqrt(variance * weight)))
    mean = mean_response(design)
    match name:
        case "nu":
            return Gamma(2, 0.1)
        case "theta":
            return LogNormal(1, 2)
        case "precision":
            return LogNormal(3, 2)
        case "power" | "skewness":
            return Uniform(*RANGES[name])
        case "alpha":
            return HalfStudentT(4, WIDE * max(1.0, variance / mean - 1.0))
        case _:
            return HalfStudentT(4, WIDE * variance / mean ** POWERS[design.family.name])


def spread(y: FloatArray) -> float:
    """Standard deviation; 1 for a constant."""
    found = float(np.std(y, ddof=1)) if len(y) > 1 else 0.0
    return found if found > 0 else 1.0
