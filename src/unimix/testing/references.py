"""Stored reference results for the bundled data sets, at the optimum of the criterion.

They were computed in R with lme4 and lmerTest: several optimizers minimised the criterion from several starts, and
Newton steps refined the best result. ``references.json`` holds the versions of the packages.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class ReferenceCase(BaseModel):
    """One model with its reference results.

    Attributes:
        id: Name of the case.
        dataset: Name of the data set, for :func:`unimix.load_dataset`.
        formula: The formula in lme4's language.
        method: Criterion, REML or ML.
        estimate: Fixed effects in the order of the design, shape (p,).
        std_error: Standard errors of the fixed effects, shape (p,).
        df: Satterthwaite degrees of freedom of the fixed effects, shape (p,).
        sd: SDs of all effects, block by block in the order of the design, followed by the residual SD.
        log_likelihood: Log-likelihood of the criterion with all constants.
        singular: Whether the optimum is on the boundary.
        n_groups: Smallest number of levels of a grouping factor of the model.
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
    """All stored reference cases."""
    content: dict[str, Any] = json.loads((files("unimix.testing") / "references.json").read_text(encoding="utf-8"))
    return tuple(ReferenceCase(**case) for case in content["cases"])
