"""The printed summary of a fit, for terminals and notebooks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from unimix.display import Block, TextTable, as_text
from unimix.errors import listing
from unimix.fitted import tables
from unimix.fitted.describe import is_robust, model_text, of_smooths, shown_sds, spread_words, straight
from unimix.fitted.formatting import column, decimals, number, p_direction, p_value
from unimix.fitted.model import FittedModel
from unimix.fitted.schema import ResidualPartResult

_STATES = {
    "converged": "converged",
    "singular": "converged on the boundary (singular: a variance is zero or a correlation is +-1)",
    "not_identified": "NOT IDENTIFIED: the data do not determine all parameters",
    "not_converged": "DID NOT CONVERGE: do not use these numbers",
    "failed": "FAILED: do not use these numbers",
}


def sentence(fit: FittedModel) -> str:
    """One sentence: the model, the engine that fitted it, and whether it converged."""
    groups = ", ".join(f"{n} {name}" for name, n in fit.model.groups.items())
    over = f" over {groups}" if groups else ""
    model = model_text(fit)
    model += "," if model != fit.model.formula else ""
    what = {"posterior": "posterior", "least squares": "least squares"}.get(fit.model.method, fit.model.method)
    family = (
        ""
        if fit.model.family == "gaussian" and fit.model.link == "identity"
        else (f"{fit.model.family.replace('_', ' ')}, {fit.model.link} link, ")
    )
    return (
        f"{model} fitted by {fit.engine.backend} ({family}{what}) to {fit.model.n_obs} rows{over}: "
        f"{_STATES[fit.status.state]}."
    )


def fixed_table(fit: FittedModel) -> TextTable:
    """Fixed effects for printing; columns without values are left out."""
    z = None if fit.fixed.interval == "credible" else fit.fixed.df_method == "normal"
    return _coefficients(fit.fixed_effects.drop(index=list(of_smooths(fit))), z=z)


def smooth_table(fit: FittedModel) -> TextTable:
    """Smooths for printing: basis, number of functions, effective degrees of freedom, and the curve's SD."""
    table = tables.smooth_terms(fit.smooths)
    shown = {"basis": list(table["basis"]), "k": [str(k) for k in table["k"]]}
    shown |= {"edf": [decimals(v, 2) for v in table["edf"]], "sd": column(table["sd"])}
    rows = tuple(zip(map(str, table.index), *shown.values(), strict=True))
    return TextTable(("", *shown), rows, "llrrr", stub=1, indent=2)


def straight_lines(fit: FittedModel) -> str:
    """A sentence about smooths whose curve has no variance; empty if there are none."""
    terms = [s.term for s in straight(fit)]
    if not terms:
        return ""
    several = len(terms) > 1
    lines = (
        "are straight lines: the variances of their curves are" if several else "is a straight line: its curve's SD is"
    )
    return f"{listing(terms)} {lines} estimated as zero."


def _coefficients(table: pd.DataFrame, *, z: bool | None) -> TextTable:
    """Coefficients for printing; ``z`` is None for a posterior, True for z tests, False for t tests."""
    shown = {"estimate": column(table["estimate"]), "sd" if z is None else "std_error": column(table["std_error"])}
    if z is not None:
        if not z:
            shown["df"] = [decimals(v, 1) for v in table["df"]]
        shown["z" if z else "t"] = [decimals(v, 2) for v in table["statistic"]]
        shown["p_value"] = [p_value(v) for v in table["p_value"]]
    shown |= {"lower": column(table["lower"]), "upper": column(table["upper"])}
    if z is None and "p_direction" in table:
        shown["p_direction"] = [p_direction(v) for v in table["p_direction"]]
    rows = tuple(zip(map(str, table.index), *shown.values(), strict=True))
    return TextTable(("", *shown), rows, "l" + "r" * len(shown), stub=1, indent=2)


def random_table(fit: FittedModel) -> TextTable:
    """Standard deviations, and correlations as a lower triangle, for printing."""
    named: list[tuple[str, str, list[str]]] = []
    sds: list[float] = []
    for block, printed in zip(fit.random, shown_sds(fit), strict=True):
        for i, term in enumerate(block.terms):
            row = [float(block.correlation[i, j]) for j in range(i)]
            correlations = ["undefined" if np.isnan(c) else decimals(c, 3) for c in row]
            named.append((block.group if i == 0 else "", term, correlations))
            sds.append(float(printed[i]))
    if "sigma" in fit.criteria.parameters and fit.residual_part is None:
        named.append(("Residual" if fit.model.sigma is None else "Residual (known)", "", []))
        sds.append(fit.sigma)
    width = max((len(correlations) for _, _, correlations in named), default=0)
    rows = tuple(
        (group, term, sd, *correlations, *[""] * (width - len(correlations)))
        for (group, term, correlations), sd in zip(named, column(sds), strict=True)
    )
    heads = ("group", "term", "sd", *["corr"][:width], *[""] * (width - 1))
    return TextTable(heads, rows, "ll" + "r" * (width + 1), stub=2, indent=2)


def residual_table(part: ResidualPartResult) -> TextTable:
    """Standard deviations and correlations of residuals, for printing."""
    if part.structure != "us":
        names = [part.sd_word] if len(part.sd) == 1 else [f"{part.sd_word} at {t}" for t in part.times]
        sds = column(np.asarray(part.sd))
        rows = [] if part.relative and len(part.sd) == 1 else [*zip(names, sds, strict=True)]  # no ratio of one
        rows += [(n, f"{v:.4g}") for n, v in zip(part.parameters, part.estimates, strict=True)]
        return TextTable(("parameter", "estimate"), tuple(rows), "lr", stub=1, indent=2)
    q, r = len(part.times), part.covariance / np.outer(part.sd, part.sd)
    cells = [[decimals(r[i, j], 3) for j in range(i)] + [""] * (q - 1 - i) for i in range(q)]
    table = tuple((t, sd, *own) for t, sd, own in zip(part.times, column(np.asarray(part.sd)), cells, strict=True))
    return TextTable(("time", part.sd_word, "corr", *[""] * (q - 2)), table, "l" + "r" * q, stub=1, indent=2)


def view(fit: FittedModel) -> list[Block]:
    """The summary as blocks: one sentence, then tables."""
    level = f"{100 * fit.fixed.level:g}% {fit.fixed.interval} intervals"
    df = {"normal": "normal (z)", "posterior": ""}.get(fit.fixed.df_method, f"{fit.fixed.df_method} df")
    robust = spread_words(fit) if is_robust(fit) else ""
    blocks: list[Block] = [
        sentence(fit),
        "",
        f"Fixed effects ({', '.join(t for t in (level, df, robust) if t)})",
        fixed_table(fit),
    ]
    if fit.smooths:
        blocks += ["", "Smooths (edf: effective degrees of freedom; sd: of the curve about a line)", smooth_table(fit)]
        blocks += [line] if (line := straight_lines(fit)) else []
    if fit.random:
        blocks += ["", "Random effects", random_table(fit)]
    elif "sigma" not in fit.criteria.parameters or fit.residual_part is not None:
        pass
    elif fit.model.sigma is not None:
        blocks += ["", f"Known residual standard deviation {number(fit.sigma)}"]
    elif fit.fixed.interval == "credible" or fit.smooths:
        blocks += ["", f"Residual standard deviation {number(fit.sigma)}"]
    elif fit.model.method != "least squares":
        blocks += ["", f"Residual standard deviation {number(fit.sigma)} (maximum likelihood)"]
    else:
        df_residual = fit.criteria.df_residual
        blocks += ["", f"Residual standard deviation {number(fit.sigma)} on {df_residual} degrees of freedom"]
    if fit.residual_part is not None:
        heading = f"Residuals, {fit.residual_part.text} in {fit.residual_part.n_groups} {fit.residual_part.group}"
        blocks += ["", heading, residual_table(fit.residual_part)]
    for name, part in fit.parts.items():
        blocks += ["", part_heading(fit, name), _coefficients(tables.fixed_effects(part), z=True)]
    for line in (dispersion_line(fit), likelihood_line(fit)):
        blocks += ["", line] if line else []
    if fit.status.n_draws:
        blocks += [
            "",
            (
                f"{fit.status.n_draws} draws in {fit.status.n_chains} chains: R-hat {fit.status.rhat:.3f}, "
                f"ESS {fit.status.ess_bulk:.0f} (bulk) {fit.status.ess_tail:.0f} (tail), "
                f"{fit.status.divergences} divergences"
            ),
            "Priors: " + ", ".join(f"{k} ~ {v}" for k, v in fit.engine.priors.items()),
        ]
    return [*blocks, *(f"Note: {m}" for m in dict.fromkeys((*fit.status.messages, *fit.notes)))]


def summary(fit: FittedModel) -> str:
    """Summary of the fit as text: one sentence, then tables; ``print(fit)`` shows the same.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> print(fit.summary())
        Reaction ~ Days + (1 | Subject) fitted by pls (REML) to 180 rows over 18 Subject: converged.
        <BLANKLINE>
        Fixed effects (95% confidence intervals, satterthwaite df)
                     estimate  std_error     df      t  p_value     lower     upper
          Intercept  251.4051     9.7467   22.8  25.79   <0.001  231.2332  271.5770
          Days        10.4673     0.8042  161.0  13.02   <0.001    8.8791   12.0555
        <BLANKLINE>
        Random effects
          group     term            sd
          Subject   Intercept  37.1238
          Residual             30.9912
        <BLANKLINE>
        REML log-likelihood -893.233, AIC 1794.47, BIC 1807.24, 4 parameters
    """
    return as_text(view(fit))


def part_heading(fit: FittedModel, name: str) -> str:
    """Heading of the coefficients of zero inflation or dispersion, which says what they model, or of thresholds."""
    if name == "thresholds":
        return f"Thresholds ({fit.model.threshold})"
    if name == "zero":
        return "Zero inflation (logit of the probability of a structural zero)"
    parameter = fit.family.parameters[0]
    return f"Dispersion (log {parameter})"


def dispersion_line(fit: FittedModel) -> str:
    """Dispersion parameters and the Pearson statistic; empty if there are none."""
    if "thresholds" in fit.parts:
        return ""
    parts = [
        f"{name} {number(value)}"
        for name, value in fit.criteria.parameters.items()
        if name not in ("sigma", "dispersion")
    ]
    parts += [number(v) for name, v in fit.criteria.parameters.items() if name == "dispersion"]
    if not np.isnan(fit.criteria.pearson_dispersion):
        parts.append(f"Pearson chi-squared / df {number(fit.criteria.pearson_dispersion)}")
    return "Dispersion: " + ", ".join(parts) if parts else ""


def likelihood_line(fit: FittedModel) -> str:
    """Log-likelihood and information criteria; empty if there is no log-likelihood."""
    if np.isnan(fit.log_likelihood):
        return ""
    kind = fit.criteria.criterion
    name = "log-likelihood" if kind == "ML" else f"{kind} log-likelihood"
    criteria = f"AIC {fit.aic:.2f}, BIC {fit.bic:.2f}, {fit.criteria.n_parameters} parameters"
    return f"{name} {fit.log_likelihood:.3f}, {criteria}"


__all__ = [
    "dispersion_line",
    "fixed_table",
    "likelihood_line",
    "part_heading",
    "random_table",
    "residual_table",
    "sentence",
    "summary",
    "view",
]
