"""Rough estimates of a model, from which PyMC's chains start and the parametrisation of group effects is chosen.

The estimates are those of a linear mixed model, by restricted maximum likelihood. For other families it is that of the
working response of one step of iterated weighted least squares (McCullagh & Nelder 1989, section 2.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.defaults import predictor_scale
from unimix.backends.sampling.pymc_model import Recipe, dispersion_variables, fixed_variables, is_joint
from unimix.design.arrays import Design
from unimix.distributions.family import Gaussian
from unimix.distributions.priors import Gamma, InverseGamma, LogNormal, Prior, Uniform
from unimix.likelihood.glmm.glm import fisher_scoring, moderate_dispersion
from unimix.likelihood.lmm.conditioning import without_offset
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.reduced_data import n_dense_effects
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]

INFORMED = 0.8
"""Share of a level's variance that its own rows explain above which its effects are centred."""
MOST_DENSE = 1000
"""Largest number of connected effects of crossed factors for which variances are estimated before sampling."""
LEAST = 0.1
"""Smallest variance of effects from which chains start, in variances of the mean of a level."""


@dataclass(frozen=True)
class RoughEstimates:
    """Estimates in the user's units.

    Attributes:
        beta: Fixed effects, shape (p,).
        errors: Their standard errors, shape (p,).
        covariances: Covariance matrix of each block's effects, shapes (q, q), not singular.
        effects: Group effects of each block, shapes (L, q).
        sigma: Residual standard deviation of the (working) linear model.
        informed: For each block, the median over levels of 1 - (posterior / prior variance), of the least known term.
    """

    beta: FloatArray
    errors: FloatArray
    covariances: tuple[FloatArray, ...]
    effects: tuple[FloatArray, ...]
    sigma: float
    informed: tuple[float, ...]

    @property
    def centered(self) -> tuple[bool, ...]:
        """For each block, whether centred effects are sampled better.

        Where the data say much about a level, its effect hardly depends on the standard deviation of the effects, but
        the standardised effect does; where they say little it is the other way round (Papaspiliopoulos, Roberts &
        Skoeld 2007, Stat. Sci. 22:59-73; Betancourt & Girolami 2015, arXiv:1312.0906).
        """
        return tuple(share > INFORMED for share in self.informed)


def rough_estimates(design: Design) -> RoughEstimates:
    """Estimate all parameters, quickly.

    Args:
        design: Design in the user's columns, with its offset.
    """
    linear = without_offset(design) if design.is_linear else _working_model(design)
    if not linear.blocks or n_dense_effects(linear) > MOST_DENSE:
        return _without_variances(design, linear)
    criterion = LinearCriterion.of(linear)
    found = criterion.search(reml=True, thorough=False)
    at = criterion.at_optimum(found, reml=True)
    covariances, sigma = criterion.covariances(found.factors, found.profile.sigma)
    modes, errors = criterion.effects(at)
    # the variance of a level's mean, roughly: a smaller variance of the effects is not told from zero
    least = [LEAST * sigma**2 * b.n_levels / linear.n / np.mean(b.z**2, axis=0) for b in linear.blocks]
    kept = tuple(_regular(c, low) for c, low in zip(covariances, least, strict=True))
    informed = tuple(_informed(c, e, low) for c, e, low in zip(covariances, errors, least, strict=True))
    beta_errors = np.sqrt(np.diag(criterion.beta_cov(at)))
    return RoughEstimates(criterion.beta(at), beta_errors, kept, modes, sigma, informed)


def _without_variances(design: Design, linear: Design) -> RoughEstimates:
    """Estimates by weighted least squares, with moderate variances of group effects."""
    root = np.ones(linear.n) if linear.weights is None else np.sqrt(linear.weights)
    scale = np.sqrt(np.mean((root[:, None] * linear.x) ** 2, axis=0))
    columns = root[:, None] * linear.x / scale
    beta, *_ = np.linalg.lstsq(columns, root * linear.y)
    off = root * linear.y - columns @ beta
    sigma = float(np.sqrt(off @ off / max(linear.n - linear.p, 1))) or 1.0
    errors = sigma * np.sqrt(np.diag(np.linalg.pinv(columns.T @ columns))) / scale
    unit = predictor_scale(without_offset(design) if design.is_linear else design).effect
    moderate = [(0.1 * unit) ** 2 / np.mean(b.z**2, axis=0) for b in linear.blocks]
    covariances = tuple(np.diag(v) for v in moderate)
    effects = tuple(np.zeros((b.n_levels, b.q)) for b in linear.blocks)
    return RoughEstimates(beta / scale, errors, covariances, effects, sigma, (0.0,) * len(linear.blocks))


def _regular(covariance: FloatArray, least: FloatArray) -> FloatArray:
    """A covariance matrix with variances of at least ``least``, shape (q,), and without perfect correlations."""
    sd = np.sqrt(np.maximum(np.diag(covariance), least))
    off = np.clip(0.9 * covariance / np.outer(sd, sd), -0.9, 0.9)
    return np.asarray(np.where(np.eye(len(sd), dtype=bool), 1.0, off) * np.outer(sd, sd))


def _informed(covariance: FloatArray, errors: FloatArray, least: FloatArray) -> float:
    """Share of the variance of a level's effects that its rows explain: median over levels, least known term.

    Args:
        covariance: Covariance matrix of the effects, shape (q, q).
        errors: Conditional covariances of the levels' effects, shape (L, q, q).
        least: Smallest variances that are told from zero, shape (q,); below, nothing is known.
    """
    variances = np.diag(covariance)
    if (variances <= least).any():
        return 0.0
    return float(np.median(1 - np.diagonal(errors, axis1=1, axis2=2) / variances, axis=0).min())


def _working_model(design: Design) -> Design:
    """The linear model of the working response, with the weights of the rows as precisions."""
    beta = fisher_scoring(design)
    offset = np.zeros(design.n) if design.offset is None else design.offset
    eta = design.x @ beta + offset
    rows = row_log_likelihood(design, moderate_dispersion(design), eta)
    weights = np.where(np.isfinite(rows.expected), np.maximum(rows.expected, 1e-8), 1e-8)
    step = np.where(np.isfinite(rows.score), rows.score, 0.0) / weights
    return replace(
        design, y=eta - offset + step, weights=weights, offset=None, trials=None, family=Gaussian(), zero=None
    )


@dataclass(frozen=True)
class StartingPoint:
    """A point in the sampler's unconstrained coordinates, by name of the variable, and a scale to scatter chains."""

    values: dict[str, FloatArray]
    scales: dict[str, FloatArray]

    def in_order(self, names: Sequence[str]) -> StartingPoint:
        """Return a copy with the variables in the order of ``names``."""
        return StartingPoint({n: self.values[n] for n in names}, {n: self.scales[n] for n in names})

    def scattered(self, rng: np.random.Generator) -> dict[str, FloatArray]:
        """One chain's start: uniform within the scale of the point, in each coordinate."""
        return {n: v + self.scales[n] * rng.uniform(-1, 1, v.shape) for n, v in self.values.items()}


def starting_point(recipe: Recipe, rough: RoughEstimates) -> StartingPoint:
    """Start of the chains of a model.

    Args:
        recipe: The model.
        rough: Its estimates.
    """
    design, table = recipe.design, recipe.table
    values: dict[str, FloatArray] = {}
    scales: dict[str, FloatArray] = {}

    def put(name: str, value: object, scale: object) -> None:
        values[name] = np.asarray(value, dtype=np.float64)
        scales[name] = np.broadcast_to(np.asarray(scale, dtype=np.float64), values[name].shape)

    beta = recipe.functionals @ rough.beta
    for name, value, error, prior in zip(fixed_variables(recipe), beta, rough.errors, table.fixed, strict=True):
        put(name, *_with_prior(value, error, prior))
    for k, (block, label) in enumerate(zip(design.blocks, recipe.labels, strict=True)):
        covariance, sds = rough.covariances[k], table.sds[k]
        sd, factor = np.sqrt(np.diag(covariance)), np.linalg.cholesky(covariance)
        if block.q == 1:
            put(f"sd({label})", [_unbounded(sds[0], sd[0])], 0.5)
        elif is_joint(sds):
            low = np.tril_indices(block.q)
            diagonal = low[0] == low[1]
            packed = factor[low]
            put(
                f"covariance({label})",
                np.where(diagonal, np.log(np.abs(packed)), packed),
                np.where(diagonal, 0.5, 0.3 * sd[low[0]]),
            )
        else:
            for term, prior, value in zip(block.terms, sds, sd, strict=True):
                put(f"sd({label}: {term})", _unbounded(prior, value), 0.5)
            put(f"correlations({label})", np.zeros(block.q * (block.q - 1) // 2), 0.5)
        standardised = np.linalg.solve(factor, rough.effects[k].T).T
        if not recipe.centered[k]:
            put(f"standardised({label})", standardised, 0.5)
            continue
        means = np.array([0.0 if i is None else rough.beta[i] for i in recipe.around[k]])
        plain = all(i is None for i in recipe.around[k])
        put(f"effects({label})" if plain else f"coefficients({label})", rough.effects[k] + means, 0.3 * sd)
    for name, prior in zip(dispersion_variables(design), table.dispersion, strict=True):
        value = rough.sigma if name == "sigma" else _middle(prior)
        put(name, _unbounded(prior, value), 0.3)
    return StartingPoint(values, scales)


def _with_prior(estimate: float, error: float, prior: Prior) -> tuple[float, float]:
    """Mean and standard deviation of a coefficient given its estimate and its prior, both taken as normal.

    Where the data do not bound an estimate, as with separation, the prior does.
    """
    mu, sigma = getattr(prior, "mu", None), getattr(prior, "sigma", None)
    if mu is None or sigma is None or not np.isfinite(error) or error <= 0:
        return estimate, error
    # the precision is 1 / error^2 + 1 / sigma^2, and the mean is weighted by precisions
    share = error**2 / (error**2 + sigma**2)
    return float(estimate + share * (mu - estimate)), float(error * np.sqrt(1 - share))


def _unbounded(prior: Prior, value: float) -> float:
    """A positive parameter on the sampler's scale: its logarithm, or the logit between the ends of a uniform prior."""
    if not isinstance(prior, Uniform):
        return float(np.log(value))
    share = np.clip((value - prior.lower) / (prior.upper - prior.lower), 0.05, 0.95)
    return float(np.log(share) - np.log1p(-share))


def _middle(prior: Prior) -> float:
    """Typical value under the prior of a dispersion parameter."""
    for name in ("sigma", "beta"):
        if type(prior).__name__.startswith("Half") and hasattr(prior, name):
            return 0.5 * float(getattr(prior, name))
    match prior:
        case LogNormal():
            return float(np.exp(prior.mu))
        case Uniform():
            return 0.5 * (prior.lower + prior.upper)
        case Gamma():
            return prior.alpha / prior.beta
        case InverseGamma():
            return prior.beta / (prior.alpha + 1)
        case _:
            return 1.0 / float(getattr(prior, "lam", 1.0))
