"""How much a posterior depends on its priors and on its likelihood: power-scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unimix.analysis.certificate.posterior import read_draws
from unimix.analysis.posterior.reweighted import K_LIMIT, log_prior_of, priors_of
from unimix.analysis.prediction.loo import pointwise_log_likelihood
from unimix.backends.sampling.draws import parameter_names
from unimix.errors import UnimixError
from unimix.fitted.table_result import TableResult
from unimix.stats.draw_diagnostics import pareto_k, power_scaling

if TYPE_CHECKING:
    import numpy.typing as npt

    from unimix.fitted.model import FittedModel

    FloatArray = npt.NDArray[np.float64]

LIMIT = 0.05
"""Sensitivity from which a part of the density matters (Kallioinen et al. 2024, section 2.6)."""
DELTA = 0.01
CONFLICT = "prior and data pull in different directions, or both inform"
STRONG = "strong prior, or data that say little"


def prior_sensitivity(fit: FittedModel) -> TableResult:
    """How much the posterior of each parameter changes if all priors, or the likelihood, count a little more or less.

    Priors, and then the likelihood, are raised to powers slightly below and above 1, by importance weights of the draws
    (Kallioinen, Paananen, Buerkner & Vehtari 2024, Stat. Comput. 34:57). The sensitivity is the cumulative
    Jensen-Shannon distance per doubling of the power; a value from 0.05 on matters. The priors are those of fixed
    effects, SDs, correlations and dispersion parameters, all of them together. The likelihood is that of the rows given
    the group effects, whose distribution belongs to neither.

    A posterior that is sensitive to the prior and to the likelihood may be one of a prior-data conflict; one that is
    sensitive to the prior only has a strong prior, or data that say little about the parameter. A sensitive parameter
    is no fault where the prior was meant to inform.

    Returns:
        ``.table`` with one row per parameter and the columns prior, likelihood, diagnosis (empty where the priors
        matter little); ``.notes`` on the weights.

    Raises:
        UnimixError: If the engine does not sample or has priors of its own, or if the importance weights of so small a
            change cannot be trusted.
        DataError: If the result was loaded.
        UnsupportedModelError: If the draws of the group effects were too many to keep.

    Example:
        >>> import unimix as um
        >>> formula, sleep = "Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy")
        >>> fit = um.fit(formula, sleep, backend="bayes", seed=1, priors={"Days": um.priors.Normal(0, 1)})
        >>> answer = fit.prior_sensitivity()
        >>> answer.loc["Days", "diagnosis"]
        'prior and data pull in different directions, or both inform'
        >>> bool(answer.loc["Intercept", "prior"] < 0.5)
        True
    """
    model = priors_of(fit)
    design = fit.design()
    draws, shape, _ = read_draws(fit, design)
    parts = {
        "prior": log_prior_of(model, draws).reshape(shape),
        "likelihood": pointwise_log_likelihood(fit).sum(axis=2),
    }
    values = draws.parameters().reshape(*shape, -1)
    ks = {name: _worst_k(part) for name, part in parts.items()}
    bad = [f"{name} {k:.2f}" for name, k in ks.items() if not k <= K_LIMIT]
    if bad:
        raise UnimixError(
            f"The draws do not show what a small change of a power does: Pareto k of the importance weights is above "
            f"{K_LIMIT} ({', '.join(bad)}). Fit with more draws, options={{'draws': 4000}}, or fit under other priors "
            "and compare."
        )
    table = pd.DataFrame(
        {name: power_scaling(values, part, DELTA) for name, part in parts.items()},
        index=pd.Index(parameter_names(design), name="parameter"),
    )
    table["diagnosis"] = [_diagnosis(*row) for row in table.to_numpy()]
    defaults = model.stated[1]
    notes = [
        f"A value from {LIMIT} on matters. Pareto k of the weights: {', '.join(f'{n} {k:.2f}' for n, k in ks.items())}."
    ]
    if defaults:
        notes.append(f"Default priors, which are scaled by the data: {', '.join(defaults)}.")
    return TableResult(table, notes, "Sensitivity to the power of the priors and of the likelihood")


def _worst_k(log_density: FloatArray) -> float:
    """Largest Pareto k of the weights for both powers."""
    flat = log_density.ravel()
    return max(pareto_k((power - 1.0) * flat) for power in (1.0 / (1.0 + DELTA), 1.0 + DELTA))


def _diagnosis(prior: float, likelihood: float) -> str:
    if not prior >= LIMIT:
        return ""
    return CONFLICT if likelihood >= LIMIT else STRONG


__all__ = ["prior_sensitivity"]
