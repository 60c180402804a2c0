"""Refusal of analyses that would take correlated residuals, or residuals of several variances, as independent ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unimix.errors import UnsupportedModelError

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


__all__ = ["refuse_correlated"]
