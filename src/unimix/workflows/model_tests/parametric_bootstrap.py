"""Likelihood-ratio tests by the parametric bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.simulate import simulator_of
from unimix.argument_types import count_fault
from unimix.design.arrays import Design
from unimix.errors import FitError, OptionError, UnimixError
from unimix.estimation.refit import refitter_of
from unimix.estimation.run import EngineRefitter
from unimix.fitted.schema import UNSURE
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import check_seed, run_batches
from unimix.result import FitResult
from unimix.stats.simulation import Simulator
from unimix.workflows.model_tests.nesting import by_one_criterion, likelihood_ratio, likelihoods, same_response, several

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class BootstrapTest(TableResult):
    """The answer of :func:`bootstrap_test`.

    Attributes:
        table: One row per test, with the columns statistic, df and p_value. Rows: ``bootstrap``; ``Bartlett``, for
            tests of fixed effects (the statistic times df, divided by the mean of the replicates, has a chi-squared
            distribution); ``chi-squared``, as in :func:`unimix.anova`.
        replicates: Likelihood-ratio statistics of responses drawn from the smaller model, shape (n,); NaN where a fit
            failed.
        states: Statuses of the two fits to each response, or the error of a failed fit.
        notes: Notes on refits, failed fits and the p value.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> um.bootstrap_test(small, large, n=9, seed=1, progress=False)
        test         statistic  df  p_value
        bootstrap        42.84   -    0.100
        chi-squared      42.84   2   <0.001
        Monte Carlo error of the p value: 0.1
        p values of one variance more: the mixture of chi-squared distributions on the boundary.
    """

    table: pd.DataFrame
    replicates: FloatArray
    states: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """The bootstrap p value: (1 + number of replicates not below the statistic) / (1 + number of replicates)."""
        return float(self.table["p_value"].to_numpy()[0])

    @property
    def monte_carlo_error(self) -> float:
        """Monte Carlo standard error of the p value, sqrt(p (1 - p) / n)."""
        n = int(np.isfinite(self.replicates).sum())
        return float(np.sqrt(self.p_value * (1 - self.p_value) / n))

    def _below(self) -> Sequence[str]:
        return (f"Monte Carlo error of the p value: {self.monte_carlo_error:.2g}", *self.notes)


@dataclass(frozen=True)
class _Pair:
    designs: tuple[Design, Design]
    engines: tuple[EngineRefitter, EngineRefitter]
    simulator: Simulator

    def __call__(self, seeds: Sequence[np.random.SeedSequence]) -> list[tuple[float, str]]:
        drawn = [self.simulator.draw(np.random.default_rng(seed)) for seed in seeds]
        changed = [[design.with_response(y) for y in drawn] for design in self.designs]
        for designs, original, engine in zip(changed, self.designs, self.engines, strict=True):
            engine.prepare([d for d in designs if np.isfinite(d.y).all()], original)
        return [self._compared(pair) for pair in zip(*changed, strict=True)]

    def _compared(self, pair: tuple[Design, ...]) -> tuple[float, str]:
        try:
            fits = [engine(design) for design, engine in zip(pair, self.engines, strict=True)]
        except UnimixError as error:
            return np.nan, " ".join(str(error).split())
        return 2 * (fits[1].log_likelihood - fits[0].log_likelihood), ", ".join(f.status.state for f in fits)


@suggests_names
def bootstrap_test(
    first: FitResult,
    second: FitResult,
    n: int = 1000,
    *,
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> BootstrapTest:
    """Test two nested models by the parametric bootstrap of their likelihood ratio.

    Responses are drawn from the smaller model at its estimates, and both models are fitted to each of them. The test is
    exact except for the error of these estimates, also with few groups and for variances on their boundary, where
    chi-squared distributions are poor approximations. Sources: Halekoh & Hojsgaard (2014), J. Stat. Softw. 59(9),
    section 5 (``PBmodcomp`` of pbkrtest); Davison & Hinkley (1997), Bootstrap Methods and their Application, section
    4.2.5, for the p value (1 + k) / (1 + n).

    Args:
        first: A result of one model, by an engine that maximises a likelihood.
        second: A result of the other model, of the same rows. REML fits whose fixed parts differ are refitted by ML.
        n: Number of simulated responses.
        seed: Seed of the random numbers; the same seed gives the same responses in any number of processes.
        n_jobs: Number of processes (joblib); -1 uses all cores. None uses this process, or the number of a surrounding
            ``joblib.parallel_config``.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        ``.table`` with the bootstrap, Bartlett and chi-squared tests, ``.p_value`` and ``.replicates``.

    Raises:
        DataError: If the results belong to different rows, or the models are not nested.
        OptionError: If n or seed is wrong.
        UnimixError: If a result is a posterior.
        FitError: If no refit succeeded.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small = um.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> large = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> test = um.bootstrap_test(small, large, n=9, seed=1, progress=False)
        >>> test.p_value
        0.1
    """
    check_seed(seed)
    if fault := count_fault("n", n, 1, "responses (1000 for a p value)"):
        raise OptionError(fault)
    notes: list[str] = []
    several([first, second], "bootstrap_test")
    likelihoods([first, second], "bootstrap_test")
    same_response([first, second], families=True)
    _, (smaller, larger) = by_one_criterion([first, second], notes)
    plain = likelihood_ratio(larger, smaller, notes)
    engines = refitter_of(smaller, many=True), refitter_of(larger, many=True)
    work = _Pair((smaller.design(), larger.design()), engines, simulator_of(smaller))
    seeds = np.random.SeedSequence(seed).spawn(int(n))
    size = min(engine.batch_size(design) for engine, design in zip(engines, work.designs, strict=True))
    refits = run_batches(work, seeds, size, n_jobs=n_jobs, progress=progress, title="bootstrap test")
    replicates = np.array([value for value, _ in refits])
    ratios = np.maximum(replicates[np.isfinite(replicates)], 0.0)
    if not len(ratios):
        raise FitError(f"No refit succeeded; the first says: {refits[0][1]}")
    if len(ratios) < len(replicates):
        why = next(state for value, state in refits if not np.isfinite(value))
        notes.append(
            f"{len(replicates) - len(ratios)} responses could not be fitted and are left out; the first: {why}"
        )
    for bad, words in UNSURE.items():
        unsure = sum(bad in state for _, state in refits)
        if unsure:
            notes.append(f"{unsure} responses have a fit that {words}; they are counted.")
    statistic, df = plain["chisq"], plain["df"]
    # p = (1 + #{ratios >= statistic}) / (1 + n); 1e-6 is the error of the optimizers, up to which likelihoods of two
    # models on the boundary are equal
    rows = {"bootstrap": (statistic, np.nan, (1 + int(np.sum(ratios >= statistic - 1e-6))) / (1 + len(ratios)))}
    if _widths(smaller) == _widths(larger) and ratios.mean() > 0:
        bartlett = statistic * df / float(ratios.mean())  # the mean of chi-squared is df
        rows["Bartlett"] = (bartlett, df, float(special.chdtrc(df, max(bartlett, 0.0))))
    rows["chi-squared"] = (statistic, df, plain["p_value"])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["statistic", "df", "p_value"])
    table.index.name = "test"
    return BootstrapTest(table, replicates, tuple(state for _, state in refits), tuple(dict.fromkeys(notes)))


def _widths(fit: FitResult) -> list[int]:
    return sorted(len(b.terms) for b in (*fit.random, *(s.curve for s in fit.smooths)))


__all__ = ["BootstrapTest", "bootstrap_test"]
