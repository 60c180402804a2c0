"""Likelihood-ratio tests of the terms of the fixed part, each left out by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import special

from unimix.analysis.tests.terms import terms_of
from unimix.design.arrays import Design
from unimix.design.encoding import Encoding
from unimix.errors import DataError, UnimixError
from unimix.estimation.refit import refit_design
from unimix.fitted.criterion import likelihood_arrays, support_arrays
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.model_tests.nesting import is_separated, likelihoods, ratio_statistic


@suggests_names
def drop1(fit: FitResult) -> TableResult:
    """Test each term of the fixed part by a likelihood ratio, as R's ``drop1(fit, test = "Chisq")`` does.

    Each term that no other term contains is left out, and the smaller model is fitted by the same engine: a main effect
    stays while its interaction is in the model. Models of a REML fit are fitted by ML, because restricted likelihoods
    of different fixed parts cannot be compared. The tests remain right where Wald tests are not, as under separation.

    Args:
        fit: A model that holds its design, by an engine that maximises a likelihood.

    Returns:
        ``.table`` with one row per term that was left out, and columns n_parameters, aic, bic, log_likelihood, chisq,
        df, p_value; ``.notes`` on the refits.

    Raises:
        UnimixError: If the result is a posterior.
        DataError: If the model has no terms to leave out, or the result was loaded without its data.

    Example:
        >>> import unimix as um
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = um.fit(formula, um.load_dataset("cbpp"), family="binomial")
        >>> um.drop1(fit).table[["aic", "chisq", "df"]].round(2)
                     aic  chisq   df
        left out
        <none>    194.05    NaN  NaN
        period    213.66  25.61  3.0
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    likelihoods([fit], "drop1")
    design, terms = likelihood_arrays(fit), terms_of(fit, support_arrays(fit))
    droppable = [i for i, columns in enumerate(terms.columns) if columns and not terms.above(i)]
    if not droppable:
        raise DataError(f"{fit.model.reading} has no fixed terms to leave out.")
    by_ml = fit.model.method == "REML"
    whole = refit_design(fit, method="ML") if by_ml else fit
    notes = ["REML fits were refitted by ML."] if by_ml else []
    rows = {"<none>": _line(whole)}
    for i in droppable:
        kept = [j for j in range(design.p) if j not in terms.columns[i]]
        places = tuple(design.encoding.kept[j] for j in kept)
        encoding = design.encoding.changed(kept=places)

        def without(rows: Design, kept: list[int] = kept, encoding: Encoding = encoding) -> Design:
            names = tuple(rows.fixed_names[j] for j in kept)
            return replace(rows, x=np.ascontiguousarray(rows.x[:, kept]), fixed_names=names, encoding=encoding)

        less = refit_design(whole, design=design.changed(without))
        if not less.converged and not is_separated(less):
            notes.append(f"Without {terms.names[i]} the fit did not converge: its test may be wrong.")
        statistic = ratio_statistic(whole.log_likelihood, less.log_likelihood)
        df = whole.criteria.n_parameters - less.criteria.n_parameters
        p_value = float(special.chdtrc(df, max(statistic, 0.0)))
        rows[terms.names[i]] = {**_line(less), "chisq": statistic, "df": df, "p_value": p_value}
    if not whole.converged and not is_separated(whole):
        notes.append("The fit itself did not converge: its tests may be wrong.")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("left out")
    return TableResult(table, notes, "Likelihood-ratio tests of the fixed terms")


def _line(fit: FitResult) -> dict[str, float]:
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
