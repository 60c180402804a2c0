"""Checks that look at residuals, conditional modes, and rows and levels left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from unimix.analysis.findings import LOOK, OK, PROBLEM, Finding
from unimix.analysis.influence import Influence, influence
from unimix.errors import UnimixError

if TYPE_CHECKING:
    from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

SURE = 0.001
"""P value below which a shape is not chance; thousands of rows make small departures significant, so that their size
is looked at, too."""
FEWEST = 20
"""Values from which the shape of a distribution can be judged (the test of kurtosis needs them)."""
MOST_VALUES = 40_000_000


def normal_residuals(fit: FitResult) -> Finding | None:
    """Skewness and kurtosis, tested after D'Agostino & Pearson (1973), Biometrika 60:613-622."""
    if not fit.family.is_linear or fit.parts:
        return None
    found = _shape(fit.resid("standardized"))
    if found is None:
        return None
    verdict, skew, kurtosis = found
    return Finding(
        "residuals: normality",
        verdict,
        skew,
        f"Skewness {skew:.2f}, excess kurtosis {kurtosis:.2f}{'' if verdict == OK else ': not normal'}.",
        "" if verdict == OK else f"{_remedy(skew, fit.rows.observed)} See fit.plot.diagnostics().",
    )


def _remedy(skew: float, observed: FloatArray) -> str:
    if abs(skew) <= 1:
        return "Heavy tails: family='student_t'. Estimates hardly suffer, prediction intervals do."
    if skew > 1 and (observed > 0).all():
        return "Model the logarithm of the response, or family='gamma'."
    return "Transform the response, or family='student_t'."


def _shape(values: FloatArray) -> tuple[str, float, float] | None:
    """Verdict, skewness and excess kurtosis; None for too few values or constant ones.

    West, Finch & Curran (1995): a skewness beyond 2 or a kurtosis beyond 7 is a problem.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST or np.ptp(values) == 0:
        return None
    skew, kurtosis = float(stats.skew(values)), float(stats.kurtosis(values))
    if abs(skew) > 2 or kurtosis > 7:
        return PROBLEM, skew, kurtosis
    sure = float(stats.normaltest(values).pvalue) < SURE
    return (LOOK if sure and (abs(skew) > 0.5 or kurtosis > 1 or kurtosis < -1) else OK), skew, kurtosis


def normal_modes(fit: FitResult) -> list[Finding] | None:
    """The same of every kind of conditional mode."""
    made = []
    for block in fit.random:
        for j, term in enumerate(block.terms):
            found = _shape(np.asarray(block.modes)[:, j])
            if found is None:
                continue
            verdict, skew, kurtosis = found
            made.append(
                Finding(
                    f"group effects: {term} | {block.group}",
                    verdict,
                    skew,
                    f"Skewness {skew:.2f}, excess kurtosis {kurtosis:.2f}{'' if verdict == OK else ': not normal'}.",
                    ""
                    if verdict == OK
                    else f"Look for a predictor of {block.group} that is missing, or for odd levels: "
                    "fit.plot.caterpillar(), fit.plot.diagnostics().",
                )
            )
    return made


def constant_spread(fit: FitResult) -> Finding | None:
    """Squared standardized residuals on fitted values: Koenker (1981), J. Econometrics 17:107-112.

    Serious where the residual SD changes by a factor of 3 (Fox 2016, Applied Regression Analysis, section 12.2).
    """
    if not fit.family.is_linear or fit.parts:
        return None
    fitted, squared = np.asarray(fit.fitted), fit.resid("standardized") ** 2
    if len(fitted) < FEWEST or np.ptp(fitted) == 0 or np.ptp(squared) == 0:
        return None
    correlation = float(np.corrcoef(fitted, squared)[0, 1])
    p = float(special.chdtrc(1, len(fitted) * correlation**2))
    order = np.argsort(fitted, kind="stable")
    low, *_, high = np.array_split(squared[order], 3)
    ratio = float(np.sqrt(high.mean() / low.mean())) if low.mean() > 0 else float("inf")
    size = max(ratio, 1 / ratio) if ratio > 0 else float("inf")
    verdict = OK if p >= SURE or size < 1.5 else PROBLEM if size >= 3 else LOOK
    told = (
        f"The residual SD of the upper third of fitted values is {ratio:.2f} times that of the lower third (p {p:.2g})."
    )
    return Finding(
        "residuals: spread",
        verdict,
        ratio,
        told,
        ""
        if verdict == OK
        else "Model the logarithm of the response, give weights=, or model the spread: dispformula='~ x' with "
        "backend='glmmtmb'. See fit.plot.diagnostics().",
    )


def single_rows(fit: FitResult, data: Any) -> Finding:
    """Cook's distance; of posteriors Pareto k (Vehtari, Gelman & Gabry 2017)."""
    if fit.fixed.interval != "credible":
        return _judged(fit, influence(fit, None, data))
    if (fit.status.n_draws or 0) * fit.n_obs > MOST_VALUES:
        raise UnimixError("Leave-one-out cross-validation takes long with so many rows and draws: fit.loo().")
    k = np.asarray(fit.loo(data).pareto_k)
    bad = int((k > 0.7).sum())
    other = " family='student_t' yields to outliers." if fit.family.is_linear else ""
    return Finding(
        "influential rows",
        LOOK if bad else OK,
        float(k.max()),
        f"{bad or 'No'} rows with a Pareto k above 0.7.",
        f"fit.loo() tells which (.pareto_k).{other}" if bad else "",
    )


def influential(fit: FitResult, data: Any) -> list[Finding] | None:
    """Cook's distance of the levels of every grouping factor."""
    if fit.fixed.interval == "credible":
        return None
    return [_judged(fit, influence(fit, group, data)) for group, count in fit.n_groups.items() if 2 < count < fit.n_obs]


def _judged(fit: FitResult, found: Influence) -> Finding:
    """Beyond the median of F (Cook 1977, Technometrics 19:15-18) look, beyond 1 (Cook & Weisberg 1982) a problem.

    With few levels every one moves the estimates; what the model expects of them is not counted against them.
    """
    rows = found.by == "row"
    name = "influential rows" if rows else f"influential levels of {found.by}"
    distance = found.table["cooks_distance"].to_numpy(dtype=np.float64)
    p, m = len(fit.fixed.terms), len(distance)
    if np.isnan(distance).all():
        return Finding(name, LOOK, np.nan, "The fixed effects cannot be estimated without any one of them.", "")
    limit = float(special.fdtri(p, max(fit.n_obs - p, 1), 0.5))
    odd = np.ones(m, dtype=bool)
    if found.method != "one-step" or not rows:
        odd = found.p_values * m < 0.01
    worst = int(np.nanargmax(np.where(odd, distance, 0.01 * distance)))
    outlying = bool(rows and found.method != "one-step" and odd[worst])
    value = float(distance[worst])
    beyond = bool(odd[worst] and value > limit)
    verdict = PROBLEM if beyond and value > 1 else LOOK if beyond or outlying else OK
    moved = found.dfbetas.iloc[worst]
    term = str(moved.abs().idxmax())
    label = f"{'Row' if rows else found.by} {found.table.index[worst]}"
    told = f"{label}: Cook's distance {value:.2g}; without it {term} moves by {-moved[term]:.2g} standard errors"
    call, picture = ("fit.influence()", "fit.plot.diagnostics()")
    if not rows:
        call, picture = f"fit.influence({found.by!r})", f"fit.plot.caterpillar({found.by!r})"
    return Finding(
        name,
        verdict,
        value,
        f"{told}{', and it lies far from the others' if outlying else ''}.",
        "" if verdict == OK else f"Look at it, and fit without it: {call} has all of them; {picture}.",
    )


__all__ = ["constant_spread", "influential", "normal_modes", "normal_residuals", "single_rows"]
