"""Stored reference results for the bundled data sets, at the optimum of the criterion.

They were computed in R with lme4 and lmerTest, minimising the criterion by several optimizers from several starts and
polishing by Newton steps. ``references.json`` says which versions.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class ReferenceCase(BaseModel):
    """One model with its reference.

    Attributes:
        id: Its name.
        dataset: Name for :func:`unimix.load_dataset`.
        formula: lme4's notation.
        method: REML or ML.
        estimate: Fixed effects in the order of the design.
        std_error: Their standard errors.
        df: Satterthwaite degrees of freedom.
        sd: SDs of all effects, block by block in the order of the design, then the residual's.
        log_likelihood: With all constants.
        singular: Whether the optimum is on the boundary.
        n_groups: Smallest number of levels of its grouping factors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    dataset: str
    formula: str
    method: Literal["REML", "ML"]
    estimate: tuple[float, ...]
    std_error: tuple[float, ...]
    df: tuple[float, ...]
    sd: tuple[float, ...]
    log_likelihood: float
    singular: bool
    n_groups: int


def reference_cases() -> tuple[ReferenceCase, ...]:
    """All stored cases."""
    content: dict[str, Any] = json.loads((files("unimix.testing") / "references.json").read_text(encoding="utf-8"))
    return tuple(ReferenceCase(**case) for case in content["cases"])
