"""Fit one model to several imputed data sets."""

from __future__ import annotations

from typing import Any, Unpack

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.errors import DataError, FitError, UnsupportedModelError, listing
from unimix.estimation.arguments import FitOptions, takes_arguments_of
from unimix.fitted.correlated import refuse_smooths
from unimix.result import FitResult
from unimix.workflows.imputation.frames import imputations_of
from unimix.workflows.imputation.imputed_fit import ImputedFit


@takes_arguments_of(fit, FitOptions)
def fit_imputed(
    formula: str,
    frames: Any,
    backend: BackendLike = DEFAULT_BACKEND,
    *,
    imputation: str | None = None,
    data: Any = None,
    n_imputations: int | None = None,
    **arguments: Unpack[FitOptions],
) -> ImputedFit:
    """Fit one model to several imputed data sets, and pool the answers by Rubin's rules.

    Impute with the same variables that the model has, the response and the grouping factor among them; an imputation
    that ignores the groups makes variances between groups too small (van Buuren 2018, Flexible Imputation of Missing
    Data, chapter 7).

    Args:
        formula: The model in lme4's language.
        frames: The imputed data sets: a list of tables, or a dict of tables by name; one long table, with the column
            ``imputation``; an IterativeImputer of scikit-learn with ``sample_posterior=True``, beside ``data``; or an
            ImputationKernel of miceforest.
        backend: Name of the engine, a backend class, or a configured instance. It must maximise a likelihood.
        imputation: Column of a long table that counts the imputations. R's ``.imp`` is known, and its number 0, the
            data before imputation, is left out.
        data: Table with missing values, for an imputer: it is fitted to the numeric columns anew for each data set,
            with random states drawn by ``seed``.
        n_imputations: Number of data sets that an imputer makes; 20, if left out.
        arguments: Arguments of :func:`unimix.fit`, for every data set.

    Returns:
        The fits, with pooled estimates, tests, means and predictions, as an :class:`ImputedFit`.

    Raises:
        OptionError: If arguments are wrong.
        DataError: If there are fewer than two data sets, or they lead to different models or numbers of rows.
        UnsupportedModelError: If the engine samples a posterior.
        FitError: If the model of a data set could not be fitted.

    Example:
        >>> import numpy as np
        >>> import unimix as um
        >>> sleep, rng = um.load_dataset("sleepstudy"), np.random.default_rng(1)
        >>> holes = sleep.assign(Days=sleep["Days"].where(rng.random(len(sleep)) > 0.2))
        >>> from sklearn.experimental import enable_iterative_imputer
        >>> from sklearn.impute import IterativeImputer
        >>> imputer = IterativeImputer(sample_posterior=True)
        >>> imputed = um.fit_imputed("Reaction ~ Days + (1 | Subject)", imputer, data=holes, n_imputations=5, seed=1)
        >>> imputed.fixed_effects.columns.tolist()
        ['estimate', 'std_error', 'df', 'statistic', 'p_value', 'lower', 'upper']
    """
    engines, _ = registry.resolve_all([backend], arguments.get("options"))
    if engines and engines[0].info.samples:
        raise UnsupportedModelError(NOT_POOLED)
    made = imputations_of(
        frames, imputation=imputation, data=data, n_imputations=n_imputations, seed=arguments.get("seed")
    )
    fits: list[FitResult] = []
    for label, frame in zip(made.labels, made.frames, strict=True):
        try:
            fits.append(fit(formula, frame, backend, **arguments))
        except FitError as error:
            raise FitError(f"Imputation {label}: {error}") from error
        if fits[0].fixed.interval == "credible":
            raise UnsupportedModelError(NOT_POOLED)
        refuse_smooths(
            fits[0], "A pooled fit", "Its basis would depend on the data set: use bs(x) or ns(x) with knots=."
        )
    _check_alike(fits, made.labels)
    return ImputedFit(tuple(fits), made.labels, (*made.notes, *_notes(fits, made.labels)))


NOT_POOLED = (
    "Rubin's rules pool estimates and standard errors, not posteriors: fit with an engine that maximises a likelihood, "
    "such as backend='pls'. The draws of a sampler are pooled by putting those of every data set together (Zhou & "
    "Reiter 2010, Am. Stat. 64:159-163)."
)


def _check_alike(fits: list[FitResult], labels: tuple[str, ...]) -> None:
    """Refuse fits whose coefficients, random effects or numbers of rows differ."""
    first = fits[0]
    for label, other in zip(labels[1:], fits[1:], strict=True):
        if other.n_obs != first.n_obs:
            raise DataError(
                f"Imputation {label} has {other.n_obs} rows and imputation {labels[0]} has {first.n_obs}: every "
                "imputed data set has the same rows, and no missing value in the columns of the model."
            )
        if other.fixed.terms != first.fixed.terms:
            only = sorted({*other.fixed.terms} ^ {*first.fixed.terms})
            raise DataError(
                f"Imputations {labels[0]} and {label} lead to different coefficients ({listing(only)}): give factors "
                "the same categories, in the same order, in every data set."
            )
        if [(b.group, b.terms) for b in other.random] != [(b.group, b.terms) for b in first.random]:
            raise DataError(f"Imputations {labels[0]} and {label} lead to different random effects.")


UNSOUND = {
    "singular": "are singular",
    "not_converged": "did not converge",
    "not_identified": "are not identified",
    "failed": "failed",
}
"""What is wrong with fits of a state, in words."""


def _notes(fits: list[FitResult], labels: tuple[str, ...]) -> list[str]:
    first, notes = fits[0].model, list[str]()
    if first.n_dropped:
        notes.append(
            f"{first.n_dropped} rows of every data set still have missing values ({listing(first.missing)}) and were "
            "left out."
        )
    for state, words in UNSOUND.items():
        named = [label for label, one in zip(labels, fits, strict=True) if one.status.state == state]
        if named:
            notes.append(f"{len(named)} of {len(fits)} fits {words}: imputations {listing(named[:8])}.")
    return notes


__all__ = ["fit_imputed"]
