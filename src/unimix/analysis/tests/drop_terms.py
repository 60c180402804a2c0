"""Tests of the fixed terms, each left out by itself: likelihood-ratio tests by refits, and F tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.tests.anova import NO_TEST, anova, type_three
from unimix.analysis.tests.terms import Terms, picked, taking_its_place, terms_of
from unimix.design.arrays import Design
from unimix.errors import DataError, OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.criterion import likelihood_arrays, support_arrays
from unimix.fitted.model import has_design, own_refitter
from unimix.fitted.table_result import TableResult
from unimix.stats.likelihood_ratio import ratio_statistic

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
Fitted = TypeVar("Fitted", bound="FittedModel")
DropTest = Literal["Chisq", "F"]
DropTerms = Literal["marginal", "all"]

TERMS = ("marginal", "all")


def drop1(fit: FittedModel, test: DropTest = "Chisq", *, terms: DropTerms = "marginal") -> TableResult:
    """Test each term of the fixed part by leaving it out, as R's ``drop1`` does.

    With ``terms="marginal"`` a term stays while another one contains it: a main effect while its interaction is in the
    model. With ``terms="all"`` every term is left out, main effects under sum-to-zero coding of all factors (a type III
    likelihood-ratio test, as ``afex::mixed(method = "LRT")`` makes it). Likelihood-ratio tests fit each smaller model
    by the same engine, by ML if the fit is by REML, because restricted likelihoods of different fixed parts cannot be
    compared. They remain right where Wald tests are not, as under separation. F tests are those of lmerTest's
    ``drop1``; nothing is refitted. ``um.drop1`` also makes bootstrap tests, and tests random terms.

    Args:
        test: Chisq (likelihood ratio), or F for a linear model.
        terms: Terms that are left out: marginal or all.

    Returns:
        ``.table`` with one row per term. Likelihood-ratio tests have columns n_parameters, aic, bic, log_likelihood,
        chisq, df, p_value, and a row ``<none>``; F tests have columns sum_sq, mean_sq, num_df, den_df, F, p_value.

    Raises:
        OptionError: If an argument is unknown, or F tests are asked of a model that is not linear.
        UnimixError: If the result is a posterior.
        DataError: If the model has no terms to leave out, or the result was loaded: ``um.drop1(fit)`` finds its engine.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Weight ~ Time + Evit + (1 | Pig)", um.load_dataset("dietox"))
        >>> fit.drop1("F").table[["num_df", "den_df", "F"]].round(1)
                  num_df  den_df        F
        left out
        Time         1.0   788.0  43238.8
        Evit         2.0    69.0      1.6
        >>> fit.drop1().table[["chisq", "df"]].round(1)
                   chisq   df
        left out
        <none>       NaN  NaN
        Time      3178.9  1.0
        Evit         3.2  2.0
    """
    refuse_unknown(test, terms, ("Chisq", "F"))
    if test == "F":
        return f_tests(fit, terms)
    refuse_posterior(fit)
    refitter = own_refitter(fit)
    if refitter is None:
        raise DataError(
            "A loaded result has no engine at hand to fit smaller models: um.drop1(fit) finds it, or fit.drop1('F') "
            "makes F tests without fitting."
        )
    return likelihood_ratio_tests(fit, refitter.for_one_fit(), terms)


def refuse_unknown(test: object, terms: object, tests: tuple[str, ...]) -> None:
    """Refuse unknown arguments.

    Raises:
        OptionError: With all faults.
    """
    faults = []
    for name, value, known in (("test", test, tests), ("terms", terms, TERMS)):
        if value not in known:
            choose = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
            faults.append(f"{name}={value!r}: choose {choose}.{did_you_mean(str(value), known)}")
    if faults:
        raise OptionError("\n".join(faults))


def refuse_posterior(fit: FittedModel) -> None:
    """Refuse results that have no likelihood ratio.

    Raises:
        UnimixError: If the result is a posterior.
        DataError: If it was loaded without its data.
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    if not has_design(fit):
        raise DataError("drop1 needs the data of a loaded result: um.refit(fit, data) fits it again, with its engine.")


def f_tests(fit: FittedModel, terms: DropTerms) -> TableResult:
    """F tests of the terms, from the estimates.

    Raises:
        OptionError: If the model is not linear.
    """
    if not fit.family.is_linear:
        raise OptionError(f"test='F' is for linear models, and the family is {fit.family.name}: type test='Chisq'.")
    found = anova(fit, "III" if terms == "all" else "II")
    of = terms_of(fit, support_arrays(fit))
    names = [of.names[i] for i in droppable(fit, of, terms)]
    # a type II test of a term that no other contains is the test of its own columns; type III writes its hypothesis
    # by the rows of lmerTest
    if terms == "marginal" and of.same_span:
        found = anova(fit, "III")
    # "Type III F tests, ..." without its type, or "Type III Wald tests" where degrees of freedom are infinite
    heading = found._heading.partition(" ")[2].partition(" ")[2]
    return TableResult(found.table.loc[names].rename_axis("left out"), found.notes, heading)


def droppable(fit: FittedModel, of: Terms, terms: DropTerms) -> list[int]:
    """Positions of the terms that are left out.

    Raises:
        DataError: If there are none, or columns of other terms would take the place of those of a term.
    """
    smooths = [s.term for s in fit.smooths]
    found = [
        i
        for i, columns in enumerate(of.columns)
        if columns and of.names[i] not in smooths and (terms == "all" or not of.above(i))
    ]
    if smooths and not found:
        raise DataError(NO_TEST.format(listing(smooths)))
    if not found:
        raise DataError(f"{fit.model.reading} has no fixed terms to leave out.")
    for i in found:
        if other := taking_its_place(fit, support_arrays(fit), i):
            raise DataError(
                f"{listing(other)} was left out because its columns depend on {of.names[i]}, and would take its place: "
                f"leave one of them out of the formula."
            )
    return found


def whole_by_ml(fit: Fitted, refit: Callable[[Design, str | None], Fitted]) -> tuple[Fitted, list[str]]:
    """The fit by ML, and the note on a refit."""
    if fit.model.method != "REML":
        return fit, []
    return refit(likelihood_arrays(fit), "ML"), ["REML fits were refitted by ML."]


def smaller_models(
    fit: Fitted, refit: Callable[[Design, str | None], Fitted], terms: DropTerms
) -> Iterator[tuple[str, Fitted]]:
    """The name of each term, and the model without it, by ML."""
    of = terms_of(fit, support_arrays(fit))
    for i in droppable(fit, of, terms):
        by_columns = terms == "marginal" or not of.above(i)
        if fit.smooths and not by_columns:
            raise DataError("drop1(terms='all') is not computed beside a smooth: use terms='marginal'.")
        design = _without_columns(fit, of.columns[i]) if by_columns else _without_hypothesis(fit, of, i)
        yield of.names[i], refit(design, "ML" if fit.model.method == "REML" else None)


def _without_columns(fit: FittedModel, columns: tuple[int, ...]) -> Design:
    design = likelihood_arrays(fit)
    kept = [j for j in range(design.p) if j not in columns]
    return _combined(design, np.asarray(picked(tuple(kept), design.p).T), [design.fixed_names[j] for j in kept], kept)


def _without_hypothesis(fit: FittedModel, of: Terms, index: int) -> Design:
    """The design under the type III hypothesis L beta = 0: its columns are X N, where N spans the null space of L."""
    design = likelihood_arrays(fit)
    weights = type_three(of, index, design.p)
    null = np.linalg.svd(weights)[2][len(weights) :].T
    count = null.shape[1]
    return _combined(design, np.asarray(null), [f"column {j + 1}" for j in range(count)], list(range(count)))


def _combined(design: Design, weights: FloatArray, names: list[str], kept: list[int]) -> Design:
    encoding = design.encoding.changed(kept=tuple(design.encoding.kept[j] for j in kept))

    smooths = tuple(smooth.among(kept) for smooth in design.smooths)

    def change(rows: Design) -> Design:
        x = np.ascontiguousarray(rows.x @ weights)
        return replace(rows, x=x, fixed_names=tuple(names), encoding=encoding, smooths=smooths)

    return design.changed(change)


def likelihood_ratio_tests(fit: Fitted, refit: Callable[[Design, str | None], Fitted], terms: DropTerms) -> TableResult:
    """Likelihood-ratio tests of the fixed terms.

    Args:
        fit: The model, by an engine that maximises a likelihood.
        refit: Function that fits a design by a criterion, with the fit's engine.
        terms: Terms that are left out.
    """
    droppable(fit, terms_of(fit, support_arrays(fit)), terms)
    whole, notes = whole_by_ml(fit, refit)
    rows = {"<none>": _line(whole)}
    for name, less in smaller_models(fit, refit, terms):
        if not less.converged and not is_separated(less):
            notes.append(f"Without {name} the fit did not converge: its test may be wrong.")
        statistic = ratio_statistic(whole.log_likelihood, less.log_likelihood)
        df = whole.criteria.n_parameters - less.criteria.n_parameters
        p_value = float(special.chdtrc(df, max(statistic, 0.0)))
        rows[name] = {**_line(less), "chisq": statistic, "df": df, "p_value": p_value}
    if not whole.converged and not is_separated(whole):
        notes.append("The fit itself did not converge: its tests may be wrong.")
    if fit.smooths:
        notes.append(NO_TEST.format(listing(s.term for s in fit.smooths)))
    if terms == "all":
        notes.append("Terms that others contain are left out under sum-to-zero coding of all factors (type III).")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("left out")
    return TableResult(table, notes, "Likelihood-ratio tests of the fixed terms")


def is_separated(fit: FittedModel) -> bool:
    """Whether the search ended near the limit of the likelihood of separated data, which it cannot reach."""
    return any(m.startswith("separation") for m in fit.status.messages)


def _line(fit: FittedModel) -> dict[str, float]:
    return {
        "n_parameters": fit.criteria.n_parameters,
        "aic": fit.aic,
        "bic": fit.bic,
        "log_likelihood": fit.log_likelihood,
        "chisq": np.nan,
        "df": np.nan,
        "p_value": np.nan,
    }


__all__ = ["drop1"]
