"""Variance inflation factors of the terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unimix.analysis.tests.terms import Terms, terms_of
from unimix.distributions.ordered import refuse_categories
from unimix.errors import DataError
from unimix.fitted.correlated import refuse_smooths
from unimix.fitted.table_result import TableResult
from unimix.stats.collinearity import condition_number, generalised_vif

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

MODERATE, HIGH = 5.0, 10.0
"""Thresholds of variance inflation factors (James, Witten, Hastie & Tibshirani 2021, section 3.3.3)."""
ILL = 30.0
"""Condition number from which a design is ill-conditioned (Belsley, Kuh & Welsch 1980)."""


@dataclass(frozen=True, repr=False, eq=False)
class Collinearity(TableResult):
    """How far each term of the fixed part is explained by the others.

    Attributes:
        table: Index term; columns gvif (generalised variance inflation factor, which is the ordinary one for a term
            with one column), df, vif (gvif^(1/df), comparable between terms and with the thresholds), se_factor (the
            square root of vif, the factor by which standard errors are larger), vif_apart (vif against the terms of
            other predictors only, without products and powers, which a predictor explains by construction; this is
            what ``fit.check()`` judges; NaN if there are no such terms), verdict (of vif: low, moderate from 5, high
            from 10).
        condition_number: Condition number of the predictors about their means, without products and powers; a design
            is ill-conditioned from 30.
    """

    table: pd.DataFrame
    condition_number: float

    @property
    def notes(self) -> tuple[str, ...]:
        """Condition number, and how products and powers are treated."""
        ill = ": ill-conditioned" if self.condition_number >= ILL else f" (ill-conditioned from {ILL:g})"
        notes = [f"Condition number of the predictors about their means {self.condition_number:.3g}{ill}."]
        apart = self.table["vif_apart"]
        if len(apart) > 1 and not np.allclose(apart, self.table["vif"], rtol=1e-6):
            notes.append(
                "Products and powers are partly explained by their own predictors, which vif_apart leaves out: center "
                "the numeric predictors of interactions."
            )
        return tuple(notes)


def collinearity(fit: FittedModel) -> Collinearity:
    """How far each term of the fixed part is explained by the others: (generalised) variance inflation factors.

    The factors are computed from the covariance matrix of the fixed effects, as in ``car::vif`` (Fox & Monette 1992, J.
    Am. Stat. Assoc. 87:178-183); each term is also compared with the terms of other predictors only, without products
    and powers. The condition number of the predictors about their means is given, too.

    Returns:
        ``.table`` with one row per term, and ``.condition_number``.

    Raises:
        DataError: If the model has no intercept or no predictors.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> fit.collinearity()
        term       gvif  df     vif  se_factor  vif_apart  verdict
        Sex      4.0770   1  4.0770     2.0192          1  low
        age      1.6875   1  1.6875     1.2990          1  low
        Sex:age  4.7645   1  4.7645     2.1828          -  low
        Condition number of the predictors about their means 1 (ill-conditioned from 30).
        Products and powers are partly explained by their own predictors, which vif_apart leaves out: center the
        numeric predictors of interactions.
    """
    refuse_categories(fit.family, "Variance inflation, which refers to an intercept,")
    refuse_smooths(fit, "Variance inflation")
    names = list(fit.fixed.terms)
    if "Intercept" not in names:
        raise DataError(
            "Variance inflation factors refer to predictors about their means, so that the model needs an intercept: "
            "leave '0 +' or '- 1' out."
        )
    design = fit.design()
    terms = terms_of(fit, design)
    kept = [i for i, columns in enumerate(terms.columns) if columns]
    if not kept:
        raise DataError(f"{fit.model.reading} has no predictors that could explain each other.")
    others = [j for j, n in enumerate(names) if n != "Intercept"]
    place = {j: i for i, j in enumerate(others)}
    covariance = np.asarray(fit.fixed.covariance)[np.ix_(others, others)]
    kept_columns = [[place[j] for j in terms.columns[i]] for i in kept]
    apart = [[place[j] for k in of_other_predictors(terms, i) for j in terms.columns[k]] for i in kept]
    gvif = generalised_vif(covariance, kept_columns)
    df = np.array([len(columns) for columns in kept_columns])
    vif = gvif ** (1 / df)
    table = pd.DataFrame(
        {
            "gvif": gvif,
            "df": df,
            "vif": vif,
            "se_factor": np.sqrt(vif),
            "vif_apart": generalised_vif(covariance, kept_columns, apart) ** (1 / df),
            "verdict": ["high" if v >= HIGH else "moderate" if v >= MODERATE else "low" for v in vif],
        },
        index=pd.Index([terms.names[i] for i in kept], name="term"),
    )
    rows = design.trials if design.trials is not None else design.weights
    return Collinearity(table, condition_number(design.x, [terms.columns[i] for i in _plain(terms, kept)], rows))


def of_other_predictors(terms: Terms, index: int) -> list[int]:
    """Indices of the terms that have columns and share no predictor with the given term."""
    predictors = terms.variables[index]
    return [i for i, used in enumerate(terms.variables) if terms.columns[i] and not used & predictors]


def _plain(terms: Terms, kept: Sequence[int]) -> list[int]:
    """Indices of the terms that are not products or powers of others."""
    independent: list[int] = []
    for i in sorted(kept, key=lambda i: len(terms.variables[i])):
        if not any(terms.variables[j] <= terms.variables[i] for j in independent):
            independent.append(i)
    return independent


__all__ = ["HIGH", "ILL", "MODERATE", "Collinearity", "collinearity", "of_other_predictors"]
