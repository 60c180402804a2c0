"""Reductions in files: the arrays, and everything else as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unimix.archive import array_from, read_archive, write_archive
from unimix.design.encoding import Encoding
from unimix.design.typed_columns import Column, FactorColumn, NumericColumn
from unimix.errors import DataError
from unimix.likelihood.lmm.compressed_rows import CellRows
from unimix.reduction.levels import LevelSet
from unimix.reduction.pieces import Piece
from unimix.reduction.plan import Plan

VERSION = 2
WHAT = "saved reduction"
TEXT = "reduction.json"


def write_file(
    plan: Plan, piece: Piece, n_rows: int, missing: Mapping[str, int], notes: tuple[str, ...], path: str | Path
) -> Path:
    """Write a reduction; the file is complete or not there.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If it cannot be written.
    """
    arrays: dict[str, Any] = {
        "values": piece.rows.values,
        "cells": piece.rows.cells,
        "moments": piece.moments,
        "support_rows": piece.support_rows,
        "support_codes": piece.support_codes,
        "combinations": piece.combinations,
        "frequencies": piece.frequencies,
    }
    support: dict[str, Any] = {}
    for name, column in piece.support.items():
        arrays[f"support {name}"] = column.codes if isinstance(column, FactorColumn) else column.values
        support[name] = [list(column.levels), column.origin] if isinstance(column, FactorColumn) else None
    text = {
        "version": VERSION,
        "encoding": plan.encoding.model_dump(mode="json"),
        "groups": {n: _level_text(s, f"group {n}", arrays) for n, s in plan.groups.items()},
        "made": {n: _level_text(s, f"made {n}", arrays) for n, s in plan.made.items()},
        "rows": plan.rows,
        "n": piece.n,
        "log_weights": piece.log_weights,
        "means": dict(piece.means),
        "names": list(piece.names),
        "support": support,
        "n_rows": n_rows,
        "missing": dict(missing),
        "notes": list(notes),
    }
    # members are numbered, because the names of columns are the user's
    members = {f"{k}.npy": np.asarray(values) for k, values in enumerate(arrays.values())}
    return write_archive(path, {TEXT: json.dumps(text | {"arrays": list(arrays)}), **members})


def _level_text(levels: LevelSet, name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Levels as JSON; numbers are put among the arrays."""
    if levels.numbers is not None and levels.numbers.dtype == np.float64:
        arrays[name] = levels.numbers
        return {"name": levels.name, "kind": levels.kind}
    if levels.numbers is not None:
        return {"name": levels.name, "kind": levels.kind, "whole": [int(v) for v in levels.numbers]}
    return {"name": levels.name, "kind": levels.kind, "labels": list(levels.labels), "order": list(levels.order)}


def read_file(path: str | Path) -> tuple[Plan, Piece, int, dict[str, int], tuple[str, ...]]:
    """Read what :func:`write_file` wrote.

    Raises:
        OptionError: If ``path`` is not a path.
        DataError: If there is no such file, or it is damaged.
    """
    members = read_archive(path, WHAT)
    try:
        text = json.loads(members[TEXT])
        if text["version"] != VERSION:
            raise DataError(f"{path} was written by another version of unimix: reduce the source again.")
        return _content(text, {n: array_from(members[f"{k}.npy"]) for k, n in enumerate(text["arrays"])})
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{str(path)!r:.200} is not a {WHAT}, or is damaged: {error!s:.200}.") from error


def _content(text: dict[str, Any], arrays: dict[str, Any]) -> tuple[Plan, Piece, int, dict[str, int], tuple[str, ...]]:
    def levels(kind: str) -> dict[str, LevelSet]:
        return {
            n: _levels(s, arrays.get(f"{kind} {n}")) for n, s in text[f"{kind}s" if kind == "group" else kind].items()
        }

    encoding = Encoding.model_validate_json(json.dumps(text["encoding"]), strict=True)
    plan = Plan(encoding, levels("group"), levels("made"), int(text["rows"]))
    support: dict[str, Column] = {}
    for name, of in text["support"].items():
        values = arrays[f"support {name}"]
        support[name] = NumericColumn(values) if of is None else FactorColumn(values, tuple(of[0]), of[1])
    values, cells = arrays["values"], arrays["cells"]
    if len(values) != len(cells) or values.shape[1] != len(text["names"]) or cells.shape[1] != len(plan.groups):
        raise ValueError("its arrays do not fit together")
    piece = Piece(
        n=int(text["n"]),
        log_weights=float(text["log_weights"]),
        rows=CellRows(values, cells),
        moments=arrays["moments"],
        means={n: float(v) for n, v in text["means"].items()},
        support=support,
        support_rows=arrays["support_rows"],
        support_codes=arrays["support_codes"],
        combinations=arrays["combinations"],
        frequencies=arrays["frequencies"],
        names=tuple(text["names"]),
    )
    return plan, piece, int(text["n_rows"]), dict(text["missing"]), tuple(text["notes"])


def _levels(stored: dict[str, Any], numbers: Any) -> LevelSet:
    if "whole" in stored:
        numbers = np.array(stored["whole"], dtype=object)
    labels, order = tuple(stored.get("labels", ())), tuple(stored.get("order", ()))
    return LevelSet(stored["name"], stored["kind"], numbers, labels, order)


__all__ = ["read_file", "write_file"]
