"""Assertions about fits, for people's own tests."""

from __future__ import annotations

from unimix.result import FitResult
from unimix.workflows.comparison.build import build_comparison
from unimix.workflows.comparison.verdicts import Tolerances


def assert_agree(*fits: FitResult, tolerances: Tolerances | None = None, **changed: float) -> None:
    """Raise unless fits of one design agree.

    Args:
        fits: Two results or more, in any mixture of engines, also loaded from JSON.
        tolerances: All tolerances at once.
        changed: Single tolerances by name: ``fixed`` in standard errors, ``std_error`` and ``sd`` relative,
            ``log_likelihood`` absolute, ``posterior_fixed`` in standard errors, ``posterior_sd`` as a ratio.

    Raises:
        DisagreementError: With the table and the reasons; also where one of them did not converge.
        DataError: If the designs differ.
        OptionError: For an unknown tolerance.

    Examples:
        >>> assert_agree(fit_lme4, fit_statsmodels, fixed=0.05)  # doctest: +SKIP
    """
    build_comparison(list(fits), []).assert_agree(tolerances, **changed)
