"""The heads of the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unimix.fitted import describe
from unimix.result import FitResult
from unimix.workflows.tables.cells import Column

MARKS = {"not_identified": "†", "not_converged": "†", "failed": "†", "singular": "‡"}


@dataclass(frozen=True)
class Model:
    """A result with its head.

    Attributes:
        fit: The result.
        column: Head of its column.
        name: Name of the model, the same for all engines; empty if all results are of one model.
    """

    fit: FitResult
    column: Column
    name: str


def headed(fits: Sequence[FitResult], names: Sequence[str] | None) -> list[Model]:
    """Give every result a head. If both engines and models differ, results of one engine stand side by side."""
    engines = [f.engine.backend for f in fits]
    several_engines = len(set(engines)) > 1
    if names is not None:
        models = list(names)
        grouped = len(set(names)) < len(names)
        shown = list(names)
    else:
        kinds = list(dict.fromkeys(_kind(f) for f in fits))
        one = len(kinds) == 1
        models = ["" if one else f"Model {kinds.index(_kind(f)) + 1}" for f in fits]
        grouped = several_engines and not one
        shown = _apart(engines if one else models, engines if grouped else [""] * len(fits), fits)
    responses = [_response(f) for f in fits]
    heads = [
        Model(
            fit,
            Column(
                name=shown[i],
                group=engines[i] if grouped else "",
                response=responses[i] if len(set(responses)) > 1 else "",
                backend=engines[i],
                mark=MARKS.get(fit.status.state, ""),
            ),
            models[i],
        )
        for i, fit in enumerate(fits)
    ]
    order = list(dict.fromkeys(engines))
    return sorted(heads, key=lambda m: order.index(m.column.backend)) if grouped else heads


def _kind(fit: FitResult) -> tuple[object, ...]:
    """The properties that are equal for two results of the same model."""
    return (fit.model.reading, fit.model.family, fit.model.link, fit.model.fingerprint)


def _response(fit: FitResult) -> str:
    family = "" if describe.is_linear(fit) else f" ({describe.family_words(fit)})"
    return f"{fit.model.response}{family}"


def _apart(shown: Sequence[str], groups: Sequence[str], fits: Sequence[FitResult]) -> list[str]:
    """The names; those that occur twice in a group get the method or a number."""
    keys = list(zip(groups, shown, strict=True))
    named = [
        f"{name} ({f.model.method})" if keys.count(key) > 1 else name
        for name, key, f in zip(shown, keys, fits, strict=True)
    ]
    keys = list(zip(groups, named, strict=True))
    return [
        f"{name} {keys[: i + 1].count(key)}" if keys.count(key) > 1 else name
        for i, (name, key) in enumerate(zip(named, keys, strict=True))
    ]


__all__ = ["Model", "headed"]
