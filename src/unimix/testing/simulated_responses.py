"""Random responses of families whose own ``draw`` is to be tested: by other constructions of the same distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]


def simulate_response(
    label: str, mu: FloatArray, p: Sequence[float], trials: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw responses of a family by a construction that unimix does not use itself.

    Args:
        label: Label of the family.
        mu: Inverse link of the linear predictor, shape (n,).
        p: Dispersion parameters in the order of the family.
        trials: Numbers of trials, shape (n,), of a beta-binomial response.
        rng: Random number generator.

    Returns:
        Responses, shape (n,); proportions for a beta-binomial family.
    """
    match label:
        case "beta_binomial":
            drawn = stats.betabinom.rvs(trials.astype(np.int64), mu * p[0], (1 - mu) * p[0], random_state=rng) / trials
        case "lognormal":
            drawn = rng.lognormal(np.log(mu) - p[0] ** 2 / 2, p[0])
        case "exponential":
            drawn = -mu * np.log1p(-rng.random(len(mu)))
        case "skew_normal":
            drawn = mu + p[0] * _standard_skewed(p[1], len(mu), rng)
        case "tweedie":
            phi, q = p
            number = rng.poisson(mu ** (2 - q) / (phi * (2 - q)))
            shape, scale = (2 - q) / (q - 1), phi * (q - 1) * mu ** (q - 1)
            drawn = np.array([rng.gamma(shape, s, k).sum() for s, k in zip(scale, number, strict=True)])
        case "generalised_poisson":
            drawn = _progeny(mu / np.sqrt(p[0]), 1 - 1 / np.sqrt(p[0]), rng)
        case "truncated_poisson":
            drawn = _without_zeros(rng.poisson, mu)
        case "truncated_negative_binomial":
            drawn = _without_zeros(lambda m: rng.negative_binomial(p[0], p[0] / (p[0] + m)), mu)
        case _:
            raise ValueError(f"no construction for {label}")
    return np.asarray(drawn, dtype=np.float64)


def _standard_skewed(skewness: float, n: int, rng: np.random.Generator) -> FloatArray:
    """Skew normal variables with mean 0, standard deviation 1 and a given skewness, by SciPy."""
    size = abs(skewness) ** (2 / 3)
    delta = np.sqrt(np.pi / 2 * size / (size + ((4 - np.pi) / 2) ** (2 / 3))) * np.sign(skewness)
    shape = delta / np.sqrt(1 - delta**2)
    made = stats.skewnorm(shape)
    return np.asarray((made.rvs(n, random_state=rng) - made.mean()) / made.std())


def _progeny(ancestors: FloatArray, offspring: float, rng: np.random.Generator) -> FloatArray:
    """Total size of families of a Poisson number of ancestors whose members have Poisson numbers of children each.

    It has a generalised Poisson distribution (Consul & Shoukri 1988, Communications in Statistics 17:1-15).
    """
    generation = rng.poisson(ancestors)
    total = generation.astype(np.float64)
    while generation.any():
        generation = rng.poisson(offspring * generation)
        total += generation
    return np.asarray(total)


def _without_zeros(draw: Callable[[FloatArray], npt.NDArray[np.int64]], mu: FloatArray) -> FloatArray:
    """Draw counts again until none is zero."""
    drawn = draw(mu).astype(np.float64)
    while (zero := drawn == 0).any():
        drawn[zero] = draw(mu[zero])
    return drawn
