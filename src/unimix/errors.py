"""The errors of unimix. Each message says what happened, why, and what to type instead."""

from __future__ import annotations

import difflib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class UnimixError(Exception):
    """Base class of all errors that unimix raises on purpose."""


class DataError(UnimixError, ValueError):
    """The data cannot be used as they are."""


class OptionError(UnimixError, ValueError):
    """An argument of a function, or an option of a backend, is unknown or out of range.

    Example:
        >>> import unimix as um
        >>> um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), REML=False)
        Traceback (most recent call last):
        unimix.errors.OptionError: fit has no argument 'REML'; type method='ML'.
    """


class UnknownBackendError(UnimixError, ValueError):
    """There is no backend of this name."""


class UnsupportedModelError(UnimixError):
    """The chosen engine cannot express the model; the message names those that can.

    Attributes:
        reasons: What the engine lacks, one phrase per reason; empty where the obstacle is not an engine.
        backend: Name of the engine, or an empty text.
    """

    def __init__(self, message: str, reasons: Sequence[str] = (), backend: str = "") -> None:
        self.reasons = tuple(reasons)
        self.backend = backend
        super().__init__(message)


def brief(error: Exception) -> str:
    """The text of an error in short: for a refusal only the reasons, without the list of engines that can."""
    return "; ".join(getattr(error, "reasons", ())) or str(error)


def to_type(lines: str) -> str:
    """The end of a message that says what to type: the lines, indented."""
    return f"Type:\n{textwrap.indent(lines, '    ')}"


class EngineNotInstalledError(UnimixError, ImportError):
    """A package that the backend needs is missing; the message holds the line to paste."""


class EngineBrokenError(UnimixError, ImportError):
    """The engine is installed but does not load; the message gives the cause and the fix."""


class FitError(UnimixError, RuntimeError):
    """The engine failed; the message quotes it."""


class WorkerError(UnimixError, RuntimeError):
    """A worker process was killed, ran out of memory or crashed before its work was done.

    Attributes:
        unfinished: Positions of the jobs that were running, where they are known.
    """

    def __init__(self, message: str, unfinished: Sequence[int] = ()) -> None:
        self.unfinished = tuple(unfinished)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[WorkerError], tuple[str, tuple[int, ...]]]:
        return type(self), (str(self), self.unfinished)


class LimitError(FitError):
    """The fit was stopped at its limit of time or memory; the message describes the model and says what to type.

    Attributes:
        kind: The limit that was reached, ``"time"`` or ``"memory"``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[LimitError], tuple[str, str]]:
        return type(self), (str(self), self.kind)


class DisagreementError(UnimixError, AssertionError):
    """Engines that should agree do not; the message shows the comparison and the reasons."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a formula.

    Attributes:
        message: What is wrong and what to write instead.
        position: Offset of the fault in the text of the formula, counted from 0; None if it has no single place.
        length: Number of characters that are wrong.
    """

    message: str
    position: int | None = None
    length: int = 1


class FormulaError(UnimixError, ValueError):
    """The formula cannot be read; the message shows every fault under the part of the formula that it concerns.

    Attributes:
        formula: Text of the formula, as it was given.
        faults: All faults, in reading order.

    Example:
        >>> import unimix as um
        >>> um.fit("Reaction ~ Days + (1 | Subject", um.load_dataset("sleepstudy"))
        Traceback (most recent call last):
        unimix.errors.FormulaError: A closing parenthesis is missing.
            Reaction ~ Days + (1 | Subject
                                          ^
    """

    def __init__(self, formula: str, faults: Sequence[Fault]) -> None:
        self.formula = formula
        self.faults = tuple(faults)
        super().__init__(_render_faults(formula, self.faults))

    def __reduce__(self) -> tuple[type[FormulaError], tuple[str, tuple[Fault, ...]]]:
        return type(self), (self.formula, self.faults)


def _render_faults(formula: str, faults: Sequence[Fault]) -> str:
    shown = "".join(c if c.isprintable() else " " for c in formula)
    lines: list[str] = []
    for fault in faults:
        lines.append(fault.message)
        if fault.position is not None:
            start, window = fault.position, 100
            left = max(0, start - window // 2)
            text = shown[left : left + window]
            lines.append(f"    {text}")
            lines.append("    " + " " * (start - left) + "^" * max(1, min(fault.length, window)))
    return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a name, or None if none is similar.

    Of names that are equally similar, the one that begins in the same way is returned.
    """
    asked, lowered = str(name).lower(), {str(c).lower(): str(c) for c in reversed(list(known))}
    near = difflib.get_close_matches(asked, list(lowered), n=5, cutoff=0.6)
    if not near:
        return None

    def similarity(other: str) -> tuple[float, int]:
        return difflib.SequenceMatcher(None, other, asked).ratio(), _shared_beginning(other, asked)

    return lowered[max(near, key=similarity)]


def _shared_beginning(first: str, second: str) -> int:
    """Number of letters with which two words begin alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = nearest(name, known)
    return "" if near is None else f" Did you mean {near!r}?"


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Join names for a message; a list longer than the limit is cut and its length is given."""
    items = [str(n) for n in names]
    more = f", ... ({len(items)} in all)" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
