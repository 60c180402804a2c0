"""R2 and the intraclass correlation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.draws import coefficient_draws
from unimix.analysis.summaries.variance_components import DRAWS, Variances, refuse_parts, variances
from unimix.design.arrays import Design
from unimix.display import Block
from unimix.distributions.log_density import response_variance
from unimix.distributions.random_responses import location_of, mean_of
from unimix.errors import DataError, UnimixError, UnsupportedModelError, listing
from unimix.fitted.correlated import refuse_correlated, refuse_smooths
from unimix.fitted.formatting import text_table, without_noise
from unimix.fitted.model import interval_level, is_sampled
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.null_model import null_model
from unimix.likelihood.lmm.weights import counted_rows
from unimix.stats.inference import checked_level
from unimix.stats.predictor import linear_predictors

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

AT_ONCE = 20_000_000
"""Largest number of array elements held in memory at once."""


@dataclass(frozen=True, repr=False, eq=False)
class RSquared(TableResult):
    """How much of the variance a model explains.

    Attributes:
        table: Index measure; columns value and method; for posterior draws, value is their mean, and lower and upper
            are the ends of its interval.
        components: Index component; columns variance (mean of the draws) and share. Components are the fixed effects,
            each block of group effects, dispersion (observation-level effects) and distribution; empty if R2 is not
            computed from variances.
        notes: Remarks on the measures.
    """

    table: pd.DataFrame
    components: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def marginal(self) -> float:
        """Share of the fixed effects in the variance, for a mixed model."""
        return self._of("marginal")

    @property
    def conditional(self) -> float:
        """Share of fixed and group effects in the variance, for a mixed model."""
        return self._of("conditional")

    def _of(self, name: str) -> float:
        if name not in self.table.index:
            raise DataError(f"There is no {name} R2 without group effects: .table has {listing(self.table.index)}.")
        return float(self.table.loc[name, "value"])  # type: ignore[arg-type]

    def _shown(self) -> pd.DataFrame:
        return without_noise(self.table)

    def _view(self) -> Iterable[Block]:
        blocks: list[Block] = [text_table(self._shown())]
        if len(self.components):
            blocks += ["", text_table(without_noise(self.components, self.components["share"]))]
        return [*blocks, *self.notes]


@dataclass(frozen=True, repr=False, eq=False)
class IntraclassCorrelation(TableResult):
    """How alike rows of one level are.

    Attributes:
        table: Index ``all groups`` and each grouping factor; columns adjusted (share of the variance that the fixed
            effects leave) and unadjusted (share of the total variance), each with lower and upper for posterior draws.
        notes: Remarks on the correlations.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def adjusted(self) -> float:
        """Share of all grouping factors in the variance that the fixed effects leave."""
        return float(self.table["adjusted"].iloc[0])

    @property
    def unadjusted(self) -> float:
        """Share of all grouping factors in the total variance."""
        return float(self.table["unadjusted"].iloc[0])

    @property
    def by_group(self) -> dict[str, float]:
        """Adjusted intraclass correlation of each grouping factor."""
        return {str(k): float(v) for k, v in self.table["adjusted"].iloc[1:].items()}

    def _shown(self) -> pd.DataFrame:
        return without_noise(self.table)


def r2(fit: FittedModel, *, ci_level: float | None = None) -> RSquared:
    """How much of the variance the model explains.

    Mixed models have the marginal (fixed effects) and conditional (fixed and group effects) R2 of Nakagawa & Schielzeth
    (2013), Methods Ecol. Evol. 4:133-142, with random slopes as in Johnson (2014), 5:944-946. The variance of a row is
    sigma^2, or that of its distribution on the link scale (Nakagawa, Johnson & Schielzeth 2017, J. R. Soc. Interface
    14:20170213), for counts at the mean of the model without predictors, which is fitted for this purpose.
    Observation-level effects of generalised models are added to it.

    Linear models without groups have R2 and adjusted R2; generalised ones have the measures of Tjur (2009, Am. Stat.
    63:366), Nagelkerke (1991, Biometrika 78:691), McFadden (1974) and Cox & Snell (1989), if they are defined.

    Posteriors have the Bayesian R2 of Gelman, Goodrich, Gabry & Vehtari (2019), Am. Stat. 73:307-309, and Nakagawa's,
    for each draw. In the marginal version of the former, variation of expected responses due to group effects counts as
    residual.

    Args:
        ci_level: Probability of the intervals of a posterior, between 0 and 1; None takes that of the fit.

    Returns:
        ``.marginal``, ``.conditional``, ``.table`` and ``.components``; all values are shares between 0 and 1.

    Raises:
        UnsupportedModelError: If R2 has no accepted definition for the model.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> r2 = fit.r2()
        >>> round(r2.marginal, 3), round(r2.conditional, 3)
        (0.28, 0.704)
        >>> r2.components.round(3)
                             variance  share
        component
        fixed                 908.953  0.280
        Intercept | Subject  1378.179  0.424
        distribution          960.457  0.296
    """
    refuse_correlated(fit, "R squared")
    ci_level = interval_level(fit, ci_level)
    checked_level(ci_level)
    if is_sampled(fit):
        return _posterior(fit, ci_level)
    if fit.random:
        return _nakagawa(variances(fit, "R2"))
    refuse_parts(fit, "R2")
    if fit.fixed.interval == "credible":
        raise UnsupportedModelError("R2 of a posterior needs its draws: fit with an engine that samples.")
    return _linear(fit) if fit.family.is_linear else _generalised(fit)


def icc(fit: FittedModel, *, ci_level: float | None = None) -> IntraclassCorrelation:
    """Intraclass correlation: the share of the grouping factors in the variance, adjusted for fixed effects or not.

    With the variances F of the fixed effects, R of the grouping factors and E of the residual, which are the components
    of :meth:`r2`, the adjusted correlation is R / (R + E) and the unadjusted one R / (F + R + E) (Nakagawa & Schielzeth
    2013, Methods Ecol. Evol. 4:133-142).

    Args:
        ci_level: Probability of the intervals of a posterior, between 0 and 1; None takes that of the fit.

    Returns:
        ``.adjusted``, ``.unadjusted``, ``.by_group`` and ``.table``.

    Raises:
        DataError: If the model has no group effects.
        UnsupportedModelError: If the variance of the residual has no accepted definition for the family.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.icc()
                    adjusted  unadjusted
        all groups    0.5893      0.4244
        Subject       0.5893      0.4244
    """
    ci_level = interval_level(fit, ci_level)
    checked_level(ci_level)
    if not fit.random:
        raise DataError(
            f"{fit.model.reading} has no group effects and hence no intraclass correlation: add (1 | g) to the formula."
        )
    parts = variances(fit, "The intraclass correlation")
    total = parts.all_random + parts.residual
    rows = {
        "all groups": {"adjusted": parts.all_random / total, "unadjusted": parts.all_random / parts.total},
        **{g: {"adjusted": v, "unadjusted": v * total / parts.total} for g, v in parts.groups.items()},
    }
    table = pd.DataFrame(
        {
            name: {k: v for c, values in row.items() for k, v in _summarised(c, values, ci_level).items()}
            for name, row in rows.items()
        }
    ).T
    return IntraclassCorrelation(table, parts.notes)


def _summarised(name: str, values: FloatArray, ci_level: float) -> dict[str, float]:
    """A single number, or the mean of draws with the ends of its interval."""
    if not values.ndim:
        return {name: float(values)}
    tail = 0.5 - ci_level / 2
    lower, upper = np.quantile(values, [tail, 1 - tail])
    prefix = "" if name == "value" else f"{name}_"
    return {name: float(values.mean()), f"{prefix}lower": float(lower), f"{prefix}upper": float(upper)}


def _components(variances: Variances) -> pd.DataFrame:
    parts = {"fixed": variances.fixed, **dict(zip(variances.blocks, variances.random, strict=True))}
    if len(variances.random) > 1:
        parts["random (total)"] = variances.all_random
    if np.any(variances.dispersion > 0):
        parts["dispersion"] = variances.dispersion
    parts["distribution"] = variances.distribution
    rows = {k: {"variance": float(np.mean(v)), "share": float(np.mean(v / variances.total))} for k, v in parts.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("component")


def _measures(rows: dict[str, tuple[FloatArray, str]], ci_level: float) -> pd.DataFrame:
    measures = {
        name: {**_summarised("value", values, ci_level), "method": method} for name, (values, method) in rows.items()
    }
    return pd.DataFrame.from_dict(measures, orient="index").rename_axis("measure")


def _nakagawa(variances: Variances) -> RSquared:
    return RSquared(_measures(_nakagawa_rows(variances, ""), 0.95), _components(variances), variances.notes)


def _nakagawa_rows(variances: Variances, suffix: str) -> dict[str, tuple[FloatArray, str]]:
    source = "Nakagawa & Schielzeth 2013"
    return {
        f"marginal{suffix}": (np.asarray(variances.fixed / variances.total), source),
        f"conditional{suffix}": (np.asarray((variances.fixed + variances.all_random) / variances.total), source),
    }


def _linear(fit: FittedModel) -> RSquared:
    design = fit.design()
    y = design.y if design.offset is None else design.y - design.offset
    w = np.ones(design.n) if design.weights is None else design.weights
    rest = float(np.sum(w * (y - design.x @ np.asarray(fit.fixed.estimate)) ** 2))
    centred = _spans_constant(design)
    middle = float(np.average(y, weights=w)) if centred else 0.0
    total = float(np.sum(w * (y - middle) ** 2))
    value = 1 - rest / total
    df_residual = design.n - design.p + sum(len(s.columns) - s.edf for s in fit.smooths)
    adjusted = 1 - (1 - value) * (design.n - centred) / df_residual if df_residual > 0 else float("nan")
    notes = [] if centred else ["The model has no intercept: sums of squares are about zero, not about the mean."]
    if design.offset is not None:
        notes.append("R2 refers to the response minus the offset.")
    how = "penalised least squares" if fit.smooths else "least squares"
    rows = {"r_squared": (np.asarray(value), how), "adjusted": (np.asarray(adjusted), how)}
    return RSquared(_measures(rows, 0.95), pd.DataFrame(), tuple(notes))


def _spans_constant(design: Design) -> bool:
    if not design.p:
        return False
    scale = np.abs(design.x).max(axis=0)
    coefficients = np.linalg.lstsq(design.x / scale, np.ones(design.n))[0]
    return bool(np.abs(design.x / scale @ coefficients - 1).max() < 1e-8)


def _generalised(fit: FittedModel) -> RSquared:
    """R2 of a generalised linear model from its likelihood, counting each trial of a binomial response as a row."""
    refuse_smooths(fit, "R2 of a generalised model without group effects")
    design = fit.design()
    null, log_likelihood = null_model(design).log_likelihood, fit.log_likelihood
    n, notes = counted_rows(design.family, design.n, design.weights), []
    if not _spans_constant(design):
        raise UnsupportedModelError(
            "R2 compares with the model that has only an intercept, and this model has none: add the intercept."
        )
    rows: dict[str, tuple[FloatArray, str]] = {}
    if design.family.response == "binomial":
        trials = np.ones(design.n) if design.trials is None else design.trials
        k = design.y * trials
        constant = float(np.sum(special.gammaln(trials + 1) - special.gammaln(k + 1) - special.gammaln(trials - k + 1)))
        null, log_likelihood, n = null - constant, log_likelihood - constant, float(trials.sum())
        mu = np.asarray(fit.fitted)
        tjur = np.average(mu, weights=k) - np.average(mu, weights=trials - k)
        rows["tjur"] = np.asarray(tjur), "Tjur 2009"
        if (trials > 1).any():
            notes.append("Every trial counts as a row.")
    cox_snell = 1 - np.exp(2 * (null - log_likelihood) / n)
    if design.family.response in ("binomial", "count", "positive_count"):
        rows["nagelkerke"] = np.asarray(cox_snell / (1 - np.exp(2 * null / n))), "Nagelkerke 1991"
        rows["mcfadden"] = np.asarray(1 - log_likelihood / null), "McFadden 1974"
    rows["cox_snell"] = np.asarray(cox_snell), "Cox & Snell 1989"
    return RSquared(_measures(rows, 0.95), pd.DataFrame(), tuple(notes))


def _posterior(fit: FittedModel, ci_level: float) -> RSquared:
    refuse_parts(fit, "R2")
    rows = _gelman(fit)
    components, notes = pd.DataFrame(), tuple[str, ...]()
    if fit.random:
        try:
            parts = variances(fit, "Nakagawa's R2")
        except UnimixError as error:
            notes = (str(error),)
        else:
            rows |= _nakagawa_rows(parts, " (Nakagawa)")
            components, notes = _components(parts), parts.notes
    return RSquared(_measures(rows, ci_level), components, notes)


def _gelman(fit: FittedModel) -> dict[str, tuple[FloatArray, str]]:
    """Bayesian R2 of each draw: variance of expected responses over rows, divided by itself plus residual variance."""
    design, draws = fit.design(), coefficient_draws(fit, DRAWS)
    if fit.family.name == "student_t" and (draws.parameters[:, 1] <= 2).any():
        raise UnsupportedModelError(
            "R2 needs the variance of the residuals, which is infinite with nu of 2 or less (as in some draws)."
        )
    # The residual variance of a row is sigma^2 / weight, and that of a proportion is divided by its trials.
    size = design.trials if design.trials is not None else design.weights if fit.family.name == "gaussian" else None
    moments = np.empty((4, len(draws)))
    step = max(1, AT_ONCE // design.n)
    for begin in range(0, len(draws), step):
        part = slice(begin, begin + step)
        beta = draws.beta[part]
        given = np.asarray([p[:, None] for p in draws.parameters[part].T])
        eta = linear_predictors(design, beta, [e[part] for e in draws.effects])
        at, at_location = mean_of(fit.family, eta, given), location_of(fit.family, eta)
        alone = mean_of(fit.family, linear_predictors(design, beta, []), given)
        about = response_variance(fit.family, given, at_location, size)
        moments[:, part] = (*(v.var(axis=1, ddof=1) for v in (at, alone, at - alone)), about.mean(axis=1))
    whole, fixed, groups, rest = moments
    source = "Gelman, Goodrich, Gabry & Vehtari 2019"
    if not fit.random:
        return {"bayes_r2": (whole / (whole + rest), source)}
    return {"marginal": (fixed / (fixed + groups + rest), source), "conditional": (whole / (whole + rest), source)}
