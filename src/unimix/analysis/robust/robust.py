"""Cluster-robust covariance matrices of a fit's fixed effects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.analysis.robust.clusters import Clusters
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.parameter_scales import from_free, to_free
from unimix.errors import OptionError, UnimixError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated, refuse_smooths
from unimix.likelihood.glmm.gradient import scores_of_laplace
from unimix.likelihood.lmm.conditioning import column_scale, relative_factors
from unimix.stats.cluster_robust import KINDS, Cluster, Kind, Sandwich, of_scores, sandwich
from unimix.stats.inference import wald_interval, wald_test

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel
    from unimix.fitted.schema import FixedPartResult

FloatArray = npt.NDArray[np.float64]

LARGEST_CLUSTER = 5000
"""Largest number of rows of one cluster; its covariance matrix has the square of this number of cells."""
STEP = 1e-4
"""Step of the numerical derivatives of the scores, relative to a parameter's standard error or size."""
OFF = 1e-2
"""Largest distance from the maximum, as twice the gain in log likelihood of one Newton step."""


@dataclass(frozen=True)
class Robust:
    """The fixed part with cluster-robust errors.

    Attributes:
        fixed: The fixed effects with their standard errors, tests, intervals and covariance matrix.
        sandwich: What the degrees of freedom of other functions need; None for a generalised model, which has z tests.
    """

    fixed: FixedPartResult
    sandwich: Sandwich | None


def robust_part(fit: FittedModel, kind: Kind | None, cluster: Any) -> Robust:
    """Compute cluster-robust standard errors; see :meth:`unimix.FitResult.robust`."""
    refuse_smooths(fit, "A cluster-robust covariance matrix")
    refuse_correlated(fit, "A cluster-robust covariance matrix")
    kind = kind or ("CR2" if fit.family.is_linear else "CR1")
    _check(fit, kind)
    clusters = Clusters.of(fit, cluster)
    found: Sandwich | None = None
    if fit.family.is_linear:
        found = _of_linear(fit, fit.design(), clusters, kind)
        covariance = found.covariance
        df: FloatArray | None = found.df(np.eye(len(covariance)))
    else:
        covariance, df = _of_generalised(fit, fit.design(), clusters, kind), None
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    statistic, p_value = wald_test(np.asarray(fit.fixed.estimate), error, df)
    lower, upper = wald_interval(np.asarray(fit.fixed.estimate), error, df, fit.fixed.level)
    changed = {
        "std_error": error,
        "df": np.full(len(error), np.inf) if df is None else df,
        "statistic": statistic,
        "p_value": p_value,
        "lower": lower,
        "upper": upper,
        "covariance": covariance,
        "df_method": "normal" if df is None else "satterthwaite",
        "std_error_kind": f"{kind}, {clusters.text}",
    }
    return Robust(fit.fixed.model_copy(update=changed), found)


def _check(fit: FittedModel, kind: str) -> None:
    faults = []
    if kind not in KINDS:
        faults.append(f"kind={kind!r}: choose {listing(KINDS)}.{did_you_mean(str(kind), KINDS)}")
    elif not fit.family.is_linear and kind not in ("CR0", "CR1"):
        faults.append(
            f"kind={kind!r} is for linear models; {fit.model.reading} is a generalised model: choose 'CR0' or 'CR1'."
        )
    if faults:
        raise OptionError("\n".join(faults))
    if fit.fixed.interval == "credible":
        raise UnimixError(
            "A posterior has no cluster-robust standard errors: it states what the model and its priors imply. Fit by "
            "maximum likelihood, such as backend='pls'."
        )
    if fit.fixed.std_error_kind.startswith("CR"):
        raise UnimixError("These standard errors are robust already: ask the fit itself, fit.robust(...).")
    refuse_categories(fit.family, "robust, whose scores are those of a mean,")
    if fit.parts:
        raise UnsupportedModelError(
            f"There are no cluster-robust standard errors of a model with a part for {' and '.join(fit.parts)}."
        )
    if fit.fixed.unbounded.size:
        raise UnsupportedModelError("Separation: some estimates tend to infinity and have no standard error.")
    if fit.model.related:
        raise UnsupportedModelError(
            f"The levels of {listing(fit.model.related)} are related (relationship=), so that no clusters of rows are "
            "independent, as cluster-robust standard errors need."
        )
    if not fit.fixed.terms:
        raise OptionError("The model has no fixed effects, and so no standard errors of them.")
    if fit.criteria.criterion.startswith("AGQ"):
        raise UnsupportedModelError(
            "Cluster-robust standard errors need the estimates of Laplace's approximation: fit with method='Laplace'."
        )


# -- linear models ------------------------------------------------------------------------------


def _of_linear(fit: FittedModel, design: Design, clusters: Clusters, kind: Kind) -> Sandwich:
    rows = clusters.rows()
    largest = max(map(len, rows))
    if largest > LARGEST_CLUSTER:
        raise UnsupportedModelError(
            f"A cluster of {clusters.name} has {largest} rows, and at most {LARGEST_CLUSTER} are allowed: choose "
            "smaller clusters. With so few and large clusters robust standard errors would not be reliable."
        )
    try:
        return sandwich(_clusters(fit, design, rows), kind)
    except np.linalg.LinAlgError as error:
        raise UnsupportedModelError(
            f"kind={kind!r} is not defined: without one of the clusters of {clusters.name}, some coefficients cannot "
            "be estimated. Choose 'CR2', which leaves no cluster out."
        ) from error


def _clusters(fit: FittedModel, design: Design, rows: list[npt.NDArray[np.int64]]) -> Iterator[Cluster]:
    residual = design.y - design.x @ np.asarray(fit.fixed.estimate)
    residual = residual if design.offset is None else residual - design.offset
    weights = np.ones(design.n) if design.weights is None else design.weights
    factors = relative_factors(tuple(np.asarray(b.covariance) for b in fit.random), 1.0)
    for at in rows:
        # V_j = sigma^2 / w + sum_k Z_k Cov_k Z_k', where rows of one level share an effect
        v = np.diag(fit.sigma**2 / weights[at])
        for block, factor in zip(design.blocks, factors, strict=True):
            scaled, codes = block.z[at] @ factor, block.codes[at]
            v += (scaled @ scaled.T) * (codes[:, None] == codes)
        yield Cluster(design.x[at], residual[at], v)


# -- generalised models -------------------------------------------------------------------------


def _of_generalised(fit: FittedModel, design: Design, clusters: Clusters, kind: Kind) -> FloatArray:
    """White's covariance matrix from the clusters' scores of Laplace's approximation, shape (p, p).

    All parameters are estimated together, so that the scores and the information cover the covariance factors and the
    dispersion parameters, too. The information is the central difference of the exact scores.
    """
    factors = relative_factors(tuple(np.asarray(b.covariance) for b in fit.random), 1.0)
    parameters = np.asarray(fit.dispersion_parameters, dtype=np.float64)
    sizes = [len(f) for f in factors]
    cells = [np.tril_indices(q) for q in sizes]
    p = design.p
    packed = [f[c] for f, c in zip(factors, cells, strict=True)]
    at = np.concatenate([np.asarray(fit.fixed.estimate), *packed, to_free(fit.family, parameters)])

    def scores(theta: FloatArray) -> FloatArray:
        moved, start = [], p
        for q, cell in zip(sizes, cells, strict=True):
            factor = np.zeros((q, q))
            factor[cell] = theta[start : start + len(cell[0])]
            start += len(cell[0])
            moved.append(factor)
        return scores_of_laplace(design, theta[:p], moved, from_free(fit.family, theta[start:]), clusters.codes)

    units = [1.0 / column_scale(b.z)[c[1]] for b, c in zip(design.blocks, cells, strict=True)]
    steps = STEP * np.concatenate([np.asarray(fit.fixed.std_error), *units, np.ones(len(parameters))])
    try:
        own = scores(at)
        slopes = [(scores(at + d).sum(axis=0) - scores(at - d).sum(axis=0)) / (2 * d.max()) for d in np.diag(steps)]
    except FloatingPointError as error:
        raise UnsupportedModelError(f"No cluster-robust standard errors: {error}.") from error
    inverse = _inverse(-np.array(slopes))
    total = own.sum(axis=0)
    if not total @ inverse @ total < OFF:
        raise UnsupportedModelError(
            f"The estimates of {fit.backend} are not at a maximum of Laplace's approximation, which cluster-robust "
            "standard errors need. Fit with backend='pls', or see fit.certificate()."
        )
    return of_scores(own, inverse, p, kind)


def _inverse(information: FloatArray) -> FloatArray:
    """Inverse in the directions with information, of a matrix (k, k) whose parameters may have any units.

    A variance that is estimated as zero has none, and does not move with the fixed effects.
    """
    information = (information + information.T) / 2
    scale = np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    kept = values > 1e-8 * values.max()
    return np.asarray(((vectors[:, kept] / values[kept]) @ vectors[:, kept].T) / np.outer(scale, scale))


__all__ = ["Robust", "robust_part"]
