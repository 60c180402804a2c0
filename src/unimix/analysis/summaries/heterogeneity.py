"""Heterogeneity of rows with known variances: the summary of a meta-analysis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.linear_functions import fixed_inference
from unimix.design.frames import one_row
from unimix.display import Block
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean
from unimix.fitted.correlated import refuse_smooths
from unimix.fitted.formatting import p_phrase, text_table
from unimix.fitted.model import interval_level
from unimix.fitted.table_result import TableResult
from unimix.fitted.tables import wald_table
from unimix.stats.heterogeneity import CochranQ, cochran_q, projection, q_profile, variance_errors
from unimix.stats.inference import checked_level, wald_interval

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
TESTS = ("knapp-hartung", "wald")
MOST_ROWS = 5000
"""Largest number of rows, for which matrices of rows times rows are formed."""


@dataclass(frozen=True, repr=False, eq=False)
class Heterogeneity(TableResult):
    """How much the true values of rows with known variances differ.

    Attributes:
        table: Index component (each grouping factor, and ``total`` if there are several); columns tau2 (variance
            between levels), std_error, lower, upper (Q-profile interval; NaN unless each row has a level of its own),
            tau, I2 (share of the component in the variance of a typical row).
        fixed: Fixed effects with the tests that ``tests`` names; index term, columns estimate, std_error, df,
            statistic, p_value, lower, upper.
        prediction: True value of a new row in a new level of every factor: columns estimate, std_error (of the
            estimate), lower, upper (of the new value); empty if the model has predictors and no new rows were given.
        q: Cochran's Q.
        df: Degrees of freedom of Q.
        p_value: P value of Q.
        i2: Share of the heterogeneity in the variance of a typical row, between 0 and 1.
        h2: Variance of a typical row in units of its known variance.
        tests: Kind of the tests and intervals of the fixed effects: knapp-hartung or wald.
        ci_level: Probability of the intervals, between 0 and 1.
        notes: Remarks.
    """

    table: pd.DataFrame
    fixed: pd.DataFrame
    prediction: pd.DataFrame
    q: float
    df: int
    p_value: float
    i2: float
    h2: float
    tests: str
    ci_level: float
    notes: tuple[str, ...]

    @property
    def tau2(self) -> float:
        """Variance of the true values: the sum over all components."""
        return float(self.table["tau2"].iloc[-1]) if len(self.table) else 0.0

    def _view(self) -> Iterable[Block]:
        yield (f"Q({self.df}) = {self.q:.2f}, {p_phrase(self.p_value)}; I2 = {100 * self.i2:.1f}%, H2 = {self.h2:.2f}")
        if len(self.table):
            yield text_table(self.table.dropna(axis="columns", how="all"))
        yield ""
        kind = "Knapp-Hartung tests" if self.tests == "knapp-hartung" else "tests of the fit"
        yield f"Fixed effects, {kind}, {100 * self.ci_level:g}% intervals"
        yield text_table(self.fixed)
        if len(self.prediction):
            yield ""
            yield f"True value of a new row in new levels, {100 * self.ci_level:g}% prediction interval"
            yield text_table(self.prediction)
        yield from self.notes


def heterogeneity(
    fit: FittedModel,
    newdata: Any = None,
    *,
    tests: Literal["knapp-hartung", "wald"] | None = None,
    ci_level: float | None = None,
) -> Heterogeneity:
    """Heterogeneity of a meta-analysis: a Gaussian model with known variances of the rows, ``sigma=``.

    Cochran's Q tests whether the rows differ beyond their known variances v. With s^2 = (k - p) / tr P, the known
    variance of a typical row, I2 = tau2 / (tau2 + s^2) and H2 = (tau2 + s^2) / s^2 (Higgins & Thompson 2002, Stat. Med.
    21:1539-1558; as in metafor, Viechtbauer 2010, J. Stat. Softw. 36(3)). Without group effects they are
    max(0, 1 - df / Q) and Q / df. Standard errors of variances come from the expected information, the interval of tau2
    from Q-profiles (Viechtbauer 2007, Stat. Med. 26:37-52).

    Args:
        newdata: New rows whose true values are predicted, in any form that ``um.fit`` takes; not needed for a model
            without predictors.
        tests: Tests of the fixed effects. knapp-hartung: the covariance matrix times y'Py / (k - p), with P at the
            estimates, and t distributions with k - p degrees of freedom (Knapp & Hartung 2003, Stat. Med.
            22:2693-2710), for models with one level per row. wald: those of the fit. None takes the first where the
            model allows it.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.

    Returns:
        ``.table`` with the variances, ``.fixed``, ``.prediction``, ``.q``, ``.i2``, ``.h2``. A prediction interval is
        estimate -/+ quantile times sqrt(tau2 + std_error^2), with the quantile of the estimate's own interval
        (Higgins, Thompson & Spiegelhalter 2009, J. R. Stat. Soc. A 172:137-159).

    Raises:
        UnsupportedModelError: If the residual variances were estimated, or effects other than intercepts vary.
        OptionError: If an argument is wrong.

    Example:
        >>> import unimix as um
        >>> data = {"y": [0.1, 0.3, 0.6, -0.2], "v": [0.02, 0.03, 0.01, 0.05], "study": ["a", "b", "c", "d"]}
        >>> fit = um.fit("y ~ 1 + (1 | study)", data, weights=[1 / v for v in data["v"]], sigma=1)
        >>> found = fit.heterogeneity()
        >>> round(found.q, 2), found.df, round(found.i2, 2)
        (15.51, 3, 0.79)
    """
    refuse_smooths(fit, "Heterogeneity")
    level = interval_level(fit, ci_level)
    checked_level(level)
    if tests not in (None, *TESTS):
        raise OptionError(f"tests={tests!r}: choose 'knapp-hartung' or 'wald'.{did_you_mean(str(tests), TESTS)}")
    _check(fit)
    design = fit.design()
    known = fit.sigma**2 / (np.ones(design.n) if design.weights is None else design.weights)
    y = design.y if design.offset is None else design.y - design.offset
    columns = [(b.codes[:, None] == np.arange(b.n_levels)).astype(np.float64) for b in design.blocks]
    variances = np.array([float(b.covariance[0, 0]) for b in fit.random])
    own = len(design.blocks) == 1 and design.blocks[0].n_levels == design.n  # one level per row
    if tests == "knapp-hartung" and not own:
        raise UnsupportedModelError(
            "Knapp and Hartung's adjustment is for one grouping factor with a level for each row, (1 | study). Use "
            "tests='wald' with df_method='kenward-roger' in um.fit, whose adjustment is for all mixed models."
        )
    v = np.diag(known) + sum((t * z @ z.T for t, z in zip(variances, columns, strict=True)), np.zeros(1))
    inverse = np.linalg.inv(v)
    whole = projection(design.x, inverse)
    q = cochran_q(y, design.x, known)
    chosen = tests or ("knapp-hartung" if own else "wald")
    error = np.asarray(np.linalg.inv(design.x.T @ inverse @ design.x), dtype=np.float64)
    if chosen == "knapp-hartung":
        error = error * float(y @ whole @ y) / q.df
    if chosen == "knapp-hartung":
        fixed = _fixed(fit, np.sqrt(np.diag(error)), np.full(design.p, float(q.df)), level)
    else:
        fixed = _fixed(fit, np.asarray(fit.fixed.std_error), np.asarray(fit.fixed.df), level)
    table = _components(fit, variances, q, variance_errors(whole if _is_reml(fit) else inverse, columns))
    if own:
        table["lower"], table["upper"] = q_profile(y, design.x, known, level)
    total = float(variances.sum())
    if len(variances):
        i2, h2 = total / (total + q.typical), (total + q.typical) / q.typical
    else:
        i2, h2 = max(0.0, 1.0 - q.df / q.statistic), q.statistic / q.df
    x, offset = _new_rows(fit, newdata)
    centre = np.asarray(x @ fit.fixed.estimate + offset, dtype=np.float64)
    df = np.full(len(x), float(q.df)) if chosen == "knapp-hartung" else fixed_inference(fit).df_of(x)
    error = error if chosen == "knapp-hartung" else fixed_inference(fit).covariance
    return Heterogeneity(
        table=table,
        fixed=fixed,
        prediction=_prediction(centre, x, error, total, df, level),
        q=q.statistic,
        df=q.df,
        p_value=q.p_value,
        i2=i2,
        h2=h2,
        tests=chosen,
        ci_level=level,
        notes=_notes(fit, design, variances, x),
    )


def _check(fit: FittedModel) -> None:
    if fit.model.sigma is None:
        raise UnsupportedModelError(
            "heterogeneity() compares with known variances, and this fit estimated the residual variance. For known "
            "variances v of the rows, type um.fit(formula, data, weights=1 / v, sigma=1)."
        )
    if fit.model.related:
        raise UnsupportedModelError(
            "I2 and H2 are defined for independent levels, and relationship= relates them. fit.variance_components has "
            "the variances."
        )
    slopes = [f"{' + '.join(b.terms)} | {b.group}" for b in fit.random if b.terms != ("Intercept",)]
    if slopes:
        raise UnsupportedModelError(
            f"({slopes[0]}) varies more than an intercept, so that the heterogeneity depends on the predictors: "
            "fit.variance_components has the variances, fit.predict(newdata, interval='confidence', "
            "new_levels='sample') intervals of true values."
        )
    if fit.n_obs > MOST_ROWS:
        raise UnsupportedModelError(
            f"heterogeneity() forms a matrix of rows times rows, and {fit.n_obs:,} rows are more than {MOST_ROWS:,}. "
            "fit.variance_components and fit.fixed_effects have the estimates."
        )


def _is_reml(fit: FittedModel) -> bool:
    return fit.criteria.criterion == "REML"


def _fixed(fit: FittedModel, std_error: FloatArray, df: FloatArray, level: float) -> pd.DataFrame:
    """Fixed effects with t tests of given degrees of freedom, shape (p,); z tests if these are infinite."""
    return wald_table(np.asarray(fit.fixed.estimate), std_error, df, level, pd.Index(fit.fixed.terms, name="term"))


def _components(fit: FittedModel, variances: FloatArray, q: CochranQ, errors: FloatArray) -> pd.DataFrame:
    names, total = [b.group for b in fit.random], float(variances.sum())
    several = len(names) > 1
    tau2 = np.append(variances, total) if several else variances
    none = np.full(len(tau2), np.nan)
    columns = {
        "tau2": tau2,
        "std_error": np.append(errors, np.nan) if several else errors,
        "lower": none,
        "upper": none.copy(),
        "tau": np.sqrt(tau2),
        "I2": tau2 / (total + q.typical),
    }
    return pd.DataFrame(columns, index=pd.Index([*names, *(["total"] if several else [])], name="component"))


def _new_rows(fit: FittedModel, newdata: Any) -> tuple[FloatArray, FloatArray]:
    """Columns of the fixed effects (m, p) and offset (m,) of the rows to predict."""
    if newdata is None:
        alone = fit.fixed.terms == ("Intercept",) and fit.rows.offset is None
        return np.ones((1 if alone else 0, len(fit.fixed.terms))), np.zeros(1 if alone else 0)
    rows = fit.model.encoding.transform(one_row(newdata), with_groups=False)
    rows.check_estimable(fit.model.aliased)
    return rows.x, rows.offset


def _prediction(
    centre: FloatArray, x: FloatArray, error: FloatArray, total: float, df: FloatArray, level: float
) -> pd.DataFrame:
    variance = np.einsum("np,pq,nq->n", x, error, x)
    lower, upper = wald_interval(centre, np.sqrt(variance + total), None if np.isinf(df).all() else df, level)
    columns = {"estimate": centre, "std_error": np.sqrt(variance), "lower": lower, "upper": upper}
    return pd.DataFrame(columns)


def _notes(fit: FittedModel, design: Design, variances: FloatArray, x: FloatArray) -> tuple[str, ...]:
    notes: Sequence[str] = ()
    if len(variances) and not len(x):
        notes = ("Prediction intervals of true values: fit.heterogeneity(newdata) with values of the predictors.",)
    if len(variances) and fit.status.state == "singular":
        notes = (*notes, "A variance is estimated as zero.")
    if not design.blocks:
        notes = (
            *notes,
            "The model has no effects that differ between rows: add (1 | study) for a random-effects model.",
        )
    if fit.status.state not in ("converged", "singular"):
        notes = (*notes, "The fit did not converge: do not use these numbers.")
    return tuple(notes)


__all__ = ["Heterogeneity", "heterogeneity"]
