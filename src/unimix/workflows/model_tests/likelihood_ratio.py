"""Comparisons of models: likelihood-ratio tests, tests of random terms, information criteria."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.tests.terms import random_products
from unimix.design.arrays import Design, RandomBlock
from unimix.errors import DataError, OptionError, UnimixError, UnsupportedModelError, listing
from unimix.estimation.refit import refit_design
from unimix.fitted.criterion import likelihood_arrays, support_arrays
from unimix.fitted.no_rows import has_no_rows
from unimix.fitted.schema import UNSURE
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.likelihood.lmm.weights import counted_rows
from unimix.result import FitResult
from unimix.stats.draw_diagnostics import compare_left_out
from unimix.stats.likelihood_ratio import mixture_p_value, ratio_statistic
from unimix.workflows.imputation.imputed_fit import ImputedFit
from unimix.workflows.imputation.likelihood_ratio import pooled_ratio
from unimix.workflows.model_tests.nesting import (
    by_one_criterion,
    inside,
    labels_of,
    likelihood_ratio,
    likelihoods,
    one_kind,
    same_columns,
    same_response,
    several,
)

FloatArray = npt.NDArray[np.float64]


@suggests_names
def anova(*fits: FitResult | ImputedFit, names: Sequence[str] | None = None) -> TableResult:
    """Likelihood-ratio tests of nested models, each against the next smaller one.

    REML fits whose fixed parts differ are refitted by ML, and a note says so; fits with the same fixed part are
    compared by their REML criteria. If the larger model has one variance more, the p value is that of the mixture of
    chi-squared distributions on the boundary (Self & Liang 1987, J. Am. Stat. Assoc. 82:605; Stram & Lee 1994,
    Biometrics 50:1171).

    Args:
        fits: Two or more results of the same rows, by engines that maximise a likelihood, in any order; or of
            :func:`fit_imputed`, whose likelihood ratios are pooled (D3; Meng & Rubin 1992, Biometrika 79:103-111), with
            the columns n_parameters, F, num_df, den_df, p_value and riv (relative increase in variance).
        names: Names of the models in the table; their formulas, if left out.

    Returns:
        ``.table`` with one row per model, from the smallest to the largest, and the columns n_parameters, aic, bic,
        log_likelihood, deviance, chisq, df, p_value; ``.notes`` on refits and mixtures.

    Raises:
        DataError: If the results belong to different rows, families or weights, or the models are not nested.
        OptionError: If there are fewer than two results.
        UnimixError: If a result is a posterior, for which :func:`compare_loo` is meant.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> um.anova(small, large, names=["intercepts", "slopes"])
        Likelihood-ratio tests, each model against the one before
        model       n_parameters      aic      bic  log_likelihood  deviance  chisq  df  p_value
        intercepts             4  1794.47  1807.24       -893.2325   1786.47      -   -        -
        slopes                 6  1755.63  1774.79       -871.8141   1743.63  42.84   2   <0.001
        p values of one variance more: the mixture of chi-squared distributions on the boundary.
    """
    if fits and all(isinstance(f, ImputedFit) for f in fits):
        return _pooled([f for f in fits if isinstance(f, ImputedFit)], names)
    single = [f for f in fits if isinstance(f, FitResult)]
    return _of_results(single if len(single) == len(fits) else (), names)


def _of_results(fits: Sequence[FitResult], names: Sequence[str] | None) -> TableResult:
    """Likelihood-ratio tests of single results."""
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


def _pooled(imputed: Sequence[ImputedFit], names: Sequence[str] | None) -> TableResult:
    """Pooled likelihood-ratio tests (D3) of models of the same imputed data sets."""
    firsts = [one.fits[0] for one in imputed]
    several(firsts, "anova")
    order = sorted(range(len(firsts)), key=lambda i: firsts[i].criteria.n_parameters)
    labels, notes, rows = labels_of(firsts, names), list[str](), list[dict[str, float]]()
    for i, k in enumerate(order):
        row = {"n_parameters": float(firsts[k].criteria.n_parameters)}
        rows.append(row | (pooled_ratio(imputed[k].fits, imputed[order[i - 1]].fits, notes) if i else {}))
    table = pd.DataFrame(rows, index=pd.Index([labels[k] for k in order], name="model"))
    heading = f"Likelihood-ratio tests pooled over {imputed[0].m} imputations (D3), each model against the one before"
    return TableResult(table, tuple(dict.fromkeys(notes)), heading)


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
    """Compare posteriors of models of the same rows by leave-one-out cross-validation, best first.

    Each row is predicted from the others, given the effects of its group, by Pareto-smoothed importance sampling
    (Vehtari, Gelman & Gabry 2017, Stat. Comput. 27:1413). The weights are those of stacking (Yao et al. 2018, Bayesian
    Anal. 13:917). ArviZ computes both.

    Args:
        fits: Two or more results of samplers that hold their draws.
        names: Names of the models in the table; their formulas, if left out.

    Returns:
        ``.table`` with one row per model and the columns elpd (expected log predictive density), se, p_loo (effective
        number of parameters), elpd_diff (difference from the best model), se_diff, weight, bad_k (number of rows with
        Pareto k above 0.7, whose value is not reliable).

    Raises:
        OptionError: If there are fewer than two results, or their names are not all different.
        DataError: If the results belong to different rows, families or weights.
        UnimixError: If a result has no draws.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep, backend="bayes", seed=1)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep, backend="bayes", seed=1)
        >>> um.compare_loo(small, large, names=["intercepts", "slopes"]).table["elpd_diff"]
        model
        slopes        ...0.0...
        intercepts    -2...
        Name: elpd_diff, dtype: float64
    """
    several(fits, "compare_loo")
    labels = labels_of(fits, names)
    if len(set(labels)) != len(labels):
        raise OptionError(f"names= must give each of the {len(fits)} results a name of its own: {listing(labels)}.")
    same_response(fits, families=True)
    loo_results = {label: f.loo() for label, f in zip(labels, fits, strict=True)}
    table = compare_left_out(loo_results)
    table["bad_k"] = [int((np.asarray(loo_results[str(label)].pareto_k) > 0.7).sum()) for label in table.index]
    table.index.name = "model"
    bad = int(table["bad_k"].sum())
    notes = [f"{bad} rows have a Pareto k above 0.7: their value cannot be trusted."] if bad else []
    return TableResult(table, notes, "Leave-one-out cross-validation (PSIS), best first")


@suggests_names
def ranova(fit: FitResult) -> TableResult:
    """Test random terms by leaving them out, with the criterion of the fit (also REML), as lmerTest's ``ranova`` does.

    A scalar term is left out as a whole. Among correlated effects, each term that no other term contains is left out
    with its covariances, and a factor with all of its columns: both ``(1 + x | g)`` and ``(0 + f | g)`` become
    ``(1 | g)``. An intercept is not tested while a slope remains, because that test would depend on the origin of x. If
    one variance is tested, the p value is that of the mixture of chi-squared distributions on the boundary; otherwise
    it is that of the plain chi-squared distribution, which is conservative. ``p_value_chisq`` holds the plain p values,
    as in lmerTest.

    Args:
        fit: A mixed model that holds its design, by an engine that maximises a likelihood.

    Returns:
        ``.table`` with one row per term that was left out, with the columns of :func:`anova` and p_value_chisq;
        ``.notes`` on the tests.

    Raises:
        UnimixError: If the result is a posterior.
        DataError: If the model has no random effects, or the result was loaded without its data.
        UnsupportedModelError: If a block of effects has a structured covariance matrix.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> um.ranova(fit).table[["log_likelihood", "chisq", "df"]].round(2)
                        log_likelihood  chisq   df
        left out
        <none>                 -871.81    NaN  NaN
        Days | Subject         -893.23  42.84  2.0
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    likelihoods([fit], "ranova")
    refuse_no_random(fit)
    rows, index = [{**_line(fit), "p_value_chisq": np.nan}], ["<none>"]
    log_n = (fit.bic + 2 * fit.log_likelihood) / max(fit.criteria.n_parameters, 1)
    notes = ["p_value is of the mixture of chi-squared distributions on the boundary where one variance is tested."]
    for left in without_random_terms(fit):
        smaller = left.fit
        if not smaller.converged:
            words = UNSURE.get(smaller.status.state, "failed")
            notes.append(f"Without {left.name} the fit {words}: its test may be wrong.")
        value = _criterion_value(smaller, fit)
        statistic = ratio_statistic(fit.log_likelihood, value)
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
                "p_value": mixture_p_value(statistic, df, boundary=left.one_variance),
                "p_value_chisq": float(special.chdtrc(df, max(statistic, 0.0))),
            }
        )
        index.append(left.name)
    if not fit.converged:
        notes.append(f"The fit itself {UNSURE.get(fit.status.state, 'failed')}: its tests may be wrong.")
    table = pd.DataFrame(rows, index=pd.Index(index, name="left out"))
    return TableResult(table, notes, "Likelihood-ratio tests of the random terms")


@dataclass(frozen=True)
class DroppedRandom:
    """A model from which a random term was left out.

    Attributes:
        name: Name of the term, such as ``Days | Subject``.
        fit: The smaller model, by the criterion of the fit.
        one_variance: Whether one variance is tested.
    """

    name: str
    fit: FitResult
    one_variance: bool


def refuse_no_random(fit: FitResult) -> None:
    """Refuse models whose random terms cannot be left out.

    Raises:
        DataError: If the model has no random effects.
        UnsupportedModelError: If a block of effects has a structured covariance matrix, or the residuals are
            correlated.
    """
    design = likelihood_arrays(fit)
    if not design.blocks:
        raise DataError(f"{fit.model.reading} has no random effects to test.")
    if design.is_structured or design.residual is not None:
        raise UnsupportedModelError(
            "ranova tests terms with unstructured covariances only, beside independent residuals."
        )


def without_random_terms(fit: FitResult) -> Iterator[DroppedRandom]:
    """The models without one of the random terms that can be left out."""
    design = likelihood_arrays(fit)
    for k, (block, products) in enumerate(zip(design.blocks, random_products(fit, support_arrays(fit)), strict=True)):
        for name, columns in products if block.q > 1 else [(block.terms[0], (0,))]:
            kept = [i for i in range(block.q) if i not in columns]
            rest = _left_over(support_arrays(fit).blocks[k], kept)
            encoding = replace_blocks(design, k, kept)

            def without(rows: Design, k: int = k, rest: Any = rest, encoding: Any = encoding) -> Design:
                left = () if rest is None else (_combined(rows.blocks[k], *rest),)
                return replace(rows, blocks=(*rows.blocks[:k], *left, *rows.blocks[k + 1 :]), encoding=encoding)

            less = design.changed(without)
            smaller = refit_design(fit, design=less, method=_criterion(fit, less.blocks))
            yield DroppedRandom(f"{name} | {block.group}", smaller, block.q - (len(rest[0]) if rest else 0) == 1)


def _left_over(block: RandomBlock, kept: Sequence[int]) -> tuple[tuple[str, ...], FloatArray] | None:
    """Names and weights (q, r) of the columns of a block from which the others were left out.

    If no column is kept, the block becomes an intercept if its columns span one, and otherwise None.
    """
    if kept:
        return tuple(block.terms[i] for i in kept), np.eye(block.q)[:, list(kept)]
    ones = np.ones((len(block.z), 1))
    if block.q > 1 and inside(ones, block.z):
        return ("Intercept",), np.asarray(np.linalg.lstsq(block.z, ones)[0], dtype=np.float64)
    return None


def _combined(block: RandomBlock, terms: tuple[str, ...], weights: FloatArray) -> RandomBlock:
    """A block whose columns are weighted sums of those of another one."""
    return replace(block, terms=terms, z=np.ascontiguousarray(block.z @ weights))


def replace_blocks(design: Design, block: int, kept: Sequence[int]) -> Any:
    """The encoding of a design in which one block keeps only some of its columns.

    Args:
        design: The model as arrays.
        block: Position of the block.
        kept: Positions of the columns to keep.
    """
    encoded = design.encoding.blocks[block]
    new = encoded.model_copy(update={"columns": tuple(encoded.columns[i] for i in kept)})
    blocks = (*design.encoding.blocks[:block], *((new,) if kept else ()), *design.encoding.blocks[block + 1 :])
    return design.encoding.changed(blocks=blocks)


def _criterion(fit: FitResult, blocks: Sequence[RandomBlock]) -> str | None:
    return fit.model.method if blocks else None


def _criterion_value(smaller: FitResult, fit: FitResult) -> float:
    """The log-likelihood of a smaller model by the criterion of the fit, also if it has no group effects."""
    if smaller.random or smaller.smooths or fit.model.method != "REML":
        return smaller.log_likelihood
    # A result of least squares holds the ordinary log-likelihood. The restricted one is, with r = n - p,
    # -(r log(2 pi s2) + RSS / s2 + log |X'WX| - sum log w) / 2 with s2 = RSS / r, unless the variance is known
    design = likelihood_arrays(smaller)
    y = design.y if design.offset is None else design.y - design.offset
    w = np.ones(design.n) if design.weights is None else design.weights
    x = np.sqrt(w)[:, None] * design.x
    r = np.linalg.qr(x, mode="r")
    rest = float(np.sum(w * (y - design.x @ smaller.fixed.estimate) ** 2))
    df = design.n_obs - design.p
    log_det = 2 * float(np.log(np.abs(np.diag(r))).sum())
    s2 = rest / df if design.sigma is None else design.sigma**2
    value = -0.5 * (df * np.log(2 * np.pi * s2) + rest / s2 + log_det) + design.log_weights
    return float(value)


@suggests_names
def compare_ic(*fits: FitResult, names: Sequence[str] | None = None) -> TableResult:
    """Information criteria of models of the same rows, best first. The models need not be nested.

    Args:
        fits: Two or more results of the same rows. Their families must have densities of the same kind, such as Poisson
            and negative binomial for counts. REML fits can only be compared if all fixed columns are the same.
        names: Names of the models in the table; their formulas, if left out.

    Returns:
        ``.table`` with one row per model and the columns n_parameters, log_likelihood, aic, aicc, bic, delta (AIC minus
        the smallest AIC), weight (Akaike weight; Burnham & Anderson 2002, Model Selection and Multimodel Inference,
        section 2.9), state (of the fit).

    Raises:
        DataError: If the results cannot be compared.
        OptionError: If there are fewer than two results.
        UnimixError: If a result is a posterior, for which :func:`compare_loo` is meant.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> um.compare_ic(small, large, names=["intercepts", "slopes"]).table[["aic", "delta"]].round(2)
                        aic  delta
        model
        slopes      1755.63   0.00
        intercepts  1794.47  38.84
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
    n = np.array([counted_rows(f.family, f.n_obs, None if has_no_rows(f) else f.rows.weights) for f in fits])
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
    notes = [
        f"{label}: the fit {UNSURE.get(f.status.state, 'failed')}."
        for label, f in zip(labels, fits, strict=True)
        if not f.converged
    ]
    return TableResult(table.sort_values("aic", kind="stable"), notes, "Information criteria, best first")
