"""Bayes factors from log evidences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from unimix.analysis.posterior.evidence import evidence_of, why_absent
from unimix.errors import OptionError, UnimixError, listing
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.model_tests.nesting import labels_of, same_response, several

LARGE = 0.5
"""Monte Carlo error of a log Bayes factor above which a note asks for more draws."""


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class BayesFactor(TableResult):
    """The answer of :func:`bayes_factor`.

    Attributes:
        table: One row per model. Columns: log_evidence, mc_error (its Monte Carlo standard error), probability (of the
            model given the response, if both models had the probability 1/2 before).
        log_bayes_factor: Natural logarithm of the Bayes factor of the first model against the second.
        mc_error: Monte Carlo standard error of ``log_bayes_factor``.
        notes: Sentences on what the number means and depends on.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> priors = {"Intercept": um.priors.Normal(250, 50), "coefficients": um.priors.Normal(0, 20)}
        >>> priors |= {"sd": um.priors.HalfNormal(50), "sigma": um.priors.HalfNormal(50)}
        >>> options = {"backend": "bayes", "priors": priors, "seed": 1}
        >>> a = um.fit("Reaction ~ Days + (1 | Subject)", sleep, **options)
        >>> b = um.fit("Reaction ~ 1 + (1 | Subject)", sleep, **options)
        >>> found = um.bayes_factor(a, b)
        >>> round(found.log_bayes_factor), found.bayes_factor > 1e20
        (55, True)
    """

    table: pd.DataFrame
    log_bayes_factor: float
    mc_error: float
    notes: tuple[str, ...]

    @property
    def bayes_factor(self) -> float:
        """Bayes factor of the first model against the second; infinite if it exceeds the range of numbers."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_bayes_factor))

    @property
    def _heading(self) -> str:
        first, second = self.table.index
        return f"Bayes factor of {first} against {second}: {_in_words(self.log_bayes_factor)}"


@suggests_names
def bayes_factor(
    a: FitResult, b: FitResult, *, names: Sequence[str] | None = None, accept_default_priors: bool = False
) -> BayesFactor:
    """How much more probable the response was under one model than under another, before it was seen.

    The Bayes factor is the ratio of the evidences, the densities of the response with all parameters integrated over
    their priors (Kass & Raftery 1995, J. Am. Stat. Assoc. 90:773). Both are computed by ``backend="bayes"`` as the mean
    of importance weights: see ``fit.log_evidence``.

    It depends on the priors, also where the posteriors hardly do: a prior ten times as wide for an effect makes the
    model with that effect about ten times less probable. unimix's default priors are scaled by the data and wide, which
    is safe for estimation and arbitrary here. They are therefore refused, unless ``accept_default_priors=True``.

    Args:
        a: Posterior by ``backend="bayes"``.
        b: Posterior of the same response by ``backend="bayes"``.
        names: Names of the models in the table; their formulas, if left out.
        accept_default_priors: Whether to compute it although parameters have default priors.

    Returns:
        ``.bayes_factor`` and ``.log_bayes_factor`` of ``a`` against ``b``, ``.mc_error``, and ``.table`` with one row
        per model.

    Raises:
        DataError: If the results belong to different rows, responses, kinds of family or weights.
        UnimixError: If a result has no log evidence, or parameters have default priors; the message lists all faults.
        OptionError: If an argument is not a result, or ``names`` are not two.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> a = um.fit("Reaction ~ Days + (1 | Subject)", sleep, backend="bayes", seed=1)
        >>> b = um.fit("Reaction ~ 1 + (1 | Subject)", sleep, backend="bayes", seed=1)
        >>> um.bayes_factor(a, b, names=["a", "b"])
        Traceback (most recent call last):
        unimix.errors.UnimixError: Default priors: Intercept, Days, sd(Subject), sigma of a; Intercept, sd(Subject), ...
    """
    several([a, b], "bayes_factor")
    if not isinstance(accept_default_priors, bool):
        raise OptionError(f"accept_default_priors={accept_default_priors!r}: choose True or False.")
    labels = labels_of([a, b], names)
    if labels[0] == labels[1]:
        labels = [f"{label} ({i})" for i, label in enumerate(labels, 1)]
    same_response([a, b], families=True)
    _refuse([a, b], labels, accept_default_priors=accept_default_priors)
    found = [evidence_of(fit) for fit in (a, b)]
    values = np.array([e.value for e in found])
    table = pd.DataFrame(
        {
            "log_evidence": values,
            "mc_error": [e.error for e in found],
            "probability": special.softmax(values),
        },
        index=pd.Index(labels, name="model"),
    )
    value, error = float(values[0] - values[1]), float(np.hypot(found[0].error, found[1].error))
    return BayesFactor(table, value, error, tuple(_notes(value, error, labels, [e.default_priors for e in found])))


def _refuse(fits: Sequence[FitResult], labels: Sequence[str], *, accept_default_priors: bool) -> None:
    """Refuse results without a log evidence, and with default priors.

    Raises:
        UnimixError: If there is one; the message lists all faults.
    """
    faults = [
        f"{label} has no log evidence: {why_absent(fit)}"
        for fit, label in zip(fits, labels, strict=True)
        if fit.criteria.evidence is None
    ]
    known = [(label, fit.criteria.evidence) for fit, label in zip(fits, labels, strict=True)]
    by_default = [
        f"{listing(found.default_priors)} of {label}" for label, found in known if found and found.default_priors
    ]
    if by_default and not accept_default_priors:
        faults.append(
            f"Default priors: {'; '.join(by_default)}.\nThey are scaled by the data and so wide that a Bayes factor "
            "under them is arbitrary. Give a prior to every parameter: the names 'Intercept', 'coefficients', 'sd', "
            "'cor' and those of the dispersion stand for all of them. To compute it all the same, type:\n"
            "    um.bayes_factor(a, b, accept_default_priors=True)"
        )
    if faults:
        raise UnimixError("\n".join(faults))


def _notes(value: float, error: float, labels: Sequence[str], defaults: Sequence[tuple[str, ...]]) -> list[str]:
    better, worse = labels if value >= 0 else labels[::-1]
    low, high = abs(value) - 1.96 * error, abs(value) + 1.96 * error
    said = (
        f"The response is {_in_words(abs(value))} times as probable under {better} as under {worse} (95 % of the Monte "
        f"Carlo error: {_in_words(low)} to {_in_words(high)})."
    )
    notes = [
        said,
        "A Bayes factor depends on the priors of all parameters, also where the posteriors hardly do.",
    ]
    if any(defaults):
        notes.append(f"Default priors, scaled by the data: {listing(dict.fromkeys(n for d in defaults for n in d))}.")
    if error > LARGE:
        notes.append("The Monte Carlo error is large: fit with more draws, options={'draws': 10000}.")
    return notes


def _in_words(log_value: float) -> str:
    """A ratio from its logarithm, also beyond the range of numbers."""
    if abs(log_value) < 13:
        return f"{np.exp(log_value):.3g}"
    exponent = int(np.floor(log_value / np.log(10)))
    return f"{np.exp(log_value - exponent * np.log(10)):.2g}e{exponent:+d}"


__all__ = ["BayesFactor", "bayes_factor"]
