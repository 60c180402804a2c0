"""Contrast codings: their names, and their matrices, which formulaic computes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.formula.parser import Call, Name, Node, Number, Reader, Sequence_, Text

FloatArray = npt.NDArray[np.float64]

KINDS = {"treatment": "T", "sum": "S", "helmert": "H", "poly": "", "diff": "D", "sas": "T"}
"""Letter of a coding in the names of its columns: ``f[T.b]``."""
_ALIASES = {"sdif": "diff", "backward": "diff", "dummy": "treatment", "deviation": "sum", "effect": "sum"}


@dataclass(frozen=True)
class Contrast:
    """The coding by which a factor becomes columns.

    Attributes:
        kind: treatment, sum, helmert, poly, diff, sas, custom (a coding matrix) or hypotheses (weights of level means).
        base: Reference level of treatment coding (a level, or its 1-based number), or None.
        by_position: Whether a number as ``base`` is a position, as in R, and not a level that is called like it.
        size: Number of levels that the call states, as ``contr.sum(3)`` does, or None.
        named: Levels that the call states, as ``contr.sum(c("a", "b"))`` does.
        scores: Scores of the levels for polynomials; equally spaced ones if empty.
        matrix: Rows of a custom coding or of the weights of hypotheses, one row per level.
        labels: Names of the columns of ``matrix``.
    """

    kind: str
    base: str | float | None = None
    matrix: tuple[tuple[float, ...], ...] = ()
    labels: tuple[str, ...] = ()
    by_position: bool = False
    size: int | None = None
    named: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, "custom", "hypotheses"):
            raise DataError(f"{self.kind!r} is not a contrast.{did_you_mean(self.kind, KINDS)}")
        if any(len(row) != len(self.labels) for row in self.matrix):
            raise DataError(f"A contrast with {len(self.labels)} labels has as many numbers per level.")

    def label(self, place: int) -> str:
        """Name of a column; columns that complete the given hypotheses are called ``rest 1``, ``rest 2`` ..."""
        return self.labels[place] if place < len(self.labels) else f"rest {place - len(self.labels) + 1}"


def _kind(name: str) -> str | None:
    bare = name.removeprefix("contr.").lower()
    bare = _ALIASES.get(bare, bare)
    return bare if bare in KINDS else None


def contrast_from_node(node: Node) -> Contrast:
    """Read a contrast such as ``contr.sum``, ``Sum``, ``contr.treatment(base="b")``, ``Treatment("b")`` or ``"sum"``.

    R's functions take R's arguments: the number of levels or the levels themselves come first, ``contr.sum(3)``,
    ``contr.treatment(3, base=2)``, and a number as ``base`` is a position. A quoted ``base`` is a level.

    Raises:
        DataError: If the coding is unknown.
    """
    match node:
        case Name(name) | Text(name):
            arguments: tuple[Node, ...] = ()
            keywords: tuple[tuple[str, Node], ...] = ()
        case Call(name, arguments, keywords):
            pass
        case _:
            raise DataError("A contrast is named, for instance contr.sum; a matrix goes into contrasts={'f': matrix}.")
    kind = _kind(name)
    if kind is None:
        raise DataError(
            f"{name!r} is not a contrast.{did_you_mean(name, KINDS)} Known: contr.{', contr.'.join(KINDS)}."
        )
    from_r = name.startswith("contr.")
    given = dict(keywords)
    own = {"treatment": ("base", "reference"), "poly": ("scores",)}.get(kind, ())
    positional: list[str] = ["n", *own[:1]] if from_r else list(own[:1])
    if from_r and len(arguments) == 1 and isinstance(arguments[0], Text):
        positional = ["base"]  # R has no meaning for it
    if {"base", "reference"} & {*given, *positional[: len(arguments)]} and kind != "treatment":
        raise DataError(f"Only treatment coding has a reference level, not {name}.")
    if (
        len(arguments) > len(positional)
        or not {*given} <= {*positional, *own}
        or {*given} & {*positional[: len(arguments)]}
    ):
        usage = {"treatment": f"{name}(base='a')", "poly": f"{name}(scores=c(1, 2, 5))"}.get(kind, name)
        raise DataError(f"{name}() has other arguments: write {usage}.")
    given |= dict(zip(positional, arguments, strict=False))
    size, named = _levels_stated(given.get("n"), name)
    scores = _scores(given.get("scores"), name)
    return Contrast(
        kind,
        _reference(given.get("base", given.get("reference")), name),
        by_position=from_r,
        size=size,
        named=named,
        scores=scores,
    )


def _reference(value: Node | None, name: str) -> str | float | None:
    if value is None:
        return None
    if not isinstance(value, Text | Number):
        raise DataError(f"The reference level of {name}() is a quoted level or a number.")
    return value.value


def _levels_stated(value: Node | None, name: str) -> tuple[int | None, tuple[str, ...]]:
    """The number of levels, or the levels, that a call of R's functions states."""
    match value:
        case None:
            return None, ()
        case Number(size) if size == int(size) and size >= 2:
            return int(size), ()
        case Sequence_(items) if items and all(isinstance(i, Text | Number) for i in items):
            values = [i.value for i in items if isinstance(i, Text | Number)]
            return len(items), tuple(f"{v:g}" if isinstance(v, float) else v for v in values)
        case _:
            raise DataError(f"{name}() takes the number of levels or the levels first, as in R: {name}(3).")


def _scores(value: Node | None, name: str) -> tuple[float, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence_) or not all(isinstance(i, Number) for i in value.items):
        raise DataError(f"The scores of {name}() are numbers, one per level: {name}(scores=c(1, 2, 5)).")
    scores = tuple(i.value for i in value.items if isinstance(i, Number))
    if len(set(scores)) < len(scores):
        raise DataError(f"The scores of {name}() are all different.")
    return scores


def as_contrast(value: object, factor: str) -> Contrast:
    """Read one entry of ``fit(..., contrasts={factor: value})``.

    Args:
        value: A name (``"sum"``, ``"contr.treatment(base='b')"``), a coding matrix (levels x columns; a data frame
            gives the names of its columns), or hypotheses: a mapping from a label to one weight per level. The weights
            of a hypothesis sum to zero, and its coefficient is the weighted sum of the level means.
        factor: Name of the factor, for messages.

    Raises:
        OptionError: If the value is none of these.
    """
    if isinstance(value, Contrast):
        return value
    if isinstance(value, str):
        try:
            reader = Reader(value)
            node = reader.expression()
            reader.finish()
            return contrast_from_node(node)
        except ValueError as error:
            raise OptionError(f"contrasts[{factor!r}] = {value!r}: {error}") from error
    if isinstance(value, Mapping):
        labels = tuple(str(k) for k in value)
        if len(set(labels)) < len(labels):
            raise OptionError(f"contrasts[{factor!r}] has labels that read the same.")
        columns = [_weights(v) for v in value.values()]
        if not columns or any(c.shape != columns[0].shape or c.ndim != 1 or not c.size for c in columns):
            raise OptionError(f"contrasts[{factor!r}] must map each label to one weight per level.")
        return _hypotheses(_custom(np.column_stack(columns), labels, factor), factor)
    matrix = _weights(value)
    if matrix.ndim != 2 or not matrix.size:
        raise OptionError(
            f"contrasts[{factor!r}] is a name ({listing(KINDS)}), "
            f"a levels x columns matrix, or {{label: weights}}; not {value!r}."
        )
    return _custom(matrix, _column_names(value, matrix.shape[1], factor), factor)


def _column_names(value: object, k: int, factor: str) -> tuple[str, ...]:
    """Names of the columns of a data frame; 1, 2 ... for values without column names."""
    given: Any = getattr(value, "columns", None)
    names = tuple(map(str, given)) if given is not None else ()
    if len(set(names)) < len(names):
        raise OptionError(f"contrasts[{factor!r}] has columns of the same name.")
    return names if names and names != tuple(map(str, range(k))) else tuple(str(j + 1) for j in range(k))


def _hypotheses(contrast: Contrast, factor: str) -> Contrast:
    """Check that the weights of each hypothesis sum to zero and are not all zero."""
    weights = np.array(contrast.matrix)
    sums, sizes = weights.sum(axis=0), np.abs(weights).max(axis=0)
    off = [j for j in range(len(sums)) if abs(sums[j]) > 1e-8 * sizes[j]]
    sums_text = [f"{contrast.labels[j]!r} sums to {sums[j]:.6g}" for j in off]
    if sums_text:
        raise OptionError(
            f"contrasts[{factor!r}]: the weights of a hypothesis about level means sum to zero, such as "
            f"{{'b-a': [-1, 1, 0]}}; {listing(sums_text)}. If these are columns of a coding, give a matrix: "
            f"contrasts={{{factor!r}: np.column_stack([...])}}."
        )
    empty = [label for label, column in zip(contrast.labels, weights.T, strict=True) if not column.any()]
    if empty:
        raise OptionError(f"contrasts[{factor!r}]: all weights of {listing(map(repr, empty))} are zero.")
    return replace(contrast, kind="hypotheses")


def _weights(value: object) -> FloatArray:
    """Convert numbers to an array; the array is empty where the value does not hold numbers.

    Raises:
        OptionError: If the rows have labels, whose order might differ from that of the levels.
    """
    index: Any = getattr(value, "index", None)
    if hasattr(index, "tolist") and index.tolist() != list(range(len(index))):
        raise OptionError(
            f"The rows of this coding have labels ({listing(map(str, index.tolist()), 5)}), and rows are taken in the "
            "order of the factor's levels. Put them into that order and give the numbers: table.loc[levels].to_numpy()."
        )
    try:
        array = np.asarray(value)
    except ValueError:
        return np.empty(0)
    return array.astype(np.float64) if array.dtype.kind in "biuf" else np.empty(0)


def _custom(matrix: FloatArray, labels: tuple[str, ...], factor: str) -> Contrast:
    if not np.isfinite(matrix).all():
        raise OptionError(f"contrasts[{factor!r}] holds values that are not finite.")
    return Contrast("custom", None, tuple(tuple(float(v) for v in row) for row in matrix), labels)


def indicated_levels(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> list[int] | None:
    """Positions of the levels that have an indicator column in a model with an intercept; None for any other coding.

    Args:
        contrast: The coding.
        levels: The levels in order.
        factor: Name of the factor, for messages.

    Raises:
        DataError: If the reference level is not one of the levels.
    """
    _check_stated(contrast, levels, factor)
    if contrast.kind not in ("treatment", "sas"):
        return None
    last = len(levels) - 1 if contrast.kind == "sas" else 0
    base = last if contrast.base is None else _base(contrast, levels, factor)
    return [place for place in range(len(levels)) if place != base]


def coding_matrix(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Coding matrix of a factor in a model with an intercept.

    Args:
        contrast: A coding that does not use indicator columns (neither treatment nor sas).
        levels: The n levels in order.
        factor: Name of the factor, for messages.

    Returns:
        The matrix, shape (n, k), and the k names that follow the factor's name in brackets.

    Raises:
        DataError: If the matrix does not fit the levels.
    """
    if contrast.kind in ("hypotheses", "custom"):
        matrix = (_coding_of if contrast.kind == "hypotheses" else _custom_coding)(contrast, levels, factor)
        return matrix, tuple(contrast.label(j) for j in range(matrix.shape[1]))
    from formulaic.transforms import contrasts

    kinds = {
        "sum": contrasts.SumContrasts,
        "helmert": contrasts.HelmertContrasts,
        "poly": functools.partial(contrasts.PolyContrasts, scores=contrast.scores or None),
        "diff": contrasts.DiffContrasts,
    }
    coding, places = kinds[contrast.kind](), list(range(len(levels)))
    fields = coding.get_coding_column_names(places)
    head = KINDS[contrast.kind]
    names = tuple(f"{head}.{levels[field]!s}" if head else str(field) for field in fields)
    return coding.get_coding_matrix(places).to_numpy(dtype=np.float64), names


def _custom_coding(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> FloatArray:
    """Check a coding that the user gave as a matrix, levels x columns."""
    matrix = np.array(contrast.matrix)
    if matrix.shape[0] != len(levels):
        raise DataError(
            f"The contrast matrix of {factor} has {matrix.shape[0]} rows, but the factor has {len(levels)} levels: "
            f"{listing(map(str, levels))}."
        )
    if np.linalg.matrix_rank(np.column_stack([np.ones(len(levels)), matrix])) <= matrix.shape[1]:
        raise DataError(f"The contrast matrix of {factor} is not of full rank together with an intercept.")
    return matrix


def _coding_of(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> FloatArray:
    """Coding matrix whose coefficients are the given weighted sums of level means, levels x (levels - 1).

    The matrix joins the pseudo-inverse of the weights with an orthogonal complement of their span. Without the
    complement, fewer hypotheses than levels less one would constrain the level means, and a coefficient would no longer
    be a difference of means.
    """
    weights = np.array(contrast.matrix)
    n, k = len(levels), weights.shape[1]
    if weights.shape[0] != n:
        raise DataError(
            f"contrasts[{factor!r}]: each label has {weights.shape[0]} weights, but the factor has {n} levels: "
            f"{listing(map(str, levels))}."
        )
    unit = weights / np.linalg.norm(weights, axis=0)
    if np.linalg.matrix_rank(unit) < k:
        raise DataError(
            f"contrasts[{factor!r}]: {listing(map(repr, contrast.labels))} are {k} hypotheses that follow from each "
            f"other; a factor with {n} levels has {n - 1} independent ones. Leave some out."
        )
    basis = np.linalg.qr(np.column_stack([np.ones(n), unit]))[0]
    rest: list[FloatArray] = []
    for level in np.eye(n):
        residual = level - basis @ (basis.T @ level)
        if len(rest) < n - 1 - k and np.linalg.norm(residual) > 1e-6:
            rest.append(residual / np.linalg.norm(residual))
            basis = np.column_stack([basis, rest[-1]])
    return np.column_stack([np.linalg.pinv(weights).T, *rest])


def _check_stated(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> None:
    """Refuse a coding that states other levels, or another number of them, than the factor has."""
    labels = [str(level) for level in levels]
    if contrast.named and list(contrast.named) != labels:
        raise DataError(
            f"The contrast of {factor} states the levels {listing(contrast.named)}; in the data they are, in this "
            f"order, {listing(labels)}."
        )
    for stated in (contrast.size, len(contrast.scores) or None):
        if stated not in (None, len(levels)):
            raise DataError(
                f"The contrast of {factor} is for {stated} levels; the data have {len(levels)}: {listing(labels)}."
            )


def _base(contrast: Contrast, levels: tuple[Any, ...], factor: str) -> int:
    """Position of the reference level."""
    base = contrast.base
    labels = [str(level) for level in levels]
    text = str(int(base)) if isinstance(base, float) and base == int(base) else str(base)
    place = int(base) - 1 if isinstance(base, float) and base in range(1, len(levels) + 1) else None
    if contrast.by_position and isinstance(base, float):
        if place is None:
            raise DataError(
                f"contr.treatment(base={base:g}): base is the position of a level of {factor}, from 1 to "
                f"{len(levels)}, as in R; put a level into quotes, base='a'."
            )
        return place
    if text in labels:
        return labels.index(text)
    if place is not None:
        return place
    raise DataError(f"{text!r} is not a level of {factor}: {listing(labels)}.{did_you_mean(text, labels)}")
