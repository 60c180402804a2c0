"""Assertions about fits, for the tests of users."""

from __future__ import annotations

from unimix.result import FitResult
from unimix.workflows.comparison.build import build_comparison
from unimix.workflows.comparison.verdicts import Tolerances


def assert_agree(*fits: FitResult, tolerances: Tolerances | None = None, **changed: float) -> None:
    """Raise an error unless fits of one design agree.

    Args:
        fits: Two or more results, by any engines, fitted in this session or loaded from JSON.
        tolerances: Tolerances to use instead of the default ones.
        changed: Single tolerances by name: ``fixed`` in standard errors, ``std_error`` and ``sd`` as relative
            differences, ``log_likelihood`` as an absolute difference, ``posterior_fixed`` in standard errors,
            ``posterior_sd`` as a ratio; see :class:`unimix.Tolerances`.

    Raises:
        DisagreementError: If fits disagree, or one of them did not converge; the message shows the comparison.
        DataError: If the fits belong to different designs.
        OptionError: If there is no tolerance of a name, or there are fewer than two fits.

    Example:
        >>> import unimix as um
        >>> from unimix.testing import assert_agree
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fits = [um.fit("Reaction ~ Days + (1 | Subject)", sleep, backend=b) for b in ("pls", "statsmodels")]
        >>> assert_agree(*fits, fixed=0.001)
    """
    build_comparison(list(fits), []).assert_agree(tolerances, **changed)
