"""``collapse``: rows of a binomial or Poisson model with equal predictors and groups become one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaln

from unimix.design.design import expand_dot
from unimix.design.estimability import check_names
from unimix.design.evaluate import Environment
from unimix.design.response import read_response
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn, as_exact
from unimix.distributions.family import Family, FamilyLike, as_family
from unimix.errors import DataError, OptionError, UnsupportedModelError
from unimix.foreign_names import suggests_names
from unimix.formula.allowed import REGISTERED, expression_columns
from unimix.formula.expand import all_atoms
from unimix.formula.functions import STATEFUL
from unimix.formula.interpreter import column_names, parse, used_columns
from unimix.formula.level_means import LEVEL_MEANS
from unimix.formula.parser import Call, render, walk
from unimix.formula.terms import ModelSpec
from unimix.reduction.sources import check_schemas, open_source
from unimix.reduction.survey import complete

FloatArray = npt.NDArray[np.float64]
BATCH_ROWS = 131_072
COUNTED = ("successes", "failures", "count", "rows")
"""Names of the columns that are added."""


@dataclass(frozen=True)
class Collapsed:
    """Rows with different predictors and groups, and the model of their counts.

    Attributes:
        data: One row per combination of predictors and groups that occurs.
        formula: The formula for these rows: ``um.fit(c.formula, c.data, family=...)``.
        constant: What the log likelihood of these rows exceeds that of all rows by, whatever the parameters.
        n_obs: Number of rows that were collapsed.
        missing: Number of missing values per column.
    """

    data: pd.DataFrame
    formula: str
    constant: float
    n_obs: int
    missing: Mapping[str, int]


@suggests_names
def collapse(source: Any, formula: str, *, family: FamilyLike, offset: str | None = None) -> Collapsed:
    """Collapse rows with equal predictors and groups, which loses nothing in a binomial or Poisson model.

    The likelihood of trials with one probability depends on their number and that of the successes only, and that of
    Poisson counts with one expectation on their number and sum. A hundred million clicks of a thousand users on ten
    pages are ten thousand rows. The source is read once in batches.

    Estimates, standard errors, tests and likelihood ratios are those of all rows. The log likelihood is higher by
    ``constant``; deviances, BIC, residuals and the means of numeric predictors refer to the collapsed rows.

    Args:
        source: Rows, in any form that :func:`reduce` or :func:`fit` reads.
        formula: The model of single rows, in lme4's language.
        family: ``"binomial"`` with any link, or ``"poisson"`` with the log link.
        offset: Name of a column that will be given as ``offset=``; rows are equal if it is, too.

    Returns:
        The collapsed rows with the formula to fit.

    Raises:
        DataError: If the source cannot be read; the message names the file.
        FormulaError: If the formula cannot be read, or names columns that the source lacks.
        UnsupportedModelError: If rows of the family cannot be collapsed without loss.

    Example:
        >>> import unimix as um
        >>> rows = {"right": [1, 0, 1, 1, 0, 1], "item": list("aabbab"), "who": [1, 1, 1, 2, 2, 2]}
        >>> collapsed = um.collapse(rows, "right ~ item + (1 | who)", family="binomial")
        >>> collapsed.formula
        'cbind(successes, failures) ~ item + (1 | who)'
        >>> collapsed.data
          item  who  successes  failures
        0    a  1.0        1.0       1.0
        1    a  2.0        0.0       1.0
        2    b  1.0        1.0       0.0
        3    b  2.0        2.0       0.0
    """
    kind = as_family(family)
    if kind.name not in ("binomial", "poisson") or (kind.name == "poisson" and kind.link != "log"):
        raise UnsupportedModelError(
            f"Rows of family={kind} cannot be collapsed: equal rows count as one without loss in binomial models, and "
            "in Poisson models with the log link. Linear models of many rows are for um.reduce."
        )
    if offset is not None and not isinstance(offset, str):
        raise OptionError("offset= of collapsed rows is the name of a column of the source.")
    opened = open_source(source)
    stand_in = dict.fromkeys(opened.columns, ())
    spec, _ = expand_dot(parse(formula), stand_in, exclude=(offset,))
    check_names(spec.formula, column_names(spec), stand_in)
    if offset is not None and offset not in opened.columns:
        raise DataError(f"offset={offset!r} is not a column of the source.")
    _check_calls(spec)
    names = tuple(dict.fromkeys([*used_columns(spec), *([offset] if offset else [])]))
    keys = _keys(spec, names)
    if clash := sorted(set(COUNTED) & set(keys)):
        raise DataError(f"The collapsed rows get columns of their own called {clash[0]!r}: rename that of the source.")
    check_schemas(opened, names)
    whole, waiting, constant, n, missing = None, [], 0.0, 0, dict[str, int]()
    for part in opened.parts:
        for table in part.read(names, BATCH_ROWS):
            columns, _, absent = complete(table, names, part.label)
            missing |= {k: missing.get(k, 0) + v for k, v in absent.items()}
            frame, own = _counted(spec, kind, columns, keys)
            n, constant = n + len(frame), constant + own
            waiting.append(_grouped(frame, keys))
            if sum(map(len, waiting)) > max(2 * BATCH_ROWS, 0 if whole is None else len(whole)):
                whole, waiting = _grouped(pd.concat([*([] if whole is None else [whole]), *waiting]), keys), []
    tables = [*([] if whole is None else [whole]), *waiting]
    if not tables or not n:
        raise DataError("The source has no rows without missing values.")
    data = _grouped(pd.concat(tables), keys)
    right = formula.split("~", 1)[1].strip()
    if kind.name == "binomial":
        k, m = data["successes"], data["successes"] + data["failures"]
        constant += float((gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1)).sum())
        text = f"cbind(successes, failures) ~ {right}"
    else:
        # sum_i log p(k_i; mu) and log p(K; m mu) with K = sum k_i differ by K log m - log K! + sum log k_i!
        constant += float((data["count"] * np.log(data["rows"]) - gammaln(data["count"] + 1)).sum())
        text = f"count ~ {right} + offset(log(rows))"
    return Collapsed(data, text, constant, n, missing)


def _check_calls(spec: ModelSpec) -> None:
    """Refuse functions whose values depend on how often a row occurs."""
    for atom in [*all_atoms(spec), spec.response, *spec.offsets]:
        for node in walk(atom):
            if isinstance(node, Call) and node.function in (*STATEFUL, *LEVEL_MEANS, *REGISTERED):
                raise DataError(
                    f"{render(node)} depends on how often each row occurs. Store its values as a column of the source."
                )


def _keys(spec: ModelSpec, names: tuple[str, ...]) -> list[str]:
    """Columns in which equal rows agree: all but those of the response."""
    used: dict[str, int] = {}
    for node in [*all_atoms(spec), *spec.offsets]:
        used |= expression_columns(node)
    groups = {f for term in spec.random for f in term.factors}
    only = set(expression_columns(spec.response)) - set(used) - groups
    return [n for n in names if n not in only]


def _counted(
    spec: ModelSpec, family: Family, columns: Mapping[str, Column], keys: list[str]
) -> tuple[pd.DataFrame, float]:
    """The keys and the counts of the rows of a batch, and their part of the constant."""
    frame = pd.DataFrame({name: _values(columns[name]) for name in keys})
    env = Environment(columns)
    if not len(next(iter(columns.values())).missing):
        return frame.assign(**dict.fromkeys(("successes", "failures", "count", "rows"), 0.0)).iloc[:0], 0.0
    try:
        response = read_response(spec.response, env, family, None)
        y, trials = response.y, response.trials
    except DataError as error:
        if "Every trial" not in str(error):
            raise
        y, trials = _one_outcome(spec, env, str(error))
    if trials is not None:
        k = np.round(y * trials)
        own = float((gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)).sum())
        return frame.assign(successes=k, failures=trials - k), -own
    return frame.assign(count=y, rows=1.0), float(gammaln(y + 1).sum())


def _one_outcome(spec: ModelSpec, env: Environment, said: str) -> tuple[FloatArray, FloatArray]:
    """Response and trials of a batch in which every trial has the same outcome, which only all rows may not have."""
    from unimix.design.evaluate import evaluate

    side = 1.0 if "a success" in said else 0.0
    node = spec.response
    if isinstance(node, Call) and node.function == "cbind":
        parts = [np.asarray(evaluate(part, env), dtype=np.float64) for part in node.arguments]
        return np.full(len(parts[0]), side), parts[0] + parts[1]
    n = len(next(iter(env.columns.values())).missing)
    return np.full(n, side), np.ones(n)


def _values(column: Column) -> Any:
    """Values of a column as a frame holds them; categories keep their order."""
    if isinstance(column, NumericColumn):
        return as_exact(column)
    assert isinstance(column, FactorColumn)  # noqa: S101  there is no third kind
    if column.origin or column.levels == (False, True):
        return np.array(column.levels, dtype=object)[column.codes]
    return pd.Categorical.from_codes(column.codes, categories=pd.Index(list(column.levels)))


def _grouped(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per combination of the keys, with the sums of the counts."""
    if not keys:
        return frame.sum().to_frame().T
    return frame.groupby(keys, observed=True, sort=True).sum().reset_index()


__all__ = ["Collapsed", "collapse"]
