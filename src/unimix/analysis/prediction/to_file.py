"""Predictions of rows that do not fit into memory, written to a Parquet file batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np

from unimix.argument_types import file_at
from unimix.design.frames import n_rows
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.formula.allowed import expression_columns
from unimix.reduction.sources import Source, check_schemas, open_source, pyarrow_dataset

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

BATCH_ROWS = 131_072


def predict_to(
    fit: FittedModel,
    source: Any,
    path: str | Path,
    *,
    keep: Sequence[str] = (),
    level: Literal["group", "population"] | Sequence[str] = "group",
    new_levels: Literal["error", "population"] = "error",
    kind: Literal["response", "link"] = "response",
) -> Path:
    """Write predictions for the rows of a source to a Parquet file, without holding them in memory.

    The file has one row per row of the source, in its order, with the column ``prediction`` (missing where a predictor
    is), the column ``residual`` (observed minus predicted) where the source has the response, and the columns to keep.

    Args:
        source: Rows, in any form that :func:`unimix.reduce` reads.
        path: The file to write; it is complete or not there.
        keep: Columns of the source to write beside the predictions, such as an identifier.
        level: Group effects to include, as in ``predict``.
        new_levels: Treatment of levels that were not fitted, as in ``predict``.
        kind: Scale of the predictions, as in ``predict``; residuals are on the scale of the response.

    Returns:
        The path of the file.

    Raises:
        DataError: If the source cannot be read or lacks columns; the message names the file.
        OptionError: If a column to keep does not exist.
        EngineNotInstalledError: If pyarrow is missing.

    Example:
        >>> import tempfile, pandas as pd, unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fit.predict_to(sleep, f"{folder}/predictions.parquet", keep=["Subject"])
        ...     pd.read_parquet(path).round(1).head(2)
          Subject  prediction  residual
        0     308       253.7      -4.1
        1     308       273.3     -14.6
    """
    pyarrow_dataset()
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened, whole = open_source(source), file_at(path)
    kept = [keep] if isinstance(keep, str) else list(keep)
    strange = [n for n in kept if n not in opened.columns]
    if strange or {"prediction", "residual"} & set(kept):
        wrong = strange[0] if strange else next(n for n in kept if n in ("prediction", "residual"))
        raise OptionError(
            f"keep={wrong!r}: give columns of the source other than prediction and residual."
            f"{did_you_mean(wrong, opened.columns)}"
        )
    response = [*expression_columns(fit.spec.response)]
    with_response = kind == "response" and all(n in opened.columns for n in response)
    encoding = fit.model.encoding
    needed = encoding.needed(encoding.variables, dict.fromkeys(opened.columns, ()))
    absent = [n for n in needed if n not in opened.columns]
    if absent and level == "group":
        raise DataError(f"The source lacks {listing(absent)}. The model uses: {listing(needed)}.")
    used = [n for n in needed if n in opened.columns]
    names = list(dict.fromkeys([*kept, *used, *(response if with_response else ())]))
    check_schemas(opened, names)
    partial = whole.with_name(f"{whole.name}.{os.getpid()}.part")
    writer = None
    try:
        for table, where in _tables(opened, names):
            columns = {n: nw.from_native(table)[n].to_arrow() for n in kept}
            try:
                predicted = fit.predict(table, level=level, new_levels=new_levels, kind=kind)  # type: ignore[attr-defined]
            except DataError as error:
                raise DataError(f"In {where}: {error}") from None
            columns["prediction"] = pa.array(predicted, from_pandas=True)
            if with_response:
                observed = fit.model.encoding.response(table)
                assert observed is not None  # noqa: S101  its columns are there
                columns["residual"] = pa.array(np.asarray(observed) - predicted, from_pandas=True)
            rows = pa.table(columns)
            writer = writer or pq.ParquetWriter(partial, rows.schema)
            writer.write_table(rows.cast(writer.schema))
        if writer is None:
            raise DataError("The source has no rows.")
        writer.close()
        partial.replace(whole)
    except OSError as error:
        raise DataError(f"{str(path)!r:.200} cannot be written: {error!s:.200}.") from error
    finally:
        if writer is not None:
            writer.close()
        partial.unlink(missing_ok=True)
    return whole


def _tables(source: Source, names: Sequence[str]) -> Iterator[tuple[Any, str]]:
    """The batches of a source, with the name of the part that each comes from."""
    for part in source.parts:
        yield from ((table, part.label) for table in part.read(names, BATCH_ROWS) if n_rows(table))


__all__ = ["predict_to"]
