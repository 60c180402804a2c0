"""Draws of a fitted model's coefficients: posterior draws, or simulated from their estimation error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.design.dispersion_columns import dispersion_columns
from unimix.design.grouping_factors import block_labels
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import draw_response
from unimix.errors import OptionError, UnsupportedModelError
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.criterion import has_modelled_variances
from unimix.fitted.model import is_sampled
from unimix.fitted.sampled import engine_draws, variable_draws
from unimix.likelihood.response import mixed_information
from unimix.parallel.jobs import check_seed
from unimix.stats import predictor
from unimix.stats.correlation_pairs import correlation_matrices
from unimix.stats.joint_error import Conditional, conditional, draw_coefficients, with_zero_inflation

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

MOST_DRAWS = 4000
"""Largest number of draws that a picture or a standard deviation is computed from."""


@dataclass(frozen=True)
class Draws:
    """S draws of the coefficients.

    Attributes:
        beta: Fixed effects, shape (S, p).
        effects: Group effects per block, shapes (S, L, q).
        covariances: Covariance matrix of each block's effects, shapes (S, q, q); constant unless it was sampled.
        parameters: Dispersion parameters of the family, shape (S, k); constant unless they were sampled.
    """

    beta: FloatArray
    effects: tuple[FloatArray, ...]
    covariances: tuple[FloatArray, ...]
    parameters: FloatArray

    def __len__(self) -> int:
        return len(self.beta)

    def __repr__(self) -> str:
        shapes = ", ".join(str(e.shape) for e in self.effects) or "none"
        return f"{len(self)} draws: beta {self.beta.shape}, effects {shapes}, parameters {self.parameters.shape}"


def coefficient_draws(fit: FittedModel, n: int = 1000, *, seed: int | None = None) -> Draws:
    """Joint draws of fixed and group effects and, for a sampler, of covariance and dispersion parameters.

    For a sampler these are its posterior draws, thinned evenly. For other engines they come from the normal
    distribution of the estimation error at the estimated covariance parameters (Henderson 1975, Biometrics
    31:423-447).

    Args:
        n: Number of draws; a sampler gives no more than it has.
        seed: Seed of the random numbers.

    Returns:
        ``.beta``, shape (S, p); ``.effects``, shapes (S, L, q); ``.covariances``, shapes (S, q, q); ``.parameters``,
        shape (S, k).

    Raises:
        OptionError: If ``n`` is not a whole number of at least 1.
        DataError: If the data are needed and the result does not hold them.
        UnsupportedModelError: If the data are separated, so that some estimates tend to infinity.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> draws = fit.draws(1000, seed=1)
        >>> draws
        1000 draws: beta (1000, 2), effects (1000, 18, 1), parameters (1000, 1)
    """
    refuse_correlated(
        fit,
        "Drawing coefficients and group effects",
        "Use fit.bootstrap() for the distribution of the estimates.",
    )
    refuse_categories(fit.family, "A joint draw of coefficients and group effects")
    _check_number(fit, n, 0)
    check_seed(seed)
    if is_sampled(fit):
        return _posterior(fit, int(n))
    if fit.fixed.unbounded.size:
        raise UnsupportedModelError(
            "Separation: some estimates tend to infinity, and there is no distribution of their error to draw from. "
            "fit.simulate() draws responses at the estimates; priors give draws (backend='pymc')."
        )
    design = fit.design()
    at = conditional_at(fit, design)
    rng = np.random.default_rng(seed)
    beta, effects = draw_coefficients(at, fit.fixed.estimate, [b.modes for b in fit.random], int(n), rng)
    covariances = tuple(np.broadcast_to(b.covariance, (n, *b.covariance.shape)) for b in fit.random)
    parameters = dispersion_of(fit)
    return Draws(beta, effects, covariances, np.broadcast_to(parameters, (n, len(parameters))))


def draws_of_both_parts(fit: FittedModel, n: int, *, seed: int | None = None) -> tuple[Draws, FloatArray | None]:
    """Draws of the coefficients, and of those of the zero inflation that belong to each.

    Args:
        fit: The result.
        n: Number of draws.
        seed: Seed of the random numbers.

    Returns:
        The draws, and coefficients of the zero inflation, shape (S, r); None if the model has no zero inflation, if its
        coefficients tend to infinity, or if the result does not hold their covariance with the mean.

    Raises:
        UnsupportedModelError: If the data are separated, so that some estimates tend to infinity.
    """
    part = fit.parts.get("zero")
    alone = part is None or not np.asarray(part.cross_covariance).size or bool(np.asarray(part.unbounded).size)
    if part is None or alone or is_sampled(fit) or fit.fixed.unbounded.size:
        return coefficient_draws(fit, n, seed=seed), None
    parameters, p = dispersion_of(fit), len(fit.fixed.terms)
    both = np.concatenate([np.asarray(fit.fixed.estimate), np.asarray(part.estimate)])
    at, modes = conditional_of_both_parts(fit, fit.design()), [np.asarray(b.modes) for b in fit.random]
    drawn, effects = draw_coefficients(at, both, modes, n, np.random.default_rng(seed))
    covariances = tuple(np.broadcast_to(b.covariance, (n, *b.covariance.shape)) for b in fit.random)
    draws = Draws(drawn[:, :p], effects, covariances, np.broadcast_to(parameters, (n, len(parameters))))
    return draws, drawn[:, p:]


def _check_number(fit: FittedModel, n: int, rows: int) -> None:
    """Refuse a number of draws that is none, or that the free memory does not hold.

    Args:
        fit: The result.
        n: Number of draws asked for.
        rows: Numbers that are made for each draw beside its coefficients.

    Raises:
        OptionError: If ``n`` is not a whole number of at least 1, or too large.
    """
    each = len(fit.fixed.terms) + sum(b.modes.size for b in fit.random) + rows
    # A sampler gives no more than it has.
    fault = count_fault("n", n, 1, "draws") or ("" if is_sampled(fit) else memory_fault("n", n, each, "draws"))
    if fault:
        raise OptionError(fault)


def conditional_at(fit: FittedModel, design: Design) -> Conditional:
    """The joint error of fixed and group effects at a result's estimates."""
    refuse_correlated(
        fit,
        "The joint error of fixed and group effects",
        "Intervals of population means need degrees of freedom: leave df_method='normal' out.",
    )
    zero = fit.rows.zero_probability
    logit = None if zero is None else np.log(zero) - np.log1p(-zero)
    parameters = dispersion_of(fit) if not has_modelled_variances(fit) else np.asarray(fit.rows.dispersion)[None]
    covariances = [b.covariance for b in fit.random]
    return conditional(design, fit.rows.linear_predictor, covariances, parameters, fit.fixed.covariance, logit)


def conditional_of_both_parts(fit: FittedModel, design: Design) -> Conditional:
    """The joint error of fixed effects, group effects and, where there is one, the zero inflation.

    The fixed effects are followed by the coefficients of the zero inflation, if their covariance is known.
    """
    at, part = conditional_at(fit, design), fit.parts.get("zero")
    zero = fit.rows.zero_probability
    if part is None or design.zero is None or zero is None or not np.asarray(part.cross_covariance).size:
        return at
    mixed = mixed_information(design, dispersion_of(fit), fit.rows.linear_predictor, special.logit(zero))
    cross, covariance = np.asarray(part.cross_covariance), np.asarray(part.covariance)
    return with_zero_inflation(at, design.zero.x, mixed, cross, covariance)


def dispersion_of(fit: FittedModel) -> FloatArray:
    """The family's dispersion parameters, shape (k,).

    Raises:
        UnsupportedModelError: If the dispersion has a formula.
    """
    refuse_correlated(
        fit,
        "A predictive distribution",
        "Use fit.simulate() for new responses of the rows that were fitted.",
    )
    if "dispersion" in fit.parts:
        raise UnsupportedModelError(
            "The dispersion of this model has a formula, for which unimix has no predictive distribution yet. Fit it "
            "without dispformula=."
        )
    return fit.dispersion_parameters


def dispersion_of_new(fit: FittedModel, data: Any, complete: npt.NDArray[np.bool_]) -> FloatArray:
    """The family's dispersion parameters of the complete rows of new data, shape (k,), or (1, m) if they differ.

    Raises:
        DataError: If a variable of the formula of the dispersion is absent, or has levels that were not fitted.
        UnsupportedModelError: If the dispersion of a generalised model has a formula.
    """
    if not has_modelled_variances(fit):
        return dispersion_of(fit)
    refuse_correlated(fit, "A predictive distribution")
    columns = dispersion_columns(fit.model.encoding, data)[complete]
    return np.exp(columns @ fit.parts["dispersion"].estimate)[None]


def _posterior(fit: FittedModel, n: int) -> Draws:
    draws = engine_draws(fit).posterior
    total = draws.sizes["chain"] * draws.sizes["draw"]
    picked = np.unique(np.linspace(0, total - 1, min(n, total)).round().astype(np.int64))

    def values(name: str) -> FloatArray:
        return variable_draws(fit, name)[picked]

    effects, covariances = [], []
    for k, (block, label) in enumerate(zip(fit.random, block_labels(fit.random), strict=True)):
        effects.append(effect_draws(fit, k)[picked])
        sd = values(f"sd({label})")
        q = len(block.terms)
        pairs = values(f"cor({label})") if q > 1 else np.empty((len(sd), 0))
        cor = correlation_matrices(pairs, q)
        covariances.append(sd[:, :, None] * sd[:, None, :] * cor)
    names = [name for name in fit.family.parameters if name in draws]
    parameters = np.stack([values(name) for name in names], axis=1) if names else np.empty((len(picked), 0))
    beta = values("fixed") if len(fit.fixed.terms) else np.empty((len(picked), 0))
    return Draws(beta, tuple(effects), tuple(covariances), parameters)


def effect_draws(fit: FittedModel, k: int) -> FloatArray:
    """Posterior draws of the effects of block k, shape (S, L, q).

    Raises:
        UnsupportedModelError: If they were too many to keep.
    """
    name = f"effects({block_labels(fit.random)[k]})"
    if name not in engine_draws(fit).posterior:
        raise UnsupportedModelError(
            f"The draws of the effects of {fit.random[k].group} were too many to keep. Fit with fewer, "
            "options={'draws': 250}."
        )
    return variable_draws(fit, name)


def linear_predictors(design: Design, draws: Draws) -> FloatArray:
    """X beta + Z b + offset of every row under every draw, shape (S, n)."""
    return predictor.linear_predictors(design, draws.beta, draws.effects)


def replicated(fit: FittedModel, n: int = 1000, *, seed: int | None = None) -> FloatArray:
    """Replicated responses of the rows used, given their group effects, shape (n, n_obs).

    Each replication takes one of :meth:`draws` and draws responses from the family's distribution about its means; for
    a binomial family they are proportions.

    Args:
        n: Number of replications; a sampler gives no more than it has draws.
        seed: Seed of the random numbers.

    Returns:
        One replication per row, in the units of the response.

    Raises:
        OptionError: If ``n`` is not a whole number of at least 1.
        DataError: If the data are needed and the result does not hold them.
        UnsupportedModelError: If the dispersion has a formula.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.posterior_predictive(100, seed=1).shape
        (100, 180)
    """
    refuse_categories(fit.family, "posterior_predictive")
    _check_number(fit, n, fit.model.n_obs)
    draws = coefficient_draws(fit, n, seed=seed)
    design = fit.design()
    rng = np.random.default_rng(None if seed is None else [seed, 7])
    share = None if fit.rows.zero_probability is None else 1.0 - fit.rows.zero_probability
    eta = linear_predictors(design, draws)
    return draw_response(design.family, draws.parameters, eta, rng, design.weights, design.trials, share)


__all__ = [
    "MOST_DRAWS",
    "Draws",
    "coefficient_draws",
    "conditional_at",
    "conditional_of_both_parts",
    "dispersion_of",
    "dispersion_of_new",
    "draws_of_both_parts",
    "effect_draws",
    "is_sampled",
    "linear_predictors",
    "replicated",
]
