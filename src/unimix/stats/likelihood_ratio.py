"""The likelihood-ratio statistic of nested models, and its p value at the boundary of the parameters."""

from __future__ import annotations

from scipy import special


def ratio_statistic(larger: float, smaller: float) -> float:
    """Likelihood-ratio statistic 2 (l1 - l0); 0 if it is negative by no more than the optimizers' error of 1e-3."""
    statistic = 2 * (larger - smaller)
    return 0.0 if -1e-3 <= statistic < 0 else statistic


def mixture_p_value(statistic: float, df: int, *, boundary: bool) -> float:
    """The p value of a likelihood ratio, if the null hypothesis may put one parameter on its boundary.

    On the boundary the statistic is distributed as an equal mixture of chi-squared distributions with df and df - 1
    degrees of freedom (Self & Liang 1987, J. Am. Stat. Assoc. 82:605; Stram & Lee 1994, Biometrics 50:1171).

    Args:
        statistic: Twice the difference of the log-likelihoods.
        df: Difference of the numbers of parameters.
        boundary: Whether the null hypothesis puts one parameter on its boundary.
    """
    statistic = max(statistic, 0.0)
    plain = float(special.chdtrc(df, statistic))
    if not boundary:
        return plain
    below = float(special.chdtrc(df - 1, statistic)) if df > 1 else float(statistic <= 0)
    return 0.5 * plain + 0.5 * below


__all__ = ["mixture_p_value", "ratio_statistic"]
