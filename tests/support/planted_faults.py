"""Every field of a saved result, each with a fault of 5 % (or the nearest thing that its type allows)."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from unimix.design.estimates import Estimates, Evidence
from unimix.design.smooths import mixed_design
from unimix.fitted.derived_parts import estimates_of
from unimix.fitted.model import FittedModel
from unimix.fitted.saved_fit import SavedFit
from unimix.fitted.schema import Part
from unimix.fitted.smooth_parts import assembled_with_smooths, mixed_form

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
    "rows.labels": "how the rows were called in the frame that was fitted",
}
"""Fields that say nothing about the model or the data, with the reason. Every other field must have a check."""
NOT_CERTIFIED = ("parts.df", "parts.p_direction", "parts.unbounded")
"""Beginnings of fields that the parts beside the mean leave empty."""


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
    "engine.priors": lambda v: {**v, next(iter(v), "sigma"): "HalfNormal(1.05)"},
    "status.state": lambda v: "singular" if v == "converged" else "converged",
    "criteria.criterion": lambda v: {"REML": "ML", "ML": "REML", "Laplace": "AGQ(9)"}.get(v, "Laplace"),
    "model.method": lambda v: {"REML": "ML", "ML": "REML"}.get(v, "REML"),
    "residual_part.structure": lambda v: "cs" if v != "cs" else "ar1",
    "model.family": lambda v: "poisson" if v != "poisson" else "gaussian",
    "model.link": lambda v: "log" if v != "log" else "identity",
}


STATED_WHERE_NOTHING_IS: dict[str, Callable[[Any], Any]] = {
    "fixed.unbounded": lambda fixed: np.eye(len(fixed.terms))[-1:],
    "fixed.cross_covariance": lambda fixed: np.ones((len(fixed.terms), 1)),
}
"""Faults of fields that are empty in most results, as functions of the part."""


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
    if isinstance(value, Evidence):
        return replace(value, value=1.05 * value.value)
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            other = faulty(getattr(value, field), "")
            if other is not None and getattr(value, field):
                return value.model_copy(update={field: other})
    return None


def parts_of(value: Any) -> list[Any]:
    """The parts in a field that is a part, a tuple or a dictionary of parts."""
    if value is None:
        return []
    return list(value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value])


def planted(fit: FittedModel, path: Path) -> FittedModel | None:
    """The result with a fault in one field; None if the field states nothing."""

    def changed(part: Any, rest: Path) -> dict[str, Any] | None:
        value = getattr(part, rest[0])
        if len(rest) == 1:
            name = ".".join(path)
            other = STATED_WHERE_NOTHING_IS[name](part) if name in STATED_WHERE_NOTHING_IS else faulty(value, name)
            return None if other is None else {rest[0]: other}
        inner = parts_of(value)
        made = changed(inner[0], rest[1:]) if inner else None
        if made is None:
            return None
        inner[0] = inner[0].model_copy(update=made)
        if isinstance(value, dict):
            return {rest[0]: dict(zip(value, inner, strict=True))}
        return {rest[0]: tuple(inner) if isinstance(value, tuple) else inner[0]}

    made = changed(fit, path)
    return None if made is None else replace(fit, **made)


def flipped(matrix: np.ndarray) -> np.ndarray:
    """Covariance matrices (..., p, p) whose covariances have the wrong sign."""
    made = 0.0 - matrix  # no negative zeros, which would be a change
    diagonal = np.arange(matrix.shape[-1])
    made[..., diagonal, diagonal] *= -1
    return made


ENGINES_FAULTS: dict[str, Callable[[Estimates], dict[str, Any]]] = {
    "beta": lambda e: {"beta": 1.05 * e.beta},
    "variances of the fixed effects": lambda e: {"beta_cov": 1.05 * e.beta_cov},
    "covariances of the fixed effects": lambda e: {"beta_cov": flipped(e.beta_cov)},
    "covariances": lambda e: {"covariances": tuple(1.05 * c for c in e.covariances)},
    "sign of the correlations": lambda e: {"covariances": tuple(map(flipped, e.covariances))},
    "sigma": lambda e: {"sigma": 1.05 * e.sigma, "parameters": {k: 1.05 * v for k, v in e.parameters.items()}},
    "modes": lambda e: {"modes": tuple(1.05 * m for m in e.modes)},
    "levels in the wrong order": lambda e: {"modes": tuple(m[::-1] for m in e.modes)},
    "conditional variances": lambda e: {"mode_covs": tuple(1.05 * v for v in e.mode_covs)},
    "conditional covariances": lambda e: {"mode_covs": tuple(map(flipped, e.mode_covs))},
    "log-likelihood": lambda e: {} if e.log_likelihood is None else {"log_likelihood": 1.05 * e.log_likelihood},
    "degrees of freedom": lambda e: {} if e.df is None else {"df": 1.05 * e.df},
    "unbounded": lambda e: {"unbounded": {"fixed": np.eye(len(e.beta))[-1:]}},
    "residual": lambda e: {} if e.residual is None else {"residual": 1.05 * e.residual},
    "parts": lambda e: {"parts": {n: (b if n == "thresholds" else 1.05 * b, v) for n, (b, v) in e.parts.items()}},
    "variances of the parts": lambda e: {"parts": {n: (b, 1.05 * v) for n, (b, v) in e.parts.items()}},
    "interval": lambda e: {} if e.interval is None else {"interval": 1.05 * e.interval},
}
"""Faults in an engine's own numbers, from which all tables follow."""


def as_from_engine(fit: FittedModel, name: str) -> FittedModel | None:
    """The result of an engine with a fault in its own numbers; None if the fault changes nothing."""
    design = fit.design()
    own = estimates_of(mixed_design(design), vars(mixed_form(fit)))

    def result(estimates: Estimates) -> FittedModel:
        parts = assembled_with_smooths(design, estimates, method=fit.model.method, ci_level=fit.fixed.level)
        return replace(fit, **parts)

    other = result(replace(own, **ENGINES_FAULTS[name](own)))
    return None if other == result(own) else other
