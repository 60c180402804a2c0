"""The variances from which R2 and the intraclass correlation are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.draws import coefficient_draws
from unimix.design.arrays import Design, RandomBlock
from unimix.distributions.ordered import refuse_categories
from unimix.errors import UnsupportedModelError
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.criterion import moment_arrays
from unimix.fitted.model import is_sampled
from unimix.likelihood.lmm.null_model import null_model
from unimix.likelihood.lmm.weights import row_copies
from unimix.stats.variance_partition import (
    block_variance,
    fixed_variance,
    intraclass_correlation,
    needs_mean,
    row_variance,
)

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DRAWS = 4000
"""Largest number of posterior draws that are used."""


@dataclass(frozen=True)
class Variances:
    """Variances on the link scale; shape () each, or shape (S,) with one variance per draw of a sampled result.

    Attributes:
        fixed: Variance of X beta, without offset, over the rows used (divisor n - 1).
        random: Variance of each block except observation-level ones, averaged over rows.
        blocks: Labels of these blocks, such as ``Days | Subject``.
        groups: Share of each grouping factor in the variance that the fixed effects leave.
        dispersion: Variance of the observation-level effects of generalised models.
        distribution: Variance of a row about its linear predictor.
        notes: Remarks on the variances.
    """

    fixed: FloatArray
    random: tuple[FloatArray, ...]
    blocks: tuple[str, ...]
    groups: dict[str, FloatArray]
    dispersion: FloatArray
    distribution: FloatArray
    notes: tuple[str, ...]

    @property
    def all_random(self) -> FloatArray:
        """Variance of all blocks together."""
        return np.asarray(sum(self.random, np.zeros_like(self.fixed)))

    @property
    def residual(self) -> FloatArray:
        """Variance of the distribution and of observation-level effects together."""
        return np.asarray(self.distribution + self.dispersion)

    @property
    def total(self) -> FloatArray:
        """Total variance."""
        return np.asarray(self.fixed + self.all_random + self.residual)


def refuse_parts(fit: FittedModel, what: str) -> None:
    """Refuse models with zero inflation or a dispersion formula, and ordered responses.

    Raises:
        UnsupportedModelError: If the model has one of them, or the response is ordered categories.
    """
    refuse_correlated(fit, "A share of variance")
    refuse_categories(fit.family, what)
    if fit.parts:
        names = {"zero": "zero inflation (ziformula=)", "dispersion": "a dispersion formula (dispformula=)"}
        parts = " and ".join(names[p] for p in fit.parts)
        raise UnsupportedModelError(f"{what} has no accepted definition for a model with {parts}. Fit it without.")


def variances(fit: FittedModel, what: str) -> Variances:
    """Split the variance of a mixed model as in Nakagawa & Schielzeth (2013) and Johnson (2014).

    Prior weights are ignored, unless they count copies of rows. Observation-level effects of a generalised model count
    as dispersion.

    Args:
        fit: The result; the variance of each posterior draw is split if it has draws.
        what: Name of the requested quantity, for messages.

    Raises:
        UnsupportedModelError: If the family has no accepted variance on the scale of its link.
    """
    refuse_parts(fit, what)
    if fit.model.sigma is not None and fit.model.weighted:
        raise UnsupportedModelError(
            f"{what} needs one residual variance, and the known variances sigma^2 / weight differ between rows. "
            "fit.heterogeneity() has I2, the share of the heterogeneity in the variance of a typical row."
        )
    design = moment_arrays(fit)
    beta, covariances, parameters = _values(fit)
    notes, copies = list[str](), row_copies(fit.family, design.weights)
    if fit.n_obs != design.n:  # a few rows with the moments of all
        copies = np.full(design.n, fit.n_obs / design.n)
    distribution = _distribution(fit, design, parameters, what, notes)
    extra = [b.n_levels == design.n and not fit.family.is_linear for b in design.blocks]
    dispersion = np.zeros(beta.shape[:-1])
    kept: list[tuple[RandomBlock, FloatArray]] = []
    # a level of a relationship matrix has the variance A_ll Sigma
    blocks_of_rows = [replace(b, z=b.z * np.sqrt(b.own_variances)[b.codes, None]) for b in design.blocks]
    for block, covariance, counted_apart in zip(blocks_of_rows, covariances, extra, strict=True):
        if counted_apart:
            dispersion = dispersion + block_variance(block.z, covariance, copies)
            notes.append(f"{block.group} has one level per row: its variance counts as dispersion.")
        else:
            kept.append((block, covariance))
    if fit.status.state == "singular":
        notes.append("The fit is singular: a variance that is estimated as zero is counted as zero.")
    if fit.model.weighted and row_copies(fit.family, design.weights) is None:
        notes.append("Prior weights are ignored: sigma is the residual SD of a row with weight 1.")
    fixed = fixed_variance(design.x, beta, copies)
    if fit.fixed.unbounded.size:
        fixed = np.full_like(fixed, np.nan)
        notes.append("Separation: estimates tend to infinity, and with them the variance of the fixed part.")
    blocks, covs = [b for b, _ in kept], [c for _, c in kept]
    return Variances(
        fixed=fixed,
        random=tuple(block_variance(b.z, c, copies) for b, c in kept),
        blocks=tuple(_label(b) for b in blocks),
        groups=intraclass_correlation(blocks, covs, distribution + dispersion, copies),
        dispersion=dispersion,
        distribution=distribution,
        notes=tuple(notes),
    )


def _label(block: RandomBlock) -> str:
    terms = block.terms if block.q <= 3 else (block.terms[0], "...", block.terms[-1])
    return f"{' + '.join(terms)} | {block.group}"


def _values(fit: FittedModel) -> tuple[FloatArray, list[FloatArray], FloatArray]:
    """Fixed effects, covariances and dispersion parameters: estimates, or draws along the first axis."""
    if is_sampled(fit):
        draws = coefficient_draws(fit, DRAWS)
        return draws.beta, [np.asarray(c) for c in draws.covariances], draws.parameters
    return np.asarray(fit.fixed.estimate), [np.asarray(b.covariance) for b in fit.random], fit.dispersion_parameters


def _distribution(fit: FittedModel, design: Design, parameters: FloatArray, what: str, notes: list[str]) -> FloatArray:
    family, mean = fit.family, float("nan")
    if needs_mean(family):
        mean = null_model(design).mean
        notes.append(
            f"The variance of the distribution is computed at the mean of the model without predictors, {mean:.4g}."
        )
        if mean < 5 and family.response == "count":
            notes.append("This approximation holds for means that are not small.")
    if family.response in ("positive", "unit") and family.name != "lognormal":
        notes.append("The variance of the distribution is computed by the delta method.")
    variance = row_variance(family, parameters, mean)
    if not np.isfinite(variance).all():
        if family.name == "student_t" and family.link == "identity":
            raise UnsupportedModelError(
                f"{what} needs the variance of the residuals, which is infinite with nu of 2 or less"
                f"{' (as in some draws)' if variance.ndim else ''}."
            )
        raise UnsupportedModelError(
            f"{what} has no accepted definition for the {family.name} family with the {family.link} link: the variance "
            "of a row about its linear predictor has no agreed value there."
        )
    return variance


__all__ = ["DRAWS", "Variances", "is_sampled", "refuse_parts", "variances"]
