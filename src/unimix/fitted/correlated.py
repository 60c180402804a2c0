"""Refusal of analyses that assume independent residuals of one variance, or fixed effects without a penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.errors import UnsupportedModelError, listing

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


def refuse_correlated(fit: FittedModel, what: str, instead: str = "") -> None:
    """Refuse an analysis that assumes independent residuals with one variance.

    Args:
        fit: The result.
        what: The analysis, as the subject of a sentence.
        instead: What can be done instead, as a sentence.

    Raises:
        UnsupportedModelError: If the residuals have a covariance matrix of their own.
    """
    part = fit.residual_part
    if part is None:
        return
    raise UnsupportedModelError(
        f"{what} assumes independent residuals with one variance, and this model has residual={part.text!r}."
        + (f" {instead}" if instead else "")
    )


def refuse_smooths(fit: FittedModel, what: str, instead: str = "") -> None:
    """Refuse an analysis that would take the coefficients of a curve as ordinary fixed effects.

    Args:
        fit: The result.
        what: The analysis, as the subject of a sentence.
        instead: What can be done instead, as a sentence.

    Raises:
        UnsupportedModelError: If the model has smooths.
    """
    if not fit.smooths:
        return
    terms = listing(smooth.term for smooth in fit.smooths)
    raise UnsupportedModelError(
        f"{what} is not computed beside a smooth, and this model has {terms}." + (f" {instead}" if instead else "")
    )


__all__ = ["refuse_correlated", "refuse_smooths"]
