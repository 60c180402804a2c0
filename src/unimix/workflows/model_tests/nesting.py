"""Checks that results can be compared: the same rows and response, one criterion, nested models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.analysis.tests.drop_terms import is_separated
from unimix.design.arrays import Design, RandomBlock
from unimix.design.covariance_structures import BY_DISTANCE
from unimix.errors import DataError, OptionError, UnimixError, listing
from unimix.estimation.refit import refit_design
from unimix.fitted.criterion import likelihood_arrays
from unimix.fitted.describe import is_robust, model_text
from unimix.fitted.model import has_design
from unimix.fitted.no_rows import has_no_rows
from unimix.result import FitResult
from unimix.stats.likelihood_ratio import mixture_p_value, ratio_statistic

FloatArray = npt.NDArray[np.float64]


def labels_of(fits: Sequence[FitResult], names: Sequence[str] | None) -> list[str]:
    """Names of results: the given names, or the formulas of the models.

    Raises:
        OptionError: If the number of names differs from the number of results.
    """
    labels = list(names) if names is not None else [model_text(f) for f in fits]
    if len(labels) != len(fits):
        raise OptionError(f"names= has {len(labels)} names for {len(fits)} results.")
    return labels


def several(fits: Sequence[FitResult], name: str) -> None:
    """Refuse a call without at least two results.

    Args:
        fits: The arguments of the call.
        name: Name of the function that was called.

    Raises:
        OptionError: If there are fewer than two arguments, or one of them is not a result.
    """
    if len(fits) < 2 or any(not isinstance(f, FitResult) for f in fits):
        more = " fit.anova() tests the terms of one." if name == "anova" else ""
        raise OptionError(f"{name} takes two results at least: um.{name}(fit_a, fit_b).{more}")


def likelihoods(fits: Sequence[FitResult], name: str) -> None:
    """Refuse posteriors, results that were loaded without their data, and cluster-robust standard errors.

    Args:
        fits: Results.
        name: Name of the function that was called.

    Raises:
        UnimixError: If a result is a posterior, or has cluster-robust standard errors, which likelihoods do not know.
        DataError: If a result was loaded without its data.
    """
    if name != "compare_ic" and any(is_robust(f) for f in fits):
        raise UnimixError(
            f"um.{name} compares likelihoods, which follow from the estimated variances; cluster-robust standard "
            "errors do not assume these. Robust tests are robust.anova() and robust.hypotheses(...); for likelihoods "
            "give the fit itself, without .robust(...)."
        )
    if any(f.fixed.interval == "credible" for f in fits):
        raise UnimixError("Posteriors have no maximised likelihood: um.compare_loo(a, b) compares their predictions.")
    if not all(has_design(f) for f in fits):
        raise DataError(
            f"um.{name} needs the data of a loaded result: um.refit(fit, data) fits it again, with its engine."
        )


def same_response(fits: Sequence[FitResult], *, families: bool) -> None:
    """Refuse results of different rows, responses, weights or trials.

    Args:
        fits: Results.
        families: Whether families may differ if their densities are of one kind (all counts, or all continuous).

    Raises:
        DataError: If something differs; the message says what.
    """
    first = fits[0]
    if any(has_no_rows(f) for f in fits):
        _same_reduction(fits)
        return
    for other in fits[1:]:
        observed, others = first.rows.observed, other.rows.observed
        if observed.shape != others.shape:
            raise DataError(
                f"The results belong to different rows ({first.n_obs} and {other.n_obs}). Fit both to the rows without "
                "missing values in any of their columns."
            )
        if not np.allclose(observed, others, rtol=1e-10, atol=0.0):
            raise DataError(
                f"The results belong to different responses ({first.model.response} and {other.model.response}), or "
                "to different rows. Models of y and of log(y) have densities of different things."
            )
        if len(np.unique(observed)) <= len(observed) / 2 and not np.array_equal(_rows(first), _rows(other)):
            raise DataError(
                "The results belong to different rows of their data, whose responses happen to be equal. Fit both to "
                "one frame, without missing values in any of their columns."
            )
        if other.family != first.family and not (families and _kind(first) == _kind(other)):
            raise DataError(f"The results have different families, {first.family} and {other.family}.")
        for what in ("weights", "trials"):
            a, b = (getattr(f.rows, what) for f in (first, other))
            ones = np.ones(first.n_obs)
            if not np.allclose(ones if a is None else a, ones if b is None else b):
                raise DataError(f"The results have different {what}.")


def _same_reduction(fits: Sequence[FitResult]) -> None:
    """Refuse results of reduced data that were not fitted to one reduction, whose compressed rows are the same."""
    first, *others = map(likelihood_arrays, fits)
    for other in others:
        if first.n_obs != other.n_obs or not np.array_equal(first.y, other.y):
            raise DataError(
                "Results of reduced data can be compared if they were fitted to one reduction. Reduce the data by the "
                "largest model and fit every model to that: reduced = um.reduce(source, formula), then "
                "um.fit(smaller, reduced)."
            )


def _rows(fit: FitResult) -> npt.NDArray[np.str_]:
    """Labels of the fitted rows as text, shape (n,)."""
    labels = fit.rows.labels
    labels_of_rows = np.asarray(fit.rows.index, dtype=np.int64) if labels is None else labels.index()
    return np.array([str(v) for v in labels_of_rows])


def _kind(fit: FitResult) -> str:
    """The kind of density of a family: count, binomial or continuous."""
    response = fit.family.response
    return response if response in ("count", "binomial") else "continuous"


def by_one_criterion(fits: Sequence[FitResult], notes: list[str]) -> tuple[list[int], list[FitResult]]:
    """Sort results from the smallest model to the largest, and bring them to one criterion.

    Args:
        fits: Results of the same rows.
        notes: List of notes, to which a note on refits and on fits that did not converge is added.

    Returns:
        The positions of the results in the new order, and the results in that order. They are refitted by ML if their
        REML criteria cannot be compared.

    Raises:
        DataError: If the log-likelihoods belong to different criteria.
    """
    order = sorted(range(len(fits)), key=lambda i: fits[i].criteria.n_parameters)
    chosen = [fits[i] for i in order]
    restricted = [f.model.method == "REML" for f in chosen]
    if any(restricted) and not (same_columns(chosen) and all(restricted)):
        chosen = [refit_design(f, method="ML") if r else f for f, r in zip(chosen, restricted, strict=True)]
        why = "other results are by ML" if same_columns(chosen) else "their fixed parts, or codings, differ"
        notes.append(f"REML fits were refitted by ML, because {why}.")
    one_kind(chosen)
    separated = [f for f in chosen if is_separated(f)]
    if separated:
        notes.append(
            f"Separation in {listing(map(model_text, separated))}: estimates tend to infinity, but the log-likelihood "
            "tends to a limit, near which the search stopped, so that likelihood-ratio tests remain right."
        )
    loose = [f for f in chosen if f.status.state == "not_identified" and f not in separated]
    if loose:
        notes.append(
            "Not identified, so that degrees of freedom count parameters that the data do not determine: "
            f"{listing(map(model_text, loose))}."
        )
    unsure = [model_text(f) for f in chosen if not f.converged and f not in [*separated, *loose]]
    if unsure:
        notes.append(f"Not converged, so that the log-likelihood may be too low: {listing(unsure)}.")
    return order, chosen


def one_kind(fits: Sequence[FitResult]) -> None:
    """Refuse log-likelihoods of different criteria.

    Without group effects every approximation is the plain likelihood, but a restricted likelihood is none.

    Raises:
        DataError: If the criteria differ; the message names them.
    """
    kinds = {f.criteria.criterion for f in fits if f.random or f.smooths or f.criteria.criterion == "REML"} or {"ML"}
    if "REML" in kinds and any(f.criteria.criterion != "REML" for f in fits):
        kinds.add("ML")
    if len(kinds) > 1:
        way = " Fit all of them with method='ML'." if "REML" in kinds else ""
        raise DataError(f"Log-likelihoods of different criteria cannot be compared: {listing(sorted(kinds))}.{way}")


def same_columns(fits: Sequence[FitResult]) -> bool:
    """Whether the fixed columns of all results are equal. REML criteria depend on the coding of the columns."""
    x = [likelihood_arrays(f).x for f in fits]
    return all(a.shape == x[0].shape and np.allclose(a, x[0], rtol=1e-10, atol=0.0) for a in x)


@dataclass(frozen=True)
class Step:
    """The difference between a model and a smaller one inside it.

    Attributes:
        df: Number of additional parameters of the larger model.
        boundary: Whether the smaller model lies on the boundary of the larger one in a single parameter.
        note: Note on the p value, or an empty text.
    """

    df: int
    boundary: bool
    note: str


def step_between(larger: FitResult, smaller: FitResult) -> Step:
    """The difference between a model and a smaller one inside it.

    Raises:
        DataError: If it cannot be shown that the smaller model is nested in the larger one.
    """
    big, small = likelihood_arrays(larger), likelihood_arrays(smaller)
    structures = [None if d.residual is None else (d.residual.text, d.residual.structure) for d in (big, small)]
    if structures[0] != structures[1]:
        raise DataError(
            f"{model_text(smaller)} and {model_text(larger)} differ in the covariance of their residuals, and whether "
            "one is nested in the other is not known. um.compare_ic compares them."
        )
    df = larger.criteria.n_parameters - smaller.criteria.n_parameters
    if df <= 0 or not _nested(big, small):
        equal = " (as many parameters)" if df <= 0 else ""
        raise DataError(
            f"{model_text(smaller)} cannot be shown to be nested in {model_text(larger)}{equal}: its columns, offset, "
            "group effects and other parts would have to be among those of the larger model. See um.compare_ic."
        )
    variances = _n_variances(big) - _n_variances(small)
    parts = int(big.zero is not None and small.zero is None) + int(big.family.label != small.family.label)
    same_mean, same_rest = big.p == small.p, _n_parts(big) == _n_parts(small)
    correlations = _n_correlations(big) - _n_correlations(small)
    if variances and correlations:
        note = "Correlations are tested together with the variances without which they do not exist: p is approximate."
        return Step(df, False, note)
    decay = sum(b.covariance_structure is not None and b.covariance_structure.form in BY_DISTANCE for b in big.blocks)
    at_zero = variances == 0 and correlations == 1 and df == 1 and decay > 0
    if (variances == 1 or at_zero) and same_mean and same_rest and not parts:
        if at_zero:
            said = "No correlation is on the boundary of its decay: the p value is of the mixture of chi-squared"
            return Step(df, True, f"{said} distributions.")
        return Step(
            df, True, "p values of one variance more: the mixture of chi-squared distributions on the boundary."
        )
    if parts == 1 and variances == 0 and same_mean and df == 1:
        what = "zero inflation" if big.zero is not None and small.zero is None else "overdispersion"
        return Step(
            df, True, f"No {what} is on the boundary: the p value is of the mixture of chi-squared distributions."
        )
    if variances or parts:
        note = (
            "Parameters on their boundary are tested with others: the p value of the plain chi-squared is conservative."
        )
        return Step(df, False, note)
    return Step(df, False, "")


def _n_variances(design: Design) -> int:
    """Number of variances that may be zero one by one."""
    structures = [(b.q, b.covariance_structure) for b in design.blocks]
    return sum(q if s is None else s.n_sd for q, s in structures)


def _n_correlations(design: Design) -> int:
    """Number of parameters of the correlations of structured covariances."""
    return sum(b.covariance_structure.n_correlations for b in design.blocks if b.covariance_structure is not None)


def _n_parts(design: Design) -> int:
    return sum(p.x.shape[1] for p in (design.zero, design.dispersion) if p is not None)


def _nested(big: Design, small: Design) -> bool:
    if not inside(small.x, big.x) or not all(_holds(b, big) for b in small.blocks):
        return False
    shift = _offset(small) - _offset(big)
    if np.any(shift) and not inside(shift[:, None], big.x):
        return False
    if big.family != small.family and not (
        small.family.name == "poisson"
        and big.family.name == "negative_binomial"
        and big.family.link == small.family.link
    ):
        return False
    if small.zero is not None and (big.zero is None or not inside(small.zero.x, big.zero.x)):
        return False
    if big.zero is not None and small.zero is None and not inside(np.ones((big.n, 1)), big.zero.x):
        return False
    columns = np.ones((big.n, 1)) if small.dispersion is None else small.dispersion.x
    whole = np.ones((big.n, 1)) if big.dispersion is None else big.dispersion.x
    return inside(columns, whole)


def _offset(design: Design) -> FloatArray:
    return np.zeros(design.n) if design.offset is None else design.offset


def inside(a: FloatArray, b: FloatArray) -> bool:
    """Whether the columns of a are linear combinations of the columns of b, to a relative 1e-8."""
    if not a.shape[1]:
        return True
    if not b.shape[1]:
        return False
    scale = np.abs(b).max(axis=0)
    residuals = a - (b / scale) @ np.linalg.lstsq(b / scale, a)[0]
    return bool((np.abs(residuals).max(axis=0) <= 1e-8 * np.abs(a).max(axis=0)).all())


def _holds(block: RandomBlock, larger: Design) -> bool:
    """Whether a block of a larger model contains the effects of a block, with its form of covariance matrix."""
    return any(
        b.n_levels == block.n_levels
        and (b.codes == block.codes).all()
        and inside(block.z, b.z)
        and b.q >= block.q
        and _is_special_case(block, b)
        for b in larger.blocks
    )


def _is_special_case(block: RandomBlock, larger: RandomBlock) -> bool:
    """Whether a larger block's form of covariance matrix takes every value of a block's form, for the same columns."""
    small, big = block.covariance_structure, larger.covariance_structure
    if small is None and (big is None or block.q == 1):
        return big is None or big.n_sd > 1  # one column alone, and the others of a structure without variance
    if larger.z.shape != block.z.shape or not np.allclose(larger.z, block.z):
        return False
    if small is None or big is None:
        return big is None
    forms = ("diag", small.form, *(["toep"] if small.form in ("cs", "ar1") else []))
    related = big.form in forms[1:] or small.form == "diag"
    return related and small.n_sd <= big.n_sd and (small.form == "diag" or small.coordinates == big.coordinates)


def likelihood_ratio(larger: FitResult, smaller: FitResult, notes: list[str]) -> dict[str, float]:
    """The test of a model against a smaller one: chisq, df, p_value.

    Args:
        larger: The larger model, from :func:`by_one_criterion`.
        smaller: The smaller model, from :func:`by_one_criterion`.
        notes: List of notes, to which notes on the p value are added.

    Raises:
        DataError: If the smaller model is not nested in the larger one.
    """
    step = step_between(larger, smaller)
    notes += [step.note] if step.note else []
    statistic = ratio_statistic(larger.log_likelihood, smaller.log_likelihood)
    if statistic < 0:
        notes.append(
            f"{model_text(larger)} has a lower log-likelihood than {model_text(smaller)}, which is inside it: it is "
            "not at its maximum. fit.certificate() tells more."
        )
    if _smooths(larger) != _smooths(smaller):
        notes.append(
            "No p value where smooths differ: the smaller model lies on the boundary of the larger one, and the ratio "
            "has no chi-squared distribution. um.bootstrap_test(a, b) simulates its distribution."
        )
        return {"chisq": statistic, "df": step.df, "p_value": np.nan}
    return {"chisq": statistic, "df": step.df, "p_value": mixture_p_value(statistic, step.df, boundary=step.boundary)}


def _smooths(fit: FitResult) -> list[tuple[str, str, int]]:
    return [(s.term, s.basis, s.k) for s in fit.smooths]
