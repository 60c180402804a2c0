"""Reduced data: what is kept of rows that do not fit into memory, and the designs of the models that fit into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.design.aliasing import independent_columns
from unimix.design.arrays import Compression, Design, RandomBlock
from unimix.design.design import aliases_of, selected
from unimix.design.encoding import EncodedBlock, Encoding
from unimix.design.estimability import check_estimable, many_variances_note
from unimix.design.grouping_factors import combine, name_levels
from unimix.design.model_matrix import build_columns
from unimix.design.typed_columns import FactorColumn, NumericColumn, drop_unused
from unimix.distributions.family import Gaussian
from unimix.errors import DataError, did_you_mean, listing
from unimix.formula.interpreter import parse, used_columns
from unimix.formula.parser import render
from unimix.formula.terms import FixedPart, ModelSpec
from unimix.reduction.pieces import Piece, added
from unimix.reduction.plan import Plan
from unimix.reduction.saving import read_file, write_file

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reduced:
    """Rows reduced to what linear mixed models need of them, from :func:`unimix.reduce`.

    For every combination of levels of the grouping factors it holds at most as many rows as the model has columns, with
    the same cross-products. Two reductions of different rows add up: ``january + february``. It is fitted like data,
    ``um.fit(formula, reduced)``, by the formula it was made for or by any smaller one.

    Attributes:
        n_rows: Number of rows of the source.
        missing: Number of missing values per column.
        notes: Changes that were made to the rows, in words.
    """

    _plan: Plan
    _piece: Piece
    n_rows: int
    missing: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def formula(self) -> str:
        """The largest formula that can be fitted."""
        return self._plan.encoding.formula

    @property
    def n_obs(self) -> int:
        """Number of rows without missing values."""
        return self._piece.n

    @property
    def n_kept(self) -> int:
        """Number of compressed rows that are held instead of them."""
        return len(self._piece.rows.values)

    @property
    def nbytes(self) -> int:
        """Bytes of the compressed rows."""
        return self._piece.rows.nbytes

    def __repr__(self) -> str:
        levels = [f"{len(s.levels):,} {name}" for name, s in self._plan.groups.items()]
        return (
            f"<{self.n_obs:,} rows reduced to {self.n_kept:,} ({self.nbytes / 1e6:,.1f} MB) for {self.formula}"
            f"{', ' + listing(levels) if levels else ''}>"
        )

    # -- sums and files -------------------------------------------------------------------------

    def __add__(self, other: object) -> Reduced:
        """The reduction of the rows of both; grouping factors may have different levels.

        Raises:
            DataError: If the two were made by different formulas, codings or levels of predictors.
        """
        if not isinstance(other, Reduced):
            return NotImplemented
        _check_alike(self._plan.encoding, other._plan.encoding)
        groups = {g: s.with_more(other._plan.groups[g], "the second") for g, s in self._plan.groups.items()}
        encoding = self._plan.encoding
        plan = replace(self._plan, groups=groups, encoding=encoding)
        pieces = [_recoded(r._piece, r._plan, plan) for r in (self, other)]
        names = dict.fromkeys([*self.missing, *other.missing])
        return Reduced(
            plan,
            added(pieces),
            self.n_rows + other.n_rows,
            {k: self.missing.get(k, 0) + other.missing.get(k, 0) for k in names},
            tuple(dict.fromkeys([*self.notes, *other.notes])),
        )

    def save(self, path: str | Path) -> Path:
        """Write the reduction to a file, to be read by :func:`unimix.load_reduced`.

        Args:
            path: The file, such as ``"january.unimix"``; it is complete or not there.

        Raises:
            DataError: If the file cannot be written.
        """
        return write_file(self._plan, self._piece, self.n_rows, self.missing, self.notes, path)

    # -- models ---------------------------------------------------------------------------------

    def design(self, formula: str | None = None) -> Design:
        """The arrays of a model: compressed rows that have the cross-products of all rows.

        Args:
            formula: The formula of the reduction, or a smaller one; None takes that of the reduction.

        Raises:
            DataError: If the model needs columns or grouping factors that were not reduced, or cannot be estimated.
            FormulaError: If the formula cannot be read.
        """
        spec = self._checked(formula)
        weight = self._mean_weight
        rows = self._piece.rows.values if weight is None else self._piece.rows.values / np.sqrt(weight)
        encoding = self._encoding_of(spec)
        env = encoding.environment(self._piece.support)
        x, names = self._columns(spec.fixed, env, encoding)
        factors = self._factors(spec)
        blocks: list[tuple[EncodedBlock, RandomBlock]] = []
        z_places: list[list[int]] = []
        for index, term in enumerate(spec.random):
            codes, levels = combine([factors[f] for f in term.factors])
            places, terms = self._columns(term.left, env, encoding)
            singles = [(j,) for j in range(len(terms))] if term.independent else [tuple(range(len(terms)))]
            for picked in singles:
                at = [places[j] for j in picked]
                block = RandomBlock(
                    group=term.group,
                    factors=term.factors,
                    terms=tuple(terms[j] for j in picked),
                    z=np.ascontiguousarray(rows[:, at]),
                    codes=codes,
                    levels=name_levels(levels),
                    structure=term.structure,
                )
                blocks.append((EncodedBlock(term=index, columns=picked), block))
                z_places.append(at)
        whole = rows[:, x]
        kept = independent_columns(whole)
        aliased = tuple(names[j] for j in range(len(names)) if j not in set(kept))
        notes = list(self.notes)
        if aliased:
            notes.append(
                f"Fixed-effects columns left out because they are combinations of the others: {listing(aliased)}. "
                "The same columns are left out for every engine."
            )
        largest = np.abs(self._piece.support_rows[:, x]).max(axis=0, initial=0.0)
        encoding = encoding.model_copy(
            update={
                "kept": tuple(int(j) for j in kept),
                "aliases": aliases_of(whole, kept),
                "alias_sizes": tuple(float(largest[j]) for j in range(len(names)) if j not in set(kept)),
                "blocks": tuple(b for b, _ in blocks),
            }
        ).with_parsed(spec)
        columns = [x[j] for j in kept]
        base = Design(
            spec=spec,
            y=np.ascontiguousarray(rows[:, -1]),
            x=selected(whole, kept),
            fixed_names=tuple(names[j] for j in kept),
            blocks=tuple(b for _, b in blocks),
            weights=None if weight is None else np.full(len(rows), weight),
            offset=None,
            rows=np.empty(0, dtype=np.int64),
            n_rows=self.n_rows,
            dropped=dict(self.missing),
            aliased=aliased,
            notes=tuple(notes),
            encoding=encoding,
            family=Gaussian(),
        )
        design = replace(base, compression=self._compression(base, columns, z_places))
        check_estimable(design)
        return replace(design, notes=(*design.notes, *many_variances_note(design)))

    @property
    def _mean_weight(self) -> float | None:
        """Mean of the weights of the rows; None without weights."""
        if self._plan.encoding.weights_column is None:
            return None
        return float(self._piece.frequencies.sum() / self._piece.n)

    def _compression(self, design: Design, x: Sequence[int], z: Sequence[Sequence[int]]) -> Compression:
        piece, factors = self._piece, self._plan.factors
        moments = moment_rows(piece.moments, piece.n)

        def view(rows: FloatArray, columns: Mapping[str, Any]) -> Design:
            """The design of other rows, whose grouping factors are of no account."""
            none = np.zeros(len(rows), dtype=np.int64)
            blocks = tuple(
                replace(b, z=np.ascontiguousarray(rows[:, list(at)]), codes=none)
                for b, at in zip(design.blocks, z, strict=True)
            )
            return replace(
                design,
                y=np.ascontiguousarray(rows[:, -1]),
                x=np.ascontiguousarray(rows[:, list(x)]),
                blocks=blocks,
                weights=None if design.weights is None else np.full(len(rows), design.weights[0]),
                columns=dict(columns),
            )

        predictors = dict(piece.support)
        numbers = [n for n, c in predictors.items() if isinstance(c, NumericColumn)]
        return Compression(
            n=piece.n,
            log_weights=piece.log_weights - 0.5 * piece.n * float(np.log(self._mean_weight or 1.0)),
            support=view(piece.support_rows, predictors),
            moments=view(moments, {}),
            means={n: piece.means[n] for n in numbers},
            combinations={n: self._combination_column(n, piece.combinations[:, j]) for j, n in enumerate(factors)},
            frequencies=piece.frequencies,
        )

    def _combination_column(self, name: str, codes: IntArray) -> FactorColumn:
        levels = self._plan.made[name].levels if name in self._plan.made else self._plan.encoding.levels[name]
        return FactorColumn(codes, levels)

    def _factors(self, spec: ModelSpec) -> dict[str, FactorColumn]:
        """The grouping columns of the compressed rows, with the levels that occur."""
        order = list(self._plan.groups)
        used = dict.fromkeys(f for t in spec.random for f in t.factors)
        return {f: drop_unused(self._plan.groups[f].column(self._piece.rows.cells[:, order.index(f)]))[0] for f in used}

    def _columns(self, part: FixedPart, env: Any, encoding: Encoding) -> tuple[list[int], tuple[str, ...]]:
        """Places of the columns of a part among those reduced, and their names."""
        n = len(self._piece.support_rows)
        matrix, names = build_columns(part, env, encoding.contrasts, n)
        place = {name: j for j, name in enumerate(self._piece.names[:-1])}
        absent = [name for name in names if name not in place]
        if absent:
            raise DataError(
                f"The reduction does not hold the columns {listing(map(repr, absent), 5)}; it was made for "
                f"{self.formula}. Reduce the source by a formula that has them."
            )
        places = [place[name] for name in names]
        if not np.allclose(matrix, self._piece.support_rows[:, places], rtol=1e-12, atol=0.0):
            raise DataError(f"The columns of {part.text()} are coded in another way than those of {self.formula}.")
        return places, names

    def _checked(self, formula: str | None) -> ModelSpec:
        """The parsed formula, which must use what was reduced and nothing else."""
        largest = self._plan.spec
        if formula is None or formula == self.formula:
            return largest
        spec = parse(formula).with_dot(self._plan.encoding.dot_columns)
        known = [*used_columns(largest)]
        strange = [n for n in dict.fromkeys(used_columns(spec)) if n not in known]
        if strange:
            raise DataError(
                f"The reduction does not hold {listing(map(repr, strange))}, which {formula} uses; it was made for "
                f"{self.formula}.{did_you_mean(strange[0], known)} Reduce the source by a formula that has them."
            )
        if render(spec.response) != render(largest.response):
            raise DataError(
                f"The reduction has the response {render(largest.response)}, and the formula {render(spec.response)}."
            )
        if sorted(map(render, spec.offsets)) != sorted(map(render, largest.offsets)):
            raise DataError(f"The reduction was made for {self.formula}: the offset of a smaller formula is the same.")
        groups = {f for t in spec.random for f in t.factors}
        if absent := [g for g in groups if g not in self._plan.groups]:
            raise DataError(
                f"{listing(map(repr, absent))} was not a grouping factor when the source was reduced by "
                f"{self.formula}. Reduce it by a formula with (1 | {absent[0]})."
            )
        return spec

    def _encoding_of(self, spec: ModelSpec) -> Encoding:
        """The encoding of a formula, with what it uses of that of the reduction."""
        encoding = self._plan.encoding
        used = {*used_columns(spec), encoding.offset_column, encoding.weights_column}
        groups = {
            g: s.levels for g, s in self._plan.groups.items() if g not in encoding.levels and g not in encoding.numeric
        }
        levels = {**encoding.levels, **groups}
        return encoding.model_copy(
            update={
                "formula": spec.formula,
                "numeric": tuple(n for n in encoding.numeric if n in used),
                "levels": {n: v for n, v in levels.items() if n in used},
                "contrasts": {n: c for n, c in encoding.contrasts.items() if n in used},
            }
        ).with_parsed(spec)


def argument_faults(reduced: Reduced, *, weights: object, offset: object, contrasts: object) -> list[str]:
    """What is wrong with arguments of a fit that belong to the reduction it is given.

    Args:
        reduced: The reduction.
        weights: Value of ``weights=``; None takes those of the reduction.
        offset: Value of ``offset=``; None takes that of the reduction.
        contrasts: Value of ``contrasts=``; None takes those of the reduction.
    """
    encoding = reduced._plan.encoding
    faults = [
        f"{name}={value!r:.60}: the rows were reduced with {name}={known!r}, and cannot get others now. Reduce the "
        f"source again, or leave {name}= out."
        for name, value, known in (
            ("weights", weights, encoding.weights_column),
            ("offset", offset, encoding.offset_column),
        )
        if value is not None and not (isinstance(value, str) and value == known)
    ]
    if contrasts:
        faults.append("contrasts= belongs to um.reduce: the reduced columns are coded already.")
    return faults


def moment_rows(r: FloatArray, n: int) -> FloatArray:
    """A few rows whose columns have given means and population covariances.

    The triangular factor of [1, A] is [[s, s m'], [0, C]] with s^2 = n, the means m and C'C = (A - 1 m')'(A - 1 m'), so
    that the rows m +- sqrt(k / n) c_i of the k rows c_i of C have the means m and the covariances C'C / n.

    Args:
        r: Triangular factor of [1, A], shape (k + 1, k + 1).
        n: Number of rows of A.
    """
    means, centred = r[0, 1:] / r[0, 0], r[1:, 1:]
    spread = np.sqrt(max(len(centred), 1) / n) * (centred if len(centred) else np.zeros((1, r.shape[1] - 1)))
    return np.concatenate([means + spread, means - spread])


def _check_alike(first: Encoding, second: Encoding) -> None:
    """Refuse to add reductions whose columns differ."""
    differing = [
        what
        for what, a, b in (
            ("formulas", first.formula, second.formula),
            ("columns of '.'", first.dot_columns, second.dot_columns),
            ("weights", first.weights_column, second.weights_column),
            ("offsets", first.offset_column, second.offset_column),
            ("codings", first.contrasts, second.contrasts),
            ("numeric columns", sorted(first.numeric), sorted(second.numeric)),
            ("levels of the predictors", first.levels, second.levels),
            ("means, SDs or knots that functions of the formula learnt", first.states, second.states),
        )
        if a != b
    ]
    if differing:
        raise DataError(
            f"These reductions cannot be added: they have different {listing(differing)}. Reduce the second source "
            "like the first: um.reduce(source, formula, like=first)."
        )


def _recoded(piece: Piece, old: Plan, new: Plan) -> Piece:
    """A piece with the level indices of another plan."""
    cells = piece.rows.cells.copy()
    for j, name in enumerate(old.groups):
        levels = old.groups[name]
        own = (
            NumericColumn(levels.numbers) if levels.numbers is not None and levels.numbers.dtype == np.float64 else None
        )
        column = levels.column(np.arange(len(levels.levels))) if own is None else own
        if levels.numbers is not None and own is None:
            column = NumericColumn(levels.numbers.astype(np.float64), levels.numbers)
        cells[:, j] = new.groups[name].codes(column, "the reduction")[cells[:, j]]
    return replace(piece, rows=replace(piece.rows, cells=cells))


def load_reduced(path: str | Path) -> Reduced:
    """Read a reduction that :meth:`Reduced.save` wrote.

    Args:
        path: The file.

    Raises:
        DataError: If there is no such file, or it is damaged.

    Example:
        >>> import tempfile, unimix as um
        >>> reduced = um.reduce(um.load_dataset("sleepstudy"), "Reaction ~ Days + (Days | Subject)")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = reduced.save(f"{folder}/sleep.unimix")
        ...     um.load_reduced(path).n_obs
        180
    """
    return Reduced(*read_file(path))


__all__ = ["Reduced", "argument_faults", "load_reduced", "moment_rows"]
