"""Tests of hypotheses about coefficients, written as text: linear and nonlinear, one by one or jointly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.linear_functions import ENDLESS, FixedInference, SmoothFunctions, fixed_inference
from unimix.errors import FormulaError, OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.model import interval_level
from unimix.fitted.table_result import TableResult
from unimix.formula.parser import Binary, Call, Name, Node, Number, Reader, Unary, walk
from unimix.stats.dual_numbers import FUNCTIONS, OPERATORS, evaluate
from unimix.stats.inference import ALTERNATIVES, checked_level, tail_probability

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

LEAST_SPREAD = 1e-3
"""Ratio of standard errors below which a joint test standardizes the hypotheses."""


@dataclass(frozen=True)
class Named:
    """k estimates that hypotheses can refer to.

    Attributes:
        names: Names of the estimates, which are also called b0, b1, ...; empty if they have only positions.
        estimate: Values of the estimates, shape (k,).
        gradient: Derivatives with respect to the fixed effects, shape (k, p).
        draws: Posterior draws of the estimates, shape (S, k); None if there are none.
        inference: The fixed effects, prepared for inference.
    """

    names: tuple[str, ...]
    estimate: FloatArray
    gradient: FloatArray
    draws: FloatArray | None
    inference: FixedInference


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis.

    Attributes:
        text: The hypothesis as the user wrote it.
        node: Parsed left side minus right side.
        places: Position of the estimate that each name stands for.
    """

    text: str
    node: Node
    places: dict[str, int]


def hypotheses(
    fit: FittedModel,
    tests: str | Sequence[str],
    *,
    joint: bool = False,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    equivalence: tuple[float, float] | None = None,
    ci_level: float | None = None,
) -> TableResult:
    """Test hypotheses about the fixed effects, written as text.

    Hypotheses look like ``"Days = 0"``, ``"2 * a + b = 1"``, ``"a = b, c = 0"``, ``"exp(a) = 2"``, ``"a / b = 1"``; a
    name alone, ``"a"``, is tested against 0. Coefficients are written by their names in ``fit.fixed_effects``, in
    backticks if a name could be misread, or by their positions there: b0 is the first.

    Args:
        tests: One text or several; each holds one hypothesis, or several separated by commas.
        joint: Whether to test all of them together, by F with the denominator degrees of freedom of the fit's method,
            else by Wald's chi-squared; nonlinear hypotheses are linearised.
        alternative: Alternative for left side minus right side: two-sided, greater or less. One-sided intervals have
            one infinite end.
        equivalence: Bounds for left side minus right side; two one-sided tests show whether it lies between them
            (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680).
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.

    Returns:
        ``.table`` with index hypothesis and columns estimate (left minus right), std_error, df, statistic, p_value,
        lower, upper; with ``equivalence`` also p_noninferiority, p_nonsuperiority, p_equivalence. Nonlinear hypotheses
        are tested by the delta method, with the degrees of freedom of the gradient. A posterior has estimate,
        std_error, lower, upper from its draws, probability (of the alternative, or of the likelier side if two-sided)
        and probability_equivalence. With ``joint`` there is one row: F, num_df, den_df or chisq, df; and p_value.

    Raises:
        OptionError: If hypotheses cannot be read or names are unknown; the message lists all faults.
        UnimixError: If a joint test is asked of a posterior.

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
    inference = fixed_inference(fit)
    named = Named(fit.fixed.terms, inference.beta, np.eye(len(inference.beta)), inference.posterior, inference)
    return assess(named, tests, joint=joint, alternative=alternative, equivalence=equivalence, ci_level=ci_level)


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
    read, unread = _read(tests, named.names, len(named.estimate))
    if faults + unread:
        raise OptionError("\n".join(faults + unread))
    values, slopes = _values(read, named.estimate)
    gradient = slopes @ named.gradient
    draws = None if named.draws is None else _drawn(read, named.draws)
    functions = named.inference.smooth(values, gradient, draws)
    flat = [h.text for h, row in zip(read, gradient, strict=True) if (row == 0).all()]
    if flat:
        raise OptionError(f"{flat[0]!r} does not depend on the coefficients at their estimates: nothing to test.")
    texts = pd.Index([h.text for h in read], name="hypothesis")
    if joint:
        return _joint(functions, named.inference, texts, linear=all(_is_linear(h.node) for h in read))
    frame = functions.table(ci_level, alternative)
    if functions.draws is not None:
        frame["probability"] = _probability(functions.draws, alternative)
    if equivalence is not None:
        frame = pd.concat([frame, _equivalence(functions, *equivalence)], axis=1)
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
    ends = list(equivalence) if isinstance(equivalence, tuple | list) else []
    numbers = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        faults.append(f"equivalence={equivalence!r}: give two bounds, the lower one first, such as (-0.5, 0.5).")
    if joint:
        faults.append("equivalence= tests one hypothesis at a time: leave joint=True out.")
    if alternative != "two-sided" and alternative in ALTERNATIVES:
        faults.append("equivalence= makes two one-sided tests of its own: leave alternative= out.")
    return faults


# -- reading ------------------------------------------------------------------------------------


def _read(tests: Any, names: tuple[str, ...], k: int) -> tuple[list[Hypothesis], list[str]]:
    """The hypotheses that can be read, and the faults of the others."""
    given = [tests] if isinstance(tests, str) else tests
    if not isinstance(given, Sequence) or not given or not all(isinstance(t, str) for t in given):
        return [], [f"hypotheses are strings such as 'x = 0' or ['x = z', 'w = 1'], not {tests!r}."]
    texts = [part.strip() for text in given for part in _split(text)]
    hypotheses, faults = [], []
    for text in texts:
        try:
            hypotheses.append(_hypothesis(text, names, k))
        except FormulaError as error:
            reasons = " ".join(f.message for f in error.faults)
            faults.append(f"The hypothesis {text!r} cannot be read. {reasons} {_known(names, k)}")
        except OptionError as error:
            faults.append(f"The hypothesis {text!r}: {error}")
    return hypotheses, faults


def _split(text: str) -> list[str]:
    """Split a text at commas outside brackets and backticks."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == "`"
        depth += 0 if quoted else (character in "([") - (character in ")]")
        if character == "," and not quoted and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _hypothesis(text: str, names: tuple[str, ...], k: int) -> Hypothesis:
    reader = Reader(_marked(text, names))
    if reader.token.kind == "end":
        raise OptionError("it is empty; write 'x = 0'.")
    node = reader.expression(1)
    if reader.accept("=", "=="):
        right = reader.expression(1)
        node = node if isinstance(right, Number) and right.value == 0 else Binary("-", node, right, 0)
    if reader.token.text in ("<", ">", "<=", ">=", "!="):
        raise OptionError("write it with '=' and give the side as alternative='greater' or 'less'.")
    reader.finish()
    return Hypothesis(text, node, _places(node, names, k))


def _marked(text: str, names: tuple[str, ...]) -> str:
    """The text with names that are not plain words replaced by marks such as ``#3`` in backticks."""
    unusual = [(i, n) for i, n in enumerate(names) if not re.fullmatch(r"[^\W\d][\w.]*", n)]
    odd = {re.sub(r"\s", "", n).replace("^", "**"): i for i, n in unusual}
    if "Intercept" in names:
        odd["(Intercept)"] = names.index("Intercept")

    def pattern(name: str) -> str:
        spaced = r"\s*".join(re.escape(c) for c in name.replace("**", "^"))
        return spaced.replace(r"\^", r"(?:\*\*|\^)")

    def marked(match: re.Match[str]) -> str:
        inner = re.sub(r"\s", "", match.group()).replace("^", "**")
        bare = inner.strip("`")
        place = odd.get(inner, odd.get(bare))
        if place is None:
            return match.group()
        if inner == bare and _is_expression(inner, names):
            raise OptionError(
                f"{inner} is a coefficient, and also a function of another one. Write the coefficient in backticks, "
                f"`{inner}`, or the function of b{names.index(_inner_name(inner))}."
            )
        return f"`#{place}`"

    ordered = sorted(odd, key=len, reverse=True)
    choices = [rf"(?<![\w.`:]){pattern(n)}(?![\w.`:(\[])" for n in ordered]
    quoted = [f"`{pattern(n)}`" for n in ordered]
    return re.sub("|".join([*quoted, "`[^`]*`", *choices]), marked, text) if odd else text


def _inner_name(text: str) -> str:
    return text[text.index("(") + 1 : -1]


def _is_expression(text: str, names: tuple[str, ...]) -> bool:
    """Whether a coefficient's name, such as ``log(x)``, also reads as a function of a coefficient."""
    function, _, rest = text.partition("(")
    return function in FUNCTIONS and rest.removesuffix(")") in names


def _places(node: Node, names: tuple[str, ...], k: int) -> dict[str, int]:
    places: dict[str, int] = {}
    faults: list[str] = []
    for current in walk(node):
        match current:
            case Name(name):
                place = _place(current, names, k)
                if isinstance(place, int):
                    places[name] = place
                else:
                    faults.append(place)
            case Number() | Unary():
                pass
            case Binary(operator) if operator in OPERATORS:
                pass
            case Call(function, arguments, keywords) if function in FUNCTIONS:
                if len(arguments) != 1 or keywords:
                    faults.append(f"{function}() takes one quantity.")
            case Call(function):
                known = [*FUNCTIONS, *names]
                faults.append(
                    f"{function}() is not a function here.{did_you_mean(function, known)} Allowed: "
                    f"{listing(FUNCTIONS)}."
                )
            case _:
                faults.append(
                    "only + - * / ^, numbers, functions and coefficients are allowed. "
                    f"Write a coefficient with an unusual name in backticks. {_known(names, k)}"
                )
    if faults:
        raise OptionError(" ".join(dict.fromkeys(faults)))
    if not places:
        raise OptionError("it names no coefficient.")
    return places


def _place(name: Name, names: tuple[str, ...], k: int) -> int | str:
    """Position of the estimate that a name stands for, or the fault of the name."""
    mark = name.name.removeprefix("#")
    if name.quoted and mark in map(str, range(len(names))) and name.name.startswith("#"):
        return int(mark)
    position = re.fullmatch(r"b(\d{1,9})", name.name)
    coefficient = names.index(name.name) if name.name in names else None
    if position and not name.quoted:
        place = int(position.group(1))
        if coefficient is not None and coefficient != place:
            return f"{name.name} is a coefficient's name and a position: write `{name.name}` for the coefficient."
        if place >= k:
            return f"{name.name} does not exist: there are {k}, from b0 to b{k - 1}."
        return place
    if coefficient is None:
        return f"{name.name!r} is not one of the estimates.{did_you_mean(name.name, names)} {_known(names, k)}"
    return coefficient


def _known(names: tuple[str, ...], k: int) -> str:
    if not names:
        return f"They are named by position, b0 to b{k - 1}."
    return "Known: " + listing(f"b{i} = {n}" for i, n in enumerate(names)) + "."


# -- testing ------------------------------------------------------------------------------------


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


def _probability(draws: FloatArray, alternative: str) -> FloatArray:
    above, below = (draws > 0).mean(axis=0), (draws < 0).mean(axis=0)
    return np.asarray({"greater": above, "less": below}.get(alternative, np.maximum(above, below)))


def _equivalence(functions: SmoothFunctions, low: float, high: float) -> pd.DataFrame:
    """Two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680)."""
    if functions.draws is not None:
        inside = ((functions.draws > low) & (functions.draws < high)).mean(axis=0)
        return pd.DataFrame({"probability_equivalence": inside})
    above = tail_probability((functions.estimate - low) / functions.std_error, functions.df, "greater")
    below = tail_probability((functions.estimate - high) / functions.std_error, functions.df, "less")
    return pd.DataFrame(
        {"p_noninferiority": above, "p_nonsuperiority": below, "p_equivalence": np.maximum(above, below)}
    )


def _is_linear(node: Node) -> bool:
    """Whether an expression is linear in its names."""
    match node:
        case Unary(_, operand):
            return _is_linear(operand)
        case Binary("+" | "-", left, right):
            return _is_linear(left) and _is_linear(right)
        case Binary("*", left, right):
            return _is_linear(left) and _is_linear(right) and not (_has_names(left) and _has_names(right))
        case Binary("/", left, right):
            return _is_linear(left) and not _has_names(right)
        case Number() | Name():
            return True
        case _:
            return not _has_names(node)


def _has_names(node: Node) -> bool:
    return any(isinstance(n, Name) for n in walk(node))


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
