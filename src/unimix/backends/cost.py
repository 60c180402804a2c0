"""Estimated cost of a fit, and messages about fits that are too large or were stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unimix.backends.limits import Limits, available, in_words, seconds_in_words
from unimix.design.arrays import Design
from unimix.likelihood.lmm.reduced_data import n_dense_effects
from unimix.likelihood.posterior.marginal import n_dense, split_blocks


@dataclass(frozen=True)
class Cost:
    """Estimated cost of one design with one engine; a field is None if it is unknown.

    Attributes:
        bytes: Peak of the additional memory of the fit, in bytes.
        what: Purpose of most of the memory, as words that follow "for".
        seconds: Time of the fit in seconds, accurate to a factor of about five; no fit is refused for it.
    """

    bytes: float | None = None
    what: str = ""
    seconds: float | None = None

    def __str__(self) -> str:
        size = "" if self.bytes is None else in_words(self.bytes)
        parts = [size if size.startswith("less") else f"about {size}"] if size else []
        if parts and self.what:
            parts[0] += f" for {self.what}"
        if self.seconds is not None:
            parts.append(f"roughly {seconds_in_words(float(f'{self.seconds:.1g}'))}")
        return ", ".join(parts) or "unknown"


UNKNOWN = Cost()
ALWAYS_FREE = 32e6
"""Bytes that are free wherever Python runs: smaller models are fitted without a look at the memory."""


def too_large(cost: Cost, limits: Limits) -> str:
    """Message that memory is insufficient for a fit; empty if it is sufficient or the need is unknown."""
    if cost.bytes is None or limits.memory == math.inf or (limits.memory is None and cost.bytes < ALWAYS_FREE):
        return ""
    if limits.memory is not None:
        limit, reason = limits.memory, f"memory_limit is {in_words(limits.memory)}"
    else:
        limit = available()
        reason = f"{in_words(limit)} are free here (memory_limit='none' fits the model anyway)"
    needs = f"memory: it would need about {in_words(cost.bytes)}{f' for {cost.what}' if cost.what else ''}"
    return f"{needs}, and {reason}" if cost.bytes > limit else ""


def size_in_words(design: Design) -> str:
    """Numbers of rows, levels and parameters of a model, in words."""
    levels = dict.fromkeys(f"{b.n_levels:,} levels of {b.group}" for b in design.blocks)
    covariances = sum(b.q * (b.q + 1) // 2 for b in design.blocks)
    count = design.p + covariances + len(design.family.parameters)
    return ", ".join([f"{design.n_obs:,} rows", *levels, f"{count} parameters"])


@dataclass(frozen=True)
class Sizes:
    """Sizes of the arrays of a model in bytes, from which costs are estimated.

    Attributes:
        rows: Size of all columns of the design.
        effects: Size of one number for every group effect.
        levels: Size of a covariance matrix for every level.
        dense: Size of a dense matrix of the connected effects of crossed factors, without the largest factor.
        tied: Size of a dense matrix of the connected effects of all crossed factors.
        between: Size of the cells that combine effects of the largest factor with those of others.
        crossed: Text about the crossed factors and their numbers of levels.
    """

    rows: float
    effects: float
    levels: float
    dense: float
    tied: float
    between: float
    crossed: str


def sizes_of(design: Design) -> Sizes:
    """Compute the sizes of a design."""
    blocks = design.blocks
    columns = design.p + 2 + sum(b.q + 1 for b in blocks)
    count = sum(b.n_levels * b.q for b in blocks)
    others = n_dense(blocks)
    dense = n_dense_effects(design)
    largest = count - others
    tied = dense + (largest * dense / others if others else 0.0)
    between = min(float(design.n) * max((b.q for b in blocks), default=0) ** 2, float(largest) * others)
    levels = {b.group: b.n_levels for b in blocks}
    return Sizes(
        rows=8.0 * design.n * columns,
        effects=8.0 * count,
        levels=8.0 * sum(b.n_levels * b.q**2 for b in blocks),
        dense=8.0 * dense**2,
        tied=8.0 * tied**2,
        between=8.0 * between,
        crossed=f"crossed factors of {' x '.join(f'{v:,}' for v in levels.values())} levels ({', '.join(levels)})",
    )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per unit of work of a whole fit of a linear mixed model, on one thread.

    The units follow from n rows, p fixed effects, c columns (fixed, random and the response), d variance parameters,
    and from the factor with most effects: L levels of q columns. m counts the effects of the other factors that are
    connected by rows, S the sets of levels that are not connected with each other. ``python -m benchmarks.costs`` fits
    the constants to models of many sizes and tests them on others, to a factor of five.

    Attributes:
        call: Seconds of any fit.
        rows: Seconds per million of n c.
        products: Seconds per thousand million of n c^2.
        sets: Seconds per million of S.
        set_pairs: Seconds per million of S d^2.
        visits: Seconds per million of L d.
        levels: Seconds per million of L q d (p + 1).
        moments: Seconds per thousand million of L q (d (p + 1))^2.
        stacked: Seconds per million of L q^3.
        pairs: Seconds per thousand of d^2.
        crossed: Seconds per million of L q m.
        crossed_rows: Seconds per million of n, if factors are crossed.
        crossed_pairs: Seconds per thousand of d^2, if factors are crossed.
        crossed_moments: Seconds per million of L q m d^2.
        dense: Seconds per thousand million of m^3.
        dense_pairs: Seconds per thousand million of m^3 d^2, if factors are crossed.
    """

    call: float = 0.0
    rows: float = 0.0
    products: float = 0.0
    sets: float = 0.0
    set_pairs: float = 0.0
    visits: float = 0.0
    levels: float = 0.0
    moments: float = 0.0
    stacked: float = 0.0
    pairs: float = 0.0
    crossed: float = 0.0
    crossed_rows: float = 0.0
    crossed_pairs: float = 0.0
    crossed_moments: float = 0.0
    dense: float = 0.0
    dense_pairs: float = 0.0

    def seconds(self, design: Design) -> float | None:
        """Estimated seconds of a fit; None for other models, whose searches differ too much."""
        if not (design.is_linear and design.blocks):
            return None
        return float(sum(getattr(self, unit) * amount for unit, amount in work_of(design).items()))


def work_of(design: Design) -> dict[str, float]:
    """Units of work of a linear mixed model, each a field of :class:`Pace`."""
    first = [design.blocks[k] for k in split_blocks(design.blocks)[0]]
    q, levels = (sum(b.q for b in first), first[0].n_levels) if first else (1, 1)
    d = sum(b.n_parameters for b in design.blocks)
    r, m = design.p + 1, n_dense_effects(design)
    sets = design.tied[0] if len({b.group for b in design.blocks}) > 1 else levels
    crossed = sets < max((design.blocks[k].n_levels for k in split_blocks(design.blocks)[1]), default=0)
    columns = r + sum(b.q + 1 for b in design.blocks)
    return {
        "call": 1.0,
        "rows": 1e-6 * design.n * columns,
        "products": 1e-9 * design.n * columns**2,
        "sets": 1e-6 * sets,
        "visits": 1e-6 * levels * d,
        "set_pairs": 1e-6 * sets * d**2,
        "levels": 1e-6 * levels * q * d * r,
        "moments": 1e-9 * levels * q * (d * r) ** 2,
        "pairs": 1e-3 * d**2,
        "stacked": 1e-6 * levels * q**3,
        "crossed_rows": 1e-6 * design.n * crossed,
        "crossed": 1e-6 * levels * q * m,
        "crossed_pairs": 1e-3 * d**2 * crossed,
        "crossed_moments": 1e-6 * levels * q * m * d**2,
        "dense": 1e-9 * m**3,
        "dense_pairs": 1e-9 * m**3 * d**2 * crossed,
    }


def most(parts: Mapping[str, float], seconds: float | None = None) -> Cost:
    """Cost as the sum of named parts; the largest part gives the purpose of most of the memory."""
    return Cost(sum(parts.values()), max(parts, key=lambda name: parts[name]), seconds)


def stopped(engine: str, kind: str, limits: Limits, design: Design) -> str:
    """Message about the limit at which an engine was stopped, with the call that has a larger limit."""
    if kind == "time" and limits.seconds is not None:
        limit, larger = f"time_limit={limits.seconds:g} (seconds)", f"time_limit={4 * limits.seconds:g}"
    else:
        memory = limits.memory or 0.0
        limit, larger = f"memory_limit={in_words(memory)!r}", f"memory_limit={in_words(2 * memory)!r}"
    return (
        f"{engine} was stopped at {limit}: {design.spec.text()}, with {size_in_words(design)}. Type:\n"
        f"    um.fit(..., backend={engine!r}, {larger})"
    )


def or_else(kind: str, refused: Cost, others: Sequence[tuple[str, Cost]]) -> str:
    """Lines to type for engines that need less than half as much, cheapest first; empty if none is known."""

    def amount(cost: Cost) -> float:
        value = cost.seconds if kind == "time" else cost.bytes
        return math.nan if value is None else value

    less = sorted((n for n in others if amount(n[1]) < 0.5 * amount(refused)), key=lambda n: amount(n[1]))
    word = "quicker" if kind == "time" else "smaller"
    return "".join(f"\n    um.fit(..., backend={name!r})    # {word}: {cost}" for name, cost in less[:3])


__all__ = [
    "UNKNOWN",
    "Cost",
    "Pace",
    "Sizes",
    "most",
    "or_else",
    "size_in_words",
    "sizes_of",
    "stopped",
    "too_large",
    "work_of",
]
