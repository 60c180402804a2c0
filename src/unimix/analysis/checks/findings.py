"""The finding of one check of a fitted model."""

from __future__ import annotations

from dataclasses import dataclass

OK, LOOK, PROBLEM = "ok", "look", "problem"


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: Name of the check.
        verdict: ok, look or problem.
        value: Number that the verdict rests on; NaN if there is none.
        finding: The finding as a sentence.
        advice: What to do and to type; empty if there is nothing to do.
    """

    check: str
    verdict: str
    value: float
    finding: str
    advice: str = ""
