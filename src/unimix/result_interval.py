"""Intervals of a fitted model's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from unimix.analysis.intervals.bootstrap import Bootstrap, bootstrap
from unimix.analysis.intervals.intervals import Intervals, credible, method_of, profile, wald
from unimix.result_summarised import SummarisedResult

if TYPE_CHECKING:
    from unimix.result import FitResult

Method = Literal["wald", "profile", "bootstrap", "credible"]


class IntervalResult(SummarisedResult):
    """A result with intervals of all of its parameters."""

    def confint(
        self,
        method: Method | None = None,
        *,
        parameters: str | Sequence[str] | None = None,
        ci_level: float | None = None,
        n: int = 1000,
        seed: int | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
        data: Any = None,
    ) -> Intervals:
        """Intervals of fixed effects, standard deviations, correlations and scales.

        Args:
            method: wald: estimates -/+ quantiles of t (or z) times standard errors, SDs and scales on the logarithm's
                scale, correlations on atanh's, by the observed information. profile: likelihood-ratio intervals, each
                parameter held and all others estimated again, by unimix's own criterion whoever fitted (ML for
                linear models, as lme4's ``confint``; Laplace or quadrature for generalised ones). bootstrap: percentile
                intervals of :meth:`bootstrap`. credible: quantiles of a posterior, the only ones it has. wald (credible
                for a posterior) if left out.
            parameters: ``"fixed"``, ``"random"`` (SDs, correlations and scales), a name or a list of names such as
                ``"sd(Days | Subject)"``; None for all.
            ci_level: Probability (that of the fit, if left out).
            n: Refits of the bootstrap.
            seed: Of the bootstrap.
            n_jobs: Processes, for profiles and the bootstrap; -1 for all cores. None: this process, or what a
                surrounding ``joblib.parallel_config`` says.
            progress: Whether to show a bar; None shows it on terminals.
            data: The data that were fitted; needed for a result that was loaded or unpickled only.

        Returns:
            ``.table`` with index parameter and columns estimate, lower, upper, and ``.notes``. A profile of a variance
            that reaches zero ends at 0, of a correlation at -1 or 1.

        Raises:
            OptionError: For wrong arguments.
            UnsupportedModelError: If unimix has no criterion for the model (profile).
        """
        fit = cast("FitResult", self)
        chosen = method_of(fit, method)
        if chosen == "credible":
            return credible(fit, parameters, self.interval_level(ci_level))
        if chosen == "wald":
            return wald(fit, parameters, self.interval_level(ci_level), data)
        if chosen == "profile":
            return profile(fit, parameters, self.interval_level(ci_level), data, n_jobs=n_jobs, progress=progress)
        made = self.bootstrap(n, parameters=parameters, seed=seed, n_jobs=n_jobs, progress=progress, data=data)
        return made.confint(ci_level=self.interval_level(ci_level))

    def bootstrap(
        self,
        n: int = 1000,
        *,
        source: Literal["parametric", "cases"] = "parametric",
        group: str | None = None,
        parameters: str | Sequence[str] | None = None,
        statistic: Callable[[FitResult], Mapping[str, float]] | None = None,
        effects: Literal["new", "kept"] = "new",
        seed: int | None = None,
        n_jobs: int | None = None,
        progress: bool | None = None,
        data: Any = None,
    ) -> Bootstrap:
        """Fit the model again, by its own engine and options, to simulated responses or resampled groups.

        Args:
            n: Number of refits.
            source: parametric: responses simulated at the estimates (lme4's ``bootMer``); cases: levels of a grouping
                factor drawn with replacement, with all of their rows (rows, where there are no groups).
            group: The grouping factor whose levels are drawn, and left out one at a time for BCa intervals; the
                outermost, if left out.
            parameters: As for :meth:`confint`.
            statistic: Instead of parameters a function of a refitted result that returns numbers by name:
                ``lambda fit: {"ratio": fit.fixed.estimate[1] / fit.fixed.estimate[2]}``.
            effects: Of simulated responses: new group effects, or those of the fit.
            seed: Of random numbers; the same seed gives the same replicates in any number of processes.
            n_jobs: Processes, by joblib; -1 for all cores. None: this process, or what a surrounding
                ``joblib.parallel_config`` says.
            progress: Whether to show a bar; None shows it on terminals.
            data: The data that were fitted; needed for a result that was unpickled only.

        Returns:
            ``.replicates``, ``.table`` (bias, standard error), ``.confint(kind)``: percentile, basic, normal, bca.

        Raises:
            OptionError: For wrong arguments.
            UnimixError: For a posterior, or a result that was loaded from JSON: ``um.refit(fit, data)`` first.
            FitError: If no refit succeeded.
        """
        return bootstrap(
            cast("FitResult", self),
            self._refitter,
            n,
            source=source,
            group=group,
            parameters=parameters,
            statistic=statistic,
            effects=effects,
            seed=seed,
            n_jobs=n_jobs,
            progress=progress,
            data=data,
        )
