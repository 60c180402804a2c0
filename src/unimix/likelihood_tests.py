"""Models against each other: likelihood-ratio tests, tests of random terms, information criteria."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.errors import DataError, OptionError, UnimixError, UnsupportedModelError, listing
from unimix.model.design import Design, RandomBlock
from unimix.refitting import again_at
from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelTests:
    """What :func:`anova` or :func:`ranova` found.

    Attributes:
        table: One row per model (or per term left out): n_parameters, aic, bic, log_likelihood, deviance, chisq, df,
            p_value.
        notes: What was done: refits by ML, mixtures of chi-squared distributions.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.table.to_string(float_format="{:.6g}".format, na_rep="-"), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.to_html(na_rep="-") + "".join(f"<p>{note}</p>" for note in self.notes)


def mixture_p_value(statistic: float, df: int, variances: int) -> float:
    """P value of a likelihood ratio whose null hypothesis has one variance on its boundary.

    Half chi-squared with df and half with df - 1 degrees of freedom (Self & Liang 1987, J. Am. Stat. Assoc. 82:605;
    Stram & Lee 1994, Biometrics 50:1171). With more than one variance the plain chi-squared, which is conservative.

    Args:
        statistic: Twice the difference of the log-likelihoods.
        df: Difference of the numbers of parameters.
        variances: How many of these are variances that the smaller model sets to zero.
    """
    statistic = max(statistic, 0.0)
    plain = float(special.chdtrc(df, statistic))
    if variances != 1:
        return plain
    below = float(special.chdtrc(df - 1, statistic)) if df > 1 else float(statistic <= 0)
    return 0.5 * plain + 0.5 * below


def anova(*fits: FitResult, names: Sequence[str] | None = None) -> ModelTests:
    """Likelihood-ratio tests of nested models, each against the one before.

    REML fits whose fixed parts differ are refitted by ML, and a note says so; where they are the same, REML criteria
    are compared. Where one variance more is tested, the p value is that of the mixture of chi-squared distributions on
    the boundary.

    Args:
        fits: Two results at least, of the same rows, by engines that maximise a likelihood; in any order.
        names: Of the rows; the formulas, if left out.

    Raises:
        DataError: If the results belong to other rows, families or weights, or are not nested.
        OptionError: If there are fewer than two.
        UnimixError: For posteriors: compare_loo is for these.
    """
    notes: list[str] = []
    order, chosen = comparable(fits, notes)
    labels = list(names) if names is not None else [f.model.formula for f in fits]
    if len(labels) != len(fits):
        raise OptionError(f"names= has {len(labels)} names for {len(fits)} results.")
    rows = []
    for i, f in enumerate(chosen):
        row = _line(f)
        if i:
            row |= against(f, chosen[i - 1], notes)
        rows.append(row)
    table = pd.DataFrame(rows, index=pd.Index([labels[i] for i in order], name="model"))
    return ModelTests(table, tuple(dict.fromkeys(notes)))


def comparable(fits: Sequence[FitResult], notes: list[str]) -> tuple[list[int], list[FitResult]]:
    """Results from the smallest model to the largest, by one criterion.

    Args:
        fits: As for :func:`anova`.
        notes: Gains what was done.

    Returns:
        Their order, and the results in it: refitted by ML where REML criteria say nothing.

    Raises:
        DataError: If their log-likelihoods cannot be compared.
    """
    _comparable(fits)
    order = sorted(range(len(fits)), key=lambda i: fits[i].fit.n_parameters)
    chosen = [fits[i] for i in order]
    restricted = [f.model.method == "REML" for f in chosen]
    fixed = [f.design().x for f in chosen]
    same_fixed = all(a.shape == b.shape and _inside(a, b) for a, b in itertools.pairwise(fixed))
    if any(restricted) and not (same_fixed and all(restricted)):
        chosen = [again_at(f, method="ML") if r else f for f, r in zip(chosen, restricted, strict=True)]
        why = "other results are by ML" if same_fixed else "their fixed parts differ"
        notes.append(f"REML fits were refitted by ML, because {why}.")
    kinds = {f.fit.criterion for f in chosen} - {"least squares"}
    if len(kinds) > 1:
        raise DataError(f"Log-likelihoods of different criteria cannot be compared: {listing(sorted(kinds))}.")
    return order, chosen


def _line(fit: FitResult) -> dict[str, float]:
    return {
        "n_parameters": fit.fit.n_parameters,
        "aic": fit.aic,
        "bic": fit.bic,
        "log_likelihood": fit.log_likelihood,
        "deviance": fit.deviance,
        "chisq": np.nan,
        "df": np.nan,
        "p_value": np.nan,
    }


def _comparable(fits: Sequence[FitResult]) -> None:
    if len(fits) < 2 or any(not isinstance(f, FitResult) for f in fits):
        raise OptionError(
            "anova takes two results at least: um.anova(fit_a, fit_b). fit.anova() tests the terms of one."
        )
    if any(f.fixed.interval == "credible" for f in fits):
        raise UnimixError(
            "Posteriors have no likelihood of their estimates: um.compare_loo(a, b) compares what they predict."
        )
    _of_one_response(fits)


def _of_one_response(fits: Sequence[FitResult]) -> None:
    first = fits[0]
    for other in fits[1:]:
        if other.rows.observed.shape != first.rows.observed.shape or not np.allclose(
            other.rows.observed, first.rows.observed, rtol=1e-10, atol=0.0
        ):
            raise DataError(
                f"The results belong to different rows or responses ({first.n_obs} and {other.n_obs} rows). Fit both "
                "to the rows without missing values in any of their columns."
            )
        if other.family != first.family:
            raise DataError(f"The results have different families, {first.family} and {other.family}.")
        mine, theirs = (np.ones(f.n_obs) if f.rows.weights is None else f.rows.weights for f in (first, other))
        if not np.allclose(mine, theirs):
            raise DataError("The results have different weights.")


def compare_loo(*fits: FitResult, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Posteriors of models of the same rows by leave-one-out cross-validation, best first.

    One row is left out at a time, given the effects of its group; Vehtari, Gelman & Gabry (2017), Stat. Comput.
    27:1413; weights by stacking (Yao et al. 2018, Bayesian Anal. 13:917). ArviZ computes both.

    Args:
        fits: Sampled results that hold their draws.
        names: Of the rows; the formulas, if left out.

    Returns:
        Index model; columns elpd, se, p_loo (effective parameters), elpd_diff (to the best), se_diff, weight, bad_k
        (rows with Pareto k above 0.7, whose value cannot be trusted).

    Raises:
        OptionError: If there are fewer than two, or names are missing.
        DataError: If the results belong to other rows, families or weights.
        UnimixError: If a result has no draws.
    """
    import arviz as az

    if len(fits) < 2 or any(not isinstance(f, FitResult) for f in fits):
        raise OptionError("compare_loo takes two results at least: um.compare_loo(fit_a, fit_b).")
    labels = list(names) if names is not None else [f.model.formula for f in fits]
    if len(labels) != len(fits) or len(set(labels)) != len(labels):
        raise OptionError(f"names= of {len(fits)} results, each of its own: {listing(labels)}.")
    _of_one_response(fits)
    found = {label: f.loo() for label, f in zip(labels, fits, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large Pareto k, which the table counts
        table = pd.DataFrame(az.compare(found, scale="log"))
    named = {"elpd_loo": "elpd", "dse": "se_diff"}
    table = table.rename(columns=named)[["elpd", "se", "p_loo", "elpd_diff", "se_diff", "weight"]]
    table["elpd_diff"] = -table["elpd_diff"]
    table["bad_k"] = [int((np.asarray(found[str(label)].pareto_k) > 0.7).sum()) for label in table.index]
    table.index.name = "model"
    return table


def _inside(a: FloatArray, b: FloatArray) -> bool:
    """Whether the columns of a are combinations of those of b."""
    if not a.shape[1]:
        return True
    if not b.shape[1]:
        return False
    scale = np.abs(b).max(axis=0)
    left = a - (b / scale) @ np.linalg.lstsq(b / scale, a)[0]
    return bool((np.abs(left).max(axis=0) <= 1e-8 * np.abs(a).max(axis=0)).all())


def _holds(block: RandomBlock, larger: Design) -> bool:
    """Whether a block's effects are among those of one block of a larger model."""
    return any(
        b.n_levels == block.n_levels and (b.codes == block.codes).all() and _inside(block.z, b.z) and b.q >= block.q
        for b in larger.blocks
    )


def against(larger: FitResult, smaller: FitResult, notes: list[str]) -> dict[str, float]:
    """The likelihood-ratio test of a model against a smaller one.

    Args:
        larger: From :func:`comparable`.
        smaller: Likewise.
        notes: Gains what there is to know.

    Raises:
        DataError: If the smaller is not nested in the larger.
    """
    big, small = larger.design(), smaller.design()
    df = larger.fit.n_parameters - smaller.fit.n_parameters
    nested = _inside(small.x, big.x) and all(_holds(b, big) for b in small.blocks)
    if not nested or df <= 0:
        raise DataError(
            f"{smaller.model.reading} is not nested in {larger.model.reading}"
            f"{' (as many parameters)' if df <= 0 else ''}: a likelihood ratio says nothing. See um.compare_ic."
        )
    statistic = 2 * (larger.log_likelihood - smaller.log_likelihood)
    variances = sum(b.q for b in big.blocks) - sum(b.q for b in small.blocks)
    alone = variances == 1 and big.p == small.p
    if variances == 1 and not alone:
        variances = 0
    if alone:
        notes.append("p values of one variance more: the mixture of chi-squared distributions on the boundary.")
    elif variances > 1:
        notes.append("With several variances more the p value of the plain chi-squared distribution is conservative.")
    return {"chisq": statistic, "df": df, "p_value": mixture_p_value(statistic, df, variances)}


def ranova(fit: FitResult) -> ModelTests:
    """Test every random effect by leaving it out, with the criterion of the fit (REML, too), as lmerTest's ``ranova``.

    A scalar term is left out as a whole; of a term with several effects each in turn, with its covariances. p values
    are of the mixture of chi-squared distributions on the boundary (lmerTest's of the plain one: ``p_value_chisq``).

    Args:
        fit: A mixed model that holds its design, by an engine that maximises a likelihood.

    Raises:
        UnimixError: For a posterior.
        DataError: Without random effects.
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior has no likelihood ratio.")
    design = fit.design()
    if not design.blocks:
        raise DataError(f"{fit.model.reading} has no random effects to test.")
    if any(b.structure != "us" for b in design.blocks):
        raise UnsupportedModelError("ranova tests terms with unstructured covariances only.")
    whole = _line(fit)
    rows, index = [{**whole, "p_value_chisq": np.nan}], ["<none>"]
    for k, block in enumerate(design.blocks):
        for j, term in enumerate(block.terms):
            left = [i for i in range(block.q) if i != j]
            rest = replace(block, terms=tuple(block.terms[i] for i in left), z=np.ascontiguousarray(block.z[:, left]))
            blocks = (*design.blocks[:k], *((rest,) if left else ()), *design.blocks[k + 1 :])
            recipe = replace_blocks(design, k, left)
            smaller = again_at(
                fit, design=replace(design, blocks=blocks, recipe=recipe), method=_criterion(fit, blocks)
            )
            value = _criterion_value(smaller, fit)
            statistic = 2 * (fit.log_likelihood - value)
            df = block.q
            rows.append(
                {
                    **_line(smaller),
                    "aic": -2 * value + 2 * smaller.fit.n_parameters,
                    "bic": -2 * value + float(np.log(fit.n_obs)) * smaller.fit.n_parameters,
                    "log_likelihood": value,
                    "deviance": -2 * value,
                    "chisq": statistic,
                    "df": df,
                    "p_value": mixture_p_value(statistic, df, 1),
                    "p_value_chisq": float(special.chdtrc(df, max(statistic, 0.0))),
                }
            )
            index.append(f"{term} | {block.group}")
    table = pd.DataFrame(rows, index=pd.Index(index, name="left out"))
    return ModelTests(table, ("p_value is of the mixture of chi-squared distributions on the boundary.",))


def replace_blocks(design: Design, block: int, kept: Sequence[int]) -> Any:
    """The recipe of a design in which a block keeps some of its columns."""
    own = design.recipe.blocks[block]
    new = own.model_copy(update={"columns": tuple(own.columns[i] for i in kept)})
    blocks = (*design.recipe.blocks[:block], *((new,) if kept else ()), *design.recipe.blocks[block + 1 :])
    return design.recipe.model_copy(update={"blocks": blocks})


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


def compare_ic(*fits: FitResult, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Information criteria of models of the same rows, best first; they need not be nested.

    Args:
        fits: Results of the same rows; REML fits only where all fixed parts are the same.
        names: Of the rows; the formulas, if left out.

    Returns:
        Index model; columns n_parameters, log_likelihood, aic, aicc, bic, delta (AIC less the least), weight (Akaike's;
        Burnham & Anderson 2002, Model Selection and Multimodel Inference, section 2.9).

    Raises:
        DataError: If the results cannot be compared.
    """
    _comparable(fits)
    if any(f.model.method == "REML" for f in fits):
        x = [f.design().x for f in fits]
        if not all(a.shape == x[0].shape and _inside(a, x[0]) for a in x):
            raise DataError("REML criteria of different fixed parts cannot be compared: fit with method='ML'.")
    kinds = {f.fit.criterion for f in fits} - {"least squares"}
    if len(kinds) > 1:
        raise DataError(f"Criteria of different kinds cannot be compared: {listing(sorted(kinds))}.")
    labels = list(names) if names is not None else [f.model.formula for f in fits]
    k = np.array([f.fit.n_parameters for f in fits], dtype=float)
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
        },
        index=pd.Index(labels, name="model"),
    )
    return table.sort_values("aic", kind="stable")
