"""How a formula is read and what an engine would be given, as text and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from unimix.design.arrays import Design, RandomBlock
from unimix.display import Block, Code, Printed
from unimix.fitted.formatting import text_table

_FORMS = {
    "us": "correlated",
    "diag": "independent",
    "cs": "compound symmetry",
    "ar1": "autoregressive",
    "toep": "Toeplitz",
    "car1": "continuous-time autoregressive",
    "exp": "exponential decay",
    "gau": "Gaussian decay",
}


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(Printed):
    """The answer of :func:`unimix.explain`.

    Attributes:
        reading: The formula in its canonical form, with every implied term written out.
        backend: Name of the chosen engine.
        method: Criterion of the estimates.
        columns: One row per column of the model: role, name, name that the engine sees, first values.
        groups: One row per block of group effects: grouping factor, levels, columns, form of the covariance matrix.
        engine_call: The call that the engine would see; empty if it refuses the model.
        refusals: Reasons why the chosen engine cannot fit the model; empty if it can.
        able: Names of the backends that can fit the model.
        notes: Notes on the data, such as rows that were left out.
        costs: Expected memory and time as text, by backend, as far as they are known.
    """

    reading: str
    backend: str
    method: str
    columns: pd.DataFrame
    groups: pd.DataFrame
    engine_call: str
    refusals: tuple[str, ...]
    able: tuple[str, ...]
    notes: tuple[str, ...]
    costs: Mapping[str, str] = field(default_factory=dict)

    def _view(self) -> Iterable[Block]:
        blocks: list[Block] = [self.reading, "", "Columns", text_table(self.columns)]
        if len(self.groups):
            blocks += ["", "Random effects", text_table(self.groups)]
        called = [Code(self.engine_call)] if self.engine_call else []
        blocks += ["", f"Engine call ({self.backend}, {self.method})", *called]
        blocks += [f"  refused: {r}" for r in self.refusals]
        if self.backend in self.costs:
            blocks += ["", f"Memory and time ({self.backend}): {self.costs[self.backend]}"]
        blocks += ["", f"Backends that can fit it: {', '.join(self.able)}"]
        blocks += [f"  {n}: {self.costs[n]}" for n in self.able if n != self.backend and n in self.costs]
        return [*blocks, *(f"Note: {n}" for n in self.notes)]


def explain_design(
    design: Design,
    backend: str,
    method: str,
    engine_call: str,
    refusals: list[str],
    able: list[str],
    costs: Mapping[str, str],
) -> Explanation:
    """Describe a design.

    Args:
        design: The model as arrays.
        backend: Name of the chosen engine.
        method: Criterion of the estimates.
        engine_call: The call that the engine would see.
        refusals: Reasons why the chosen engine cannot fit the model.
        able: Names of the backends that can fit the model.
        costs: Expected memory and time as text, by backend.
    """

    def first(values: object) -> str:
        return " ".join(f"{v:.4g}" for v in list(values)[:4])  # type: ignore[call-overload]

    of = design if design.compression is None else design.compression.support  # compressed rows are no rows of the data
    rows = [
        {"role": "response", "name": design.spec.text().split(" ~ ")[0], "engine": "y", "first values": first(of.y)}
    ]
    rows += [
        {"role": "fixed", "name": name, "engine": f"x{j}", "first values": first(of.x[:, j])}
        for j, name in enumerate(design.fixed_names)
    ]
    for k, block in enumerate(of.blocks):
        rows += [
            {
                "role": f"varies over {block.group}",
                "name": name,
                "engine": f"z{k}_{j}",
                "first values": first(block.z[:, j]),
            }
            for j, name in enumerate(block.terms)
        ]
    offset = "(subtracted)" if design.is_linear else "off"
    for role, engine, values in (
        ("weights", "w", design.weights if of is design else None),
        ("trials", "w", design.trials),
        ("offset", offset, design.offset),
    ):
        if values is not None:
            rows.append(
                {
                    "role": role,
                    "name": role,
                    "engine": engine,
                    "first values": first(values),
                }
            )
    for role, letter, part in (("zero inflation", "u", design.zero), ("dispersion", "v", design.dispersion)):
        if part is not None:
            rows += [
                {"role": role, "name": name, "engine": f"{letter}{j}", "first values": first(part.x[:, j])}
                for j, name in enumerate(part.names)
            ]
    groups = [
        {
            "group": b.group,
            "engine": f"g{k}",
            "levels": b.n_levels,
            "columns": ", ".join(b.terms),
            "covariance": "one variance" if b.q == 1 else f"{b.q} x {b.q}, {_form(b)}",
            "first levels": ", ".join(str(v) for v in b.levels[:4]),
        }
        for k, b in enumerate(design.blocks)
    ]
    return Explanation(
        design.spec.text(),
        backend,
        method,
        pd.DataFrame(rows),
        pd.DataFrame(groups),
        engine_call,
        tuple(refusals),
        tuple(able),
        design.notes,
        costs,
    )


def _form(block: RandomBlock) -> str:
    """Form of a covariance matrix in words."""
    structure = block.covariance_structure
    if structure is None:
        return _FORMS["us"]
    return f"{_FORMS[structure.form]}, {'one variance' if structure.n_sd == 1 else 'a variance for each'}"
