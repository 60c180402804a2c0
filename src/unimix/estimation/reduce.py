"""``reduce``: rows from files, lazy frames or a cluster become what linear mixed models need of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Literal

from unimix.argument_types import count_fault
from unimix.backends.limits import MemoryLimit, TimeLimit, read_limits
from unimix.errors import OptionError
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import jobs_fault
from unimix.reduction.reduced import Reduced
from unimix.reduction.run import Passes, Request, read
from unimix.reduction.sources import open_source

BATCH_ROWS = 131_072
"""Rows that are read at a time."""


@suggests_names
def reduce(
    source: Any,
    formula: str,
    *,
    weights: str | None = None,
    offset: str | None = None,
    contrasts: Mapping[str, object] | None = None,
    missing: Literal["drop", "raise"] = "drop",
    like: Reduced | None = None,
    batch_rows: int = BATCH_ROWS,
    n_jobs: int | None = None,
    progress: bool | None = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
) -> Reduced:
    """Reduce rows that need not fit into memory to what linear mixed models need of them.

    The source is read twice in batches, and only the columns that the formula uses: once for levels, missing values and
    means, once for the cross-products. For every combination of levels of the grouping factors at most as many rows
    are kept as the model has columns, so that memory grows with the number of groups and not with that of the rows.
    The likelihood of the kept rows is that of all rows, and so are estimates, standard errors, degrees of freedom and
    tests (:mod:`unimix.likelihood.lmm.compressed_rows`).

    Args:
        source: A Parquet file, a folder of them or a pattern such as ``"rows/2024-*.parquet"``; a pyarrow dataset; a
            polars LazyFrame; a DuckDB relation; a Dask DataFrame, whose partitions are reduced where they lie; or any
            table that :func:`fit` takes.
        formula: The largest model that will be fitted, in lme4's language. Functions that need all rows at once, such
            as ``poly(x, 2)`` or splines whose knots are quantiles, are refused.
        weights: Name of a column of precision weights, Var(e) = sigma^2 / w.
        offset: Name of a column that is added to the linear predictor.
        contrasts: Coding of each factor, as in :func:`fit`.
        missing: ``"drop"`` leaves out rows with missing values in a column of the model, and counts them; ``"raise"``
            refuses them.
        like: A reduction of other rows, whose levels of the predictors are taken, so that the two can be added.
        batch_rows: Number of rows that are read at a time.
        n_jobs: Number of processes (or workers of a surrounding ``joblib.parallel_config``) that reduce the files of a
            source at the same time; None reads one file after the other in this process.
        progress: Whether to show a progress bar; None shows it on a terminal.
        time_limit: Time after which reading is given up, as in :func:`fit`.
        memory_limit: Largest memory of the kept rows, as in :func:`fit`; more crossed levels than fit are refused.

    Returns:
        The reduction: ``um.fit(formula, reduced)`` fits the formula or any smaller one, ``reduced.save(path)`` writes
        it, and ``january + february`` adds the reductions of different rows.

    Raises:
        DataError: If the source cannot be read, its files differ, or they do not allow the model; the message names
            the file.
        FormulaError: If the formula cannot be read, or names columns that the source lacks.
        LimitError: If a limit was reached.
        OptionError: If an argument is wrong.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> reduced = um.reduce(sleep, "Reaction ~ Days + (Days | Subject)")
        >>> reduced.n_obs, reduced.n_kept
        (180, 54)
        >>> um.fit("Reaction ~ Days + (1 | Subject)", reduced).fixed_effects["estimate"].round(2)
        term
        Intercept    251.41
        Days          10.47
        Name: estimate, dtype: float64
    """
    limits, faults = read_limits(time_limit, memory_limit)
    faults += [
        fault for fault in (count_fault("batch_rows", batch_rows, 1, "rows", 2**31), jobs_fault(n_jobs)) if fault
    ]
    for name, value in (("weights", weights), ("offset", offset)):
        if value is not None and not isinstance(value, str):
            faults.append(f"{name}= of reduced rows is the name of a column of the source.")
    if not isinstance(formula, str):
        faults.append(f"formula={formula!r:.60}: um.reduce takes the source and then the formula.")
    if missing not in ("drop", "raise"):
        faults.append(f"missing={missing!r}: choose 'drop' or 'raise'.")
    if like is not None and not isinstance(like, Reduced):
        faults.append("like= is a reduction, from um.reduce.")
    if faults:
        raise OptionError("\n".join(faults))
    memory = None if limits.memory is None or math.isinf(limits.memory) else int(limits.memory)
    deadline = None if limits.seconds is None else time.time() + limits.seconds
    passes = Passes(int(batch_rows), n_jobs, progress, deadline, memory)
    request = Request(formula, weights, offset, contrasts, missing)
    plan, piece, found, notes = read(open_source(source), request, passes, None if like is None else like._plan)
    return Reduced(plan, piece, found.n_rows, dict(found.missing), tuple(notes))


__all__ = ["reduce"]
