"""A whole fit as it is saved in JSON, and what its parts must agree in."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from unimix.design.estimability import LARGEST, SMALLEST
from unimix.distributions.family import Cumulative
from unimix.errors import listing
from unimix.fitted.schema import (
    SCHEMA_VERSION,
    Criteria,
    EngineInfo,
    FixedPartResult,
    ModelInfo,
    Part,
    RandomPartResult,
    ResidualPartResult,
    Rows,
    SmoothPartResult,
    Status,
)

FloatArray = npt.NDArray[np.float64]


def _within(values: FloatArray | None, least: float) -> bool:
    """Whether values are absent, or numbers from the least one to the largest that is fitted."""
    return values is None or bool(((values >= least) & (values <= LARGEST)).all())


def _agreements_of_rows(rows: Rows, model: ModelInfo, interval: str) -> dict[str, bool]:
    """Whether the rows of a saved fit agree with its model and the kind of its intervals, by what is compared."""
    expected = interval == "credible" and model.link != "identity"
    return {
        "rows": len(rows.index) == model.n_obs,
        "positions of rows": bool(np.isin(rows.index, np.arange(model.n_obs + model.n_dropped)).all()),
        "response": _within(rows.observed, -LARGEST),
        "offset": _within(rows.offset, -LARGEST),
        "expected responses": [rows.expected is not None, rows.population_expected is not None] == [expected] * 2,
        "weights": _within(rows.weights, SMALLEST),
        "trials": _within(rows.trials, 0.0),
    }


def _known_version(version: int) -> int:
    if version != SCHEMA_VERSION:
        do = "Update unimix" if version > SCHEMA_VERSION else "Fit the model again"
        raise ValueError(f"it has schema version {version}; this unimix reads {SCHEMA_VERSION}. {do}")
    return version


class SavedFit(Part):
    """A fit as saved in JSON; :class:`unimix.fitted.model.FittedModel` describes the fields.

    Attributes:
        rows: The rows; None for a fit of reduced data.
        schema_version: Version number of this layout.
    """

    model: ModelInfo
    engine: EngineInfo
    fixed: FixedPartResult
    random: tuple[RandomPartResult, ...]
    criteria: Criteria
    status: Status
    rows: Rows | None
    parts: dict[Literal["zero", "dispersion", "thresholds"], FixedPartResult] = Field(default_factory=dict)
    residual_part: ResidualPartResult | None = None
    smooths: tuple[SmoothPartResult, ...] = ()
    provenance: dict[str, str]
    notes: tuple[str, ...]
    schema_version: Annotated[int, AfterValidator(_known_version)] = SCHEMA_VERSION

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        """Refuse counts and names that contradict each other, and rows that ``fit`` would have refused."""
        model, encoding = self.model, self.model.encoding
        family = model.distribution()
        known = family.parameters
        thresholds = self.parts.get("thresholds")
        named = family.threshold_names if isinstance(family, Cumulative) else None
        zero = self.parts.get("zero")
        agreements = {
            **({} if self.rows is None else _agreements_of_rows(self.rows, model, self.fixed.interval)),
            "fixed effects": len(encoding.kept) == len(self.fixed.terms),
            "probabilities of direction": (self.fixed.p_direction is not None) == (self.fixed.interval == "credible"),
            "blocks of random effects": [len(b.columns) for b in encoding.blocks]
            == [len(b.terms) for b in self.random],
            "levels": model.groups == {b.group: len(b.levels) for b in self.random},
            "dispersion parameters": self.criteria.parameters.keys() <= set(known),
            "dispersion": ("dispersion" not in self.parts or bool(known))
            and ("dispersion" in self.parts)
            == (self.rows is not None and self.rows.dispersion is not None)
            == (encoding.dispersion is not None),
            "covariance of the residuals": (self.residual_part is None) == (encoding.residual is None)
            and (self.residual_part is None or self.residual_part.relative == ("dispersion" in self.parts)),
            "smooths": {n for s in self.smooths for n in s.columns} <= set(self.fixed.terms),
            "thresholds": (None if thresholds is None else thresholds.terms) == named,
            "zero inflation": (zero is None)
            == (self.rows is None or self.rows.zero_probability is None)
            == (encoding.ziformula is None)
            and len(encoding.zero_kept) == (0 if zero is None else len(zero.terms)),
        }
        if wrong := [what for what, agree in agreements.items() if not agree]:
            raise ValueError(f"its parts contradict each other or were never fitted: {listing(wrong)}")
        return self
