"""Variance inflation factors of the terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unimix.analysis.tests.terms import Terms, terms_of
from unimix.errors import DataError
from unimix.fitted.table_result import TableResult
from unimix.stats.collinearity import condition_number, generalised_vif

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

MODERATE, HIGH = 5.0, 10.0
"""Variance inflation factors (James, Witten, Hastie & Tibshirani 2021, section 3.3.3)."""
ILL = 30.0
"""Condition number (Belsley, Kuh & Welsch 1980)."""


@dataclass(frozen=True, repr=False, eq=False)
class Collinearity(TableResult):
    """How far each term of the fixed part is explained by the others.

    Attributes:
        table: Index term; columns gvif (generalised variance inflation factor; of a term of one column the plain one),
            df, vif (gvif^(1/df): comparable between terms, and with the thresholds), se_factor (its root: by how much
            standard errors are larger), vif_apart (vif against the terms of other predictors alone, without products
            and powers, which a predictor explains by construction: what ``fit.check()`` judges; NaN for none), verdict
            (of vif: low, moderate from 5, high from 10).
        condition_number: Of the predictors about their means, without products and powers; from 30 ill-conditioned.
    """

    table: pd.DataFrame
    condition_number: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the numbers."""
        ill = ": ill-conditioned" if self.condition_number >= ILL else f" (ill-conditioned from {ILL:g})"
        told = [f"Condition number of the predictors about their means {self.condition_number:.3g}{ill}."]
        apart = self.table["vif_apart"]
        if len(apart) > 1 and not np.allclose(apart, self.table["vif"], rtol=1e-6):
            told.append(
                "Products and powers are explained by their predictors in part, which vif_apart leaves out: center "
                "numeric predictors of interactions."
            )
        return tuple(told)


def collinearity(fit: FittedModel) -> Collinearity:
    """How far each term of the fixed part is explained by the others: (generalised) variance inflation factors.

    From the covariance of the fixed effects, as ``car::vif`` (Fox & Monette 1992, J. Am. Stat. Assoc. 87:178-183);
    each also against the terms of other predictors alone, without products and powers; with the condition number of
    the predictors about their means.

    Raises:
        DataError: Without an intercept, or without predictors.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> fit.collinearity()
        term       gvif  df     vif  se_factor  vif_apart  verdict
        Sex      4.0770   1  4.0770     2.0192          1  low
        age      1.6875   1  1.6875     1.2990          1  low
        Sex:age  4.7645   1  4.7645     2.1828          -  low
        Condition number of the predictors about their means 1 (ill-conditioned from 30).
        Products and powers are explained by their predictors in part, which vif_apart leaves out: center numeric
        predictors of interactions.
    """
    names = list(fit.fixed.terms)
    if "Intercept" not in names:
        raise DataError(
            "Variance inflation factors compare with predictors about their means, for which the model needs an "
            "intercept: leave '0 +' or '- 1' out."
        )
    design = fit.design()
    found = terms_of(fit, design)
    kept = [i for i, columns in enumerate(found.columns) if columns]
    if not kept:
        raise DataError(f"{fit.model.reading} has no predictors that could explain each other.")
    others = [j for j, n in enumerate(names) if n != "Intercept"]
    place = {j: i for i, j in enumerate(others)}
    covariance = np.asarray(fit.fixed.covariance)[np.ix_(others, others)]
    own = [[place[j] for j in found.columns[i]] for i in kept]
    apart = [[place[j] for k in of_other_predictors(found, i) for j in found.columns[k]] for i in kept]
    gvif = generalised_vif(covariance, own)
    df = np.array([len(columns) for columns in own])
    vif = gvif ** (1 / df)
    table = pd.DataFrame(
        {
            "gvif": gvif,
            "df": df,
            "vif": vif,
            "se_factor": np.sqrt(vif),
            "vif_apart": generalised_vif(covariance, own, apart) ** (1 / df),
            "verdict": ["high" if v >= HIGH else "moderate" if v >= MODERATE else "low" for v in vif],
        },
        index=pd.Index([found.names[i] for i in kept], name="term"),
    )
    rows = design.trials if design.trials is not None else design.weights
    return Collinearity(table, condition_number(design.x, [found.columns[i] for i in _plain(found, kept)], rows))


def of_other_predictors(terms: Terms, index: int) -> list[int]:
    """Terms with columns that share no predictor with a term."""
    own = terms.variables[index]
    return [i for i, used in enumerate(terms.variables) if terms.columns[i] and not used & own]


def _plain(terms: Terms, kept: Sequence[int]) -> list[int]:
    """Terms without products and powers of others."""
    found: list[int] = []
    for i in sorted(kept, key=lambda i: len(terms.variables[i])):
        if not any(terms.variables[j] <= terms.variables[i] for j in found):
            found.append(i)
    return found


__all__ = ["HIGH", "ILL", "MODERATE", "Collinearity", "collinearity", "of_other_predictors"]
