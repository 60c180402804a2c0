"""Reference cases: models with results at the optimum, computed in R and checked without any mixed-model package."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import unimix as um

FOLDER = Path(__file__).parents[1] / "data" / "gold"


@dataclass(frozen=True)
class Gold:
    """One case: its definition and its reference."""

    definition: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.definition["id"])

    @property
    def reference(self) -> dict[str, Any]:
        found: dict[str, Any] = self.definition["reference"]
        return found

    @property
    def mixed(self) -> bool:
        return bool(self.definition["model_type"] in ("lmm", "glmm"))

    @property
    def gaussian(self) -> bool:
        return bool(self.definition["family"] == "gaussian")

    @property
    def reml(self) -> bool:
        return self.definition["reml"] is not False

    @property
    def smallest_factor(self) -> int:
        return min((r["n_levels"] for r in self.reference["random"]), default=0) if self.mixed else 0

    def arguments(self) -> dict[str, Any]:
        """Arguments of ``fit`` beside the formula, the data and the backend."""
        contrasts = {f["name"]: f["contrasts"] for f in self.definition["factors"] if f["contrasts"] == "sum"}
        made: dict[str, Any] = {"contrasts": contrasts or None, "family": self.definition["family"]}
        for role in ("weights", "offset"):
            if self.definition[role]:
                made[role] = self.definition[role]["column"]
        return made

    def data(self) -> pd.DataFrame:
        """The data with factors in the order of the dictionary."""
        return read(self.definition["data_file"]).copy()

    def fit(self, backend: Any, **more: Any) -> um.FitResult:
        """Fit the case."""
        method = {} if "method" in more or not self.gaussian else {"method": "REML" if self.reml else "ML"}
        return um.fit(self.definition["formula"], self.data(), backend=backend, **self.arguments(), **method, **more)

    def standard_deviations(self, fit: um.FitResult) -> tuple[np.ndarray, np.ndarray]:
        """SDs of a fit and of the reference, block by block and then the residual's."""
        ours, theirs = [], []
        pool = list(self.reference["random"]) if self.mixed else []
        for block in fit.random:
            names = [r_name(t, fit) for t in block.terms]
            match = next(r for r in pool if r["group"] == block.group and as_list(r["terms"]) == names)
            pool.remove(match)
            ours += list(block.sd)
            theirs += as_list(match["sd"])
        assert pool == []
        residual = [fit.sigma] if self.gaussian else []
        theirs += [self.reference["sigma"]] if self.gaussian else []
        return np.array([*ours, *residual]), np.array(theirs, dtype=float)

    def draws_of_sds(self, fit: um.FitResult) -> tuple[np.ndarray, np.ndarray]:
        """Draws of all SDs, shape (draws, SDs), and the reference's, in one order."""
        draws = fit.posterior.posterior
        columns = []
        for block in fit.random:
            alone = f"sd({block.group}: {block.terms[0]})"
            name = alone if alone in draws else f"sd({block.group})"
            columns += list(draws[name].to_numpy().reshape(-1, len(block.terms)).T)
        columns += [draws["sigma"].to_numpy().ravel()] if self.gaussian else []
        return np.array(columns).T, self.standard_deviations(fit)[1]


def as_list(value: Any) -> list[Any]:
    """R's JSON writes vectors of one element as scalars."""
    return value if isinstance(value, list) else [value]


def r_name(term: str, fit: um.FitResult) -> str:
    """R's name of a column: ``Evit[T.a]:x`` is ``Evita:x``, the second sum-coded column of f is ``f2``."""
    if term == "Intercept":
        return "(Intercept)"
    levels = fit.model.encoding.levels

    def part(text: str) -> str:
        found = re.fullmatch(r"(.+)\[(?:(T|S)\.)?(.*)\]", text)
        if not found:
            return text
        name, coding, level = found.groups()
        return f"{name}{list(map(str, levels[name])).index(level) + 1}" if coding == "S" else f"{name}{level}"

    return ":".join(part(p) for p in term.split(":"))


@functools.cache
def read(name: str) -> pd.DataFrame:
    """A data file; the school data stand outside the project, because they state no licence."""
    dictionary = json.loads((FOLDER / "data_dictionary.json").read_text(encoding="utf-8"))[name]["columns"]
    path = FOLDER / name
    if not path.exists():
        path = Path(os.environ["UNIMIX_DATA"]) / name
    factors = {column: d.get("levels") for column, d in dictionary.items() if d["type"] == "factor"}
    data = pd.read_csv(path, dtype=dict.fromkeys(factors, str))
    for column, levels in factors.items():
        data[column] = pd.Categorical(data[column], categories=levels)
    return data


def gaussian_cases() -> list[Gold]:
    """All Gaussian cases; those on the school data only where ``UNIMIX_DATA`` names their folder."""
    return [g for g in all_cases() if g.gaussian]


def generalised_cases() -> list[Gold]:
    """All cases of other families."""
    return [g for g in all_cases() if not g.gaussian]


def case_of(name: str) -> Gold:
    """The case of this id."""
    return next(c for c in all_cases() if c.id == name)


def all_cases() -> list[Gold]:
    """All cases whose data are here."""
    found = [Gold(c) for c in json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))["cases"]]
    folder = os.environ.get("UNIMIX_DATA")
    here = {p.name for p in FOLDER.iterdir()} | ({p.name for p in Path(folder).iterdir()} if folder else set())
    return [g for g in found if g.definition["data_file"] in here]
