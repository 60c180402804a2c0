"""Variance inflation factors of the terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unimix.analysis.shown import in_html, written
from unimix.analysis.terms import terms_of
from unimix.errors import DataError
from unimix.numerics.collinearity import condition_number, generalised_vif

if TYPE_CHECKING:
    from unimix.results.result import FitResult

MODERATE, HIGH = 5.0, 10.0
"""Variance inflation factors (James, Witten, Hastie & Tibshirani 2021, section 3.3.3)."""
ILL = 30.0
"""Condition number (Belsley, Kuh & Welsch 1980)."""


@dataclass(frozen=True)
class Collinearity:
    """How far each term of the fixed part is explained by the others.

    Attributes:
        table: Index term; columns gvif (generalised variance inflation factor; of a term of one column the plain one),
            df, vif (gvif^(1/df): comparable between terms, and with the thresholds), se_factor (its root: by how much
            standard errors are larger), verdict (low, moderate from 5, high from 10).
        condition_number: Of the fixed-effects columns scaled to length 1; above 30 is ill-conditioned.
    """

    table: pd.DataFrame
    condition_number: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the numbers."""
        ill = self.condition_number >= ILL
        told = [f"Condition number {self.condition_number:.3g}: {'ill' if ill else 'well'}-conditioned columns."]
        if any(":" in str(t) for t in self.table.index):
            told.append("Products are explained by their margins in part: center numeric predictors of interactions.")
        return tuple(told)

    def __str__(self) -> str:
        return written(self.table, self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return in_html(self.table, self.notes)


def collinearity(fit: FitResult, data: Any = None) -> Collinearity:
    """Variance inflation; see :meth:`unimix.results.summarised.SummarisedResult.collinearity`."""
    names = list(fit.fixed.terms)
    if "Intercept" not in names:
        raise DataError(
            "Variance inflation factors compare with predictors about their means, for which the model needs an "
            "intercept: leave '0 +' or '- 1' out."
        )
    design = fit.design(data)
    found = terms_of(fit, design)
    kept = [(name, columns) for name, columns in zip(found.names, found.columns, strict=True) if columns]
    if not kept:
        raise DataError(f"{fit.model.reading} has no predictors that could explain each other.")
    others = [j for j, n in enumerate(names) if n != "Intercept"]
    place = {j: i for i, j in enumerate(others)}
    covariance = np.asarray(fit.fixed.covariance)[np.ix_(others, others)]
    gvif = generalised_vif(covariance, [[place[j] for j in columns] for _, columns in kept])
    df = np.array([len(columns) for _, columns in kept])
    vif = gvif ** (1 / df)
    table = pd.DataFrame(
        {
            "gvif": gvif,
            "df": df,
            "vif": vif,
            "se_factor": np.sqrt(vif),
            "verdict": ["high" if v >= HIGH else "moderate" if v >= MODERATE else "low" for v in vif],
        },
        index=pd.Index([name for name, _ in kept], name="term"),
    )
    return Collinearity(table, condition_number(design.x))


__all__ = ["HIGH", "ILL", "MODERATE", "Collinearity", "collinearity"]
