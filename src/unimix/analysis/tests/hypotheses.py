"""Tests of hypotheses about coefficients, written as text: linear and nonlinear, one by one or jointly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.equivalence import bounds_fault, checked_bounds
from unimix.analysis.means.linear_functions import ENDLESS, FixedInference, SmoothFunctions
from unimix.analysis.tests.hypothesis_text import Hypothesis, is_linear, read
from unimix.analysis.tests.named_estimates import Named, named_estimates
from unimix.errors import OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.model import interval_level
from unimix.fitted.table_result import TableResult
from unimix.stats.dual_numbers import evaluate
from unimix.stats.inference import ALTERNATIVES, checked_level

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

LEAST_SPREAD = 1e-3
"""Ratio of standard errors below which a joint test standardizes the hypotheses."""


def hypotheses(
    fit: FittedModel,
    tests: str | Sequence[str],
    *,
    joint: bool = False,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    equivalence: tuple[float, float] | None = None,
    ci_level: float | None = None,
) -> TableResult:
    """Test hypotheses about the fixed effects, and of a posterior about all parameters and levels, written as text.

    Hypotheses look like ``"Days = 0"``, ``"2 * a + b = 1"``, ``"a = b, c = 0"``, ``"exp(a) = 2"``, ``"a / b = 1"``; a
    name alone, ``"a"``, is tested against 0. Coefficients are written by their names in ``fit.fixed_effects``, in
    backticks if a name could be misread, or by their positions there: b0 is the first. Of a posterior with draws,
    standard deviations, correlations and scales are written as ``fit.confint()`` calls them, ``"sd(Days | Subject) =
    5"``, and the effects of levels as ``"effects(Subject)[308, Days] = effects(Subject)[309, Days]"``.

    Args:
        tests: One text or several; each holds one hypothesis, or several separated by commas.
        joint: Whether to test all of them together, by F with the denominator degrees of freedom of the fit's method,
            else by Wald's chi-squared; nonlinear hypotheses are linearised.
        alternative: Alternative for left side minus right side: two-sided, greater or less. One-sided intervals have
            one infinite end.
        equivalence: Bounds for left side minus right side; two one-sided tests show whether it lies between them
            (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680). Of a posterior, the probability that it does.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.

    Returns:
        ``.table`` with index hypothesis and columns estimate (left minus right), std_error, df, statistic, p_value,
        lower, upper; with ``equivalence`` also p_noninferiority, p_nonsuperiority, p_equivalence. Nonlinear hypotheses
        are tested by the delta method, with the degrees of freedom of the gradient. A posterior has estimate,
        std_error, lower, upper from its draws; p_direction, the probability of the likelier side, or probability, that
        of a one-sided alternative; and probability_equivalence. With ``joint`` there is one row: F, num_df, den_df or
        chisq, df; and p_value.

    Raises:
        OptionError: If hypotheses cannot be read or names are unknown; the message lists all faults.
        UnimixError: If a joint test is asked of a posterior.
        UnsupportedModelError: If standard deviations, correlations or levels are named without draws of them.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.hypotheses(["Days = 10", "Intercept / Days = 25"])
        hypothesis             estimate  std_error     df  statistic  p_value    lower   upper
        Days = 10                0.4673     0.8042  161.0       0.58    0.562  -1.1209  2.0555
        Intercept / Days = 25   -0.9818     2.3555  174.9      -0.42    0.677  -5.6307  3.6671
        Left minus right side; 95% intervals, df satterthwaite
    """
    ci_level = interval_level(fit, ci_level)
    return assess(
        named_estimates(fit, tests),
        tests,
        joint=joint,
        alternative=alternative,
        equivalence=equivalence,
        ci_level=ci_level,
    )


def assess(
    named: Named,
    tests: str | Sequence[str],
    *,
    joint: bool = False,
    alternative: str = "two-sided",
    equivalence: tuple[float, float] | None = None,
    ci_level: float = 0.95,
) -> TableResult:
    """Test hypotheses about estimates, each by itself or all together; see :func:`hypotheses`.

    Raises:
        OptionError: If hypotheses cannot be read, or names or options are wrong; the message lists all faults.
        UnimixError: If a joint test is asked of a posterior.
    """
    checked_level(ci_level)
    faults = _option_faults(joint=joint, alternative=alternative, equivalence=equivalence)
    if not len(named.estimate):
        raise OptionError("The model has no fixed effects: there is nothing to test.")
    given, unread = read(tests, named.names, named.positions)
    if faults + unread:
        raise OptionError("\n".join(faults + unread))
    named.check_testable([place for h in given for place in h.places.values()])
    values, slopes = _values(given, named.estimate)
    gradient = slopes @ named.gradient
    draws = None if named.draws is None else _drawn(given, named.draws)
    functions = named.inference.smooth(values, gradient, draws)
    flat = [h.text for h, row in zip(given, slopes if draws is not None else gradient, strict=True) if not row.any()]
    if flat:
        raise OptionError(f"{flat[0]!r} does not depend on the coefficients at their estimates: nothing to test.")
    texts = pd.Index([h.text for h in given], name="hypothesis")
    if joint:
        return _joint(functions, named.inference, texts, linear=all(is_linear(h.node) for h in given))
    frame = functions.table(ci_level, alternative)
    if functions.draws is not None and alternative != "two-sided":
        signed = functions.draws if alternative == "greater" else -functions.draws
        frame["probability"] = (signed > 0).mean(axis=0)
    if (bounds := checked_bounds(equivalence)) is not None:
        frame = pd.concat([frame, functions.equivalence(bounds)], axis=1)
    frame.index = texts
    return TableResult(frame, [_note(functions, named.inference, ci_level, alternative)])


def _note(functions: SmoothFunctions, inference: FixedInference, ci_level: float, alternative: str) -> str:
    endless = f"\n{ENDLESS}" if np.isinf(functions.std_error).any() else ""
    side = "" if alternative == "two-sided" else f"{alternative} than zero; "
    df = "quantiles of the draws" if functions.draws is not None else f"df {inference.method}"
    return f"Left minus right side; {side}{100 * ci_level:g}% intervals, {df}{endless}"


def _option_faults(*, joint: bool, alternative: str, equivalence: Any) -> list[str]:
    faults = []
    if alternative not in ALTERNATIVES:
        hint = did_you_mean(str(alternative), ALTERNATIVES)
        faults.append(f"alternative={alternative!r}: choose {listing(map(repr, ALTERNATIVES))}.{hint}")
    elif joint and alternative != "two-sided":
        faults.append("joint=True tests all hypotheses against any departure: it has no one-sided alternative.")
    if equivalence is None:
        return faults
    faults += [fault] if (fault := bounds_fault(equivalence)) else []
    if joint:
        faults.append("equivalence= tests one hypothesis at a time: leave joint=True out.")
    if alternative != "two-sided" and alternative in ALTERNATIVES:
        faults.append("equivalence= makes two one-sided tests of its own: leave alternative= out.")
    return faults


def _values(read: Sequence[Hypothesis], at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left minus right sides at the estimates, shape (m,), and derivatives with respect to them, shape (m, k)."""
    values = [evaluate(h.node, h.places, at) for h in read]
    bad = [
        h.text for h, f in zip(read, values, strict=True) if not np.isfinite(f.value) or not np.isfinite(f.slope).all()
    ]
    if bad:
        raise OptionError(f"{bad[0]!r} is not defined, or has no derivative, at the estimates.")
    return np.array([float(f.value) for f in values]), np.array([f.slope for f in values])


def _drawn(read: Sequence[Hypothesis], draws: FloatArray) -> FloatArray:
    values = np.stack([evaluate(h.node, h.places, draws, slopes=False).value for h in read], axis=1)
    bad = ~np.isfinite(values)
    if bad.any():
        text = read[int(np.flatnonzero(bad.any(axis=0))[0])].text
        raise OptionError(f"{text!r} is not defined in {int(bad.any(axis=1).sum())} of {len(draws)} draws.")
    return values


def _joint(functions: SmoothFunctions, inference: FixedInference, texts: pd.Index[Any], *, linear: bool) -> TableResult:
    """Test all hypotheses together by F or Wald's chi-squared."""
    if functions.draws is not None:
        raise UnimixError("A posterior has no joint test: leave joint=True out, or look at fit.draws().")
    if np.isinf(functions.std_error).any():
        raise UnimixError(f"There is no joint Wald test of {listing(texts)}. {ENDLESS}")
    if not (functions.std_error > 0).all():
        raise OptionError(f"{texts[int(np.argmin(functions.std_error))]!r} has no standard error.")
    # In units of standard errors, whether hypotheses contradict each other does not depend on the predictors' units.
    rows = functions.gradient / functions.std_error[:, None]
    values = functions.estimate / functions.std_error
    turned = inference.covariance @ rows.T
    shift = turned @ np.linalg.lstsq(rows @ turned, values, rcond=1e-9)[0]
    if np.abs(rows @ shift - values).max() > 1e-6 * max(float(np.abs(values).max()), 1.0):
        if not linear:
            raise OptionError(
                f"The hypotheses {listing(texts)} depend on each other: at the estimates, one is a linear combination "
                "of the others. Leave one out, or test them one by one, joint=False."
            )
        raise OptionError(f"The hypotheses contradict each other: {listing(texts)}.")
    # Fai and Cornelius's degrees of freedom depend on the units of the hypotheses. lmerTest uses them as given, and so
    # does this, unless a variance would be lost to rounding beside the largest (where lmerTest drops a hypothesis).
    spread = float(functions.std_error.min() / functions.std_error.max())
    gradients = functions.gradient if spread > LEAST_SPREAD else rows
    statistic, numerator, denominator, p_value = replace(inference, beta=shift).joint_test(gradients)
    index = pd.Index([", ".join(texts)], name="hypothesis")
    if np.isinf(denominator):
        columns = {"chisq": statistic * numerator, "df": numerator, "p_value": p_value}
        return TableResult(pd.DataFrame(columns, index=index), heading="Joint Wald test")
    columns = {"F": statistic, "num_df": numerator, "den_df": denominator, "p_value": p_value}
    heading = f"Joint F test, {inference.joint_words}"
    return TableResult(pd.DataFrame(columns, index=index), heading=heading)


__all__ = ["Hypothesis", "Named", "assess", "hypotheses"]
