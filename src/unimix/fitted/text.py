"""Results in words, for terminals and notebooks."""

from __future__ import annotations

import html as escape
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from unimix.fitted import tables
from unimix.fitted.describe import model_text, shown_sds
from unimix.fitted.model import FittedModel

_STATES = {
    "converged": "converged",
    "singular": "converged on the boundary (singular: a variance is zero or a correlation is +-1)",
    "not_converged": "DID NOT CONVERGE: do not use these numbers",
    "failed": "FAILED: do not use these numbers",
}


def number(value: float, digits: int = 4) -> str:
    """A number for a table; an empty text for not-a-number."""
    if np.isnan(value):
        return ""
    if np.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    value = float(value) + 0.0  # no -0
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.{digits - 1}e}"
    if 0 < abs(value) < 0.01:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.{max(0, digits - 2)}f}"


def decimals(value: float, places: int) -> str:
    """A number with this many decimals, never -0; an empty text for not-a-number."""
    if not np.isfinite(value):
        return number(value)
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def column(values: Iterable[float], digits: int = 4) -> list[str]:
    """Numbers of one table column with one number of decimals: enough for ``digits`` digits of the smallest.

    Where sizes differ too much for that, each number is written for itself.
    """
    numbers = [float(v) for v in values]
    sizes = [abs(v) for v in numbers if np.isfinite(v) and v != 0]
    if not sizes:
        return [number(v, digits) for v in numbers]
    usual = digits if max(sizes) < 1000 else max(0, digits - 2)
    places = max(usual, digits - 1 - math.floor(math.log10(min(sizes))))
    if places > digits + 3 or max(sizes) >= 1e6:
        return [number(v, digits) for v in numbers]
    return [decimals(v, places) for v in numbers]


def p_value(value: float) -> str:
    """A p value as papers print it."""
    return "" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def sentence(fit: FittedModel) -> str:
    """What was fitted, by whom, and whether it worked."""
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


def fixed_table(fit: FittedModel) -> pd.DataFrame:
    """Fixed effects formatted for reading; columns that an engine has no values for are left out."""
    z = None if fit.fixed.interval == "credible" else fit.fixed.df_method == "normal"
    return _coefficients(fit.fixed_effects, z=z)


def _coefficients(table: pd.DataFrame, *, z: bool | None) -> pd.DataFrame:
    """``z`` is None for a posterior, True for z tests, False for t tests."""
    shown = pd.DataFrame(index=table.index)
    shown["estimate"] = column(table["estimate"])
    shown["sd" if z is None else "std_error"] = column(table["std_error"])
    if z is not None:
        if not z:
            shown["df"] = [decimals(v, 1) for v in table["df"]]
        shown["z" if z else "t"] = [decimals(v, 2) for v in table["statistic"]]
        shown["p_value"] = [p_value(v) for v in table["p_value"]]
    shown["lower"] = column(table["lower"])
    shown["upper"] = column(table["upper"])
    shown.index.name = None
    return shown


def random_table(fit: FittedModel) -> pd.DataFrame:
    """Standard deviations, and correlations as a lower triangle, formatted for reading."""
    rows: list[list[str]] = []
    sds: list[float] = []
    for block, printed in zip(fit.random, shown_sds(fit), strict=True):
        for i, term in enumerate(block.terms):
            found = [float(block.correlation[i, j]) for j in range(i)]
            told = ["undefined" if np.isnan(c) else decimals(c, 3) for c in found]
            rows.append([block.group if i == 0 else "", term, *told])
            sds.append(float(printed[i]))
    if "sigma" in fit.fit.parameters:
        rows.append(["Residual", ""])
        sds.append(fit.sigma)
    width = max((len(row) - 2 for row in rows), default=0)
    shown = [
        [*row[:2], sd, *row[2:], *[""] * (width + 2 - len(row))] for row, sd in zip(rows, column(sds), strict=True)
    ]
    return pd.DataFrame(shown, columns=["group", "term", "sd", *["corr"][:width], *[""] * (width - 1)])


def summary(fit: FittedModel) -> str:
    """One sentence and then tables."""
    level = f"{100 * fit.fixed.level:g}% {fit.fixed.interval} intervals"
    df = {"normal": "normal (z)", "posterior": ""}.get(fit.fixed.df_method, f"{fit.fixed.df_method} df")
    lines = [
        sentence(fit),
        "",
        f"Fixed effects ({', '.join(t for t in (level, df) if t)})",
        _indent(fixed_table(fit).to_string()),
    ]
    if fit.random:
        lines += ["", "Random effects", _indent(random_table(fit).to_string(index=False))]
    elif "sigma" not in fit.fit.parameters:
        pass
    elif fit.fixed.interval == "credible":
        lines += ["", f"Residual standard deviation {number(fit.sigma)}"]
    elif fit.model.method != "least squares":
        lines += ["", f"Residual standard deviation {number(fit.sigma)} (maximum likelihood)"]
    else:
        lines += ["", f"Residual standard deviation {number(fit.sigma)} on {fit.fit.df_residual} degrees of freedom"]
    for name, part in fit.parts.items():
        lines += ["", part_heading(fit, name), _indent(_coefficients(tables.fixed_effects(part), z=True).to_string())]
    for line in (dispersion_line(fit), likelihood_line(fit)):
        lines += ["", line] if line else []
    if fit.status.n_draws:
        lines += [
            "",
            (
                f"{fit.status.n_draws} draws in {fit.status.n_chains} chains: R-hat {fit.status.rhat:.3f}, "
                f"ESS {fit.status.ess_bulk:.0f} (bulk) {fit.status.ess_tail:.0f} (tail), "
                f"{fit.status.divergences} divergences"
            ),
            "Priors: " + ", ".join(f"{k} ~ {v}" for k, v in fit.engine.priors.items()),
        ]
    lines += [f"Note: {m}" for m in dict.fromkeys((*fit.status.messages, *fit.notes))]
    return "\n".join(lines)


def part_heading(fit: FittedModel, name: str) -> str:
    """Over the coefficients of what is modelled beside the mean: what their linear predictor is."""
    if name == "zero":
        return "Zero inflation (logit of the probability of a structural zero)"
    parameter = fit.family.parameters[0]
    return f"Dispersion (log {parameter})"


def dispersion_line(fit: FittedModel) -> str:
    """Dispersion parameters and the Pearson statistic, or nothing."""
    told = [
        f"{name} {number(value)}" for name, value in fit.fit.parameters.items() if name not in ("sigma", "dispersion")
    ]
    told += [number(v) for name, v in fit.fit.parameters.items() if name == "dispersion"]
    if not np.isnan(fit.fit.pearson_dispersion):
        told.append(f"Pearson chi-squared / df {number(fit.fit.pearson_dispersion)}")
    return "Dispersion: " + ", ".join(told) if told else ""


def likelihood_line(fit: FittedModel) -> str:
    """Log-likelihood and information criteria, or nothing."""
    if np.isnan(fit.log_likelihood):
        return ""
    kind = fit.fit.criterion
    name = "log-likelihood" if kind == "ML" else f"{kind} log-likelihood"
    criteria = f"AIC {fit.aic:.2f}, BIC {fit.bic:.2f}, {fit.fit.n_parameters} parameters"
    return f"{name} {fit.log_likelihood:.3f}, {criteria}"


def _indent(block: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in block.splitlines())


def html(fit: FittedModel) -> str:
    """The same for a notebook."""
    parts = [
        f"<p>{escape.escape(sentence(fit))}</p>",
        fixed_table(fit).to_html(border=0),
        random_table(fit).to_html(index=False, border=0),
    ]
    for name, part in fit.parts.items():
        table = _coefficients(tables.fixed_effects(part), z=True).to_html(border=0)
        parts.append(f"<p>{escape.escape(part_heading(fit, name))}</p>{table}")
    parts += [f"<p>{escape.escape(line)}</p>" for line in (dispersion_line(fit), likelihood_line(fit)) if line]
    notes = "".join(f"<li>{escape.escape(m)}</li>" for m in dict.fromkeys((*fit.status.messages, *fit.notes)))
    return "\n".join([*parts, f"<ul>{notes}</ul>" if notes else ""])


__all__ = [
    "column",
    "decimals",
    "fixed_table",
    "html",
    "number",
    "p_value",
    "random_table",
    "sentence",
    "summary",
    "tables",
]
