"""The folds of a cross-validation: which rows are left out together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.arrays import Design
from unimix.errors import DataError, OptionError
from unimix.installation import import_for

IntArray = npt.NDArray[np.int64]
Split = tuple[IntArray, IntArray]
NAMED = ("rows", "groups")


def make_splits(
    split: Any,
    folds: int | None,
    frame: pd.DataFrame,
    design: Design,
    codes: IntArray | None,
    seed: int,
) -> list[Split]:
    """Training and test rows of every fold, as positions among the rows without missing values.

    Args:
        split: ``"rows"`` makes folds of rows, stratified by level, so that every level keeps training rows;
            ``"groups"`` makes folds of whole levels. It can also be a scikit-learn splitter, which is given the rows
            without missing values, the response and the codes of the levels; or pairs of arrays with positions in the
            given data.
        folds: Number of folds of the named splits. None makes 10, or fewer if there are fewer rows or levels.
        frame: The rows without missing values, n of them.
        design: The model of these rows, with their responses and their positions in the given data.
        codes: Codes of the levels of the rows, shape (n,), or None without a grouping factor.
        seed: Seed of the named splits.

    Raises:
        DataError: If ``split="groups"`` is asked for without a grouping factor.
        OptionError: If the split or the number of folds cannot be used.
        EngineNotInstalledError: If scikit-learn is missing.
    """
    y, used = design.y, design.rows
    if isinstance(split, str):
        if split not in NAMED:
            raise OptionError(
                f"split={split!r}: choose 'rows' (leave rows out within levels), 'groups' (leave whole levels out), a "
                "scikit-learn splitter, or pairs of (training, test) positions."
            )
        return _named(split, folds, len(y), codes, seed)
    if hasattr(split, "split"):
        if folds is not None:
            raise OptionError("folds= belongs to split='rows' and split='groups'; a splitter has its own number.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some splitters warn that they do not use the groups
                pairs = [(np.asarray(a), np.asarray(b)) for a, b in split.split(frame, y, codes)]
        except (ValueError, TypeError) as error:
            raise OptionError(f"split={split!r} does not split these rows. It said: {error}") from error
        return _checked(pairs, len(y))
    if not isinstance(split, Iterable):
        raise OptionError(f"split={split!r} is neither 'rows', 'groups', a splitter nor pairs of positions.")
    place = np.full(design.n_rows, -1)
    place[used] = np.arange(len(used))
    positions = []
    for pair in split:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise OptionError("split= as pairs: each is (training positions, test positions), two arrays.")
        positions.append(tuple(_positions(part, place) for part in pair))
    return _checked([(a, b) for a, b in positions], len(y))


def _positions(part: Any, place: IntArray) -> IntArray:
    """Turn positions in the given data into positions among the rows without missing values; drop the other rows."""
    at = np.asarray(part)
    if at.dtype == bool:
        if len(at) != len(place):
            raise OptionError(f"split= as pairs: a mask has {len(at)} values, the data have {len(place)} rows.")
        at = np.flatnonzero(at)
    if at.dtype.kind not in "iu" or at.ndim != 1:
        raise OptionError("split= as pairs: the positions are whole numbers (or masks), one dimension.")
    if len(at) and (at.min() < 0 or at.max() >= len(place)):
        worst = int(at.min() if at.min() < 0 else at.max())
        raise OptionError(
            f"split= as pairs: positions go from 0 to {len(place) - 1}, so {worst} is not one. Labels of a "
            "pandas index are not positions: numpy.flatnonzero(data['x'] > 0) gives those."
        )
    used = place[at]
    return np.asarray(used[used >= 0], dtype=np.int64)


def _checked(splits: list[tuple[IntArray, IntArray]], n: int) -> list[Split]:
    if not splits:
        raise OptionError("split= gives no folds.")
    for i, (train, test) in enumerate(splits):
        if not len(train) or not len(test):
            raise OptionError(f"Fold {i + 1} of split= has no {'test' if len(train) else 'training'} rows.")
        if max(train.max(), test.max()) >= n:
            raise OptionError(f"Fold {i + 1} of split= has positions beyond the {n} rows.")
        both = np.intersect1d(train, test)
        if len(both):
            raise OptionError(
                f"Fold {i + 1} of split= trains on {len(both)} of its own test rows: its scores would be those of a "
                "fit, not of a prediction."
            )
    return [(np.sort(train.astype(np.int64)), np.sort(test.astype(np.int64))) for train, test in splits]


def _named(split: str, folds: int | None, n: int, codes: IntArray | None, seed: int) -> list[Split]:
    sklearn = import_for(
        "cross_validate makes its folds with scikit-learn.", "sklearn.model_selection", extra="sklearn"
    )
    if split == "groups" and codes is None:
        raise DataError(
            "split='groups' leaves whole levels out, and the formula has no grouping factor: use split='rows'."
        )
    most = n if split == "rows" or codes is None else len(np.unique(codes))
    count = min(10, most) if folds is None else folds
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= most:
        what = "rows" if split == "rows" else "levels"
        raise OptionError(f"folds={folds!r}: give a whole number between 2 and {most}, the number of {what}.")
    nothing = np.zeros(n)
    splitter: Any
    if split == "groups":
        splitter = sklearn.GroupKFold(count, shuffle=True, random_state=seed)
        return [(a, b) for a, b in splitter.split(nothing, nothing, codes)]
    if codes is None or count > n // 2:
        return [(a, b) for a, b in sklearn.KFold(count, shuffle=True, random_state=seed).split(nothing)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns if small levels are not in every fold
        splitter = sklearn.StratifiedKFold(count, shuffle=True, random_state=seed)
        try:
            return [(a, b) for a, b in splitter.split(nothing, codes)]
        except ValueError:  # no level has as many rows as there are folds
            return _round_robin(codes, count, seed)


def _round_robin(codes: IntArray, folds: int, seed: int) -> list[Split]:
    """Deal the rows of each level out to the folds in turn, so that levels of any size are spread."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold = np.empty(len(codes), dtype=np.int64)
    fold[order] = np.arange(len(codes)) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
