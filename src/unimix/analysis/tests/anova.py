"""Tests of the terms of the fixed part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.linear_functions import ENDLESS, FixedInference, fixed_inference
from unimix.analysis.tests.terms import Terms, picked, terms_of
from unimix.errors import DataError, OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.criterion import moment_arrays, support_arrays
from unimix.fitted.describe import df_words
from unimix.fitted.schema import DfMethod
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.weights import scale_rows

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
NO_TEST = (
    "No row for {}: that a curve is absent is a hypothesis on the boundary, and its F or chi-squared test would be "
    "wrong. um.bootstrap_test(fit without it, fit) tests it."
)
NO_TERMS = "The model has no terms to test except the intercept."


def anova(
    fit: FittedModel,
    type: Literal["III", "II", "I"] = "III",  # noqa: A002  R's name
    *,
    df_method: DfMethod | None = None,
) -> TableResult:
    """Test each term of the fixed part; ``um.anova(a, b)`` compares models.

    Type III tests adjust each term for all others, under sum-to-zero coding of all factors, so that the coding of the
    fit does not matter (as in lmerTest and SAS). Satterthwaite's denominator degrees of freedom of a term with several
    coefficients depend on the rows by which its hypothesis is written (F does not): they are those of lmerTest,
    differences from the first level in models with several terms. Type II tests adjust each term for those that do not
    contain it (Fox & Weisberg 2019, An R Companion to Applied Regression, section 5.3.4). Type I tests adjust each term
    for those before it, in the order of the formula with interactions last, as lmerTest's type 1 does in mixed models
    and R's ``anova`` of ``lm`` and ``gls`` in models without groups.

    Args:
        type: Type of the tests: III, II or I. I is for linear models.
        df_method: Degrees of freedom of a linear model: satterthwaite, kenward-roger, residual or normal; None takes
            the method of the fit.

    Returns:
        ``.table`` with index term. Linear models have columns sum_sq, mean_sq (in squared units of the response),
        num_df, den_df, F, p_value; the denominator degrees of freedom are those of Satterthwaite (Fai & Cornelius 1996,
        J. Stat. Comput. Simul. 54:363-378), Kenward & Roger (1997, Biometrics 53:983-997), or residual. Other models
        have Wald tests with columns chisq, df, p_value. Cluster-robust tests of a linear model have no sums of squares,
        and the degrees of freedom of Pustejovsky & Tipton (2018, J. Bus. Econ. Stat. 36:672-683).

    Raises:
        OptionError: If the type or the method is unknown.
        DataError: If a term is aliased with others, so that the test is not defined.
        UnimixError: If the fit is a posterior.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.anova()
        Type III F tests, Satterthwaite's degrees of freedom
        term     sum_sq    mean_sq  num_df  den_df       F  p_value
        Days  162702.65  162702.65       1   161.0  169.40   <0.001
    """
    chosen = {"III": "III", "3": "III", "II": "II", "2": "II", "I": "I", "1": "I"}.get(str(type))
    if chosen is None:
        raise OptionError(
            f"type={type!r}: choose 'III', 'II' or 'I'. Likelihood-ratio tests of the terms are fit.drop1()."
        )
    if chosen == "I" and not fit.family.is_linear:
        raise OptionError(
            "type='I' is for linear models. In a generalised model, terms are added one by one by likelihood-ratio "
            "tests of growing models: um.anova(a, b, c)."
        )
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no F tests: fit.draws() has its draws.")
    smooths = [s.term for s in fit.smooths]
    if chosen == "I" and smooths:
        raise OptionError(f"type='I' orders the terms, and {listing(smooths)} has no test in that order: use 'III'.")
    at = fixed_inference(fit, df_method)
    of_all = zip(*term_hypotheses(fit, at, chosen), strict=True)
    tested = {name: w for name, w in of_all if name not in smooths}
    untested = [NO_TEST.format(listing(smooths))] if smooths else []
    if not tested:
        empty = pd.DataFrame(columns=["chisq", "df", "p_value"], index=pd.Index([], name="term"))
        return TableResult(empty, untested or [NO_TERMS])
    rows = {name: at.joint_test(w) for name, w in tested.items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["F", "num_df", "den_df", "p_value"])
    frame.index.name = "term"
    notes = untested + ([ENDLESS] if frame["p_value"].isna().any() else [])
    if not fit.family.is_linear or np.isinf(frame["den_df"]).all():
        frame["chisq"] = frame["F"] * frame["num_df"]
        frame = frame.rename(columns={"num_df": "df"})[["chisq", "df", "p_value"]]
        return TableResult(frame, notes, heading=f"Type {chosen} Wald tests{at.robust_words}")
    if at.sandwich is not None:  # no sums of squares belong to these F
        frame = frame[["num_df", "den_df", "F", "p_value"]]
        return TableResult(frame, heading=f"Type {chosen} F tests, {at.joint_words}")
    if (
        fit.residual_part is not None or fit.parts
    ):  # the residuals have no one mean square with which others could be compared
        frame = frame[["num_df", "den_df", "F", "p_value"]]
        return TableResult(frame, heading=f"Type {chosen} F tests, {df_words(at.method)}")
    mean = frame["F"] * fit.sigma**2
    frame.insert(0, "mean_sq", mean)
    frame.insert(0, "sum_sq", mean * frame["num_df"])
    frame = frame[["sum_sq", "mean_sq", "num_df", "den_df", "F", "p_value"]]
    return TableResult(frame, untested, heading=f"Type {chosen} F tests, {df_words(at.method)}")


def term_hypotheses(fit: FittedModel, at: FixedInference, chosen: str) -> tuple[tuple[str, ...], list[FloatArray]]:
    """Names of the terms of the fixed part, and their hypotheses L beta = 0, shapes (m, p).

    Args:
        fit: The result.
        at: Its fixed effects, prepared for inference.
        chosen: Type of the tests: III, II or I.

    Raises:
        DataError: If a term is aliased with others, so that the test is not defined.
    """
    terms = terms_of(fit, support_arrays(fit))
    if not terms.names:
        return (), []
    x = moment_arrays(fit).x
    weights = _type1(terms, _sequential_factor(fit)) if chosen == "I" else _only_term(terms, x)
    if weights is None:
        weights = _type3(terms, len(at.beta)) if chosen == "III" else _type2(terms, at.covariance)
    return terms.names, weights


def term_weights(fit: FittedModel, name: str) -> FloatArray:
    """The type III hypothesis L beta = 0 of a term, or that of a single coefficient; L has shape (m, p).

    Args:
        fit: The result.
        name: Name of a term of the fixed part, or of a coefficient.

    Raises:
        OptionError: If the model has no such term or coefficient.
    """
    p = len(fit.fixed.terms)
    if name in fit.fixed.terms:
        return picked((fit.fixed.terms.index(name),), p)
    terms = terms_of(fit, support_arrays(fit))
    if name not in terms.names:
        known = list(dict.fromkeys([*terms.names, *fit.fixed.terms]))
        raise OptionError(
            f"{name!r} is not a term or coefficient of the model.{did_you_mean(name, known)} Known: {listing(known)}."
        )
    return _type3(terms, p)[terms.names.index(name)]


def type_three(terms: Terms, index: int, p: int) -> FloatArray:
    """The type III hypothesis L beta = 0 of one term, shape (m, p).

    Raises:
        DataError: If columns were left out because they depend on others.
    """
    return _type3(terms, p)[index]


def _type3(terms: Terms, p: int) -> list[FloatArray]:
    if not terms.same_span:
        lost = [n for n, c in zip(terms.names, terms.columns, strict=True) if not c]
        if lost or any(len(a) != len(b) for a, b in zip(terms.columns, terms.sum_columns, strict=True)):
            raise DataError(
                "Some columns were left out because they depend on others (for example, empty combinations of "
                "factors), so that type III hypotheses are not defined. Use type='II'."
            )
        return [picked(c, p) for c in terms.columns]
    return [_as_differences(terms, i, terms.to_sums[list(c)]) for i, c in enumerate(terms.sum_columns)]


def _sequential_factor(fit: FittedModel) -> FloatArray:
    """Triangular factor R of X'X = R'R of a mixed model, and of X'V^-1 X of a model without groups, shape (p, p).

    lmerTest's ``get_contrasts_type1`` takes X'X, whatever the weights. R's ``anova`` of ``lm`` and of nlme's ``gls``
    takes the rows divided by the root of their covariance matrix V, as generalised least squares does.
    """
    arrays = moment_arrays(fit)
    if fit.random:
        return np.asarray(np.linalg.qr(arrays.x, mode="r"))
    if fit.residual_part is None and "dispersion" not in fit.parts:
        return np.asarray(np.linalg.qr(scale_rows(arrays)[0].x, mode="r"))
    covariance = np.asarray(fit.fixed.covariance)
    unit = np.sqrt(np.diag(covariance))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance / np.outer(unit, unit))).T / unit)


def _type1(terms: Terms, factor: FloatArray) -> list[FloatArray]:
    """Each term adjusted for those before it: the rows of its columns in the unit triangular factor, shape (p, p).

    Row j of the unit triangular L' of L D L' = R'R takes column j without the part that the columns before it explain.
    """
    rows = factor / np.diag(factor)[:, None]
    if lost := [name for name, columns in zip(terms.names, terms.columns, strict=True) if not columns]:
        raise DataError(f"{listing(lost)} has no columns of its own, because all of them depend on other terms.")
    return [np.asarray(rows[list(columns)]) for columns in terms.columns]


def _only_term(terms: Terms, x: FloatArray) -> list[FloatArray] | None:
    """The hypothesis of a model with one term, by the rows that lmerTest takes; None for other models.

    The rows are those of the triangular factor of X'X under treatment coding, by which a coefficient is adjusted for
    those before it; their span is that of the term's coefficients. They matter to Fai and Cornelius's degrees of
    freedom alone.
    """
    turn = terms.to_treatments
    if len(terms.names) != 1 or turn is None or len(terms.treatment_columns[0]) != x.shape[1] - 1:
        return None
    factor = np.linalg.qr(np.linalg.solve(turn.T, x.T).T, mode="r")
    return [np.asarray((factor / np.diag(factor)[:, None])[list(terms.treatment_columns[0])] @ turn)]


def _as_differences(terms: Terms, index: int, weights: FloatArray) -> FloatArray:
    """Write hypotheses with rows that are differences from the first level, as lmerTest does.

    Fai and Cornelius's degrees of freedom depend on which rows represent a hypothesis. Those of lmerTest are the
    identity in the term's own coefficients under treatment coding.
    """
    if terms.to_treatments is None:
        return weights
    coefficients = np.linalg.solve(terms.to_treatments.T, weights.T).T[:, list(terms.treatment_columns[index])]
    if coefficients.shape[0] != coefficients.shape[1] or np.linalg.cond(coefficients) > 1e8:
        return weights
    return np.asarray(np.linalg.solve(coefficients, weights))


def _type2(terms: Terms, covariance: FloatArray) -> list[FloatArray]:
    """The part of each term that is orthogonal to the terms above it, in the metric of the covariance."""
    p = len(covariance)
    weights = []
    for i, columns in enumerate(terms.columns):
        if not columns:
            raise DataError(f"{terms.names[i]} has no columns of its own, because all of them depend on other terms.")
        rows = picked(columns, p)
        above = picked(tuple(j for k in terms.above(i) for j in terms.columns[k]), p)
        if len(above):
            # least squares: under separation the covariance matrix may be singular
            inner = np.linalg.lstsq(above @ covariance @ above.T, above @ covariance @ rows.T)[0]
            rows = rows - inner.T @ above
        weights.append(np.asarray(rows))
    return weights
