"""Expected responses of rows: of a posterior their posterior means, which are not functions of the estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.distributions import Placed, predictor_mean
from unimix.analysis.prediction.draws import effect_draws
from unimix.distributions.random_responses import mean_of
from unimix.errors import UnimixError
from unimix.fitted.model import is_sampled
from unimix.fitted.sampled import engine_draws, fixed_draws, variable_draws
from unimix.stats.predictor import PredictorRows, expected_response, mean_over_draws

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


def is_curved_posterior(fit: FittedModel) -> bool:
    """Whether the expected response of a row is not the inverse link of its estimated linear predictor."""
    return fit.fixed.interval == "credible" and fit.family.link != "identity"


def posterior_mean(fit: FittedModel, at: Placed) -> FloatArray:
    """Posterior means of the expected responses of rows, shape (n,); effects with code -1 are zero.

    They are means over all draws. A posterior that is known as a normal approximation has them in closed form or by
    quadrature, with the errors of fixed and group effects taken as independent.

    Args:
        fit: A posterior.
        at: The rows.

    Raises:
        UnimixError: If the draws are not there.
        UnsupportedModelError: If the draws of the group effects were too many to keep.
    """
    if not is_sampled(fit):
        return expected_response(fit.family, predictor_mean(fit, at), np.sqrt(_independent_variance(fit, at)))
    if fit._unsaved.posterior is None:
        raise UnimixError(
            f"The expected response of a row is a mean over the draws, not the inverse of the {fit.model.link} link at "
            "the mean, and this result was loaded from JSON, which keeps no draws (fit.save('fit.zip') keeps them). "
            "fit.fitted has those of the rows that were fitted; kind='link' gives linear predictors."
        )
    used = [k for k, codes in enumerate(at.codes) if (codes >= 0).any()]
    group = engine_draws(fit).posterior
    fixed = fixed_draws(fit)
    beta = np.empty((group.sizes["chain"] * group.sizes["draw"], 0)) if fixed is None else fixed
    rows = PredictorRows(at.rows.x, at.rows.offset, [at.rows.z[k] for k in used], [at.codes[k] for k in used])
    parameters = [variable_draws(fit, name) for name in fit.family.parameters if name in group]
    dispersion = np.stack(parameters, axis=1) if parameters else None
    return mean_over_draws(fit.family, rows, beta, [effect_draws(fit, k) for k in used], dispersion=dispersion)


def _independent_variance(fit: FittedModel, at: Placed) -> FloatArray:
    """Variances of linear predictors, shape (n,), as a mean-field approximation has them."""
    variance = np.einsum("np,np->n", at.rows.x @ fit.fixed.covariance, at.rows.x)
    for block, z, codes in zip(fit.random, at.rows.z, at.codes, strict=True):
        own = np.concatenate([block.mode_covariance, np.zeros((1, *block.mode_covariance.shape[1:]))])[codes]
        variance = variance + np.einsum("nr,nr->n", np.einsum("nq,nqr->nr", z, own), z)
    return np.asarray(np.maximum(variance, 0.0))


def expected_rows(fit: FittedModel, at: Placed) -> FloatArray:
    """Expected responses of rows without zero inflation, shape (n,): at the estimates, or posterior means."""
    return (
        posterior_mean(fit, at)
        if is_curved_posterior(fit)
        else mean_of(fit.family, predictor_mean(fit, at), fit.dispersion_parameters)
    )


__all__ = ["expected_rows", "is_curved_posterior", "posterior_mean"]
