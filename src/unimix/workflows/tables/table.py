"""``table``: models side by side, as in a paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from unimix.errors import UnimixError
from unimix.fitted import describe
from unimix.fitted.sampled import ratio_draws
from unimix.fitted.tables import tidy_fixed
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.tables.cells import Cell, Row
from unimix.workflows.tables.column_heads import Model, headed
from unimix.workflows.tables.footnotes import notes_of
from unimix.workflows.tables.model import ModelTable
from unimix.workflows.tables.options import SECTIONS, Options, checked_fits, checked_names, checked_options

Value = float | int | str | None
Section = Literal["fixed", "zero_inflation", "dispersion", "random", "fit"]
PlacedCells = dict[tuple[str, str], dict[int, tuple[Cell, ...]]]
PARTS = {"zero": "zero_inflation", "dispersion": "dispersion", "thresholds": "thresholds"}
STATES = {
    "converged": "yes",
    "singular": "yes, singular",
    "not_identified": "NO, not identified",
    "not_converged": "NO",
    "failed": "NO",
}
CRITERIA = (
    "Rows", "Levels of ", "Engine", "Method", "Degrees of freedom", "Log-likelihood", "AIC", "BIC", "Draws", "R-hat",
    "ESS", "Divergent transitions", "R2", "ICC", "Converged",
)  # fmt: skip
DEGREES = {"satterthwaite": "Satterthwaite", "kenward-roger": "Kenward-Roger", "normal": "normal (z)"}


@suggests_names
def table(
    fits: FitResult | Sequence[FitResult] | Mapping[str, FitResult],
    names: Sequence[str] | None = None,
    *,
    layout: Literal["below", "beside"] = "below",
    show: Literal["se", "ci", "both"] = "se",
    stars: bool | Sequence[float] = False,
    p_values: bool = False,
    exponentiate: bool = False,
    digits: int = 2,
    coef_names: Mapping[str, str] | None = None,
    keep: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    sections: Section | Sequence[Section] | None = None,
    r2: bool = False,
    caption: str = "",
) -> ModelTable:
    """Set models side by side in a table for a paper, one column per model.

    The models may have any engines, formulas and responses. Coefficients stand in the order of their first appearance;
    below them follow zero inflation and dispersion, standard deviations and correlations of the group effects, and
    criteria of the fit. Notes say what every number is, which engine in which version computed it, and which models did
    not converge or are singular.

    Args:
        fits: One or several results, or a dict of results by name, such as ``comparison.results``.
        names: Heads of the columns. If left out, the engines, if all fits are of one model; otherwise Model 1, 2, ...,
            below the engines if these differ, too.
        layout: ``"below"`` puts errors, intervals and p values below the estimate, ``"beside"`` puts them beside it.
        show: ``"se"`` shows standard errors, ``"ci"`` intervals of the level that was fitted, ``"both"`` both.
        stars: Whether to show stars for p values below .05, .01 and .001; or up to three other thresholds. Posteriors
            have no stars.
        p_values: Whether to show p values, and of posteriors the probability of direction, pd.
        exponentiate: Whether to show odds ratios, rate ratios or ratios of means, as ``fit.tidy(exponentiate=True)``:
            exp of fixed effects and interval ends, with standard errors by the delta method; for a posterior means and
            SDs of the ratios. It applies to zero inflation, but not to dispersion and the random part.
        digits: Number of decimals. A number has more if its error, or its sign, would not be visible otherwise.
        coef_names: Labels of terms and grouping factors, by their names.
        keep: Coefficients to show. The name of a term (``period``, ``a:b``) stands for all of its coefficients.
        drop: Coefficients or terms to leave out; a note names them.
        sections: Sections to show; all, if left out.
        r2: Whether to show R2 and the intraclass correlation, from ``fit.r2()`` and ``fit.icc()``. If a model has
            none, a note says why. For counts this needs another fit.
        caption: Caption above the table.

    Returns:
        The table: ``.frame`` as data, ``.to_html()``, ``.to_latex()``, ``.to_markdown()``, ``.to_docx(path)``,
        ``.great_table()``, ``.save(path)``.

    Raises:
        OptionError: If arguments are wrong, all faults at once; or if the link of a model has no ratios for
            ``exponentiate``.
        DataError: If the number of names differs from the number of results.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> um.table([small, large], names=["intercepts", "slopes"], sections="fixed")
        ---------------------------------
                       intercepts  slopes
        ---------------------------------
        Fixed effects
          Intercept      251.41    251.41
                         (9.75)    (6.82)
          Days           10.47     10.47
                         (0.80)    (1.55)
        ---------------------------------
        ...
    """
    chosen, default_names = checked_fits(fits)
    chosen_names = names if names is not None else default_names
    models = headed(chosen, None if chosen_names is None else checked_names(chosen_names, chosen))
    options = checked_options(
        chosen,
        layout=layout,
        show=show,
        stars=stars,
        p_values=p_values,
        exponentiate=exponentiate,
        digits=digits,
        coef_names=coef_names,
        keep=keep,
        drop=drop,
        sections=sections,
    )
    placed_cells: PlacedCells = {}
    for j, model in enumerate(models):
        _coefficients(placed_cells, j, model.fit, options)
        _fit(placed_cells, j, model, models, options)
    _random(placed_cells, models, options)
    notes = _explained(placed_cells, models) if r2 else ()
    rows = tuple(
        Row(SECTIONS[key], label, tuple(cells.get(j, ()) for j in range(len(models))))
        for key in options.sections
        for (section, label), cells in sorted(placed_cells.items(), key=_place)
        if section == key
    )
    return ModelTable(
        tuple(m.column for m in models), rows, notes_of(models, options, notes), options.layout, str(caption)
    )


def _coefficients(placed_cells: PlacedCells, j: int, fit: FitResult, options: Options) -> None:
    parts = {"fixed": fit.fixed, **{PARTS[name]: part for name, part in fit.parts.items()}}
    for section, part in parts.items():
        ratios = options.exponentiate and section != "dispersion"
        draws = ratio_draws(fit) if ratios and section == "fixed" else None
        with np.errstate(over="ignore"):
            rows = tidy_fixed(part, (), None, exponentiate=ratios, draws=draws)
            rows = rows[~rows["term"].isin(list(describe.of_smooths(fit)))]
        for _, row in rows.iterrows():
            if row["term"] not in options.hidden:
                label = options.labels.get(row["term"], row["term"])
                placed_cells.setdefault((section, label), {})[j] = _cells(row, options)


def _cells(row: pd.Series[Any], options: Options) -> tuple[Cell, ...]:
    estimate, error, p = (float(row[c]) for c in ("estimate", "std.error", "p.value"))
    ends = float(row["conf.low"]), float(row["conf.high"])
    places = describe.coefficient_places(estimate, error, options.digits)
    stars = "*" * sum(p < threshold for threshold in options.stars)
    cells = [Cell("estimate", estimate, describe.fixed_number(estimate, places), stars)]
    if options.errors and not np.isnan(error):
        cells.append(Cell("std_error", error, describe.fixed_number(error, places)))
    if options.intervals and not np.isnan(ends).any():
        interval = ", ".join(describe.fixed_number(v, places) for v in ends)
        cells.append(Cell("interval", ends, interval))
    if options.p_values and not np.isnan(p):
        cells.append(Cell("p_value", p, describe.p_number(p)))
    likelier = float(row.get("p.direction", np.nan))
    if options.p_values and not np.isnan(likelier):
        text = "> .999" if likelier > 0.999 else describe.without_zero(likelier, 3)
        cells.append(Cell("p_direction", likelier, text))
    return tuple(cells)


def _random(placed_cells: PlacedCells, models: Sequence[Model], options: Options) -> None:
    """Add standard deviations and correlations of each grouping factor, and then those of the residual."""

    def put(section: str, label: str, j: int, value: float, text: str) -> None:
        at = placed_cells.setdefault((section, label), {})
        number = 2
        while j in at:  # several blocks of one grouping factor with an effect of the same name
            at = placed_cells.setdefault((section, f"{label} {number}"), {})
            number += 1
        at[j] = (Cell("value", value, text),)

    def sized(value: float) -> str:
        return describe.fixed_number(value, describe.places_for([value], options.digits))

    blocks = [
        (j, *block) for j, m in enumerate(models) for block in zip(m.fit.random, describe.shown_sds(m.fit), strict=True)
    ]
    for group in dict.fromkeys(block.group for _, block, _ in blocks):
        shown = options.labels.get(group, group)
        described = [
            (j, b, sds, [options.labels.get(t, t) for t in b.terms]) for j, b, sds in blocks if b.group == group
        ]
        for j, block, sds, terms in described:
            for term, sd, printed in zip(terms, block.sd, sds, strict=True):
                put("random", f"SD ({term} | {shown})", j, float(sd), sized(float(printed)))
        for j, block, _, terms in described:
            for a, b in itertools.combinations(range(len(terms)), 2):
                value = float(block.correlation[a, b])
                text = "undefined" if np.isnan(value) else describe.without_zero(value, max(options.digits, 2))
                put("random", f"Correlation ({terms[a]}, {terms[b]} | {shown})", j, value, text)
    for j, smooth in ((j, s) for j, m in enumerate(models) for s in m.fit.smooths):
        label = options.labels.get(smooth.term, smooth.term)
        put("random", f"SD (curve of {label})", j, smooth.sd, sized(smooth.sd))
        put("random", f"Effective df ({label})", j, smooth.edf, describe.fixed_number(smooth.edf, 2))
    for j, fit in enumerate(m.fit for m in models):
        if fit.model.family == "gaussian":
            text = sized(fit.sigma) if np.isfinite(fit.sigma) else "varies by row"
            put("random", "SD (Residual)", j, fit.sigma, text)
            if (part := fit.residual_part) is not None:
                word = "SD ratio" if part.relative else "SD"
                for time, sd in zip(part.times, part.sd, strict=True) if len(part.sd) > 1 else ():
                    put("random", f"{word} (Residual, {time})", j, float(sd), sized(float(sd)))
                for name, value in zip(part.parameters, map(float, part.estimates), strict=True):
                    text = describe.without_zero(value, max(options.digits, 2)) if abs(value) < 1 else sized(value)
                    put("random", f"Residual, {part.structure}: {name}", j, value, text)
        else:
            for name, value in fit.criteria.parameters.items():
                put("dispersion", f"{name} ({fit.model.family.replace('_', ' ')})", j, value, sized(value))


def _place(item: tuple[tuple[str, str], Any]) -> int:
    """Position for sorting: criteria have a fixed order, other rows keep the order of their first appearance."""
    section, label = item[0]
    return next(i for i, start in enumerate(CRITERIA) if label.startswith(start)) if section == "fit" else 0


def _fit(placed_cells: PlacedCells, j: int, model: Model, models: Sequence[Model], options: Options) -> None:
    fit = model.fit

    def put(label: str, value: Value, text: str) -> None:
        if text:
            placed_cells.setdefault(("fit", label), {})[j] = (Cell("value", value, text),)

    info, status = fit.model, fit.status
    put("Rows", info.n_obs, str(info.n_obs))
    if any(m.fit.model.n_dropped for m in models):
        put("Rows left out (missing values)", info.n_dropped, str(info.n_dropped))
    for group, levels in info.groups.items():
        put(f"Levels of {options.labels.get(group, group)}", levels, str(levels))
    if len({m.column.backend for m in models}) > 1 and any(m.column.backend not in _head(m) for m in models):
        put("Engine", fit.engine.backend, fit.engine.backend)
    method = fit.criteria.criterion if fit.criteria.criterion.startswith("AGQ(") else info.method
    put("Method", method, method)
    if not describe.is_posterior(fit):
        degrees = DEGREES.get(fit.fixed.df_method, fit.fixed.df_method)
        put("Degrees of freedom", degrees, degrees if fit.fixed.terms else "")
        likelihood = fit.log_likelihood
        put(f"Log-likelihood ({fit.criteria.criterion})", likelihood, describe.fixed_number(likelihood, 2))
        put("AIC", fit.aic, describe.fixed_number(fit.aic, 2))
        put("BIC", fit.bic, describe.fixed_number(fit.bic, 2))
    if status.n_draws:
        put("Draws", status.n_draws, str(status.n_draws))
        for label, value, places in (
            ("R-hat (largest)", status.rhat, 3),
            ("ESS (smallest, bulk)", status.ess_bulk, 0),
            ("ESS (smallest, tail)", status.ess_tail, 0),
        ):
            if value is not None:
                put(label, float(value), describe.fixed_number(float(value), places))
        if status.divergences is not None:
            put("Divergent transitions", status.divergences, str(status.divergences))
    put("Converged", status.state, f"{STATES[status.state]}{model.column.mark}")


def _explained(placed_cells: PlacedCells, models: Sequence[Model]) -> tuple[str, ...]:
    """Add R2 and the intraclass correlation to the criteria, and return the notes on them."""
    notes = []
    for j, model in enumerate(models):
        try:
            shares = model.fit.r2()
            plain = {"r_squared": "R2"}
            rows = {plain.get(str(k), f"R2 ({k})"): float(v) for k, v in shares.table["value"].items()}
            notes += [f"R2: {method}." for method in shares.table["method"].unique()]
            if model.fit.random:
                rows["ICC (adjusted)"] = model.fit.icc().adjusted
        except UnimixError as error:
            rows = {}
            notes.append(f"{model.column.label} has no R2: {error}")
        for label, value in rows.items():
            if np.isfinite(value):
                cell = Cell("value", value, describe.without_zero(value, 2))
                placed_cells.setdefault(("fit", label), {})[j] = (cell,)
    return tuple(dict.fromkeys(notes))


def _head(model: Model) -> str:
    return f"{model.column.group} {model.column.name}"


__all__ = ["table"]
