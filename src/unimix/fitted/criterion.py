"""unimix's own likelihood at the estimates of a fit."""

from __future__ import annotations

import numpy as np

from unimix.fitted.model import FittedModel
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation


def criterion_at(fit: FittedModel) -> tuple[LinearCriterion, Evaluation]:
    """The likelihood criterion of a linear mixed model, and its evaluation at the fit's estimates.

    Args:
        fit: A linear model with group effects. Posterior means are evaluated by REML.

    Raises:
        DataError: If the result was loaded or unpickled and has not been given its data.
    """
    criterion = LinearCriterion.of(fit.design())
    reml = fit.fixed.interval == "credible" or fit.criteria.criterion == "REML"
    return criterion, criterion.at([np.asarray(b.covariance) for b in fit.random], fit.sigma, reml=reml)
