"""The response of a model: the meaning of its values in each family, and the checks of the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.evaluate import Environment, FactorValue, MatrixValue, Value, evaluate
from unimix.design.ordered_response import read_ordered
from unimix.design.typed_columns import Column
from unimix.distributions.family import Cumulative, Family
from unimix.errors import DataError, listing
from unimix.formula.parser import Call, Node, render

FloatArray = npt.NDArray[np.float64]
SUCCESS = "counts as success"
WHOLE = 1e-3
"""Largest distance of a count of successes from a whole number, as in R; printed proportions have few digits."""


@dataclass(frozen=True)
class Response:
    """The response in the form that engines receive.

    Attributes:
        y: Values of the response, shape (n,); proportions of successes for a binomial family.
        trials: Numbers of trials, shape (n,), for a binomial family; None for others.
        weights: Precision (or likelihood) weights, shape (n,), or None; weights that are trials are not among them.
        notes: Decisions about the response, in words.
        family: The family with the categories of an ordered response; None for other families.
    """

    y: FloatArray
    trials: FloatArray | None
    weights: FloatArray | None
    notes: tuple[str, ...] = ()
    family: Family | None = None


def read_response(
    node: Node,
    env: Environment,
    family: Family,
    weights: FloatArray | None,
    given: Mapping[str, Column] | None = None,
    *,
    zeros: bool = False,
) -> Response:
    """Evaluate the response and check that the family can describe it.

    Args:
        node: Left side of the formula.
        env: Columns with which the response is evaluated.
        family: Distribution of the response.
        weights: Values of ``weights=``, shape (n,), or None; they are trials for a binomial family.
        given: Columns with all levels that the data declare, used or not, for an ordered response.
        zeros: Whether the model has a part for zeros; with a family of counts without zeros it is a hurdle model.

    Raises:
        DataError: If the family cannot describe the values; the message gives their number and the line to type.
    """
    if isinstance(node, Call) and node.function == "cbind":
        return _several_trials(_counted(node, env, family, weights), render(node), family)
    if isinstance(family, Cumulative):
        ordered = read_ordered(node, env, family, given or env.columns)
        return Response(ordered.y, None, weights, ordered.notes, ordered.family)
    text = render(node)
    value = evaluate(node, env)
    if isinstance(value, MatrixValue):
        raise DataError(f"The response {text} has several columns; it needs one.")
    if family.response == "binomial":
        return _several_trials(_binomial(text, value, weights, family.name), text, family)
    if isinstance(value, FactorValue):
        hint = (
            "for a yes or no, use family='binomial'."
            if len(value.levels) == 2
            else "convert it: data[...].astype(float)."
        )
        raise DataError(
            f"The response {text} is categorical (levels {listing(map(str, value.levels), 5)}), and the "
            f"{family.name} family needs numbers; {hint}"
        )
    y = np.ascontiguousarray(value, dtype=np.float64)
    fault = _fault(y, family, zeros=zeros)
    if fault:
        raise DataError(f"The response {text} does not suit family={family.name!r}: {fault}")
    return Response(y, None, weights)


def _fault(y: FloatArray, family: Family, *, zeros: bool) -> str:
    if zeros and family.is_truncated and not (y == 0).any():
        return "a hurdle model describes zeros, and there are none: leave ziformula= out."
    if zeros and family.is_truncated and not (y > 0).any():
        return "all values are zero, and there is no count above the hurdle to explain."
    if family.response == "count":
        wrong = (y < 0) | (y != np.round(y))
        return _rule(y, wrong, "counts are whole numbers from 0. For rates, give offset=log(exposure) and the counts.")
    if family.response == "positive_count":
        wrong = (y < (0 if zeros else 1)) | (y != np.round(y))
        if zeros:
            return _rule(y, wrong, "counts are whole numbers from 0.")
        hint = "without zeros counts are whole numbers from 1. Counts with zeros are family='poisson' or "
        return _rule(
            y,
            wrong,
            f"{hint}'negative_binomial'; many zeros beside them are zero inflation, ziformula='~ 1'. With a family "
            "without zeros ziformula= is a hurdle model: zero or not, and the counts above zero.",
        )
    if family.response == "positive":
        hint = "" if (y < 0).any() else " Zeros among positive numbers are family='tweedie'."
        return _rule(y, y <= 0, f"its values must be positive.{hint}")
    if family.response == "nonnegative":
        return _rule(y, y < 0, "its values must be positive or zero.")
    if family.response == "unit":
        hint = "its values lie strictly between 0 and 1. For successes out of trials use family='binomial'."
        return _rule(y, (y <= 0) | (y >= 1), hint)
    if family.link == "log" and family.name in ("gaussian", "student_t") and not (y > 0).any():
        return "with a log link its expected value is positive, and no value is."
    return ""


def _rule(y: FloatArray, wrong: npt.NDArray[np.bool_], rule: str) -> str:
    if not wrong.any():
        return ""
    return f"{int(wrong.sum())} of {len(y)} values are not allowed ({_some(y[wrong])}); {rule}"


def _some(values: FloatArray) -> str:
    return listing((f"{v:g}" for v in dict.fromkeys(values.tolist())), 3)


def _counted(node: Call, env: Environment, family: Family, weights: FloatArray | None) -> Response:
    if family.response != "binomial":
        raise DataError(
            f"{render(node)} is the response of a binomial model; this family is {family.name}. "
            "Write family='binomial' or 'beta_binomial'."
        )
    if len(node.arguments) != 2 or node.keywords:
        raise DataError("cbind takes two columns: cbind(successes, failures).")
    if weights is not None:
        raise DataError(f"{render(node)} says how many trials there are; leave weights= out.")
    counts, faults = [], []
    for part in node.arguments:
        value = evaluate(part, env)
        if not isinstance(value, np.ndarray):
            raise DataError(f"{render(part)} in {render(node)} must be a numeric column of counts.")
        wrong = (value < 0) | (value != np.round(value))
        if wrong.any():
            faults.append(f"{render(part)}: {_rule(value, wrong, 'counts are whole numbers from 0.')}")
        counts.append(value)
    trials = counts[0] + counts[1]
    if not faults and (trials == 0).any():
        faults.append(
            f"{int((trials == 0).sum())} rows of {render(node)} have no trials; leave them out: "
            f"data[{render(node.arguments[0])} + {render(node.arguments[1])} > 0]."
        )
    if faults:
        raise DataError("\n".join(faults))
    return _sides(Response(counts[0] / trials, trials, None), render(node))


def _several_trials(response: Response, text: str, family: Family) -> Response:
    """Raise a DataError if a beta-binomial response has single trials only, which say nothing of their correlation."""
    if family.name == "beta_binomial" and response.trials is not None and (response.trials == 1).all():
        raise DataError(
            f"Every row of {text} is a single trial, and family='beta_binomial' needs several trials in a row: "
            "successes of one trial cannot be overdispersed. Write family='binomial'."
        )
    return response


def _binomial(text: str, value: Value, weights: FloatArray | None, family: str) -> Response:
    notes: tuple[str, ...] = ()
    if isinstance(value, FactorValue):
        if len(value.levels) != 2:
            raise DataError(
                f"The response {text} has {len(value.levels)} levels ({listing(map(str, value.levels), 5)}), and "
                f"family={family!r} needs two. Say what counts as a success: a column that is true or false, such as "
                f"data[...] == {value.levels[-1]!r}."
            )
        y = (np.asarray(value.codes) == 1).astype(np.float64)
        notes = (f"{text}: {value.levels[1]} {SUCCESS}, {value.levels[0]} as failure.",)
    elif isinstance(value, np.ndarray):
        y = np.ascontiguousarray(value, dtype=np.float64)
    else:
        raise DataError(f"The response {text} has several columns; it needs one.")
    outside = (y < 0) | (y > 1)
    if outside.any():
        raise DataError(
            f"The response {text} does not suit family={family!r}: {int(outside.sum())} of {len(y)} values are not "
            f"between 0 and 1 ({_some(y[outside])}). Counts are written cbind(successes, failures) ~ ...; a "
            "proportion takes its numbers of trials in weights=."
        )
    if weights is None:
        between = (y != 0) & (y != 1)
        if between.any():
            raise DataError(
                f"The response {text} holds proportions ({_some(y[between])}), and family={family!r} must know of how "
                "many trials: give their column in weights=, or write cbind(successes, failures) ~ ... "
                "For proportions that do not come from counts, use family='beta'."
            )
        return _sides(Response(y, np.ones(len(y)), None, notes), text)
    broken = np.abs(weights - np.round(weights)) > 0
    if broken.any():
        raise DataError(
            f"With family={family!r} weights= are numbers of trials, whole numbers; {int(broken.sum())} are not "
            f"({_some(weights[broken])})."
        )
    successes = np.round(y * weights)
    off = np.abs(y * weights - successes) > WHOLE
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise DataError(
            f"{text} times weights= must be whole numbers of successes; {int(off.sum())} are not (the first: "
            f"{y[first]:g} of {weights[first]:g} trials are {y[first] * weights[first]:g} successes)."
        )
    return _sides(Response(successes / weights, weights, None, notes), text)


def _sides(response: Response, text: str) -> Response:
    """Raise a DataError if all trials have the same outcome, because no model has finite estimates then."""
    for side, word in ((1.0, "a success"), (0.0, "a failure")):
        if (response.y == side).all():
            raise DataError(
                f"Every trial of {text} is {word}: the likelihood grows without bound, and there is nothing to explain."
            )
    return response
