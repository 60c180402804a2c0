"""Likelihood-ratio tests by the parametric bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.prediction.simulate import simulator_of
from unimix.design.arrays import Design
from unimix.errors import FitError, OptionError, UnimixError
from unimix.estimation.refit import refitter_of
from unimix.estimation.run import EngineRefitter
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import check_seed, run_jobs
from unimix.result import FitResult
from unimix.stats.simulation import Simulator
from unimix.workflows.model_tests.nesting import by_one_criterion, likelihood_ratio, likelihoods, same_response, several

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class BootstrapTest(TableResult):
    """What :func:`bootstrap_test` found.

    Attributes:
        table: Index test; columns statistic, df, p_value: ``bootstrap``, ``Bartlett`` (of fixed effects: the statistic
            divided by the replicates' mean over df, against chi-squared) and ``chi-squared`` (as :func:`unimix.anova`
            has it).
        replicates: Likelihood ratios under the smaller model, shape (n,); NaN where a fit failed.
        states: Statuses of the two fits to each response, or why one failed.
        notes: What was done.
    """

    table: pd.DataFrame
    replicates: FloatArray
    states: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """(1 + replicates as large as the statistic) / (1 + replicates)."""
        return float(self.table["p_value"].to_numpy()[0])

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the p value from the number of replicates."""
        n = int(np.isfinite(self.replicates).sum())
        return float(np.sqrt(self.p_value * (1 - self.p_value) / n))

    def _below(self) -> Sequence[str]:
        return (f"Monte Carlo error of the p value: {self.monte_carlo_error:.2g}", *self.notes)


@dataclass(frozen=True)
class _Pair:
    designs: tuple[Design, Design]
    engines: tuple[EngineRefitter, EngineRefitter]
    simulator: Simulator

    def __call__(self, seed: np.random.SeedSequence) -> tuple[float, str]:
        y = self.simulator.draw(np.random.default_rng(seed))
        try:
            fits = [e(replace(d, y=y)) for d, e in zip(self.designs, self.engines, strict=True)]
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
    """Test two nested models against each other: the likelihood ratio among those of responses of the smaller model.

    Exact but for the estimates that responses are drawn at, also with few groups and for variances on their boundary,
    where chi-squared distributions are not. Halekoh & Hojsgaard (2014), J. Stat. Softw. 59(9), section 5 (pbkrtest's
    ``PBmodcomp``); Davison & Hinkley (1997), section 4.2.5, for (1 + k) / (1 + n).

    Args:
        first: A result of one model, by an engine that maximises a likelihood.
        second: Of the other, of the same rows; REML fits whose fixed parts differ are refitted by ML.
        n: Number of responses.
        seed: Seed of the random numbers; the same seed gives the same responses in any number of processes.
        n_jobs: Processes, by joblib; -1 for all cores. None: this process, or what a surrounding
            ``joblib.parallel_config`` says.
        progress: Whether to show a bar; None shows it on terminals.

    Raises:
        DataError: If the results belong to other rows, or are not nested.
        OptionError: For a wrong number.
        FitError: If no refit succeeded.
    """
    check_seed(seed)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise OptionError(f"n={n!r}: a whole number of responses, 1 at least (1000 for a p value).")
    notes: list[str] = []
    several([first, second], "bootstrap_test")
    likelihoods([first, second], "bootstrap_test")
    same_response([first, second], families=True)
    _, (smaller, larger) = by_one_criterion([first, second], notes)
    plain = likelihood_ratio(larger, smaller, notes)
    engines = refitter_of(smaller, many=True), refitter_of(larger, many=True)
    work = _Pair((smaller.design(), larger.design()), engines, simulator_of(smaller))
    seeds = np.random.SeedSequence(seed).spawn(int(n))
    made = run_jobs(work, seeds, n_jobs=n_jobs, progress=progress, title="bootstrap test")
    replicates = np.array([value for value, _ in made])
    found = np.maximum(replicates[np.isfinite(replicates)], 0.0)
    if not len(found):
        raise FitError(f"No refit succeeded; the first says: {made[0][1]}")
    if len(found) < len(replicates):
        why = next(state for value, state in made if not np.isfinite(value))
        notes.append(f"{len(replicates) - len(found)} responses could not be fitted and are left out; the first: {why}")
    unsure = sum("not_converged" in state for _, state in made)
    if unsure:
        notes.append(f"{unsure} responses have a fit that did not converge; they are counted.")
    statistic, df = plain["chisq"], plain["df"]
    # Ties are ties up to what searches leave: two models on the boundary have equal likelihoods.
    rows = {"bootstrap": (statistic, np.nan, (1 + int(np.sum(found >= statistic - 1e-6))) / (1 + len(found)))}
    if _widths(smaller) == _widths(larger) and found.mean() > 0:
        bartlett = statistic * df / float(found.mean())
        rows["Bartlett"] = (bartlett, df, float(special.chdtrc(df, max(bartlett, 0.0))))
    rows["chi-squared"] = (statistic, df, plain["p_value"])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["statistic", "df", "p_value"])
    table.index.name = "test"
    return BootstrapTest(table, replicates, tuple(state for _, state in made), tuple(dict.fromkeys(notes)))


def _widths(fit: FitResult) -> list[int]:
    return sorted(len(b.terms) for b in fit.random)


__all__ = ["BootstrapTest", "bootstrap_test"]
