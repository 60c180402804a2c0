"""What one check of a fitted model finds."""

from __future__ import annotations

from dataclasses import dataclass

OK, LOOK, PROBLEM = "ok", "look", "problem"


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: What was checked.
        verdict: ok, look or problem.
        value: The number it rests on; NaN for none.
        finding: A sentence.
        advice: What to type; empty where there is nothing to do.
    """

    check: str
    verdict: str
    value: float
    finding: str
    advice: str = ""
