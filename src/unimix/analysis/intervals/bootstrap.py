"""The bootstrap: the model fitted again, by its own engine, to simulated responses or to resampled groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.intervals.intervals import Intervals
from unimix.analysis.intervals.parameters import chosen, parameters_of, values_of
from unimix.analysis.prediction.simulate import simulator_of
from unimix.argument_types import count_fault
from unimix.design.arrays import Design
from unimix.design.covariance_structures import IN_TIME
from unimix.design.grouping_factors import is_nested
from unimix.errors import DataError, FitError, OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.model import own_refitter
from unimix.fitted.schema import UNSURE
from unimix.fitted.table_result import TableResult
from unimix.parallel.jobs import check_seed, run_batches, run_jobs
from unimix.stats.bootstrap import KINDS, bootstrap_interval
from unimix.stats.inference import checked_level
from unimix.stats.simulation import Simulator, resample, without

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel
    from unimix.fitted.unsaved import Refitter

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Statistic = Callable[["FittedModel"], Mapping[str, float]]

SOURCES = ("parametric", "cases")
FEWEST = 2
"""Smallest number of replicates from which intervals are computed."""


@dataclass(frozen=True)
class Replicate:
    """One refit of the bootstrap.

    Attributes:
        numbers: Parameters or statistics of the refit, shape (k,); NaN if the fit failed.
        state: Status of the fit, or the reason why it failed.
    """

    numbers: FloatArray
    state: str


@dataclass(frozen=True)
class _Work:
    """Everything that a process needs to make replicates."""

    refitter: Refitter[FittedModel]
    statistic: Statistic
    names: tuple[str, ...]
    design: Design
    simulator: Simulator | None
    codes: IntArray | None

    def parametric(self, seeds: Sequence[np.random.SeedSequence]) -> list[Replicate]:
        assert self.simulator is not None  # noqa: S101  made by bootstrap()
        drawn = [self.simulator.draw(np.random.default_rng(seed)) for seed in seeds]
        designs = [self.design.with_response(y) for y in drawn]
        self.refitter.prepare([d for d in designs if np.isfinite(d.y).all()], self.design)
        return [self.fitted(lambda design=design: design) for design in designs]  # type: ignore[misc]

    def cases(self, seed: np.random.SeedSequence) -> Replicate:
        return self.fitted(lambda: resample(self.design, self.codes, np.random.default_rng(seed)))

    def without_level(self, level: int) -> Replicate:
        return self.fitted(lambda: without(self.design, self.codes, level))

    def fitted(self, make: Callable[[], Design]) -> Replicate:
        try:
            design = make()
            if design.p and np.linalg.matrix_rank(design.x) < design.p:
                raise DataError("the sampled rows lack levels of a factor, so that coefficients are not estimable")
            if not np.isfinite(design.y).all():
                raise DataError("the simulated response has values that are not finite")
            fit = self.refitter(design)
            statistic = _named(self.statistic(fit))
            lost = [n for n in self.names if n not in statistic]
            if lost:
                raise DataError(f"statistic= returned no {lost[0]!r} for a refit")
        except UnimixError as error:
            return Replicate(np.full(len(self.names), np.nan), " ".join(str(error).split()))
        numbers = np.array([statistic[name] for name in self.names], dtype=np.float64)
        return Replicate(numbers, fit.status.state if np.isfinite(numbers).any() else "the statistic is not a number")


@dataclass(frozen=True, repr=False, eq=False)
class Bootstrap(TableResult):
    """Replicates of a model's parameters, or of a statistic.

    Attributes:
        estimates: Estimates of the fit, index parameter.
        replicates: One row per refit, with a column for each of ``estimates``; NaN if the refit failed.
        states: Status of each refit, or the reason why it failed.
        source: Source of the responses: parametric or cases.
        group: Grouping factor whose levels were resampled (cases) or are left out (BCa); None for single rows.
        ci_level: Probability of intervals if none is given, between 0 and 1.
    """

    estimates: pd.Series[float]
    replicates: pd.DataFrame
    states: tuple[str, ...]
    source: str
    group: str | None
    ci_level: float
    _work: _Work = field(repr=False)
    _n_units: int = field(repr=False)
    _n_jobs: int | None = field(repr=False)
    _progress: bool | None = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Numbers of refits, and of those that failed or did not converge."""
        known = ("converged", "singular", *UNSURE)
        failed = [s for s in self.states if s not in known]
        notes = [f"{len(self.states) - len(failed)} of {len(self.states)} refits"]
        if failed:
            notes.append(f"{len(failed)} refits failed and are left out; the first: {failed[0]}")
        counted = {
            "singular": "are singular",
            "not_converged": "did not converge, and are counted",
            "not_identified": "are not identified, and are counted",
        }
        for state, words in counted.items():
            if state in self.states:
                notes.append(f"{self.states.count(state)} refits {words}")
        return tuple(notes)

    @property
    def table(self) -> pd.DataFrame:
        """One row per parameter: columns estimate, bias (mean of the replicates minus estimate), std_error, n."""
        replicates = self.replicates
        return pd.DataFrame(
            {
                "estimate": self.estimates,
                "bias": replicates.mean() - self.estimates,
                "std_error": replicates.std(ddof=1),
                "n": replicates.notna().sum(),
            }
        )

    @cached_property
    def jackknife(self) -> pd.DataFrame:
        """The statistic with each level of ``group`` (each row, without groups) left out in turn, for BCa intervals."""
        levels = list(range(self._n_units))
        refits = run_jobs(
            self._work.without_level, levels, n_jobs=self._n_jobs, progress=self._progress, title="leaving one out"
        )
        return pd.DataFrame([r.numbers for r in refits], columns=self.replicates.columns)

    def confint(self, kind: str = "percentile", *, ci_level: float | None = None) -> Intervals:
        """Intervals of all parameters.

        Args:
            kind: Kind of interval: percentile, basic, normal (estimate minus bias, with the standard deviation of the
                replicates) or bca (bias-corrected and accelerated; refits the model without each level once). Davison &
                Hinkley (1997), Bootstrap Methods and their Application, chapter 5.
            ci_level: Probability of the intervals, between 0 and 1; None takes that of the fit.

        Returns:
            ``.table`` with index parameter and columns estimate, lower, upper.

        Raises:
            OptionError: If the kind is unknown, or there are too few replicates for its quantiles.
            FitError: If too few refits succeeded.
        """
        ci_level = self.ci_level if ci_level is None else ci_level
        checked_level(ci_level)
        if kind not in KINDS:
            raise OptionError(f"kind={kind!r}: choose {listing(KINDS)}.{did_you_mean(str(kind), KINDS)}")
        rows, least = [], int(np.ceil(2 / (1 - ci_level))) - 1
        if kind != "normal" and len(self.replicates) < least:
            raise OptionError(
                f"{100 * ci_level:g}% {kind} intervals are quantiles that need at least {least} refits, and there are "
                f"{len(self.replicates)}: bootstrap(1000), or kind='normal'."
            )
        for name in self.replicates.columns:
            values = self.replicates[name].dropna().to_numpy()
            estimate = float(self.estimates[name])
            if len(values) < FEWEST or not np.isfinite(estimate):
                rows.append((np.nan, np.nan))
                continue
            jackknife = self.jackknife[name].dropna().to_numpy() if kind == "bca" else None
            rows.append(bootstrap_interval(kind, values, estimate, ci_level, jackknife))
        table = pd.DataFrame(rows, columns=["lower", "upper"], index=self.estimates.index)
        table.insert(0, "estimate", self.estimates)
        notes = list(self.notes)
        if kind == "bca":
            lost = int(self.jackknife.isna().any(axis=1).sum())
            notes += [f"{lost} of {len(self.jackknife)} fits with one left out failed"] if lost else []
        return Intervals(table, f"{self.source} bootstrap ({kind})", ci_level, tuple(notes))

    @property
    def _heading(self) -> str:
        return f"{self.source} bootstrap"


def bootstrap(
    fit: FittedModel,
    n: int = 1000,
    *,
    source: Literal["parametric", "cases"] = "parametric",
    group: str | None = None,
    parameters: str | Sequence[str] | None = None,
    statistic: Callable[[FittedModel], Mapping[str, float]] | None = None,
    effects: Literal["new", "kept"] = "new",
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Bootstrap:
    """Fit the model again, by its own engine and options, to simulated responses or resampled groups.

    Args:
        n: Number of refits.
        source: Source of the responses. parametric: simulated at the estimates, as in lme4's ``bootMer``. cases: levels
            of a grouping factor resampled with replacement, with all of their rows (single rows if the model has no
            groups).
        group: Grouping factor whose levels are resampled, and left out one at a time for BCa intervals; None takes the
            outermost.
        parameters: ``"fixed"``, ``"random"`` (SDs, correlations and scales), a name or a list of names such as
            ``"sd(Days | Subject)"``; None for all.
        statistic: Function of a refitted result that returns numbers by name, instead of parameters:
            ``lambda fit: {"ratio": fit.fixed.estimate[1] / fit.fixed.estimate[2]}``.
        effects: Group effects of the simulated responses: new draws, or kept from the fit.
        seed: Seed of the random numbers; the same seed gives the same replicates in any number of processes.
        n_jobs: Number of processes, by joblib; -1 uses all cores. None uses this process only, or what a surrounding
            ``joblib.parallel_config`` says.
        progress: Whether to show a progress bar; None shows it on terminals.

    Returns:
        ``.replicates``; ``.table`` with bias and standard error; ``.confint(kind)`` with percentile, basic, normal or
        bca intervals.

    Raises:
        OptionError: If an argument is wrong; the message lists all faults.
        UnimixError: If the fit is a posterior, or was loaded from JSON: type ``um.refit(fit, data)`` first.
        FitError: If no refit succeeded.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> replicates = fit.bootstrap(50, parameters="fixed", seed=1)
        >>> replicates
        parametric bootstrap
                   estimate     bias  std_error   n
        Intercept  251.4051   2.3652     9.0044  50
        Days        10.4673  -0.2529     0.8229  50
        50 of 50 refits
        >>> replicates.confint("normal")
        95% parametric bootstrap (normal) intervals
        parameter  estimate     lower     upper
        Intercept  251.4051  231.3915  266.6883
        Days        10.4673    9.1072   12.3331
        50 of 50 refits
    """
    if fit.fixed.interval == "credible":
        raise UnimixError("A posterior needs no bootstrap: fit.confint() has its credible intervals.")
    refitter = own_refitter(fit)
    if refitter is None:
        raise UnimixError(
            "This result was loaded and has no engine to fit with: um.refit(fit, data).bootstrap(...) fits it first."
        )
    check_seed(seed)
    faults = []
    if wrong := count_fault("n", n, FEWEST, "refits (1000 for intervals)"):
        faults.append(wrong)
    if source not in SOURCES:
        faults.append(f"source={source!r}: choose {listing(SOURCES)}.{did_you_mean(str(source), SOURCES)}")
    if statistic is not None and (not callable(statistic) or parameters is not None):
        faults.append(
            "statistic= takes a function of a FittedModel that returns named numbers, and excludes parameters=."
        )
    if faults:
        raise OptionError("\n".join(faults))
    design = fit.design()
    structures = [b.covariance_structure for b in design.blocks]
    structures = [b.covariance_structure for b in design.blocks]
    if source == "cases" and any(s is not None and s.form in IN_TIME for s in structures):
        raise OptionError("source='cases' would break up the time series of a structured covariance: use 'parametric'.")
    factor, codes = _units(design, group, source)
    if statistic is None:
        statistic = partial(_parameters, names=tuple(p.name for p in chosen(parameters_of(fit), parameters)))
    estimates = pd.Series(_named(statistic(fit)), dtype=float).rename_axis("parameter")
    work = _Work(
        refitter=refitter,
        statistic=statistic,
        names=tuple(map(str, estimates.index)),
        design=design,
        simulator=simulator_of(fit, effects) if source == "parametric" else None,
        codes=codes,
    )
    seeds = np.random.SeedSequence(seed).spawn(int(n))
    answers: list[Replicate]
    if source == "parametric":
        size = refitter.batch_size(design)
        answers = run_batches(work.parametric, seeds, size, n_jobs=n_jobs, progress=progress, title="bootstrap")
    else:
        answers = run_jobs(work.cases, seeds, n_jobs=n_jobs, progress=progress, title="bootstrap")
    replicates = pd.DataFrame([r.numbers for r in answers], columns=list(estimates.index))
    if not np.isfinite(replicates.to_numpy()).any():
        raise FitError(f"No refit succeeded; the first says: {answers[0].state}")
    n_units = design.n if codes is None else int(codes.max()) + 1
    states = tuple(r.state for r in answers)
    return Bootstrap(estimates, replicates, states, source, factor, fit.fixed.level, work, n_units, n_jobs, progress)


def _named(returned: object) -> dict[str, float]:
    """The numbers that a statistic returned.

    Raises:
        OptionError: If they are not numbers with names.
    """
    if not isinstance(returned, Mapping | pd.Series) or not len(returned):
        raise OptionError(f"statistic= returns numbers by name, such as {{'ratio': 1.5}}; it returned {returned!r}.")
    try:
        return {str(k): float(v) for k, v in returned.items()}
    except (TypeError, ValueError) as error:
        raise OptionError(f"statistic= returns numbers by name, such as {{'ratio': 1.5}}: {error}.") from error


def _parameters(fit: FittedModel, names: tuple[str, ...]) -> dict[str, float]:
    parameters = [p for p in parameters_of(fit) if p.name in names]
    return dict(zip((p.name for p in parameters), map(float, values_of(fit, parameters)), strict=True))


def _units(design: Design, group: str | None, source: str) -> tuple[str | None, IntArray | None]:
    """The factor whose levels are resampled and its codes: the outermost if none is named; None for single rows."""
    if design.residual is not None and not design.blocks:
        own = design.residual
        if group not in (None, own.group):
            raise OptionError(
                f"group={group!r}: the residuals' group is {own.group}, and there is no other. Leave it out."
            )
        return own.group, own.codes
    if not design.blocks:
        if group is not None:
            raise OptionError(
                f"group={group!r}: the model has no grouping factor, and rows are resampled. Leave it out."
            )
        return None, None
    known = {b.group: b for b in design.blocks}
    if group is not None and group not in known:
        raise OptionError(
            f"group={group!r} is not a grouping factor of this model.{did_you_mean(str(group), known)} "
            f"Known: {listing(known)}."
        )
    name = group or min(known, key=lambda g: known[g].n_levels)
    crossed = [g for g, b in known.items() if not is_nested(b.codes, known[name].codes)]
    if crossed and group is None and source == "cases":
        raise OptionError(
            f"source='cases' resamples the levels of one factor, and {name} and {crossed[0]} are crossed: name one as "
            "group=."
        )
    return name, known[name].codes


__all__ = ["Bootstrap", "bootstrap"]
