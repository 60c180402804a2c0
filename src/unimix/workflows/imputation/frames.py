"""Imputed data sets in the forms in which they come: frames, a long frame, an imputer, a miceforest kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unimix.design.frames import column_labels, to_pandas
from unimix.errors import DataError, OptionError, did_you_mean, listing

IMPUTATION = ".imp"
"""Name of the column that counts imputations in long frames of R's mice; 0 marks the data with missing values."""
FORMS = (
    "a list of data frames, a dict of data frames by name, a long frame with imputation='column', scikit-learn's "
    "IterativeImputer(sample_posterior=True) with data=frame, or a kernel of miceforest"
)


@dataclass(frozen=True)
class Imputations:
    """Imputed data sets.

    Attributes:
        labels: Names of the data sets.
        frames: The data sets, in any form that ``um.fit`` takes.
        notes: Remarks on how they were read or made.
    """

    labels: tuple[str, ...]
    frames: tuple[Any, ...]
    notes: tuple[str, ...] = ()


def imputations_of(
    given: Any, *, imputation: str | None, data: Any, n_imputations: int | None, seed: int | None
) -> Imputations:
    """Read imputed data sets, or make them by an imputer.

    Args:
        given: What the user gave.
        imputation: Column of a long frame that counts the imputations.
        data: Data with missing values, for an imputer.
        n_imputations: Number of data sets that an imputer makes.
        seed: Seed of an imputer.

    Raises:
        OptionError: If the form is unknown, or arguments do not belong to it.
        DataError: If there are fewer than two data sets.
    """
    is_imputer = hasattr(given, "fit_transform") and hasattr(given, "get_params")
    is_kernel = hasattr(given, "complete_data")
    faults = []
    if not is_imputer and (data is not None or n_imputations is not None):
        faults.append("data= and n_imputations= belong to an imputer of scikit-learn: leave them out.")
    if imputation is not None and (is_imputer or is_kernel or not _is_frame(given)):
        faults.append("imputation= names a column of one long frame: leave it out, or give such a frame.")
    if faults:
        raise OptionError("\n".join(faults))
    if is_imputer:
        made = _by_imputer(given, data, 20 if n_imputations is None else n_imputations, seed)
    elif is_kernel:
        made = _of_kernel(given)
    elif _is_frame(given):
        made = _of_long_frame(given, imputation)
    elif isinstance(given, Mapping):
        made = Imputations(tuple(map(str, given)), tuple(given.values()))
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | np.ndarray):
        frames = tuple(given)
        made = Imputations(tuple(str(k + 1) for k in range(len(frames))), frames)
    else:
        raise OptionError(f"frames is a {type(given).__name__}: give {FORMS}.")
    strange = [label for label, frame in zip(made.labels, made.frames, strict=True) if not _is_frame(frame)]
    if strange:
        raise OptionError(f"frames: imputation {strange[0]} is no data frame. Give {FORMS}.")
    if len(made.frames) < 2:
        raise DataError(
            f"There is {len(made.frames)} imputed data set: Rubin's rules need two at least, and twenty or more are "
            "usual. One imputed data set says nothing of the uncertainty of what was imputed."
        )
    return made


def _is_frame(value: Any) -> bool:
    """Whether a value is one table; a dict is one if its values are columns."""
    if isinstance(value, Mapping):
        return (
            bool(value)
            and not any(_is_frame(v) for v in value.values())
            and all(isinstance(v, Sequence | np.ndarray | pd.Series) and not isinstance(v, str) for v in value.values())
        )
    return hasattr(value, "columns") or hasattr(value, "column_names") or hasattr(value, "collect_schema")


def _of_long_frame(given: Any, imputation: str | None) -> Imputations:
    columns = column_labels(given)
    name = IMPUTATION if imputation is None else imputation
    if name not in columns:
        asked = "one table" if imputation is None else f"no column {imputation!r}"
        raise OptionError(
            f"frames is {asked}{did_you_mean(name, columns) if imputation else ''}: name the column that counts the "
            f"imputations, imputation='column', or give {FORMS}."
        )
    frame = to_pandas(given)
    counts = frame[name]
    if counts.isna().any():
        raise DataError(f"The column {name!r} has missing values: which imputation do these rows belong to?")
    kept = [v for v in dict.fromkeys(counts) if not (name == IMPUTATION and str(v) in ("0", "0.0"))]
    notes = ("Rows with .imp = 0 are the data before imputation, as in R's mice, and were left out.",)
    parts = tuple(frame.loc[(counts == value).to_numpy()].drop(columns=name).reset_index(drop=True) for value in kept)
    return Imputations(tuple(map(str, kept)), parts, notes if len(kept) < counts.nunique() else ())


def _of_kernel(kernel: Any) -> Imputations:
    """The data sets of a kernel of miceforest, whose number is ``num_datasets`` (6) or ``dataset_count()`` (5)."""
    number = getattr(kernel, "num_datasets", None)
    number = kernel.dataset_count() if number is None and hasattr(kernel, "dataset_count") else number
    if number is None:
        raise OptionError(
            f"frames is a {type(kernel).__name__}, whose number of data sets is not known. Give the data sets: "
            "[kernel.complete_data(k) for k in range(5)]."
        )
    frames = tuple(kernel.complete_data(dataset=k) for k in range(int(number)))
    return Imputations(tuple(str(k + 1) for k in range(len(frames))), frames)


def _by_imputer(imputer: Any, data: Any, m: int, seed: int | None) -> Imputations:
    """Data sets by an imputer of scikit-learn, each fitted anew with a random state of its own.

    Numeric columns are imputed, those that the imputer was fitted to if it was; the others stay as they are.
    """
    faults = []
    parameters = imputer.get_params()
    if parameters.get("sample_posterior") is not True:
        faults.append(
            f"{type(imputer).__name__} must draw what it imputes: IterativeImputer(sample_posterior=True). Best "
            "guesses are the same in every data set, and standard errors would be too small."
        )
    if data is None:
        faults.append("An imputer needs the data with missing values: data=frame.")
    if isinstance(m, bool) or not isinstance(m, int | np.integer) or not 2 <= m <= 10_000:
        faults.append(f"n_imputations={m!r}: give a whole number from 2 to 10000, such as 20.")
    if faults:
        raise OptionError("\n".join(faults))
    from sklearn.base import clone  # the imputer is scikit-learn's

    frame = to_pandas(data)
    names = [str(n) for n in getattr(imputer, "feature_names_in_", [])] or list(frame.select_dtypes("number").columns)
    absent = [n for n in names if n not in frame]
    if absent or not names:
        raise DataError(f"data has no column {listing(map(repr, absent)) or 'of numbers'}, which the imputer needs.")
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(m):
        # fitted anew: the draws then include the error of the imputation model's own estimates
        one = clone(imputer).set_params(random_state=int(random.integers(2**31)))
        filled = np.asarray(one.fit_transform(frame[names]), dtype=np.float64)
        if filled.shape != (len(frame), len(names)):
            raise DataError(
                "The imputer left out a column without any value, or added some: leave such columns out of data=, and "
                "add_indicator=True out of the imputer."
            )
        frames.append(frame.assign(**dict(zip(names, filled.T, strict=True))))
    left = [str(n) for n in frame.columns if n not in names and frame[n].isna().any()]
    note = f"{type(imputer).__name__} imputed {listing(n for n in names if frame[n].isna().any()) or 'nothing'}."
    notes = [note, *([f"Not imputed, because they are not numeric: {listing(left)}."] if left else [])]
    return Imputations(tuple(str(k + 1) for k in range(m)), tuple(frames), tuple(notes))


__all__ = ["Imputations", "imputations_of"]
