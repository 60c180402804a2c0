"""A design in nlme's language: the text of the call of ``lme`` or ``gls``, and the columns that it names.

The random effects of ``lme`` are nested: a list of grouping factors, each within the one before. Other factors are
crossed by Pinheiro and Bates's device (2000, Mixed-Effects Models in S and S-PLUS, section 4.2.2): effects of one
variance of all their levels (``pdIdent``) within one group that holds all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.design.covariance_structures import BY_DISTANCE
from unimix.design.grouping_factors import is_nested

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.design.residual_block import ResidualBlock

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WHOLE = "all"
"""Name of the factor whose only level holds all rows."""
_FORMS = {"cs": "corCompSymm", "ar1": "corAR1", "car1": "corCAR1", "exp": "corExp", "gau": "corGaus", "us": "corSymm"}


@dataclass(frozen=True)
class Layout:
    """Places of the blocks of a design in ``random``.

    Attributes:
        crossed: Indices of the blocks whose effects lie within one group that holds all rows.
        chain: Indices of the other blocks, by their grouping factor, from the outermost to the innermost.
    """

    crossed: tuple[int, ...]
    chain: tuple[tuple[int, ...], ...]

    @property
    def levels(self) -> list[tuple[int, ...]]:
        """Indices of the blocks at each level of ``random``, from the outermost to the innermost."""
        return [*([self.crossed] if self.crossed else []), *self.chain]


def layout_of(design: Design) -> Layout:
    """Find the nested factors that hold most effects; all others are crossed with them."""
    blocks = design.blocks
    factors: list[list[int]] = []
    for k, block in enumerate(blocks):
        same = [f for f in factors if _same(block.codes, blocks[f[0]].codes)]
        if same:
            same[0].append(k)
        else:
            factors.append([k])
    # correlated effects have no place among the crossed ones: their factors come first
    factors.sort(key=lambda f: (not any(blocks[k].q > 1 for k in f), -blocks[f[0]].n_levels))
    chain: list[list[int]] = []
    for factor in factors:
        codes = blocks[factor[0]].codes
        if all(_nested(codes, blocks[other[0]].codes) for other in chain):
            chain.append(factor)
    chain.sort(key=lambda f: blocks[f[0]].n_levels)
    crossed = [k for factor in factors if factor not in chain for k in factor]
    return Layout(tuple(sorted(crossed)), tuple(tuple(f) for f in chain))


def _same(a: IntArray, b: IntArray) -> bool:
    return is_nested(a, b) and is_nested(b, a)


def _nested(a: IntArray, b: IntArray) -> bool:
    return is_nested(a, b) or is_nested(b, a)


def structure_faults(design: Design, max_crossed: int) -> list[str]:
    """Reasons why nlme cannot express the group effects or the residuals of a design."""
    layout, blocks, reasons = layout_of(design), design.blocks, []
    correlated = [blocks[k].text for k in layout.crossed if blocks[k].q > 1]
    count = sum(blocks[k].n_levels for k in layout.crossed)
    if correlated:
        reasons.append(
            f"correlated effects over crossed factors, {', '.join(correlated)}: nlme's effects are nested, and the "
            "levels of a crossed factor can share variances only. Write || for |"
        )
    elif count > max_crossed:
        reasons.append(
            f"{count:,} effects of crossed factors: nlme takes them as columns of one group that holds all rows, and "
            f"more than {max_crossed:,} take long (option max_crossed)"
        )
    residual = design.residual
    if residual is None:
        return reasons
    apart = [b.text for b in blocks if not _same(b.codes, residual.codes)]
    if apart and not residual.independent:
        reasons.append(
            f"residual={residual.text!r} with {', '.join(apart)}: nlme takes the residuals of the innermost group "
            f"together, and would replace {residual.group} by it. Use group effects of {residual.group}, or none"
        )
    return reasons


@dataclass(frozen=True)
class NlmeCall:
    """A call of ``lme`` or ``gls``.

    Attributes:
        design: The model.
        layout: Places of the blocks.
        method: ``REML`` or ``ML``.
        started: Whether the blocks of the chain start at given values, named ``s0``, ``s1`` and so on.
    """

    design: Design
    layout: Layout
    method: str
    started: bool = False

    @property
    def text(self) -> str:
        """Text of the call, without data and control."""
        design = self.design
        fixed = " + ".join(["0", *(f"x{j}" for j in range(design.p))])
        parts = [f"{'lme' if design.blocks else 'gls'}(y ~ {fixed}"]
        if design.blocks:
            levels = [f"{self.factor(level)} = {self._matrices(level)}" for level in self.layout.levels]
            parts.append(f"random = list({', '.join(levels)})")
        if self._correlation:
            parts.append(f"correlation = {self._correlation}")
        if variances := self._variances:
            joined = variances[0] if len(variances) == 1 else f"varComb({', '.join(variances)})"
            parts.append(f"weights = {joined}")
        return ", ".join([*parts, f'method = "{self.method}")'])

    def factor(self, level: tuple[int, ...]) -> str:
        """Name of the grouping factor of a level."""
        return WHOLE if level == self.layout.crossed else f"g{level[0]}"

    def _matrices(self, level: tuple[int, ...]) -> str:
        whole = self.factor(level) == WHOLE
        parts = [self._crossed(k) if whole else self._chained(k) for k in level]
        return parts[0] if len(parts) == 1 else f"pdBlocked(list({', '.join(parts)}))"

    def _chained(self, k: int) -> str:
        columns = " + ".join(["0", *(f"z{k}_{j}" for j in range(self.design.blocks[k].q))])
        return f"pdLogChol({f's{k}, ' if self.started else ''}form = ~ {columns})"

    def _crossed(self, k: int) -> str:
        return f"pdIdent(form = ~ 0 + g{k}:z{k}_0)"

    @property
    def _correlation(self) -> str:
        residual = self.design.residual
        if residual is None or residual.structure.form == "diag" or residual.structure.n_times < 2:
            return ""
        group = f"g{self.layout.chain[0][0]}" if self.layout.chain else "r"
        structure = residual.structure
        if structure.form == "toep":
            return f"corARMA(form = ~ t | {group}, p = {structure.n_times - 1}, q = 0)"
        return f"{_FORMS[structure.form]}(form = ~ {'1' if structure.form == 'cs' else 't'} | {group})"

    @property
    def _variances(self) -> list[str]:
        # nlme's varFixed is a variance, the inverse of a weight
        known = ["varFixed(~ v)"] if self.design.weights is not None else []
        residual = self.design.residual
        several = residual is not None and not residual.structure.homogeneous and residual.structure.n_times > 1
        return [*known, *(["varIdent(form = ~ 1 | k)"] if several else [])]

    @property
    def order(self) -> IntArray:
        """Rows by group, and by time within a group: nlme's autoregressions need them so, shape (n,)."""
        design, residual = self.design, self.design.residual
        keys = [] if residual is None else [residual.times, residual.codes]
        keys += [design.blocks[level[0]].codes for level in reversed(self.layout.chain)]
        return np.lexsort(keys) if keys else np.arange(design.n)

    def columns(self) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
        """Columns by name, sorted, and the names of those that are factors."""
        design, residual = self.design, self.design.residual
        columns: dict[str, npt.NDArray[Any]] = {"y": design.y}
        columns |= {f"x{j}": design.x[:, j] for j in range(design.p)}
        factors = []
        for k, block in enumerate(design.blocks):
            columns |= {f"z{k}_{j}": block.z[:, j] for j in range(block.q)}
            columns[f"g{k}"] = block.codes
            factors.append(f"g{k}")
        if self.layout.crossed:
            columns[WHOLE] = np.zeros(design.n, dtype=np.int64)
            factors.append(WHOLE)
        if design.weights is not None:
            columns["v"] = 1.0 / design.weights
        if residual is not None:
            columns |= {"r": residual.codes, "k": residual.times, "t": _times(residual)}
            factors += ["r", "k"]
        order = self.order
        return {name: np.ascontiguousarray(column[order]) for name, column in columns.items()}, factors


def _times(residual: ResidualBlock) -> npt.NDArray[Any]:
    """Times of the rows, shape (n,): whole numbers, or places in units of the smallest distance between two.

    Without that unit corCAR1 would start at correlations of 0.2 per day or second, which are zero over a longer step.
    """
    if residual.structure.form not in BY_DISTANCE:
        return residual.times + 1
    places = np.array(residual.structure.coordinates)
    return np.asarray((places / residual.structure.step)[residual.times])


__all__ = ["Layout", "NlmeCall", "layout_of", "structure_faults"]
