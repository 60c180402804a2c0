"""Residuals that are correlated within groups or have several variances: ``residual="ar1(time | id)"``.

The residuals of a group at the times t_1 ... t_T have a covariance matrix with one of the structures of
:mod:`unimix.design.covariance_structures`. A group may lack times, and has no time twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unimix.design.covariance_structures import BY_DISTANCE, IN_TIME, Structure, UnitUnstructured
from unimix.design.grouping_factors import combine, name_levels
from unimix.design.structured_times import EQUALLY_SPACED, places, spacing_fault
from unimix.design.typed_columns import Column, NumericColumn, as_factor, drop_unused
from unimix.errors import DataError, listing
from unimix.formula.covariance_names import HOMOGENEOUS, form_of
from unimix.formula.terms import ResidualTerm

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
RANGES = {"exp": 1.0, "gau": 2.0}
"""Power of the distance in the forms of decay whose parameter is a range, as in nlme's corExp and corGaus."""


@dataclass(frozen=True)
class ResidualStructure:
    """Form of the covariance matrix of the residuals of one group at T times.

    Attributes:
        name: Name of the structure, such as ``ar1``; ``us`` for an unstructured matrix.
        labels: The T times as text, in order; for ``cs(1 | g)``, whose rows have no times, their numbers.
        coordinates: Times or places of the columns, shape (T,), if the structure needs them; else empty.
    """

    name: str
    labels: tuple[str, ...]
    coordinates: tuple[float, ...] = ()

    @property
    def n_times(self) -> int:
        """Number of times T."""
        return len(self.labels)

    @property
    def form(self) -> str:
        """Form of the correlations: us, diag, cs, ar1, toep, car1, exp or gau."""
        return form_of(self.name)

    @property
    def homogeneous(self) -> bool:
        """Whether all residuals have one variance."""
        return self.name in HOMOGENEOUS

    @cached_property
    def relative(self) -> Structure:
        """The structure relative to the variance at the first time."""
        if self.name == "us":
            return UnitUnstructured("us", self.n_times, unit=True)
        return Structure(self.name, self.n_times, self.coordinates, unit=True)

    @property
    def n_parameters(self) -> int:
        """Number of parameters beside one standard deviation."""
        return self.relative.n_parameters

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of the correlations, in the order of :meth:`parameters`."""
        if self.form == "diag" or self.n_times < 2:
            return ()
        if self.form == "us":
            return tuple(f"{self.labels[j]}, {self.labels[i]}" for i, j in _pairs(self.n_times))
        if self.form == "toep":
            return tuple(f"correlation at lag {k}" for k in range(1, self.n_times))
        names = {"ar1": "correlation at lag 1", "car1": "correlation at distance 1"}
        return ("range" if self.form in RANGES else names.get(self.form, "correlation"),)

    def parameters(self, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Standard deviations, shape (1,) or (T,), and parameters of the correlations, shape (m,), of a matrix (T, T).

        The parameter is the correlation between any two rows (cs), of neighbours (ar1), at each lag (toep), of rows at
        a distance of one (car1), or the range d of exp(-|t| / d) (exp) and exp(-t^2 / d^2) (gau). Times whose variance
        is zero have no correlations: others give the parameter, and one that none gives is zero.
        """
        sd = np.sqrt(np.diag(covariance))
        size = np.outer(sd, sd)
        r = np.divide(covariance, size, out=np.full_like(covariance, np.nan), where=size > 0)
        shown = sd[:1] if self.homogeneous else sd
        if self.form == "diag" or self.n_times < 2:
            return shown, np.empty(0)
        if self.form == "us":
            return shown, np.nan_to_num([r[i, j] for i, j in _pairs(self.n_times)])
        if self.form == "toep":
            return shown, np.array([_first(np.diagonal(r, -k)) for k in range(1, self.n_times)])
        if self.form == "cs":
            return shown, np.array([_first(r[np.tril_indices(self.n_times, -1)])])
        if self.form == "ar1":
            lag, value = next(((k, v) for k in range(1, self.n_times) if (v := _first(np.diagonal(r, -k)))), (1, 0.0))
            return shown, np.array([np.sign(value) * np.abs(value) ** (1.0 / lag)])
        distance = self._distances
        apart = np.where((distance > 0) & np.isfinite(r), distance, np.inf)
        if not np.isfinite(apart).any():
            return shown, np.zeros(1)
        nearest = np.unravel_index(np.argmin(apart), distance.shape)
        unit, value = float(distance[nearest]), float(np.clip(r[nearest], 0.0, 1.0))
        with np.errstate(divide="ignore"):
            if self.form == "car1":
                return shown, np.array([value ** (1.0 / unit)])
            return shown, np.array([unit / (-np.log(value)) ** (1.0 / RANGES[self.form])])

    def covariance(self, sd: FloatArray, parameters: FloatArray) -> FloatArray:
        """Covariance matrix (T, T) of standard deviations and parameters of the correlations: the inverse."""
        sds = np.broadcast_to(sd, (self.n_times,))
        return np.asarray(np.outer(sds, sds) * self._correlation(parameters))

    def _correlation(self, parameters: FloatArray) -> FloatArray:
        q = self.n_times
        if self.form == "diag" or q < 2:
            return np.eye(q)
        lag = np.abs(np.subtract.outer(np.arange(q), np.arange(q)))
        if self.form == "us":
            r = np.eye(q)
            for value, (i, j) in zip(parameters, _pairs(q), strict=True):
                r[i, j] = r[j, i] = value
            return r
        if self.form == "toep":
            return np.asarray(np.append(1.0, parameters)[lag])
        if self.form == "cs":
            return np.asarray(np.where(lag == 0, 1.0, parameters[0]))
        if self.form == "ar1":
            return np.asarray(parameters[0] ** lag)
        distance = self._distances
        if self.form == "car1":
            return np.asarray(np.where(distance == 0, 1.0, parameters[0] ** distance))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(distance == 0, 1.0, np.exp(-((distance / parameters[0]) ** RANGES[self.form]))))

    @property
    def step(self) -> float:
        """Smallest distance between two times; 1 if the structure has no coordinates.

        Searches that start at a fixed range, such as those of nlme and glmmTMB, need times in this unit.
        """
        steps = np.diff(np.unique(self.coordinates))
        return float(steps.min()) if len(steps) else 1.0

    @property
    def _distances(self) -> FloatArray:
        return np.asarray(np.abs(np.subtract.outer(self.coordinates, self.coordinates)))


@dataclass(frozen=True)
class ResidualBlock:
    """Covariance of the residuals, and the group and time of every row.

    Attributes:
        text: Canonical text, such as ``ar1(time | id)``.
        group: Name of the factor within whose levels residuals are correlated.
        structure: Form of the covariance matrix of one group.
        codes: Group of each row, shape (n,).
        times: Index of the time of each row, shape (n,).
    """

    text: str
    group: str
    structure: ResidualStructure
    codes: IntArray
    times: IntArray

    @property
    def independent(self) -> bool:
        """Whether residuals are independent, with variances by time."""
        return self.structure.form == "diag"

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.codes.max()) + 1

    def take(self, rows: IntArray, codes: IntArray | None = None) -> ResidualBlock:
        """Groups and times of selected rows, with other codes of the groups if they are given, shape (n,)."""
        chosen = np.unique(self.codes[rows] if codes is None else codes, return_inverse=True)[1]
        return replace(self, codes=chosen.astype(np.int64), times=self.times[rows])


def residual_block(
    term: ResidualTerm,
    given: Mapping[str, Column],
    used: Mapping[str, Column],
    structure: ResidualStructure | None = None,
) -> ResidualBlock:
    """Groups and times of the rows, and the form of the covariance of the residuals.

    Args:
        term: The covariance of the residuals as the user wrote it.
        given: Columns with all their levels, by name.
        used: The same columns without unused levels and without missing values.
        structure: Form that was fitted, whose times the rows have; None learns it from the rows.

    Raises:
        DataError: If the times do not suit the structure, occur twice in a group, or leave a parameter without data.
    """
    factors = [drop_unused(as_factor(used[name], name))[0] for name in term.factors]
    codes, levels = combine(factors)
    if term.column is None:
        times = _order_within(codes)
        labels = [str(k + 1) for k in range(int(times.max()) + 1)]
    else:
        times, labels = _times_of(used[term.column])
    if structure is None:
        coordinates = _suitable(term, given, used)
        structure = ResidualStructure(term.structure, tuple(labels), coordinates)
    elif set(labels) <= set(structure.labels):
        times = np.array([structure.labels.index(label) for label in labels], dtype=np.int64)[times]
    else:
        raise DataError(f"residual={term.text()} was fitted to the times {listing(structure.labels, 12)}.")
    block = ResidualBlock(term.text(), ":".join(term.factors), structure, codes, times)
    _check_once(block, [str(level) for level in name_levels(levels)])
    _check_determined(block)
    return block


def _order_within(codes: IntArray) -> IntArray:
    """Number of each row among the rows of its group, shape (n,)."""
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], codes[order])
    number = np.empty(len(codes), dtype=np.int64)
    number[order] = np.arange(len(codes)) - first
    return number


def _times_of(column: Column) -> tuple[IntArray, list[str]]:
    """Index of the time of each row, shape (n,), and the times as text, in order."""
    if isinstance(column, NumericColumn):
        values, times = np.unique(column.values, return_inverse=True)
        return times.astype(np.int64), [
            str(int(v)) if v == int(v) and abs(v) < 1e15 else repr(float(v)) for v in values
        ]
    return np.asarray(column.codes, dtype=np.int64), [str(level) for level in column.levels]


def _suitable(term: ResidualTerm, given: Mapping[str, Column], used: Mapping[str, Column]) -> tuple[float, ...]:
    """Coordinates of the times, if the structure needs them; refuse times that do not suit it."""
    form, name = form_of(term.structure), term.column
    if form not in IN_TIME or name is None:
        return ()
    known = places(used[name])
    fault = spacing_fault(form, name, given[name], used[name])
    if not fault:
        return tuple(known or ()) if form in BY_DISTANCE else ()
    group = ":".join(term.factors)
    if form in EQUALLY_SPACED and known is not None and (np.diff(known) > 0).all() and len(known) > 2:
        fault += (
            f" Correlations that decay with the time between two rows need no equal steps: type "
            f"residual={f'car1({name} | {group})'!r}."
        )
    raise DataError(f"residual={term.text()} {fault}")


def _check_once(block: ResidualBlock, groups: Sequence[str]) -> None:
    """Refuse a group that has a time twice, because a residual has a correlation of one with itself only."""
    if block.independent:
        return
    cells, counts = np.unique(block.codes * block.structure.n_times + block.times, return_counts=True)
    twice = cells[counts > 1]
    if not len(twice):
        return
    group, time = divmod(int(twice[0]), block.structure.n_times)
    n_groups = len(np.unique(twice // block.structure.n_times))
    raise DataError(
        f"residual={block.text}: {block.group} {groups[group]} has {int(counts[counts > 1][0])} rows at "
        f"{block.structure.labels[time]}{f', and so on in {n_groups - 1} more' if n_groups > 1 else ''}. Two rows of "
        "a group at one time would have a correlation of one. Name the group within which times differ "
        "(a:b for a group of two columns), or reduce the rows to one per time."
    )


def _check_determined(block: ResidualBlock) -> None:
    """Refuse correlations about which no row says anything."""
    structure, q = block.structure, block.structure.n_times
    faults: list[str] = []
    if q < 2:
        faults.append(
            f"all rows have the same time ({structure.labels[0]})"
            if block.independent
            else f"no {block.group} has more than one row"
        )
    elif not block.independent:
        present = np.zeros((block.n_groups, q))
        present[block.codes, block.times] = 1.0
        together = present.T @ present > 0
        if not together[~np.eye(q, dtype=bool)].any():
            faults.append(f"no {block.group} has more than one row")
        elif structure.form == "us":
            apart = [f"{structure.labels[j]} and {structure.labels[i]}" for i, j in _pairs(q) if not together[i, j]]
            if apart:
                faults.append(
                    f"no {block.group} has rows at both {listing(apart, 4)}. A structure with fewer correlations, "
                    f"such as toep or ar1, or fewer times"
                )
        elif structure.form == "toep":
            apart = [str(k) for k in range(1, q) if not np.diagonal(together, k).any()]
            if apart:
                faults.append(f"no {block.group} has rows that are {listing(apart, 6)} steps apart. Use ar1")
    if faults:
        raise DataError(f"residual={block.text} cannot be estimated: {faults[0]}.")


def _first(values: FloatArray) -> float:
    """First of the values that exist; 0 if there are none."""
    known = values[np.isfinite(values)]
    return float(known[0]) if len(known) else 0.0


def _pairs(q: int) -> list[tuple[int, int]]:
    """Pairs of times (later, earlier), row by row of the lower triangle."""
    return [(i, j) for i in range(q) for j in range(i)]


__all__ = ["ResidualBlock", "ResidualStructure", "residual_block"]
