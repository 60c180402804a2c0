"""Overdispersion and zero inflation of counts and proportions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.draws import coefficient_draws, replicated
from unimix.distributions.log_density import pointwise, response_variance
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import location_of, mean_of
from unimix.errors import UnsupportedModelError
from unimix.fitted.model import is_sampled
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.weights import counted_rows
from unimix.stats.predictor import linear_predictors

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

DRAWS = 1000


@dataclass(frozen=True, repr=False, eq=False)
class Overdispersion(TableResult):
    """Pearson's chi-squared compared with its degrees of freedom.

    Attributes:
        chisq: Sum of squared Pearson residuals given the group effects; for a posterior, its mean over the draws.
        df: Residual degrees of freedom, n minus the number of all parameters; NaN for a posterior.
        ratio: chisq / df; for a posterior, chisq divided by that of replicated responses.
        p_value: Upper tail probability of chi-squared; for a posterior, the posterior predictive p value.
        method: The comparison that was made, in words.
    """

    chisq: float
    df: float
    ratio: float
    p_value: float
    method: str

    @property
    def table(self) -> pd.DataFrame:
        """One row with columns chisq, df, ratio, p_value."""
        return pd.DataFrame(
            {"chisq": [self.chisq], "df": [self.df], "ratio": [self.ratio], "p_value": [self.p_value]},
            index=["overdispersion"],
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """The comparison that was made."""
        return (self.method,)


@dataclass(frozen=True, repr=False, eq=False)
class ZeroInflation(TableResult):
    """Zeros of a count, observed and expected.

    Attributes:
        observed: Number of rows that are zero; a row of weight w counts w times.
        expected: Sum of the rows' probabilities of a zero, given the group effects; a row of weight w counts w times.
        ratio: observed / expected.
        p_value: Upper tail probability by the normal approximation; for a posterior, the posterior predictive p value.
        method: The comparison that was made, in words.
    """

    observed: float
    expected: float
    ratio: float
    p_value: float
    method: str

    @property
    def table(self) -> pd.DataFrame:
        """One row with columns observed, expected, ratio, p_value."""
        values = {"observed": self.observed, "expected": self.expected, "ratio": self.ratio, "p_value": self.p_value}
        return pd.DataFrame({k: [v] for k, v in values.items()}, index=["zeros"])

    @property
    def notes(self) -> tuple[str, ...]:
        """The comparison that was made."""
        return (self.method,)


def overdispersion(fit: FittedModel) -> Overdispersion:
    """Whether counts or proportions vary more than their distribution allows, by Pearson's chi-squared.

    The residuals are those given the group effects, and the degrees of freedom are n minus the number of all
    parameters, as in ``performance::check_overdispersion`` of R. For a posterior, chi-squared is compared with that of
    replicated responses (Gelman, Meng & Stern 1996, Stat. Sinica 6:733-807).

    Returns:
        ``.chisq``, ``.df``, ``.ratio``, ``.p_value``, and all of them in ``.table``.

    Raises:
        UnsupportedModelError: If the family estimates its own spread, the response consists of single trials, the model
            has zero inflation or a dispersion formula, or the fit is a posterior of weighted counts.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", um.load_dataset("grouseticks"), family="poisson")
        >>> fit.overdispersion()
                         chisq   df   ratio  p_value
        overdispersion  675.11  399  1.6920   <0.001
        Pearson residuals given the group effects.
    """
    why = why_no_overdispersion(fit)
    if why:
        raise UnsupportedModelError(why)
    if is_sampled(fit):
        return _predictive(fit)
    chisq = float(np.sum(fit.residuals("pearson") ** 2))
    df = counted_rows(fit.family, fit.n_obs, fit.rows.weights) - fit.criteria.n_parameters
    if df <= 0:
        raise UnsupportedModelError(
            f"{fit.n_obs} rows leave no degrees of freedom with {fit.criteria.n_parameters} parameters."
        )
    return Overdispersion(
        chisq, df, chisq / df, float(special.chdtrc(df, chisq)), "Pearson residuals given the group effects."
    )


def why_no_overdispersion(fit: FittedModel) -> str:
    """The reason why the fit cannot be tested for overdispersion; empty if it can."""
    family = fit.family
    refuse_categories(fit.family, "Overdispersion")
    if fit.parts:
        return (
            "Pearson residuals are not defined with zero inflation or a formula of the dispersion: see "
            "fit.plot.posterior_predictive()."
        )
    if family.response not in ("binomial", "count", "positive_count"):
        spread = f"estimates its own spread ({', '.join(family.parameters)})"
        spread = spread if family.parameters else "is for positive numbers, not counts,"
        return (
            f"The {family.name} family {spread} and cannot be overdispersed. fit.plot.diagnostics() shows the "
            "residuals."
        )
    if fit.rows.trials is not None and (fit.rows.trials == 1).all():
        return "A response of single trials cannot be overdispersed: its mean fixes its variance."
    return ""


def check_zeros(fit: FittedModel) -> ZeroInflation:
    """Whether a count has more zeros than the model expects, which is the sum of the rows' probabilities of a zero.

    The p value ignores that the mean was fitted to the same rows, which makes it conservative. A row of weight w
    counts w times.

    Returns:
        ``.observed``, ``.expected``, ``.ratio``, ``.p_value``, and all of them in ``.table``.

    Raises:
        UnsupportedModelError: If the response is not a count, the dispersion has a formula, or the fit is a posterior
            of weighted counts.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", um.load_dataset("grouseticks"), family="poisson")
        >>> fit.check_zeros()
               observed  expected   ratio  p_value
        zeros       126  107.2889  1.1744    0.003
        Against the rows' probabilities given the group effects.
    """
    if fit.family.response != "count":
        if "zero" in fit.parts:
            raise UnsupportedModelError(
                "In a hurdle model the zeros have a part of their own, and cannot be too many: see fit.zero_inflation."
            )
        raise UnsupportedModelError(f"Zeros are checked for counts only, and the family is {fit.family.name}.")
    if "dispersion" in fit.parts:
        raise UnsupportedModelError("The probability of a zero is not known where the dispersion has a formula.")
    y = fit.rows.observed
    copies = np.ones_like(y) if fit.rows.weights is None else fit.rows.weights
    observed = float(copies[y == 0].sum())
    if is_sampled(fit):
        zeros = (_replicated(fit) == 0).sum(axis=1)
        p = float((zeros >= observed).mean())
        return _zeros(observed, float(zeros.mean()), p, "Against replicated responses.")
    at = pointwise(fit.family, fit.dispersion_parameters, np.zeros_like(y), fit.rows.linear_predictor)
    probability = np.exp(at.value)
    if fit.rows.zero_probability is not None:
        probability = fit.rows.zero_probability + (1 - fit.rows.zero_probability) * probability
    expected = float(copies @ probability)
    spread = float(np.sqrt(copies @ (probability * (1 - probability))))
    p = float(special.ndtr(-(observed - expected) / spread)) if spread > 0 else float(observed <= expected)
    return _zeros(observed, expected, p, "Against the rows' probabilities given the group effects.")


def _zeros(observed: float, expected: float, p_value: float, method: str) -> ZeroInflation:
    ratio = observed / expected if expected > 0 else float("inf") if observed else float("nan")
    return ZeroInflation(observed, expected, ratio, p_value, method)


def _replicated(fit: FittedModel) -> FloatArray:
    """Replicated responses, shape (S, n).

    Raises:
        UnsupportedModelError: If rows of counts have weights.
    """
    if fit.family.response == "count" and fit.rows.weights is not None:
        raise UnsupportedModelError(
            "A row of weight w stands for w responses with the same value here, which cannot be replicated. Repeat the "
            "rows instead of weighting them: data.loc[data.index.repeat(data['w'])]."
        )
    return replicated(fit, DRAWS, seed=0)


def _predictive(fit: FittedModel) -> Overdispersion:
    """Compare the discrepancies of observed and replicated responses.

    Gelman, Meng & Stern (1996), Stat. Sinica 6:733-807.
    """
    new = _replicated(fit)
    design, draws = fit.design(), coefficient_draws(fit, DRAWS)
    parameters = np.asarray([p[:, None] for p in draws.parameters.T])
    eta = linear_predictors(design, draws.beta, draws.effects)
    mu = mean_of(fit.family, eta, parameters)
    size = design.trials if design.trials is not None else design.weights
    spread = response_variance(fit.family, parameters, location_of(fit.family, eta), size)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed, drawn = (np.where(y == mu, 0.0, (y - mu) ** 2 / spread).sum(axis=1) for y in (design.y, new))
    return Overdispersion(
        float(observed.mean()),
        float("nan"),
        float(observed.mean() / drawn.mean()),
        float((drawn >= observed).mean()),
        "Pearson's chi-squared of observed and of replicated responses, per draw.",
    )


__all__ = ["Overdispersion", "ZeroInflation", "check_zeros", "overdispersion", "why_no_overdispersion"]
