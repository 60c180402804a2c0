"""Every field of a saved result, each with a fault of 5 % (or the nearest thing that its type allows)."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from unimix.fitted.model import FittedModel
from unimix.fitted.schema import Part, SavedFit

Path = tuple[str, ...]

NOT_OF_THE_MODEL: dict[str, str] = {
    "schema_version": "the layout of the file; another version is refused when it is read",
    "engine.backend": "who fitted: no number follows from it",
    "engine.engine": "who fitted",
    "engine.versions": "who fitted",
    "engine.options": "how it was fitted",
    "engine.seed": "how it was fitted",
    "engine.call": "how it was fitted",
    "engine.seconds": "how long it took",
    "status.messages": "words of the engine",
    "status.gradient": "the engine's own measure, in its own scale; the optimum is looked for instead",
    "provenance": "words",
    "notes": "words",
}
"""Fields that say nothing about the model or the data, with the reason. Every other field must have a check."""


def leaves(part: type[BaseModel] = SavedFit, path: Path = ()) -> Iterator[Path]:
    """Paths of all fields of the schema; tuples and dictionaries of parts are entered."""
    for name, field in part.model_fields.items():
        inner = next((t for t in _types(field.annotation) if isinstance(t, type) and issubclass(t, Part)), None)
        if inner is None:
            yield (*path, name)
        else:
            yield from leaves(inner, (*path, name))


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _types(part)


SPECIAL: dict[str, Callable[[Any], Any]] = {
    "fixed.interval": lambda v: "credible" if v == "confidence" else "confidence",
    "fixed.df_method": lambda v: {"satterthwaite": "kenward-roger", "posterior": "normal"}.get(v, "satterthwaite"),
    "fixed.std_error_kind": lambda v: {
        "": None,
        "generalised least squares": "observed information",
        "observed information": "Kenward-Roger",
    }.get(v, "observed information"),
    "status.state": lambda v: "singular" if v == "converged" else "converged",
    "criteria.criterion": lambda v: {"REML": "ML", "ML": "REML", "Laplace": "AGQ(9)"}.get(v, "Laplace"),
    "model.method": lambda v: {"REML": "ML", "ML": "REML"}.get(v, "REML"),
    "model.family": lambda v: "poisson" if v != "poisson" else "gaussian",
    "model.link": lambda v: "log" if v != "log" else "identity",
}


def faulty(value: Any, name: str) -> Any:
    """The value with a fault; None if it cannot have one (nothing is stated)."""
    if name in SPECIAL:
        return SPECIAL[name](value)
    if value is None or isinstance(value, bool):
        return None if value is None else not value
    if isinstance(value, np.ndarray):
        if not np.isfinite(value).any() or not np.nanmax(np.abs(np.where(np.isfinite(value), value, 0)), initial=0.0):
            return None
        return value + 1 if name == "rows.index" else 1.05 * value
    if isinstance(value, int):
        return value + max(1, round(0.05 * value))
    if isinstance(value, float):
        return None if not np.isfinite(value) else 1.05 * value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        if not value:
            return ("x",)
        return value[::-1] if len(value) > 1 and value[::-1] != value else (*value[:-1], f"{value[-1]}x")
    if isinstance(value, dict):
        if not value:
            return {"x": 1}
        first = next(iter(value))
        return {**value, first: faulty(value[first], "")}
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            other = faulty(getattr(value, field), "")
            if other is not None and getattr(value, field):
                return value.model_copy(update={field: other})
    return None


def planted(fit: FittedModel, path: Path) -> FittedModel | None:
    """The result with a fault in one field; None if the field states nothing."""
    name = ".".join(path)

    def changed(part: Any, rest: Path) -> Any:
        value = getattr(part, rest[0])
        if len(rest) == 1:
            other = faulty(value, name)
            return None if other is None else {rest[0]: other}
        inner = (
            list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else [value]
        )
        if not inner:
            return None
        made = changed(inner[0], rest[1:])
        if made is None:
            return None
        inner[0] = inner[0].model_copy(update=made)
        if isinstance(value, dict):
            return {rest[0]: dict(zip(value, inner, strict=True))}
        return {rest[0]: tuple(inner) if isinstance(value, tuple) else inner[0]}

    made = changed(fit, path)
    return None if made is None else replace(fit, **made)
