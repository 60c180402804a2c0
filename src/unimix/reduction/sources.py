"""Sources of rows that are read in batches: Parquet files, datasets, lazy frames, relations and tables in memory."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import narwhals as nw

from unimix.argument_types import file_at
from unimix.design.frames import column_labels, n_rows, to_pandas
from unimix.errors import DataError, EngineNotInstalledError, UnimixError, listing, to_type
from unimix.installation import pip_line

MAGIC = frozenset("*?[")


class Part(ABC):
    """A part of a source that is read from its beginning to its end, such as a file."""

    label: str

    @abstractmethod
    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield tables of some columns.

        Args:
            names: Columns to read; no other column is read.
            rows: Largest number of rows of one table, approximately.
        """

    def read(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield the tables of :meth:`frames`; an error names the part.

        Raises:
            DataError: If the part cannot be read.
        """
        tables = self.frames(names, rows)
        while True:
            try:
                table = next(tables)
            except StopIteration:
                return
            except UnimixError:
                raise
            except Exception as error:  # readers raise errors of many kinds
                raise DataError(f"{self.label} cannot be read ({type(error).__name__}: {error!s:.300}).") from error
            yield table


@dataclass(frozen=True)
class Source:
    """Rows in parts.

    Attributes:
        columns: Names of all columns.
        parts: The parts, in order.
        n_rows: Number of rows, if it is known without reading them.
    """

    columns: tuple[str, ...]
    parts: tuple[Part, ...]
    n_rows: int | None = None


@dataclass(frozen=True)
class FragmentPart(Part):
    """A fragment of a pyarrow dataset, such as a Parquet file.

    Attributes:
        fragment: The fragment.
        schema: Columns of the dataset; those that the file itself lacks are given by its path.
        label: Path of the file.
    """

    fragment: Any
    schema: Any
    label: str

    @cached_property
    def own(self) -> Any:
        """Columns of the file itself.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            return self.fragment.physical_schema
        except Exception as error:  # pyarrow raises ArrowInvalid, OSError and others
            raise DataError(f"{self.label} cannot be read ({type(error).__name__}: {error!s:.300}).") from error

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield pyarrow tables."""
        import pyarrow as pa

        # The file's own types: the dataset's are those of its first file, and would turn absent columns into nulls.
        fields = [self.own.field(n) if n in self.own.names else self.schema.field(n) for n in names]
        schema = pa.schema(fields)
        for batch in self.fragment.to_batches(schema=schema, columns=list(names), batch_size=rows, use_threads=False):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


@dataclass(frozen=True)
class LazyPart(Part):
    """A polars lazy frame, whose query is run in batches."""

    frame: Any
    label: str = "the LazyFrame"

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield polars frames."""
        selected = self.frame.select(list(names))
        if not hasattr(selected, "collect_batches"):
            raise DataError(
                "This polars cannot run a query in batches (LazyFrame.collect_batches); update it, or write the rows: "
                "lazy.sink_parquet('rows.parquet')."
            )
        yield from (b for b in selected.collect_batches(chunk_size=rows, engine="streaming") if len(b))


@dataclass(frozen=True)
class RelationPart(Part):
    """A DuckDB relation, whose query is run in batches."""

    relation: Any
    label: str = "the DuckDB relation"

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield pyarrow tables."""
        import pyarrow as pa

        quoted = ", ".join('"' + n.replace('"', '""') + '"' for n in names)
        chosen = self.relation.project(quoted)
        reader = chosen.to_arrow_reader(rows) if hasattr(chosen, "to_arrow_reader") else chosen.fetch_arrow_reader(rows)
        yield from (pa.Table.from_batches([b]) for b in reader if b.num_rows)


@dataclass(frozen=True)
class TablePart(Part):
    """A table in memory."""

    table: Any
    label: str = "the table"

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield slices of the table."""
        chosen = nw.from_native(self.table).select(*names)
        for start in range(0, len(chosen), rows):
            yield chosen[start : start + rows].to_native()


@dataclass(frozen=True)
class DelayedPart(Part):
    """A partition of a Dask frame."""

    partition: Any
    label: str

    def frames(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield slices of the partition, which is computed here."""
        table = self.partition.compute() if hasattr(self.partition, "compute") else self.partition
        yield from TablePart(table[list(names)], self.label).frames(names, rows)


def is_source(data: object) -> bool:
    """Whether data are read in batches: a path, a pyarrow dataset, a lazy frame, a DuckDB relation or a Dask frame."""
    return isinstance(data, str | Path) or _kind(data) in ("dataset", "lazy", "relation", "dask")


def is_lazy_frame(data: object) -> bool:
    """Whether a source is a frame that can be collected as well: a lazy frame, a DuckDB relation or a Dask frame."""
    return _kind(data) in ("lazy", "relation", "dask")


def _kind(data: object) -> str:
    """The kind of a source by its package and class, without importing the package."""
    top, name = type(data).__module__.partition(".")[0], type(data).__name__
    if top == "pyarrow" and name.endswith("Dataset"):
        return "dataset"
    if top == "polars" and name == "LazyFrame":
        return "lazy"
    if top in ("duckdb", "_duckdb") and name == "DuckDBPyRelation":
        return "relation"
    if top in ("dask", "dask_expr") and hasattr(data, "to_delayed") and hasattr(data, "columns"):
        return "dask"
    return "path" if isinstance(data, str | Path) else "table"


def open_source(data: Any) -> Source:
    """Find the parts of a source; nothing but file headers is read.

    Args:
        data: A Parquet file, a folder of them or a pattern such as ``"rows/2024-*.parquet"``; a pyarrow dataset; a
            polars LazyFrame; a DuckDB relation; a Dask DataFrame; or a table in memory.

    Raises:
        DataError: If there is no such file, or a file cannot be read; the message names it.
        EngineNotInstalledError: If pyarrow is needed and missing.
    """
    kind = _kind(data)
    if kind in ("path", "dataset"):
        return _of_dataset(data if kind == "dataset" else _dataset_at(str(data)), data)
    if kind == "lazy":
        return Source(tuple(data.collect_schema().names()), (LazyPart(data),))
    if kind == "relation":
        pyarrow_dataset()
        return Source(tuple(data.columns), (RelationPart(data),))
    if kind == "dask":
        parts = data.to_delayed()
        labels = [f"partition {i} of the Dask frame" for i in range(len(parts))]
        return Source(tuple(map(str, data.columns)), tuple(map(DelayedPart, parts, labels)))
    columns = tuple(column_labels(data))
    table = to_pandas(data) if isinstance(data, Mapping) else data
    return Source(columns, (TablePart(table),), n_rows(table))


def pyarrow_dataset() -> Any:
    """The package that reads Parquet files.

    Raises:
        EngineNotInstalledError: If it is missing.
    """
    try:
        import pyarrow.dataset
    except ImportError:
        raise EngineNotInstalledError(
            f"Rows are read in batches by pyarrow, which is not installed. {to_type(pip_line('reduce'))}"
        ) from None
    return pyarrow.dataset


def _dataset_at(path: str) -> Any:
    """The dataset of a file, a folder or a pattern."""
    dataset, found = pyarrow_dataset(), [path]
    if MAGIC & set(path) and not file_at(path).exists():
        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  the pattern may be absolute
    if Path(path).suffix.lower() in (".csv", ".tsv", ".txt", ".xlsx", ".feather", ".json"):
        raise DataError(
            f"{path} is no Parquet file. Read it into memory, data = pd.read_csv(...), or write it as Parquet: "
            f"pl.scan_csv({path!r}).sink_parquet('rows.parquet')."
        )
    if not found or not file_at(found[0]).exists():
        raise DataError(f"There is no file {path!r}: give a Parquet file, a folder of them, or a pattern.")
    try:
        if len(found) == 1:
            return dataset.dataset(found[0], format="parquet", partitioning="hive")
        return dataset.dataset(found, format="parquet")
    except Exception as error:  # pyarrow raises ArrowInvalid, OSError and others
        raise DataError(f"{path} cannot be read as Parquet ({type(error).__name__}: {error!s:.300}).") from error


def _of_dataset(dataset: Any, data: Any) -> Source:
    schema = dataset.schema
    parts = []
    for i, fragment in enumerate(dataset.get_fragments()):
        path = getattr(fragment, "path", "")
        parts.append(FragmentPart(fragment, schema, path or f"fragment {i} of the dataset"))
    if not parts:
        raise DataError(f"{data!s:.200} holds no Parquet file.")
    return Source(tuple(schema.names), tuple(parts))


def check_schemas(source: Source, names: Sequence[str]) -> None:
    """Refuse files whose columns differ from those of the first file.

    Args:
        source: The source.
        names: Columns that are used.

    Raises:
        DataError: If a file lacks a column or holds another type; the message names the files.
    """
    files = [p for p in source.parts if isinstance(p, FragmentPart)]
    faults: list[str] = []
    known: dict[str, tuple[str, str]] = {}
    for part in files:
        own = part.own
        by_path = set(part.schema.names) - set(files[0].own.names)
        absent = [n for n in names if n not in own.names and n not in by_path]
        if absent:
            faults.append(f"{part.label} has no column {listing(map(repr, absent))}.")
        for n in names:
            if n not in own.names or (kind := _type_kind(own.field(n).type)) == "nothing":
                continue
            first, where = known.setdefault(n, (kind, part.label))
            if kind != first:
                faults.append(f"{n!r} holds {kind} in {part.label} and {first} in {where}.")
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise DataError("The files differ: " + " ".join(faults[:5]) + more)


def _type_kind(kind: Any) -> str:
    """Kind of an Arrow type, in words."""
    import pyarrow.types as of

    if of.is_dictionary(kind):
        return "categories"
    tests = {
        "nothing": of.is_null,
        "booleans": of.is_boolean,
        "numbers": lambda t: of.is_integer(t) or of.is_floating(t) or of.is_decimal(t),
        "text": lambda t: of.is_string(t) or of.is_large_string(t) or str(t) == "string_view",
        "dates": of.is_temporal,
    }
    return next((words for words, test in tests.items() if test(kind)), str(kind))


__all__ = [
    "DelayedPart",
    "FragmentPart",
    "Part",
    "Source",
    "check_schemas",
    "is_lazy_frame",
    "is_source",
    "open_source",
    "pyarrow_dataset",
]
