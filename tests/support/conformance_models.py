"""The reference cases as models of the conformance table."""

from __future__ import annotations

from collections.abc import Iterator

from gold import gaussian_cases, generalised_cases

from unimix.testing.conformance import Model


def gold() -> Iterator[Model]:
    """Every case, by the method of its reference."""
    for case in [*gaussian_cases(), *generalised_cases()]:
        method = {"method": "REML" if case.reml else "ML"} if case.gaussian and case.mixed else {}
        yield Model("gold", case.id, case.definition["formula"], case.data, {**case.arguments(), **method})
