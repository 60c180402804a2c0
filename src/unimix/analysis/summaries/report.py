"""A fitted model as a paragraph for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from unimix._version import __version__
from unimix.errors import OptionError
from unimix.fitted import describe
from unimix.fitted.describe import of_smooths, straight

if TYPE_CHECKING:
    from collections.abc import Container

    from unimix.fitted.model import FittedModel
    from unimix.fitted.schema import FixedPartResult, RandomPartResult, SmoothPartResult

DIGITS = 2
"""Number of decimals of estimates; more if a standard error needs them."""


def report(fit: FittedModel, style: Literal["apa"] = "apa") -> str:
    """One paragraph for a paper, in APA style: the model and method, all estimates, engine and versions.

    Fixed effects are reported with intervals of the fit's probability, t or z, and p; those of a posterior with mean,
    posterior SD and credible interval, together with priors, R-hat and effective sample sizes. The paragraph says if
    the fit is singular or did not converge.

    Args:
        style: Style of the paragraph: apa (Publication Manual of the American Psychological Association, 7th edition).

    Returns:
        The paragraph as plain text.

    Raises:
        OptionError: If the style is unknown.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> print(fit.report())
        A linear mixed model of Reaction was fitted by restricted maximum likelihood (REML) with unimix to 180 rows
        in 18 levels of Subject: Reaction ~ Days + (1 | Subject). Fixed effects: Intercept: b = 251.41, 95% CI
        [231.23, 271.58], t(22.8) = 25.79, p < .001; Days: b = 10.47, 95% CI [8.88, 12.06], t(161.0) = 13.02, p <
        .001. Tests and intervals are by Satterthwaite's degrees of freedom. Random part: Subject: SD(Intercept) =
        37.12; residual SD = 30.99. Software: unimix ...; pls (numpy ..., scipy ...).
    """
    if style != "apa":
        raise OptionError(f"style={style!r}: the only style is 'apa'.")
    sentences = [
        _fitted(fit),
        describe.status_words(fit),
        _capital(describe.success_words(fit)),
        *_fixed(fit),
        *_parts(fit),
        _random(fit),
        _sampler(fit),
    ]
    sentences.append(f"Software: unimix {__version__}; {describe.engine_words(fit)}.")
    return " ".join(s for s in sentences if s)


def _fitted(fit: FittedModel) -> str:
    levels = [f"{n} levels of {name}" for name, n in fit.model.groups.items()]
    over = f" in {_and(levels)}" if levels else ""
    dropped = f" ({fit.model.n_dropped} more had missing values)" if fit.model.n_dropped else ""
    weights = ", with weights" if fit.model.weighted else ""
    return (
        f"A {describe.model_words(fit)} of {fit.model.response} was fitted by {describe.method_words(fit)} with "
        f"{fit.engine.engine} to {fit.model.n_obs} rows{over}{dropped}{weights}: {describe.model_text(fit)}."
    )


def _fixed(fit: FittedModel) -> list[str]:
    if not fit.fixed.terms:
        return ["The model has no fixed effects."]
    kind = "credible interval" if describe.is_posterior(fit) else "CI"
    scale = "" if fit.model.link == "identity" else f" on the scale of the {fit.model.link} link"
    centre = f", {describe.centre_words(fit)}" if describe.is_posterior(fit) else ""
    sentences = [f"Fixed effects{scale}{centre}: {_coefficients(fit.fixed, kind, of_smooths(fit))}."]
    sentences += [_smooth(s, straight=s in straight(fit)) for s in fit.smooths]
    if fit.fixed.df_method in ("satterthwaite", "kenward-roger"):
        sentences.append(f"Tests and intervals are by {describe.degrees_words(fit)}.")
    if fit.model.aliased:
        sentences.append(f"Left out because they depend on other columns: {_and(list(fit.model.aliased))}.")
    return sentences


def _smooth(smooth: SmoothPartResult, *, straight: bool) -> str:
    """A sentence about a smooth."""
    if straight:
        return f"{smooth.term} is a straight line: the variance of its curve is estimated as zero."
    return (
        f"{smooth.term} is a penalised spline with {smooth.k} basis functions and "
        f"{describe.fixed_number(smooth.edf, 2)} effective degrees of freedom."
    )


def _coefficients(fixed: FixedPartResult, kind: str, hidden: Container[str] = ()) -> str:
    texts = []
    for i, term in enumerate(fixed.terms):
        if term in hidden:
            continue
        error, df, statistic = (float(v[i]) for v in (fixed.std_error, fixed.df, fixed.statistic))
        places = describe.coefficient_places(float(fixed.estimate[i]), error, DIGITS)
        estimate, lower, upper = (
            describe.number_in_text(float(v[i]), places) for v in (fixed.estimate, fixed.lower, fixed.upper)
        )
        parts = [f"{term}: b = {estimate}"]
        if np.isinf(error):
            parts = [f"{term}: tends to infinity (no Wald test)"]
        elif lower and upper:
            parts.append(f"{describe.percent(fixed.level)} {kind} [{lower}, {upper}]")
        if np.isfinite(statistic):
            name = "z" if np.isinf(df) else f"t({df:.0f})" if fixed.df_method == "residual" else f"t({df:.1f})"
            name = "t" if np.isnan(df) else name
            parts += [f"{name} = {describe.fixed_number(statistic, 2)}", describe.p_text(float(fixed.p_value[i]))]
        elif np.isfinite(error):
            parts.insert(1, f"SD = {describe.number_in_text(error, places)}")
        texts.append(", ".join(p for p in parts if p))
    return "; ".join(texts)


def _parts(fit: FittedModel) -> list[str]:
    heads = {"zero": "Zero inflation (logit of the probability of a structural zero)", "dispersion": "Dispersion (log)"}
    heads["thresholds"] = f"Thresholds ({fit.model.threshold})"
    return [f"{heads[name]}: {_coefficients(part, 'CI')}." for name, part in fit.parts.items()]


def _random(fit: FittedModel) -> str:
    parts = [_block(block, sds) for block, sds in zip(fit.random, describe.shown_sds(fit), strict=True)]
    names = (
        {"sigma": "residual SD"} if fit.model.family == "gaussian" else {}
    )  # sigma of Student's t is a scale, not an SD
    parts += [f"{names.get(name, name)} = {_sized(v)}" for name, v in fit.criteria.parameters.items()]
    if (residual := fit.residual_part) is not None:
        sds = zip(residual.times, residual.sd, strict=True) if len(residual.sd) > 1 else ()
        word = "residual SD ratio" if residual.relative else "residual SD"
        parts += [f"{word} at {time} = {_sized(float(sd))}" for time, sd in sds]
        own = zip(residual.parameters, residual.estimates, strict=True)
        named = [f"{name} = {describe.fixed_number(float(v), 3)}" for name, v in own]
        parts.append(f"residuals {residual.text}: {', '.join(named)}")
    if not parts:
        return ""
    head = "Random part" if fit.random else "Scale"
    return f"{head}{', posterior estimates' if describe.is_posterior(fit) else ''}: {'; '.join(parts)}."


def _block(block: RandomPartResult, sds: npt.NDArray[np.float64]) -> str:
    parts = [f"SD({term}) = {_sized(float(sd))}" for term, sd in zip(block.terms, sds, strict=True)]
    for j in range(len(block.terms)):
        for i in range(j):
            value = float(block.correlation[i, j])
            shown = "undefined" if np.isnan(value) else describe.without_zero(value, 2)
            parts.append(f"r({block.terms[i]}, {block.terms[j]}) = {shown}")
    return f"{block.group}: {', '.join(parts)}"


def _sized(value: float) -> str:
    return describe.number_in_text(value, describe.places_for([value], DIGITS))


def _sampler(fit: FittedModel) -> str:
    quality = describe.sampler_words(fit)
    if not quality:
        return ""
    priors = ", ".join(f"{k} ~ {v}" for k, v in fit.engine.priors.items())
    return f"The posterior has {quality}." + (f" Priors: {priors}." if priors else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


__all__ = ["report"]
