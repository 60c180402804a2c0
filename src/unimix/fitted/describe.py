"""What was fitted and how, in the words of papers, and numbers in APA style.

American Psychological Association (2020), Publication Manual, 7th edition, sections 6.36 (decimals, leading zeros) and
6.43-6.45 (statistics in text).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.response import SUCCESS
from unimix.errors import listing
from unimix.fitted.no_rows import NoRows

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel
    from unimix.fitted.schema import SmoothPartResult

_DEGREES = {
    "satterthwaite": "Satterthwaite's degrees of freedom",
    "kenward-roger": "Kenward and Roger's degrees of freedom",
    "residual": "residual degrees of freedom",
    "normal": "the normal distribution (z)",
}
_METHODS = {
    "REML": "restricted maximum likelihood (REML)",
    "ML": "maximum likelihood (ML)",
    "least squares": "least squares",
    "Laplace": "maximum likelihood (Laplace's approximation)",
    "posterior": "sampling from the posterior",
    "variational": "a variational approximation of the posterior",
    "MAP": "Laplace's approximation of the posterior at its mode",
}
_CENTRES = {
    "posterior": "posterior means",
    "variational": "means of the approximate posterior",
    "MAP": "posterior modes",
}
MOST_PLACES = 8
"""Decimals beyond which a number is written with a power of ten."""
MOST_IN_TEXT = 5
"""Decimals beyond which a number in a sentence is written with a power of ten."""
STRAIGHT = 1e-6
"""Effective degrees of freedom of a curve below which it is a straight line."""
NEGLIGIBLE = 1e-8
"""Share of the response's standard deviation (of 1 on the scale of a link) below which a standard deviation is zero."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def places_for(values: Iterable[float], digits: int) -> int:
    """Number of decimals at which the smallest value keeps ``digits`` significant digits; at least ``digits``.

    Args:
        values: Numbers such as standard errors; zeros and missing values are ignored.
        digits: Desired number of decimals.
    """
    sizes = [abs(float(v)) for v in values]
    sizes = [v for v in sizes if np.isfinite(v) and v > 0]
    if not sizes or min(sizes) >= 10.0**-digits:
        return digits
    return max(digits, digits - 1 - math.floor(math.log10(min(sizes))))


def coefficient_places(estimate: float, error: float, digits: int) -> int:
    """Number of decimals of a coefficient: that of its error, or more if it would print as zero and lose its sign.

    Args:
        estimate: Estimate of the coefficient.
        error: Standard error of the coefficient; NaN or zero if it has none.
        digits: Desired number of decimals.
    """
    if not (np.isfinite(error) and error > 0):
        return places_for([estimate], digits)
    places = places_for([error], digits)
    hidden = abs(estimate) < 0.5 * 10.0**-places and abs(estimate / error) >= 0.005  # a t that prints as 0.01 at least
    return max(places, places_for([estimate], 1)) if hidden else places


def fixed_number(value: float, places: int) -> str:
    """Write a number with ``places`` decimals, never -0; as a power of ten if it is very large or needs too many."""
    value = float(value)
    if np.isnan(value):
        return ""
    if np.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if places > MOST_PLACES or abs(value) >= 1e7:
        return "0" if value == 0 else f"{value:.2e}"
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def number_in_text(value: float, places: int) -> str:
    """Write a number for a sentence: ``3.37 × 10⁻⁶`` if it needs more than five decimals, else plain decimals."""
    value = float(value)
    if places > MOST_IN_TEXT and 0 < abs(value) < 0.1:
        digits = places + math.floor(math.log10(abs(value)))
        text = f"{value:.{digits}e}" if digits >= 0 else "0"
    else:
        text = fixed_number(value, places)
    mantissa, powered, power = text.partition("e")
    return f"{mantissa} × 10{str(int(power)).translate(_RAISED)}" if powered else text


def without_zero(value: float, places: int) -> str:
    """Write a number that cannot exceed 1 without the zero before the point: ``.07``, ``-.14``, ``1.00``."""
    text = fixed_number(value, places)
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def p_number(value: float) -> str:
    """A p value such as ``.012`` or ``< .001``; an empty text for NaN."""
    if np.isnan(value):
        return ""
    if value < 0.001:
        return "< .001"
    return "> .999" if value > 0.9995 else without_zero(value, 3)


def p_text(value: float) -> str:
    """A p value in a sentence: ``p = .012`` or ``p < .001``."""
    number = p_number(value)
    return f"p {number}" if number.startswith(("<", ">")) else f"p = {number}" if number else ""


def percent(level: float) -> str:
    """95%."""
    return f"{100 * level:.6g}%"


def is_posterior(fit: FittedModel) -> bool:
    """Whether the estimates summarise a posterior distribution."""
    return fit.fixed.interval == "credible"


def method_words(fit: FittedModel) -> str:
    """The method of estimation in words, such as ``restricted maximum likelihood (REML)``."""
    criterion = fit.criteria.criterion
    if criterion.startswith("AGQ("):
        return f"maximum likelihood (adaptive Gauss-Hermite quadrature, {criterion[4:-1]} nodes)"
    return _METHODS.get(fit.model.method, fit.model.method)


def centre_words(fit: FittedModel) -> str:
    """What the coefficients are, in words: estimates, posterior means or posterior modes."""
    return _CENTRES.get(fit.model.method, "posterior means") if is_posterior(fit) else "estimates"


def spread_words(fit: FittedModel) -> str:
    """What the errors of the coefficients are: standard errors or posterior standard deviations."""
    if is_robust(fit):
        return f"cluster-robust standard errors ({fit.fixed.std_error_kind})"
    return "posterior standard deviations" if is_posterior(fit) else "standard errors"


def is_robust(fit: FittedModel) -> bool:
    """Whether the standard errors of a result are cluster-robust."""
    return fit.fixed.std_error_kind.startswith("CR")


def degrees_words(fit: FittedModel) -> str:
    """The degrees of freedom in words, such as ``Satterthwaite's degrees of freedom``; empty for a posterior."""
    return "" if is_posterior(fit) else df_words(fit.fixed.df_method)


def df_words(method: str) -> str:
    """The degrees of freedom of a method such as ``satterthwaite``, in words."""
    return _DEGREES.get(method, method)


def is_linear(fit: FittedModel) -> bool:
    """Whether the model is Gaussian with the identity link."""
    return fit.model.family == "gaussian" and fit.model.link == "identity"


def family_words(fit: FittedModel) -> str:
    """The family and link in words, such as ``binomial, logit link``."""
    return f"{fit.model.family.replace('_', ' ')}, {fit.model.link} link"


def model_words(fit: FittedModel) -> str:
    """The kind of model in words, such as ``generalised linear mixed model (binomial, logit link)``."""
    kind = "mixed model" if fit.random else "model"
    bayes = "Bayesian " if is_posterior(fit) else ""
    if is_linear(fit):
        return f"{bayes}linear {kind}"
    return f"{bayes}generalised linear {kind} ({family_words(fit)})"


def model_text(fit: FittedModel) -> str:
    """The complete model as text: ``y ~ x; ziformula ~ 1; dispformula ~ x; offset o; weights w``.

    An offset or weights given as numbers instead of a column are shown as ``given``. The weights of a binomial response
    are its numbers of trials.
    """
    encoding = fit.model.encoding
    parts = [fit.model.formula]
    if encoding.ziformula is not None:
        parts.append(f"ziformula ~ {encoding.ziformula.strip().removeprefix('~').strip()}")
    if "dispersion" in fit.parts:
        parts.append(f"dispformula ~ {fit.model.reading.rpartition(', dispersion ~ ')[2].removeprefix('1 + ')}")
    if fit.residual_part is not None:
        parts.append(f"residual {fit.residual_part.text}")
    if encoding.offset_column is not None or encoding.offset_given:
        parts.append(f"offset {encoding.offset_column or 'given'}")
    if encoding.weights_column is not None or fit.model.weighted or _trials_given(fit):
        parts.append(f"weights {encoding.weights_column or 'given'}")
    return "; ".join(parts)


def _trials_given(fit: FittedModel) -> bool:
    """Whether the numbers of trials were given as an array, not as part of the data."""
    trials = None if isinstance(fit.rows, NoRows) else fit.rows.trials
    return trials is not None and bool(np.any(np.asarray(trials) != 1)) and not fit.model.response.startswith("cbind(")


def success_words(fit: FittedModel) -> str:
    """Which of the response's two levels counts as success, in words; empty if the response is numeric."""
    name = fit.model.response
    successes = [n.removeprefix(f"{name}: ") for n in fit.notes if n.startswith(f"{name}: ") and SUCCESS in n]
    return f"in {name}, {successes[0]}" if successes else ""


def shown_sds(fit: FittedModel) -> list[npt.NDArray[np.float64]]:
    """Standard deviations of every block for printing, shape (q,) each: 0 where they are below :data:`NEGLIGIBLE`.

    When a variance is zero, the search of an engine stops at numbers such as 1e-20.
    """
    size = 1.0
    if isinstance(fit.rows, NoRows):
        size = float(np.sqrt(fit.sigma**2 + sum(float(np.sum((b.sd * b.unit) ** 2)) for b in fit.random)))
    elif fit.model.link == "identity":
        size = float(np.std(fit.rows.observed))
    sds = [(np.array(b.sd, dtype=np.float64), np.asarray(b.unit)) for b in fit.random]
    return [np.where(sd * unit < NEGLIGIBLE * size, 0.0, sd) for sd, unit in sds]


def of_smooths(fit: FittedModel) -> frozenset[str]:
    """Names of the fixed effects that are coefficients of smooths, which tables of coefficients leave out."""
    return frozenset(name for smooth in fit.smooths for name in smooth.columns)


def straight(fit: FittedModel) -> list[SmoothPartResult]:
    """The smooths whose curve has no variance, so that their penalised columns have no degrees of freedom."""
    return [s for s in fit.smooths if s.edf - (len(s.columns) - len(s.curve.terms)) < STRAIGHT]


def status_words(fit: FittedModel) -> str:
    """A warning for a fit that is singular or did not converge; empty for any other fit."""
    if fit.status.state == "singular" and straight(fit):
        lines = listing(s.term for s in straight(fit))
        return f"The variance of the curve of {lines} is estimated as zero: it is a straight line."
    if fit.status.state == "singular":
        return "The fit is singular: a variance is estimated as zero, or a correlation as -1 or 1."
    if fit.status.state == "converged":
        return ""
    if fit.status.state == "not_identified":
        return f"The model is not identified: {' '.join(_whole(m) for m in dict.fromkeys(fit.status.messages) if m)}"
    subject = "The chains" if fit.status.n_draws else "The fit"
    messages = " ".join(_whole(m) for m in dict.fromkeys(fit.status.messages) if m)
    return f"{subject} did not converge: do not use these numbers.{' ' if messages else ''}{messages}"


def _whole(message: str) -> str:
    """A message as a whole sentence, with a capital and a full stop."""
    return f"{message[0].upper()}{message[1:]}{'' if message.endswith(('.', '!', '?')) else '.'}"


def sampler_words(fit: FittedModel) -> str:
    """Numbers of draws, R-hat and effective sample sizes in words; empty if nothing was sampled."""
    s = fit.status
    if not s.n_draws:
        return ""
    parts = [f"{s.n_draws} draws in {s.n_chains} chains"]
    parts += [f"largest R-hat {s.rhat:.3f}"] if s.rhat is not None else []
    parts += [f"smallest effective sample size {s.ess_bulk:.0f} (bulk)"] if s.ess_bulk is not None else []
    parts[-1] += f" and {s.ess_tail:.0f} (tail)" if s.ess_bulk is not None and s.ess_tail is not None else ""
    parts += [f"{s.divergences} divergent transitions"] if s.divergences is not None else []
    return ", ".join(parts)


def engine_words(fit: FittedModel) -> str:
    """Backend and versions: ``lme4 (R 4.2.2, lme4 1.1.31)``."""
    versions = [f"{k} {v}" for k, v in fit.engine.versions.items() if k != "unimix"]
    return f"{fit.engine.backend} ({', '.join(versions)})" if versions else fit.engine.backend


__all__ = [
    "centre_words",
    "coefficient_places",
    "degrees_words",
    "engine_words",
    "family_words",
    "fixed_number",
    "is_linear",
    "is_posterior",
    "is_robust",
    "method_words",
    "model_text",
    "model_words",
    "number_in_text",
    "p_number",
    "p_text",
    "percent",
    "places_for",
    "sampler_words",
    "shown_sds",
    "spread_words",
    "status_words",
    "success_words",
    "without_zero",
]
