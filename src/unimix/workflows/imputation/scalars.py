"""Any statistic of a fit, pooled over imputed data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from unimix.errors import OptionError
from unimix.fitted.table_result import TableResult
from unimix.fitted.tables import wald_table
from unimix.result import FitResult
from unimix.stats.rubin import pool


def pool_statistics(fits: Sequence[FitResult], statistic: Callable[[FitResult], Any], ci_level: float) -> TableResult:
    """Pool a statistic of every fit; see :meth:`unimix.ImputedFit.pool`."""
    if not callable(statistic):
        raise OptionError("statistic is a function of a fit, such as lambda fit: fit.sigma ** 2.")
    each = [_as_table(statistic(fit)) for fit in fits]
    first = each[0]
    if any(not one.index.equals(first.index) or list(one.columns) != list(first.columns) for one in each[1:]):
        raise OptionError("The statistic has other rows or columns in some of the fits, and cannot be pooled.")
    labels = [c for c in first.columns if c not in ("estimate", "std_error", "df")]
    if any(not one[labels].equals(first[labels]) for one in each[1:]):
        raise OptionError(f"The statistic has other {labels} in some of the fits, and cannot be pooled.")
    estimates = np.array([one["estimate"].to_numpy(dtype=np.float64) for one in each])
    if "std_error" not in first:
        table = first[labels].assign(estimate=estimates.mean(axis=0))
        return TableResult(table, [f"Means over {len(fits)} imputations; no standard errors were given."])
    errors = np.array([one["std_error"].to_numpy(dtype=np.float64) for one in each])
    df = np.array([one["df"].to_numpy(dtype=np.float64) if "df" in one else np.full(len(one), np.inf) for one in each])
    found = pool(estimates, errors**2, df)
    tests = wald_table(found.estimate, found.std_error, found.df, ci_level, first.index)
    table = pd.concat([first[labels], tests.assign(fmi=found.fmi)], axis=1)
    return TableResult(table, [f"Pooled over {len(fits)} imputations; {100 * ci_level:g}% intervals, df Barnard-Rubin"])


def _as_table(value: Any) -> pd.DataFrame:
    """The answer of a statistic as a table with labels, estimate, and perhaps std_error and df."""
    table = getattr(value, "table", value)
    if isinstance(table, pd.DataFrame):
        if "estimate" not in table:
            raise OptionError(f"The statistic is a table without a column estimate: it has {list(table.columns)}.")
        of_each = ("statistic", "p_value", "lower", "upper", "adjust", "fmi")
        numbers = [c for c in table if c not in ("estimate", "std_error", "df") and c in of_each]
        return table.drop(columns=numbers)
    if isinstance(value, Mapping | pd.Series):
        return pd.DataFrame({"estimate": pd.Series(dict(value), dtype=float)})
    values = np.asarray(value, dtype=np.float64)
    if isinstance(value, tuple) and values.shape == (2,):
        return pd.DataFrame({"estimate": values[:1], "std_error": values[1:]})
    if values.ndim > 1:
        raise OptionError("The statistic has rows and columns: return a table with columns estimate and std_error.")
    return pd.DataFrame({"estimate": np.atleast_1d(values)})


__all__ = ["pool_statistics"]
