"""Effect sizes of coefficients, terms and two-level factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.comparisons.predictors import Predictors
from unimix.analysis.means.emmeans import every_mean
from unimix.analysis.means.linear_functions import fixed_inference
from unimix.analysis.means.specs import read_specs
from unimix.analysis.prediction.draws import coefficient_draws
from unimix.analysis.summaries.variance_components import DRAWS, refuse_parts, variances
from unimix.analysis.tests.anova import anova
from unimix.distributions.ordered import refuse_categories
from unimix.errors import DataError, OptionError, UnimixError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated, refuse_smooths
from unimix.fitted.model import interval_level, is_sampled
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.null_model import between_and_within
from unimix.likelihood.lmm.weights import row_copies
from unimix.stats.effect_sizes import LOGISTIC, noncentral_interval, partial_shares, share_of, weighted_sd
from unimix.stats.inference import checked_level, wald_interval

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
KINDS = ("standardized", "pseudo", "partial", "d")


@dataclass(frozen=True, repr=False, eq=False)
class EffectSizes(TableResult):
    """Effect sizes of one kind.

    Attributes:
        kind: Kind of effect size: standardized, pseudo, partial or d.
        table: Index term or contrast; columns estimate, lower, upper, and the quantities that they are computed from.
        notes: Definition of the effect sizes.
        ci_level: Probability of the intervals, between 0 and 1.
    """

    kind: str
    table: pd.DataFrame
    notes: tuple[str, ...]
    ci_level: float

    def _below(self) -> Sequence[str]:
        return (*self.notes, f"{100 * self.ci_level:g}% intervals.")


def effect_sizes(
    fit: FittedModel,
    kind: Literal["standardized", "pseudo", "partial", "d"] = "standardized",
    *,
    type: Literal["III", "II"] = "III",  # noqa: A002  the name in anova
    ci_level: float | None = None,
) -> EffectSizes:
    """Effect sizes of coefficients, of terms, or of two-level factors.

    Args:
        kind: Kind of effect size.
            standardized: coefficients times the standard deviation of their column, divided by that of the response
            (generalised models: not divided), as ``effectsize::standardize_parameters(method="basic")`` of R.
            pseudo: for a linear model with one grouping factor, coefficients in standard deviations within its levels,
            or between them for columns that are constant within levels (Hoffman 2015, Longitudinal Analysis, p. 342),
            as ``method="pseudo"`` of the same function.
            partial: partial eta, omega and epsilon squared of each term from the F tests of :meth:`anova`, with
            intervals from the noncentral F distribution, as ``effectsize::F_to_eta2``.
            d: the difference between the marginal means of each two-level factor divided by the square root of the sum
            of all variances except that of the fixed effects (Westfall, Kenny & Judd 2014, J. Exp. Psychol. Gen.
            143:2020-2045); for logistic models, log odds ratios times sqrt(3) / pi (Hasselblad & Hedges 1995, Psychol.
            Bull. 117:167-178).
        type: Type of the F tests for ``kind="partial"``: III or II.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit. Intervals of a posterior
            are quantiles of its draws.

    Returns:
        ``.table`` with columns estimate, lower, upper (partial: eta2, omega2, epsilon2, each with its interval).

    Raises:
        OptionError: If the kind is unknown.
        UnsupportedModelError: If the kind has no meaning for the family.
        DataError: If the model has no intercept (standardized, partial) or no two-level factor (d); ``C(x)`` makes x a
            factor.
        UnimixError: If F tests are asked of a posterior.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> fit.effect_sizes()
        term               estimate    lower    upper    sd_x    sd_y
        Sex[T.Female]        0.1740  -0.3399   0.6879  0.4936  2.9286
        age                  0.6017   0.4834   0.7200  2.2465  2.9286
        Sex[T.Female]:age   -0.5846  -1.0481  -0.1211  5.6162  2.9286
        Coefficients times the standard deviation of the column, over that of the response.
        95% intervals.
        >>> fit.effect_sizes("d")
        contrast            estimate    lower    upper  difference
        Sex: Female - Male   -1.0158  -1.7021  -0.3295     -2.3210
        Differences in units of the SD of all random variation (Westfall, Kenny & Judd 2014).
        The variances are taken as known.
        95% intervals.
    """
    refuse_correlated(
        fit,
        "An effect size in residual standard deviations",
        "Divide by a standard deviation of your choice.",
    )
    refuse_categories(fit.family, "An effect size")
    ci_level = interval_level(fit, ci_level)
    checked_level(ci_level)
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r}: choose {listing(map(repr, KINDS))}.{did_you_mean(str(kind), KINDS)}")
    if kind != "partial":
        refuse_smooths(fit, f"kind={kind!r}", "kind='partial' has the F tests of the other terms.")
    if kind == "d":
        return EffectSizes(kind, *_differences(fit, ci_level), ci_level)
    if list(fit.fixed.terms) == ["Intercept"] or not fit.fixed.terms:
        raise DataError(f"{fit.model.reading} has no predictors, and hence no effects to measure.")
    if "Intercept" not in fit.fixed.terms:
        raise DataError(
            f"kind={kind!r} measures deviations from means, for which the model needs an intercept: leave '0 +' or "
            "'- 1' out, or choose kind='d'."
        )
    if kind == "partial":
        return EffectSizes(kind, *_partial(fit, type, ci_level), ci_level)
    sizes = _pseudo if kind == "pseudo" else _standardized
    return EffectSizes(kind, *sizes(fit, ci_level), ci_level)


def _standardized(fit: FittedModel, ci_level: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    design, weights = fit.design(), fit.rows.weights
    real = fit.family.response == "real" and fit.family.link == "identity"
    copies = row_copies(fit.family, weights) is not None
    sd_x = weighted_sd(design.x, weights, copies=copies)
    sd_y = float(weighted_sd(fit.rows.observed, weights, copies=copies)) if real else 1.0
    unit = "times the standard deviation of the column" + (", over that of the response" if real else "")
    note = f"Coefficients {unit}."
    if not real:
        note += " The response is on the scale of the link and is not standardized."
    return _scaled(fit, ci_level, sd_x, np.full(design.p, sd_y)), (note,)


def _pseudo(fit: FittedModel, ci_level: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Hoffman (2015), Longitudinal Analysis, p. 342."""
    if not fit.family.is_linear or fit.parts or len(fit.n_groups) != 1:
        raise UnsupportedModelError(
            "kind='pseudo' separates effects between and within the levels of one grouping factor of a linear mixed "
            f"model; this model has {listing(fit.n_groups) or 'none'} as grouping factor and the {fit.family.name} "
            "family. kind='standardized' is for all models."
        )
    if fit.model.sigma is not None:
        raise UnsupportedModelError(
            "kind='pseudo' needs a residual variance that is estimated, and here it is known (sigma=): use "
            "kind='standardized'."
        )
    design = fit.design()
    block = design.blocks[0]
    order = np.argsort(block.codes, kind="stable")
    starts = np.searchsorted(block.codes[order], np.arange(block.n_levels))
    spread = np.maximum.reduceat(design.x[order], starts) - np.minimum.reduceat(design.x[order], starts)
    within = (spread > 1e-8 * np.abs(design.x).max(axis=0)).any(axis=0)
    means = np.add.reduceat(design.x[order], starts) / np.bincount(block.codes)[:, None]
    sd_x = np.where(within, weighted_sd(design.x, design.weights), means.std(axis=0, ddof=1))
    between_y, within_y = between_and_within(design, block)
    others = ~within & (np.array(fit.fixed.terms) != "Intercept")
    if others.any() and between_y < 1e-6 * within_y:
        raise UnsupportedModelError(
            f"Without predictors the levels of {block.group} do not differ (their SD is zero), so that effects between "
            "levels cannot be expressed in this SD. Use kind='standardized'."
        )
    table = _scaled(fit, ci_level, sd_x, np.where(within, within_y, between_y))
    table.insert(
        3, "level", ["within" if within[list(fit.fixed.terms).index(str(t))] else "between" for t in table.index]
    )
    note = f"Coefficients in standard deviations within levels of {block.group}, or between them where constant there."
    return table, (note,)


def _scaled(fit: FittedModel, ci_level: float, sd_x: FloatArray, sd_y: FloatArray) -> pd.DataFrame:
    """Coefficients times sd_x / sd_y, shapes (p,), without the intercept."""
    if is_sampled(fit):
        tail = 0.5 - ci_level / 2
        lower, upper = np.quantile(coefficient_draws(fit, DRAWS).beta, [tail, 1 - tail], axis=0)
    else:
        df = np.asarray(fit.fixed.df)
        df = np.where(np.isfinite(df), df, np.inf)
        lower, upper = wald_interval(
            fit.fixed.estimate, fit.fixed.std_error, None if np.isinf(df).all() else df, ci_level
        )
    scale = sd_x / np.where(sd_y > 0, sd_y, np.nan)
    columns = {"estimate": fit.fixed.estimate * scale, "lower": lower * scale, "upper": upper * scale}
    table = pd.DataFrame({**columns, "sd_x": sd_x, "sd_y": sd_y}, index=pd.Index(fit.fixed.terms, name="term"))
    return table.drop(index="Intercept", errors="ignore")


def _partial(fit: FittedModel, test: Literal["III", "II"], ci_level: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no F tests: kind='standardized' and fit.r2() use its draws.")
    tests = anova(fit, test).table
    if "F" not in tests:
        raise UnsupportedModelError(
            "Partial eta squared is computed from F tests, which a generalised model (or df_method='normal') does not "
            "have: choose kind='standardized' or kind='d'."
        )
    f, df, df_error = (tests[c].to_numpy(dtype=np.float64) for c in ("F", "num_df", "den_df"))
    columns: dict[str, FloatArray] = {}
    for name, values in partial_shares(f, df, df_error).items():
        # Each estimate has the interval of its own F, as in effectsize.
        sizes = values / df / ((1 - values) / df_error)
        ends = np.array([noncentral_interval(*row, ci_level) for row in zip(sizes, df, df_error, strict=True)]).reshape(
            -1, 2
        )
        shares = share_of(ends, df_error[:, None])
        columns |= {name: values, f"{name}_lower": shares[:, 0], f"{name}_upper": shares[:, 1]}
    table = pd.DataFrame(columns, index=tests.index)
    table.insert(0, "F", f)
    note = f"Partial shares from the type {test} F tests, denominator df {fit.fixed.df_method}; two-sided intervals."
    return table, (note,)


def _differences(fit: FittedModel, ci_level: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    refuse_parts(fit, "A standardized difference")
    design, family = fit.design(), fit.family
    real = family.response == "real" and family.link == "identity"
    if not real and (family.response != "binomial" or family.link not in ("logit", "probit")):
        raise UnsupportedModelError(
            f"A standardized difference has no accepted definition for the {family.name} family with the "
            f"{family.link} link."
        )
    known = Predictors.of(fit, design)
    factors = {n: known.levels[n] for n in fit.model.encoding.predictors if n in known.levels}
    names = [n for n, levels in factors.items() if len(levels) == 2]
    if not names:
        raise DataError(
            "A standardized difference needs a factor with two levels, and the fixed part has none: "
            "fit.emmeans(...).contrasts() compares other levels, kind='standardized' is for numeric predictors; C(x) "
            "in the formula makes x a factor."
        )
    divisor = np.asarray(1.0)
    if real:
        parts = variances(fit, "A standardized difference")
        divisor = np.sqrt(parts.all_random + parts.residual)
    elif family.link == "logit":
        divisor = np.asarray(1 / LOGISTIC)
    inference, rows = fixed_inference(fit), {}
    for name in names:
        means = every_mean(fit, read_specs(name, ()), factors, "equal", "link", ci_level, None)
        low, high = (f"{v:g}" if isinstance(v, float) else str(v) for v in means.levels[name])
        if not means.combinations.can_be_estimated(np.array([[-1.0, 1.0]])).all():
            rows[f"{name}: {high} - {low}"] = dict.fromkeys(("estimate", "lower", "upper"), np.nan)
            continue
        weights = means.functions.weights[1] - means.functions.weights[0]
        if is_sampled(fit):
            values = coefficient_draws(fit, DRAWS).beta @ weights / divisor
            tail = 0.5 - ci_level / 2
            ends = np.quantile(values, [tail, 1 - tail])
            row = {"estimate": values.mean(), "lower": ends[0], "upper": ends[1]}
        else:
            difference = inference.functions(weights[None]).table(ci_level).iloc[0]
            row = {c: difference[c] / float(divisor) for c in ("estimate", "lower", "upper")}
            row["difference"] = difference["estimate"]
        rows[f"{name}: {high} - {low}"] = row
    definition = (
        "Differences in units of the SD of all random variation (Westfall, Kenny & Judd 2014)."
        if real
        else "Log odds ratios times sqrt(3) / pi (Hasselblad & Hedges 1995), given the group effects."
        if family.link == "logit"
        else "Differences of the latent variable in its standard deviations, given the group effects."
    )
    note = "The variances are taken as known." if real and not is_sampled(fit) else ""
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("contrast").astype(float)
    missing = list(table.index[table["estimate"].isna()])
    lost = f"Cannot be estimated, because the data lack combinations of levels: {listing(missing)}." if missing else ""
    return table, tuple(t for t in (definition, note, lost) if t)


__all__ = ["EffectSizes", "effect_sizes"]
