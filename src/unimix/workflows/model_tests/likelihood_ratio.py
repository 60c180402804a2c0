"""Models against each other: likelihood-ratio tests, tests of random terms, information criteria."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.tests.terms import random_products
from unimix.design.arrays import Design, RandomBlock
from unimix.errors import DataError, OptionError, UnimixError, UnsupportedModelError, listing
from unimix.estimation.refit import refit_design
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.model_tests.nesting import (
    by_one_criterion,
    inside,
    labels_of,
    likelihood_ratio,
    likelihoods,
    mixture_p_value,
    one_kind,
    same_columns,
    same_response,
    several,
)

FloatArray = npt.NDArray[np.float64]


@suggests_names
def anova(*fits: FitResult, names: Sequence[str] | None = None) -> TableResult:
    """Likelihood-ratio tests of nested models, each against the one before.

    REML fits whose fixed parts differ are refitted by ML, and a note says so; where they are the same, REML criteria
    are compared. Where one variance more is tested, the p value is that of the mixture of chi-squared distributions on
    the boundary.

    Args:
        fits: Two results at least, of the same rows, by engines that maximise a likelihood; in any order.
        names: Of the rows; the formulas, if left out.

    Returns:
        ``.table`` with index model; columns n_parameters, aic, bic, log_likelihood, deviance, chisq, df, p_value; and
        ``.notes``: refits by ML, mixtures of chi-squared distributions.

    Raises:
        DataError: If the results belong to other rows, families or weights, or are not nested.
        OptionError: If there are fewer than two.
        UnimixError: For posteriors: compare_loo is for these.
    """
    several(fits, "anova")
    likelihoods(fits, "anova")
    same_response(fits, families=True)
    notes: list[str] = []
    order, chosen = by_one_criterion(fits, notes)
    labels = labels_of(fits, names)
    rows = []
    for i, f in enumerate(chosen):
        row = _line(f)
        if i:
            row |= likelihood_ratio(f, chosen[i - 1], notes)
        rows.append(row)
    table = pd.DataFrame(rows, index=pd.Index([labels[i] for i in order], name="model"))
    return TableResult(table, tuple(dict.fromkeys(notes)), "Likelihood-ratio tests, each model against the one before")


def _line(fit: FitResult) -> dict[str, float]:
    return {
        "n_parameters": fit.criteria.n_parameters,
        "aic": fit.aic,
        "bic": fit.bic,
        "log_likelihood": fit.log_likelihood,
        "deviance": fit.deviance,
        "chisq": np.nan,
        "df": np.nan,
        "p_value": np.nan,
    }


@suggests_names
def compare_loo(*fits: FitResult, names: Sequence[str] | None = None) -> TableResult:
    """Posteriors of models of the same rows by leave-one-out cross-validation, best first.

    One row is left out at a time, given the effects of its group; Vehtari, Gelman & Gabry (2017), Stat. Comput.
    27:1413; weights by stacking (Yao et al. 2018, Bayesian Anal. 13:917). ArviZ computes both.

    Args:
        fits: Sampled results that hold their draws.
        names: Of the rows; the formulas, if left out.

    Returns:
        ``.table`` with index model; columns elpd, se, p_loo (effective parameters), elpd_diff (to the best), se_diff,
        weight, bad_k (rows with Pareto k above 0.7, whose value cannot be trusted).

    Raises:
        OptionError: If there are fewer than two, or names are missing.
        DataError: If the results belong to other rows, families or weights.
        UnimixError: If a result has no draws.
    """
    import arviz as az

    several(fits, "compare_loo")
    labels = labels_of(fits, names)
    if len(set(labels)) != len(labels):
        raise OptionError(f"names= of {len(fits)} results, each of its own: {listing(labels)}.")
    same_response(fits, families=True)
    found = {label: f.loo() for label, f in zip(labels, fits, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large Pareto k, which the table counts
        table = pd.DataFrame(az.compare(found, scale="log"))
    named = {"elpd_loo": "elpd", "dse": "se_diff"}
    table = table.rename(columns=named)[["elpd", "se", "p_loo", "elpd_diff", "se_diff", "weight"]]
    table["elpd_diff"] = -table["elpd_diff"]
    table["bad_k"] = [int((np.asarray(found[str(label)].pareto_k) > 0.7).sum()) for label in table.index]
    table.index.name = "model"
    bad = int(table["bad_k"].sum())
    notes = [f"{bad} rows have a Pareto k above 0.7: their value cannot be trusted."] if bad else []
    return TableResult(table, notes, "Leave-one-out cross-validation (PSIS), best first")


@suggests_names
def ranova(fit: FitResult) -> TableResult:
    """Test random terms by leaving them out, with the criterion of the fit (REML, too), as lmerTest's ``ranova``.

    A scalar term is left out as a whole. Of correlated effects each term that no other contains is left out with its
    covariances, a factor with all of its columns: ``(1 + x | g)`` becomes ``(1 | g)``, and ``(0 + f | g)``, too. The
    intercept below a slope is not tested, because it depends on where x is zero. p values are of the mixture of
    chi-squared distributions on the boundary where one variance is tested, else of the plain one, which is conservative
    (lmerTest's are: ``p_value_chisq``).

    Args:
        fit: A mixed model that holds its design, by an engine that maximises a likelihood.

    Returns:
        ``.table`` with one row per term left out, in the columns of :func:`anova` and p_value_chisq; and ``.notes``.

    Raises:
        UnimixError: For a posterior.
        DataError: Without random effects.
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    likelihoods([fit], "ranova")
    design = fit.design()
    if not design.blocks:
        raise DataError(f"{fit.model.reading} has no random effects to test.")
    if any(b.structure != "us" for b in design.blocks):
        raise UnsupportedModelError("ranova tests terms with unstructured covariances only.")
    rows, index = [{**_line(fit), "p_value_chisq": np.nan}], ["<none>"]
    log_n = (fit.bic + 2 * fit.log_likelihood) / max(fit.criteria.n_parameters, 1)
    notes = ["p_value is of the mixture of chi-squared distributions on the boundary where one variance is tested."]
    for k, (block, products) in enumerate(zip(design.blocks, random_products(fit, design), strict=True)):
        for name, columns in products if block.q > 1 else [(block.terms[0], (0,))]:
            left = [i for i in range(block.q) if i not in columns]
            rest = _without(block, left)
            blocks = (*design.blocks[:k], *((rest,) if rest else ()), *design.blocks[k + 1 :])
            encoding = replace_blocks(design, k, left)
            smaller = refit_design(
                fit, design=replace(design, blocks=blocks, encoding=encoding), method=_criterion(fit, blocks)
            )
            if not smaller.converged:
                notes.append(f"Without {name} | {block.group} the fit did not converge: its test may be wrong.")
            value = _criterion_value(smaller, fit)
            statistic = 2 * (fit.log_likelihood - value)
            df = fit.criteria.n_parameters - smaller.criteria.n_parameters
            rows.append(
                {
                    **_line(smaller),
                    "aic": -2 * value + 2 * smaller.criteria.n_parameters,
                    "bic": -2 * value + log_n * smaller.criteria.n_parameters,
                    "log_likelihood": value,
                    "deviance": -2 * value,
                    "chisq": statistic,
                    "df": df,
                    "p_value": mixture_p_value(statistic, df, boundary=block.q - (rest.q if rest else 0) == 1),
                    "p_value_chisq": float(special.chdtrc(df, max(statistic, 0.0))),
                }
            )
            index.append(f"{name} | {block.group}")
    if not fit.converged:
        notes.append("The fit itself did not converge: its tests may be wrong.")
    table = pd.DataFrame(rows, index=pd.Index(index, name="left out"))
    return TableResult(table, notes, "Likelihood-ratio tests of the random terms")


def _without(block: RandomBlock, left: Sequence[int]) -> RandomBlock | None:
    """A block with some of its columns; an intercept where none is left of several that add up to one."""
    if left:
        return replace(block, terms=tuple(block.terms[i] for i in left), z=np.ascontiguousarray(block.z[:, list(left)]))
    ones = np.ones((len(block.z), 1))
    if block.q > 1 and inside(ones, block.z):
        return replace(block, terms=("Intercept",), z=ones)
    return None


def replace_blocks(design: Design, block: int, kept: Sequence[int]) -> Any:
    """The encoding of a design in which a block keeps some of its columns."""
    own = design.encoding.blocks[block]
    new = own.model_copy(update={"columns": tuple(own.columns[i] for i in kept)})
    blocks = (*design.encoding.blocks[:block], *((new,) if kept else ()), *design.encoding.blocks[block + 1 :])
    return design.encoding.changed(blocks=blocks)


def _criterion(fit: FitResult, blocks: Sequence[RandomBlock]) -> str | None:
    return fit.model.method if blocks else None


def _criterion_value(smaller: FitResult, fit: FitResult) -> float:
    """The log-likelihood of a model without group effects by the criterion of one with them."""
    if smaller.random or fit.model.method != "REML":
        return smaller.log_likelihood
    # Of least squares the result has the ordinary log-likelihood; REML's is this.
    design = smaller.design()
    y = design.y if design.offset is None else design.y - design.offset
    w = np.ones(design.n) if design.weights is None else design.weights
    x = np.sqrt(w)[:, None] * design.x
    r = np.linalg.qr(x, mode="r")
    rest = float(np.sum(w * (y - design.x @ smaller.fixed.estimate) ** 2))
    left = design.n - design.p
    log_det = 2 * float(np.log(np.abs(np.diag(r))).sum())
    value = -0.5 * (left * (1 + np.log(2 * np.pi * rest / left)) + log_det - np.log(w).sum())
    return float(value)


@suggests_names
def compare_ic(*fits: FitResult, names: Sequence[str] | None = None) -> TableResult:
    """Information criteria of models of the same rows, best first; they need not be nested.

    Args:
        fits: Results of the same rows, of families whose densities are of one kind (counts by Poisson and by negative
            binomial, say); REML fits only where all fixed columns are the same.
        names: Of the rows; the formulas, if left out.

    Returns:
        ``.table`` with index model; columns n_parameters, log_likelihood, aic, aicc, bic, delta (AIC less the
        least), weight (Akaike's; Burnham & Anderson 2002, Model Selection and Multimodel Inference, section 2.9), state
        (of the fit).

    Raises:
        DataError: If the results cannot be compared.
    """
    several(fits, "compare_ic")
    likelihoods(fits, "compare_ic")
    same_response(fits, families=True)
    if any(f.model.method == "REML" for f in fits) and not same_columns(fits):
        raise DataError(
            "REML criteria of different fixed columns, or codings, cannot be compared: fit with method='ML', or "
            "um.refit(fit, method='ML')."
        )
    one_kind(fits)
    labels = labels_of(fits, names)
    k = np.array([f.criteria.n_parameters for f in fits], dtype=float)
    n = np.array([f.n_obs for f in fits], dtype=float)
    aic = np.array([f.aic for f in fits])
    with np.errstate(divide="ignore"):
        aicc = np.where(n - k - 1 > 0, aic + 2 * k * (k + 1) / (n - k - 1), np.inf)
    relative = np.exp(-0.5 * (aic - aic.min()))
    table = pd.DataFrame(
        {
            "n_parameters": k.astype(int),
            "log_likelihood": [f.log_likelihood for f in fits],
            "aic": aic,
            "aicc": aicc,
            "bic": [f.bic for f in fits],
            "delta": aic - aic.min(),
            "weight": relative / relative.sum(),
            "state": [f.status.state for f in fits],
        },
        index=pd.Index(labels, name="model"),
    )
    notes = [f"{label}: the fit did not converge." for label, f in zip(labels, fits, strict=True) if not f.converged]
    return TableResult(table.sort_values("aic", kind="stable"), notes, "Information criteria, best first")
