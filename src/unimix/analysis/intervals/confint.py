"""Intervals of a fitted model's parameters by the chosen method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unimix.analysis.intervals.bootstrap import bootstrap
from unimix.analysis.intervals.intervals import Intervals, credible, method_of, profile, wald
from unimix.fitted.model import FittedModel, interval_level

Method = Literal["wald", "profile", "bootstrap", "credible"]


def confint(
    fit: FittedModel,
    method: Method | None = None,
    *,
    parameters: str | Sequence[str] | None = None,
    ci_level: float | None = None,
    n: int = 1000,
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Intervals:
    """Intervals of fixed effects, standard deviations, correlations and scales.

    Args:
        method: Method of the intervals; None takes wald, or credible for a posterior. wald: estimates -/+ quantiles of
            t (or z) times standard errors; SDs and scales on the log scale and correlations on the atanh scale, from
            the observed information. profile: likelihood-ratio intervals, with all other parameters estimated again at
            each value of one, by unimix's own criterion whichever engine fitted (ML for linear models, as lme4's
            ``confint``; Laplace or quadrature for generalised ones). bootstrap: percentile intervals of
            :meth:`bootstrap`. credible: quantiles of the draws, the only intervals of a posterior.
        parameters: ``"fixed"``, ``"random"`` (SDs, correlations and scales), a name or a list of names such as
            ``"sd(Days | Subject)"``; None for all.
        ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.
        n: Number of refits of the bootstrap.
        seed: Seed of the bootstrap's random numbers.
        n_jobs: Number of processes for profiles and the bootstrap; -1 uses all cores. None uses this process only, or
            what a surrounding ``joblib.parallel_config`` says.
        progress: Whether to show a progress bar; None shows it on terminals.

    Returns:
        ``.table`` with index parameter and columns estimate, lower, upper, and ``.notes``. If the profile of a variance
        reaches zero, its interval ends at 0; that of a correlation ends at -1 or 1.

    Raises:
        OptionError: If an argument is wrong.
        UnsupportedModelError: If unimix has no criterion for the model (profile).
        DataError: If the likelihood has a higher maximum than the fit (profile).

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.confint()
        95% wald intervals
        parameter                estimate     lower     upper
        Intercept                251.4051  231.2332  271.5770
        Days                      10.4673    8.8791   12.0555
        sd(Intercept | Subject)   37.1238   25.9098   53.1913
        sigma                     30.9912   27.7845   34.5680
        >>> fit.confint("profile", parameters="random")
        95% profile intervals
        parameter                estimate    lower    upper
        sd(Intercept | Subject)   37.1238  26.0071  52.9360
        sigma                     30.9912  27.8139  34.5911
        The profiles are of the ML criterion.
    """
    chosen = method_of(fit, method)
    if chosen == "credible":
        return credible(fit, parameters, interval_level(fit, ci_level))
    if chosen == "wald":
        return wald(fit, parameters, interval_level(fit, ci_level))
    if chosen == "profile":
        return profile(fit, parameters, interval_level(fit, ci_level), n_jobs=n_jobs, progress=progress)
    replicates = bootstrap(fit, n, parameters=parameters, seed=seed, n_jobs=n_jobs, progress=progress)
    return replicates.confint(ci_level=interval_level(fit, ci_level))
