"""Results as data frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.fitted.schema import (
    Criteria,
    EngineInfo,
    FixedPartResult,
    ModelInfo,
    RandomPartResult,
    ResidualPartResult,
    SmoothPartResult,
    Status,
)
from unimix.stats.inference import wald_interval, wald_test

FloatArray = npt.NDArray[np.float64]
Random = Sequence[RandomPartResult]
Residual = float | ResidualPartResult | None
_ResidualRow = tuple[tuple[str, str | None, str | None, float, float], str]
_COMPONENTS = ("group", "term1", "term2", "covariance", "sdcor")
_COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value", "lower", "upper")


class GroupTables(dict[str, pd.DataFrame]):
    """Tables by grouping factor; an unknown name raises an error that lists the known ones."""

    def __missing__(self, name: object) -> pd.DataFrame:
        raise DataError(
            f"{name!r} is not a grouping factor of this fit.{did_you_mean(str(name), self)} "
            f"Known: {listing(self) or 'none'}."
        )


def fixed_effects(fixed: FixedPartResult) -> pd.DataFrame:
    """Fixed effects: index term; columns estimate, std_error, df, statistic, p_value, lower, upper.

    A posterior has a further column, p_direction.
    """
    columns = {c: np.array(getattr(fixed, c)) for c in _COLUMNS}
    if fixed.p_direction is not None:
        columns["p_direction"] = np.array(fixed.p_direction)
    return pd.DataFrame(columns, index=pd.Index(fixed.terms, name="term"))


def variance_components(random: Random, residual: Residual) -> pd.DataFrame:
    """Variances, then covariances, of each block, and the residual last, as ``as.data.frame(VarCorr(m))`` of lme4.

    ``residual`` is None if the family has no scale. Residuals with several variances have one row for each time.
    Unstructured correlations have one row per pair of times, with ``term1`` and ``term2``; the parameter of another
    structure has its name in ``term1``, its estimate in ``sdcor``, and no covariance (NaN).
    """
    rows: list[dict[str, Any]] = []
    for block in random:
        q = len(block.terms)
        pairs = [(i, i) for i in range(q)] + [(i, j) for i in range(q) for j in range(i + 1, q)]
        for i, j in pairs:
            rows.append(
                {
                    "group": block.group,
                    "term1": block.terms[i],
                    "term2": None if i == j else block.terms[j],
                    "covariance": float(block.covariance[i, j]),
                    "sdcor": float(block.sd[i] if i == j else block.correlation[i, j]),
                }
            )
    rows += [dict(zip(_COMPONENTS, row, strict=True)) for row, _ in _residual_rows(residual)]
    table = pd.DataFrame(rows, columns=list(_COMPONENTS))
    for column in ("term1", "term2"):  # a missing term is None, never NaN
        table[column] = pd.Series([row[column] for row in rows], dtype=object)
    return table


def with_sds(random: Random, smooths: Sequence[SmoothPartResult]) -> Random:
    """The blocks of group effects, and the curves of smooths as blocks of one standard deviation."""
    return (*random, *(smooth.component for smooth in smooths))


def smooth_terms(smooths: Sequence[SmoothPartResult]) -> pd.DataFrame:
    """Smooths: index term; columns basis, k, edf, sd, and from and to, the range that was fitted."""
    rows = [(s.basis, s.k, s.edf, s.sd, *s.range) for s in smooths]
    index = pd.Index([s.term for s in smooths], name="term")
    return pd.DataFrame(rows, columns=["basis", "k", "edf", "sd", "from", "to"], index=index)


def _residual_rows(residual: Residual) -> list[_ResidualRow]:
    """Rows of the residuals in the variance components, each with the name that broom's tables have for it."""
    if residual is None:
        return []
    if not isinstance(residual, ResidualPartResult):
        return [(("Residual", None, None, residual**2, residual), "sd__Observation")]
    times: Sequence[str | None] = [None] if len(residual.sd) == 1 else residual.times
    group = "Residual ratio" if residual.relative else "Residual"
    word = residual.sd_word.replace(" ", "_")
    rows: list[_ResidualRow] = [
        ((group, t, None, float(s) ** 2, float(s)), f"{word}__Observation" if t is None else f"{word}__{t}")
        for t, s in zip(times, residual.sd, strict=True)
        if not (residual.relative and t is None)  # a ratio of one
    ]
    if residual.structure == "us":
        covariance = residual.covariance
        pairs = [(i, j) for i in range(len(residual.times)) for j in range(i)]
        for value, (i, j) in zip(residual.estimates, pairs, strict=True):
            first, second = residual.times[j], residual.times[i]
            rows.append(((group, first, second, float(covariance[i, j]), float(value)), f"cor__{first}.{second}"))
        return rows
    for name, value in zip(residual.parameters, residual.estimates, strict=True):
        rows.append(((group, name, None, np.nan, float(value)), f"{residual.structure}__{name.replace(' ', '_')}"))
    return rows


def group_tables(random: Random, field: Literal["modes", "mode_sd"]) -> GroupTables:
    """One table per grouping factor, levels x terms; independent terms of one factor are columns of the same table."""
    tables = GroupTables()
    for block in random:
        index = pd.Index(list(block.levels), name=block.group)
        frame = pd.DataFrame(np.array(getattr(block, field)), index=index, columns=list(block.terms))
        tables[block.group] = pd.concat([tables[block.group], frame], axis=1) if block.group in tables else frame
    return tables


def coefficients(fixed: FixedPartResult, random: Random, group: str | None) -> pd.DataFrame:
    """Fixed plus group effects per level, levels x terms; a term without a fixed effect has only its group effect."""
    effects = group_tables(random, "modes")
    if group is None:
        if len(effects) != 1:
            raise DataError(
                f"Name the grouping factor: fit.coefficients(group), one of {listing(effects) or '(none)'}."
            )
        group = next(iter(effects))
    table = effects[group]
    terms = [*fixed.terms, *(t for t in table.columns if t not in fixed.terms)]
    base = dict(zip(fixed.terms, fixed.estimate, strict=True))
    columns = {
        t: base.get(t, 0.0) + (table[t].to_numpy() if t in table.columns else np.zeros(len(table))) for t in terms
    }
    return pd.DataFrame(columns, index=table.index)


def wald_table(
    estimate: FloatArray, std_error: FloatArray, df: FloatArray, level: float, index: pd.Index[Any] | None = None
) -> pd.DataFrame:
    """Columns estimate, std_error, df, statistic, p_value, lower, upper of t tests, or z tests if df are infinite.

    Args:
        estimate: Estimates, shape (m,).
        std_error: Standard errors, shape (m,).
        df: Degrees of freedom, shape (m,).
        level: Probability of the intervals.
        index: Index of the rows; None numbers them.
    """
    freedom = None if np.isinf(df).all() else df
    statistic, p_value = wald_test(estimate, std_error, freedom)
    lower, upper = wald_interval(estimate, std_error, freedom, level)
    columns = {"estimate": estimate, "std_error": std_error, "df": df, "statistic": statistic, "p_value": p_value}
    return pd.DataFrame({**columns, "lower": lower, "upper": upper}, index=index)


def check_ratios(model: ModelInfo) -> None:
    """Refuse to exponentiate coefficients that are no logarithms of ratios.

    Raises:
        OptionError: If exponentiated coefficients have no meaning for the link.
    """
    ratios = ("logit",) if model.threshold else ("log", "logit", "cloglog")
    if model.link not in ratios:
        raise OptionError(
            f"exponentiate=True has no meaning with the {model.link} link: exp of a coefficient is a ratio where the "
            f"link is {' or '.join(ratios)}."
        )


def tidy_fixed(
    fixed: FixedPartResult,
    _random: Random,
    _residual: Residual,
    *,
    exponentiate: bool = False,
    draws: FloatArray | None = None,
) -> pd.DataFrame:
    """Fixed effects as broom's ``tidy(effects = "fixed")``.

    Exponentiated estimates and standard errors are means and standard deviations of exponentiated draws, shape (S, p),
    where there are draws, and those of a lognormal distribution for a posterior that is known as a normal
    approximation; otherwise standard errors use the delta method.
    """
    table = fixed_effects(fixed).reset_index()
    if exponentiate and draws is not None:
        ratios = np.exp(draws)
        tail = 0.5 * (1 - fixed.level)
        table["estimate"], table["std_error"] = ratios.mean(axis=0), ratios.std(axis=0, ddof=1)
        table["lower"], table["upper"] = np.quantile(ratios, [tail, 1 - tail], axis=0)
    elif exponentiate and fixed.interval == "credible":
        # exp(N(m, v)) has the mean exp(m + v/2), and its variance is the square of the mean times exp(v) - 1
        variance = table["std_error"] ** 2
        table["estimate"] = np.exp(table["estimate"] + variance / 2)
        table["std_error"] = table["estimate"] * np.sqrt(np.expm1(variance))
        table["lower"], table["upper"] = np.exp(table["lower"]), np.exp(table["upper"])
    elif exponentiate:
        for column in ("estimate", "lower", "upper"):
            table[column] = np.exp(table[column])
        table["std_error"] *= table["estimate"]
    renamed = table.rename(
        columns={
            "std_error": "std.error",
            "p_value": "p.value",
            "lower": "conf.low",
            "upper": "conf.high",
            "p_direction": "p.direction",
        }
    )
    renamed.insert(0, "effect", "fixed")
    return renamed


def tidy_ran_pars(_fixed: FixedPartResult, random: Random, residual: Residual) -> pd.DataFrame:
    """SDs and correlations as broom's ``tidy(effects = "ran_pars")``, named ``sd__x`` and ``cor__x.y``."""
    table, terms = variance_components(random, residual), []
    last = [name for _, name in _residual_rows(residual)]
    own = table.iloc[: len(table) - len(last)]
    for first, second in zip(own["term1"].tolist(), own["term2"].tolist(), strict=True):
        terms.append(f"sd__{first}" if second is None or pd.isna(second) else f"cor__{first}.{second}")
    terms += last
    return pd.DataFrame({"effect": "ran_pars", "group": table["group"], "term": terms, "estimate": table["sdcor"]})


def tidy_ran_vals(fixed: FixedPartResult, random: Random, _residual: Residual) -> pd.DataFrame:
    """Group effects as broom's ``tidy(effects = "ran_vals")``: one row per level and term.

    Intervals are normal, as in broom, with the probability of the fixed effects' intervals; a posterior has none.
    """
    parts = []
    for block in random:
        n_levels, q = block.modes.shape
        parts.append(
            pd.DataFrame(
                {
                    "effect": "ran_vals",
                    "group": block.group,
                    "level": [level for level in block.levels for _ in range(q)],
                    "term": list(block.terms) * n_levels,
                    "estimate": block.modes.ravel(),
                    "std.error": block.mode_sd.ravel(),
                }
            )
        )
        if fixed.interval == "confidence":
            ends = wald_interval(block.modes.ravel(), block.mode_sd.ravel(), None, fixed.level)
            parts[-1] = parts[-1].assign(**dict(zip(("conf.low", "conf.high"), ends, strict=True)))
    columns = ["effect", "group", "level", "term", "estimate", "std.error"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def tidy_ran_coefs(fixed: FixedPartResult, random: Random, _residual: Residual) -> pd.DataFrame:
    """Coefficients per level as broom's ``tidy(effects = "ran_coefs")``."""
    parts = []
    for group in group_tables(random, "modes"):
        table = coefficients(fixed, random, group)
        long = table.reset_index(names="level").melt(id_vars="level", var_name="term", value_name="estimate")
        long.insert(0, "group", group)
        long.insert(0, "effect", "ran_coefs")
        parts.append(long)
    columns = ["effect", "group", "level", "term", "estimate"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


VERBS: dict[str, Callable[..., pd.DataFrame]] = {
    "fixed": tidy_fixed,
    "ran_pars": tidy_ran_pars,
    "ran_vals": tidy_ran_vals,
    "ran_coefs": tidy_ran_coefs,
}


PARTS = {"zero": "zero_inflation", "dispersion": "dispersion", "thresholds": "thresholds"}
"""Names that :func:`tidy` uses for the models of zero inflation and dispersion, and for thresholds."""


def tidy(
    fixed: FixedPartResult,
    random: Random,
    residual: Residual,
    smooths: Sequence[SmoothPartResult],
    effects: object,
    *,
    exponentiate: bool,
    parts: Mapping[str, FixedPartResult],
    draws: FloatArray | None = None,
) -> pd.DataFrame:
    """Tables of one or several kinds of effects, stacked.

    Args:
        fixed: Fixed effects.
        random: Random effects.
        residual: Residual SD, or the covariance of the residuals; None without a scale.
        smooths: Smooths, whose SDs are among those of the random effects.
        effects: One key or several of :data:`VERBS` or of ``parts`` (under the names of :data:`PARTS`), or ``"all"``.
        exponentiate: Whether to exponentiate the fixed effects and the zero inflation (to odds ratios).
        parts: Models of zero inflation and dispersion, by their keys.
        draws: Posterior draws of the fixed effects, shape (S, p), or None.

    Raises:
        OptionError: If the effects are unknown.
    """
    chosen = [effects] if isinstance(effects, str) or not isinstance(effects, Sequence) else list(effects)
    present = {PARTS[name]: part for name, part in parts.items()}
    known = (*VERBS, *present)
    wrong = [e for e in chosen if not isinstance(e, str) or e not in (*known, "all")]
    if wrong or not chosen:
        shown = repr(wrong[0] if wrong else effects)
        hint = did_you_mean(str(wrong[0]), known) if wrong else ""
        raise OptionError(f"effects={shown}: choose {listing(known)}, a list of these, or 'all'.{hint}")
    names: dict[str, None] = dict.fromkeys(str(n) for e in chosen for n in (known if e == "all" else (e,)))
    if exponentiate and not {"fixed", PARTS["zero"]} & set(names):
        raise OptionError(f"exponentiate=True is for effects='fixed', not for {listing(map(repr, names))}.")
    frames = []
    for n in names:
        if n in present:
            part = tidy_fixed(present[n], random, residual, exponentiate=exponentiate and n == PARTS["zero"])
            frames.append(part.assign(effect=n))
        elif n == "fixed":
            frames.append(tidy_fixed(fixed, random, residual, exponentiate=exponentiate, draws=draws))
        else:
            blocks = with_sds(random, smooths) if n == "ran_pars" else random
            frames.append(VERBS[n](fixed, blocks, residual))
    if len(frames) == 1:
        return frames[0]
    columns = [c for c in ("effect", "group", "level", "term") if any(c in p for p in frames)]
    columns += dict.fromkeys(c for p in frames for c in p.columns if c not in columns)
    full = [p.reindex(columns=columns) for p in frames if len(p)]
    kinds = {"level": object}  # integer labels stay integers beside rows without a level
    return pd.DataFrame(
        {c: pd.Series([v for p in full for v in p[c].tolist()], dtype=kinds.get(c)) for c in columns},
    )


def glance(
    model: ModelInfo, fit: Criteria, status: Status, engine: EngineInfo, residual_deviance: float
) -> pd.DataFrame:
    """Fit statistics as broom's ``glance``, in one row."""
    return pd.DataFrame(
        [
            {
                "nobs": model.n_obs,
                "sigma": fit.sigma,
                "logLik": fit.log_likelihood,
                "AIC": fit.aic,
                "BIC": fit.bic,
                "deviance": fit.deviance,
                "REMLcrit": fit.deviance if fit.criterion == "REML" else np.nan,
                "residual.deviance": residual_deviance,
                "npar": fit.n_parameters,
                "df.residual": fit.df_residual,
                "dispersion": fit.pearson_dispersion,
                "criterion": fit.criterion,
                "status": status.state,
                "backend": engine.backend,
            }
        ]
    )
