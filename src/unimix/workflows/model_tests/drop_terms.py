"""Tests of fixed and random terms, each left out by itself, with any engine and by the bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd

from unimix.analysis.tests.drop_terms import (
    DropTerms,
    f_tests,
    likelihood_ratio_tests,
    refuse_posterior,
    refuse_unknown,
    smaller_models,
    whole_by_ml,
)
from unimix.argument_types import count_fault
from unimix.errors import OptionError, UnimixError
from unimix.estimation.refit import refitter_of
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import check_seed
from unimix.result import FitResult
from unimix.workflows.model_tests.likelihood_ratio import ranova, refuse_no_random, without_random_terms
from unimix.workflows.model_tests.nesting import likelihoods
from unimix.workflows.model_tests.parametric_bootstrap import bootstrap_test


@suggests_names
def drop1(
    fit: FitResult,
    test: Literal["Chisq", "F", "bootstrap"] = "Chisq",
    *,
    terms: DropTerms = "marginal",
    random: bool = False,
    n: int = 1000,
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> TableResult:
    """Test each term of a model by leaving it out; ``fit.drop1()`` with bootstrap tests and random terms.

    Each term that no other term contains is left out, and the smaller model is fitted by the same engine, as R's
    ``drop1`` does: a main effect stays while its interaction is in the model, unless ``terms="all"``. Models of a REML
    fit are fitted by ML, because restricted likelihoods of different fixed parts cannot be compared; random terms are
    tested by the criterion of the fit, as :func:`ranova` does. The tests remain right where Wald tests are not, as
    under separation.

    Args:
        fit: A model that holds its design, by an engine that maximises a likelihood.
        test: Chisq (likelihood ratio), F (lmerTest's, for linear models), or bootstrap (:func:`bootstrap_test` of each
            term).
        terms: Fixed terms that are left out: marginal, or all (type III, under sum-to-zero coding).
        random: Whether random terms are tested, too.
        n: Number of simulated responses of each bootstrap test.
        seed: Seed of the bootstrap's random numbers.
        n_jobs: Number of processes of the bootstrap; None uses this process.
        progress: Whether the bootstrap shows a progress bar; None shows it on a terminal.

    Returns:
        ``.table`` with one row per term that was left out, and columns n_parameters, aic, bic, log_likelihood, chisq,
        df, p_value (columns statistic, p_value, p_value_chisq, n for the bootstrap; sum_sq, mean_sq, num_df, den_df, F,
        p_value for F tests); ``.notes`` on the refits.

    Raises:
        OptionError: If an argument is unknown, F tests are asked of a generalised model or of random terms.
        UnimixError: If the result is a posterior.
        DataError: If the model has no terms to leave out, or the result was loaded without its data.

    Example:
        >>> import unimix as um
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = um.fit(formula, um.load_dataset("cbpp"), family="binomial")
        >>> um.drop1(fit, random=True).table[["aic", "chisq", "df"]].round(2)
                             aic  chisq   df
        left out
        <none>            194.05    NaN  NaN
        period            213.66  25.61  3.0
        Intercept | herd  206.06  14.01  1.0
    """
    refuse_unknown(test, terms, ("Chisq", "F", "bootstrap"))
    check_seed(seed)
    if fault := count_fault("n", n, 1, "responses (1000 for a p value)"):
        raise OptionError(fault)
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    if random and test == "F":
        raise OptionError("random=True: random terms have no F tests. Type test='Chisq' or test='bootstrap'.")
    if test == "F":
        return f_tests(fit, terms)
    likelihoods([fit], "drop1")
    refuse_posterior(fit)
    if random:
        refuse_no_random(fit)
    if test == "bootstrap":
        pairs = _pairs(fit, terms, random=random)
        rows, notes = {}, []
        for name, whole, less in pairs:
            made = bootstrap_test(less, whole, n, seed=seed, n_jobs=n_jobs, progress=progress)
            table, used = made.table, int(np.isfinite(made.replicates).sum())
            rows[name] = (*table.loc["bootstrap", ["statistic", "p_value"]], table.loc["chi-squared", "p_value"], used)
            notes += [f"Without {name}: {note}" for note in made.notes]
        columns = ["statistic", "p_value", "p_value_chisq", "n"]
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("left out")
        return TableResult(frame, tuple(dict.fromkeys(notes)), "Parametric bootstrap tests of the terms")
    refit = refitter_of(fit)
    found = likelihood_ratio_tests(fit, refit, terms)
    if not random:
        return found
    others = ranova(fit)
    frame = pd.concat([found.table, others.table.iloc[1:][found.table.columns]]).rename_axis("left out")
    notes = [*found.notes, *others.notes]
    if fit.model.method == "REML":
        notes.append("Random terms are tested by REML: their log-likelihoods are not those of the fixed terms.")
    return TableResult(frame, tuple(dict.fromkeys(notes)), "Likelihood-ratio tests of the fixed and random terms")


def _pairs(fit: FitResult, terms: DropTerms, *, random: bool) -> Iterator[tuple[str, FitResult, FitResult]]:
    """Name of each term, the model with it and the model without it, by criteria that can be compared."""
    refit = refitter_of(fit)
    whole, _ = whole_by_ml(fit, refit)
    for name, less in smaller_models(fit, refit, terms):
        yield name, whole, less
    if random:
        for dropped in without_random_terms(fit):
            yield dropped.name, fit, dropped.fit


__all__ = ["drop1"]
