"""The log evidence of a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.design.estimates import EVIDENCE, Evidence
from unimix.errors import UnimixError

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

_BAYES = "um.fit(formula, data, backend='bayes', priors=priors)"


def log_evidence(fit: FittedModel) -> float:
    """Log evidence (log marginal likelihood): the log density of the response, with everything else integrated out.

    Group effects, fixed effects, covariance and dispersion parameters are integrated over their priors. It is computed
    by ``backend="bayes"`` where it samples exactly: the mean of the importance weights of all proposals, each the
    posterior density without its constant over the density of the proposal (Robert & Casella 2004, Monte Carlo
    Statistical Methods, 2nd ed., section 3.3). All constants are included. ``fit.log_evidence_error`` is its Monte
    Carlo standard error.

    It depends on the priors of all parameters, also where the posterior hardly does: um.bayes_factor compares models.

    Raises:
        UnimixError: If the engine does not compute it; the message says why.

    Example:
        >>> import unimix as um
        >>> priors = {"Intercept": um.priors.Normal(250, 50), "Days": um.priors.Normal(10, 10)}
        >>> priors |= {"sd(Subject)": um.priors.HalfNormal(50), "sigma": um.priors.HalfNormal(50)}
        >>> sleep, formula = um.load_dataset("sleepstudy"), "Reaction ~ Days + (1 | Subject)"
        >>> fit = um.fit(formula, sleep, backend="bayes", priors=priors, seed=1)
        >>> round(fit.log_evidence, 1), fit.log_evidence_error < 0.02
        (-905.7, True)
    """
    return evidence_of(fit).value


def log_evidence_error(fit: FittedModel) -> float:
    """Monte Carlo standard error of ``fit.log_evidence``.

    Raises:
        UnimixError: If the engine does not compute the log evidence; the message says why.
    """
    return evidence_of(fit).error


def evidence_of(fit: FittedModel) -> Evidence:
    """The log evidence of a result, with its error and the parameters that have default priors.

    Raises:
        UnimixError: If the engine does not compute it.
    """
    found = fit.criteria.evidence
    if found is None:
        raise UnimixError(f"There is no log evidence: {why_absent(fit)}")
    return found


def why_absent(fit: FittedModel) -> str:
    """Reason why a result has no log evidence, and what to type."""
    if EVIDENCE in fit.provenance:
        return f"{fit.provenance[EVIDENCE].removeprefix('none: ').rstrip('.')}."
    if fit.fixed.interval == "credible":
        return f"backend={fit.backend!r} does not compute it. Type:\n    {_BAYES}"
    return f"backend={fit.backend!r} maximises a likelihood, and integrates no parameters. Type:\n    {_BAYES}"


__all__ = ["evidence_of", "log_evidence", "log_evidence_error", "why_absent"]
