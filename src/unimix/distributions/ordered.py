"""Refusal of what treats an ordered response as a number."""

from __future__ import annotations

from unimix.distributions.family import Family
from unimix.errors import UnsupportedModelError


def refuse_categories(family: Family, what: str = "This") -> None:
    """Raise an error if the response is a category, for analyses that need a number.

    Args:
        family: Distribution and link.
        what: Name of the analysis, the subject of the first sentence of the message.

    Raises:
        UnsupportedModelError: If the response is ordered categories.
    """
    if family.response == "ordered":
        raise UnsupportedModelError(
            f"{what} needs a response that is a number, and the response of the {family.name} family is a category. "
            "fit.predict(kind='probability') gives the probability of every category, kind='mean' the mean category "
            "and kind='link' the latent variable."
        )
