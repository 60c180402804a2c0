"""Equivalence: the posterior probability of a range, or two one-sided tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import OptionError
from unimix.stats.direction import share_between, two_one_sided
from unimix.stats.multiplicity import adjusted_by_size

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("p_noninferiority", "p_nonsuperiority", "p_equivalence", "probability_equivalence")
"""Columns that equivalence tests add to a table."""
LARGEST = 1e300
"""Size above which a bound is none."""
BY_SIZE = ("none", "sidak", "bonferroni", "holm", "fdr")
"""Adjustments that need p values alone; in place of others, equivalence tests have Sidak's, as in R's emmeans."""


def bounds_fault(equivalence: Any) -> str:
    """What is wrong with the bounds; empty if nothing is, or there are none."""
    if equivalence is None:
        return ""
    ends = list(equivalence) if isinstance(equivalence, tuple | list) else []
    numbers = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in ends)
    if len(ends) != 2 or not numbers or not -LARGEST < ends[0] < ends[1] < LARGEST:
        return f"equivalence={equivalence!r}: give two bounds, the lower one first, such as (-0.5, 0.5)."
    return ""


def checked_bounds(equivalence: Any, *, ratios: bool = False) -> tuple[float, float] | None:
    """The bounds of an equivalence test, of ratios as logarithms; None if there are none.

    Args:
        equivalence: What the user gave: None, or two numbers.
        ratios: Whether they are bounds of ratios, which are tested on the scale of the logarithm.

    Raises:
        OptionError: If they are not two numbers in order, or not positive for ratios.
    """
    fault = bounds_fault(equivalence)
    if not fault and equivalence is not None and ratios and not equivalence[0] > 0:
        fault = f"equivalence={equivalence!r}: bounds of ratios are positive, such as (0.8, 1.25)."
    if fault:
        raise OptionError(fault)
    if equivalence is None:
        return None
    low, high = (float(v) for v in equivalence)
    return (float(np.log(low)), float(np.log(high))) if ratios else (low, high)


def equivalence_columns(
    estimate: FloatArray,
    std_error: FloatArray,
    df: FloatArray,
    draws: FloatArray | None,
    bounds: tuple[float, float],
    adjust: str = "none",
) -> pd.DataFrame:
    """Columns p_noninferiority, p_nonsuperiority and p_equivalence; of a posterior probability_equivalence.

    Args:
        estimate: Estimates, shape (m,).
        std_error: Their standard errors, shape (m,).
        df: Degrees of freedom, shape (m,).
        draws: Posterior draws, shape (S, m), or None.
        bounds: Bounds of the range.
        adjust: Adjustment of the p values for several tests.
    """
    if draws is not None:
        return pd.DataFrame({"probability_equivalence": share_between(draws, *bounds)})
    method = used_adjustment(adjust)
    error = np.where(np.isinf(std_error), np.nan, std_error)  # an estimate that tends to infinity has no test
    above, below = two_one_sided(estimate, error, df, *bounds)
    tests = {"p_noninferiority": above, "p_nonsuperiority": below, "p_equivalence": np.maximum(above, below)}
    return pd.DataFrame({name: adjusted_by_size(method, p) for name, p in tests.items()})


def used_adjustment(adjust: str) -> str:
    """The adjustment of equivalence tests where contrasts have the one given."""
    return adjust if adjust in BY_SIZE else "sidak"


def adjustment_note(adjust: str) -> list[str]:
    """Note that equivalence tests have another adjustment than the contrasts; none if they have the same."""
    if used_adjustment(adjust) == adjust:
        return []
    return [f"Equivalence tests have Sidak's adjustment; {adjust} is for differences from zero."]
