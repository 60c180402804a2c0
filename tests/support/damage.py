"""Damaged texts of saved results, and everything that can be asked of what was loaded from them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import unimix as um

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**70, -(2**70), 0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"),
    "", "x", "NaN", "Infinity", "1", "y ~ x", "a\0b", "\ud800", "<b>", "$", "#3", "9" * 5000, "(" * 3000,
    [], {}, [None], [[]], [1, "a"], {"shape": [2], "values": [1]}, {"shape": [-1], "values": [1.0]},
    {"shape": [0], "values": []}, {"shape": [2**40, 0], "values": []}, {"shape": "x", "values": None}, {"values": [1]},
    {"map": [[[], 1]]}, {"list": 3}, [0, 10**9], [-5], [[1.0, 2.0]],
)  # fmt: skip
"""Values that stand in the place of others."""

WAYS = ("replaced", "replaced", "resized", "resized", "removed", "added", "renamed", "swapped")
Path = tuple[Any, ...]


def places(content: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all values, a long list by its first, second and last entry."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*path, key))
    elif isinstance(content, list):
        for i in sorted({0, 1, len(content) - 1} & set(range(len(content)))):
            yield from places(content[i], (*path, i))


def _parent(content: Any, path: Path) -> Any:
    for step in path[:-1]:
        content = content[step]
    return content


def _resized(value: Any, rng: np.random.Generator) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return [value + 1, -value, value * 1.5, 0, -1e300, value + 10**6][rng.integers(6)]
    if isinstance(value, str):
        return [value + "x", value[1:], value.upper(), value * 2, value[::-1]][rng.integers(5)]
    if isinstance(value, list):
        return [value[:-1], value * 2, value[::-1]][rng.integers(3)]
    if isinstance(value, dict) and value:
        gone = list(value)[rng.integers(len(value))]
        return {k: v for k, v in value.items() if k != gone}
    return value


def _change(content: Any, rng: np.random.Generator, *, softly: bool) -> None:
    """Change one place."""
    known = list(places(content))
    path = known[rng.integers(len(known))]
    parent, last = _parent(content, path), path[-1]
    strange = STRANGE[rng.integers(len(STRANGE))]
    way = "resized" if softly else WAYS[rng.integers(len(WAYS))]
    if way == "resized":
        parent[last] = _resized(parent[last], rng)
    elif way == "replaced":
        parent[last] = strange
    elif way == "removed":
        del parent[last]
    elif way == "swapped":
        other = known[rng.integers(len(known))]
        parent[last] = copy.deepcopy(_parent(content, other)[other[-1]])
    elif isinstance(parent, dict):
        parent["surprise" if way == "added" else f"{last}s"] = parent.get(last) if way == "added" else parent.pop(last)
    else:
        parent.insert(last, strange)


def damaged(text: str, rng: np.random.Generator) -> str:
    """A text with one to three places of its content changed, or, more rarely, its characters.

    Args:
        text: A result as JSON.
        rng: Generator of random numbers.
    """
    if rng.random() < 0.1:
        at = int(rng.integers(len(text)))
        return [text[:at], text[:at] + "#" + text[at + 1 :], text[:at] + text[at + 1 :], text[at:]][rng.integers(4)]
    content = json.loads(text)
    softly = bool(rng.random() < 0.5)
    for _ in range(rng.integers(1, 4)):
        _change(content, rng, softly=softly)
    return json.dumps(content)


VIEWS: dict[str, Callable[[um.FitResult], Any]] = {
    "str": str,
    "repr": repr,
    "html": lambda f: f._repr_html_(),
    "hash": hash,
    "to_json": lambda f: f.to_json(),
    "fixed_effects": lambda f: f.fixed_effects,
    "fixed_cov": lambda f: f.fixed_cov,
    "variance_components": lambda f: f.variance_components,
    "group_effects": lambda f: f.group_effects,
    "group_effects_sd": lambda f: f.group_effects_sd,
    "coefficients": lambda f: [f.coefficients(g) for g in f.group_effects],
    "fitted": lambda f: f.fitted,
    "residuals": lambda f: f.residuals(),
    "dispersion_parameters": lambda f: f.dispersion_parameters,
    "tidy": lambda f: f.tidy("all"),
    "glance": lambda f: f.glance(),
    "augment": lambda f: f.augment(),
    "predict": lambda f: f.predict(),
    "scalars": lambda f: (f.sigma, f.aic, f.bic, f.deviance, f.n_groups, f.n_obs, f.converged, f.singular, f.backend),
    "table": lambda f: str(um.table(f)),
}
"""Views and tables: they work for every result that was loaded."""


def questions(data: Any) -> dict[str, Callable[[um.FitResult], Any]]:
    """Analyses of a loaded result; what they cannot answer is an error of unimix.

    Args:
        data: The data that were fitted.
    """
    new = data.head(3)
    return {
        "pearson": lambda f: f.residuals("pearson"),
        "standardized": lambda f: f.residuals("standardized"),
        "deviance": lambda f: f.residuals("deviance"),
        "report": lambda f: str(f.report()),
        "check": lambda f: str(f.check()),
        "predict new": lambda f: f.predict(new),
        "predict interval": lambda f: f.predict(new, interval="confidence"),
        "population": lambda f: f.predict(new, level="population"),
        "augment new": lambda f: f.augment(new),
        "hypotheses": lambda f: f.hypotheses("b0 = 0"),
        "wald": lambda f: f.confint(method="wald"),
        "r2": lambda f: f.r2(),
        "icc": lambda f: f.icc(),
        "simulate": lambda f: f.simulate(2, seed=1),
        "spec": lambda f: f.spec,
        "with_data": lambda f: f.with_data(data),
        "emmeans": lambda f: f.with_data(data).emmeans("f"),
        "anova": lambda f: f.with_data(data).anova(),
        "slopes": lambda f: f.with_data(data).slopes("x"),
        "certificate": lambda f: str(f.with_data(data).certificate()),
        "collinearity": lambda f: f.with_data(data).collinearity(),
        "refit": lambda f: um.refit(f, data),
    }
