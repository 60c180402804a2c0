"""Leave-one-out cross-validation from posterior draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.analysis.prediction.draws import coefficient_draws, linear_predictors
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.sampled import engine_draws
from unimix.likelihood.response import row_log_likelihood
from unimix.stats.draw_diagnostics import leave_one_out

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


def pointwise_log_likelihood(fit: FittedModel) -> FloatArray:
    """Log-likelihood of each row, given the group effects, under each draw, shape (chains, draws, n_obs).

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded.
    """
    refuse_correlated(fit, "The log-likelihood of single rows")
    posterior = engine_draws(fit).posterior
    chains, count = posterior.sizes["chain"], posterior.sizes["draw"]
    draws = coefficient_draws(fit, chains * count)
    design = fit.design()
    values = np.empty((len(draws), design.n))
    step = max(1, 20_000_000 // design.n)
    for begin in range(0, len(draws), step):
        part = slice(begin, begin + step)
        own = type(draws)(
            draws.beta[part],
            tuple(e[part] for e in draws.effects),
            tuple(c[part] for c in draws.covariances),
            draws.parameters[part],
        )
        for s, eta in enumerate(linear_predictors(design, own)):
            values[begin + s] = row_log_likelihood(design, own.parameters[s], eta).value
    return values.reshape(chains, count, design.n)


def loo(fit: FittedModel) -> Any:
    """Leave-one-out cross-validation by Pareto-smoothed importance sampling, from ArviZ.

    One row is left out at a time, given the effects of its group. A Pareto k above 0.7 marks rows whose value cannot be
    trusted. ``um.compare_loo`` compares models. Vehtari, Gelman & Gabry (2017), Stat. Comput. 27:1413-1432.

    Returns:
        ArviZ's ``ELPDData``, or ``ELPDDataLOO`` of ArviZ 1, with ``.elpd_loo``, ``.se``, ``.p_loo`` and ``.pareto_k``
        (one value per row).

    Raises:
        UnimixError: If the engine does not sample, or the result was loaded from JSON.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", sleep, backend="bayes", seed=1)
        >>> loo = fit.loo()
        >>> len(loo.pareto_k)
        180
        >>> bool(-895 < loo.elpd_loo < -875)
        True
    """
    return leave_one_out(pointwise_log_likelihood(fit), engine_draws(fit))
