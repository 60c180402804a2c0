"""Power of a test for several sizes of a design, by simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

from unimix.analysis.intervals.parameters import Parameter, parameters_of, values_of
from unimix.analysis.means.linear_functions import fixed_inference
from unimix.analysis.prediction.simulate import simulator_of
from unimix.analysis.tests.anova import term_weights
from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.design.arrays import Design
from unimix.distributions.ordered import refuse_categories
from unimix.errors import FitError, OptionError, UnimixError, UnsupportedModelError, did_you_mean, listing
from unimix.estimation.arguments import DF_METHODS
from unimix.estimation.refit import refitter_of
from unimix.estimation.run import EngineRefitter
from unimix.fitted.correlated import refuse_correlated, refuse_smooths
from unimix.fitted.describe import is_robust
from unimix.fitted.schema import UNSURE
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.parallel.jobs import check_seed, run_batches
from unimix.result import FitResult
from unimix.stats.simulation import Simulator, resized

FloatArray = npt.NDArray[np.float64]
Sizes = int | Sequence[int] | None


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class Power(TableResult):
    """The answer of :func:`power`.

    Attributes:
        table: One row per design. Columns: n_groups, n_rows (rows per level, on average), n_obs, power, lower and upper
            (Clopper and Pearson's 95 % interval of the power), estimate (mean estimate, where one coefficient is
            tested), exaggeration (type M error: mean size of the significant estimates divided by the true size),
            wrong_sign (type S error: share of the significant estimates with the wrong sign), n_sim, failed.
        effect: Name of the tested term or coefficient.
        truth: True parameters of the simulated responses, by name.
        alpha: Significance level of the test.
        notes: Remarks on the simulation, such as the number of failed fits.
        group: Name of the grouping factor whose levels ``n_groups`` counts, or None.
        varied: Names of the sizes that were varied: n_groups, n_rows.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> um.power(fit, "Days", value=3.0, n_groups=6, n_sim=1, seed=1, progress=False).truth.round(1)
        Intercept                  251.4
        Days                         3.0
        sd(Intercept | Subject)     37.1
        sigma                       31.0
        dtype: float64
    """

    table: pd.DataFrame
    effect: str
    truth: pd.Series[float]
    alpha: float
    notes: tuple[str, ...]
    group: str | None
    varied: tuple[str, ...]

    def plot(self, ax: Any = None) -> Any:
        """Draw the power against the size of the design, with Monte Carlo intervals.

        Args:
            ax: The matplotlib Axes to draw on; new ones, if left out.

        Returns:
            The matplotlib Axes.
        """
        from unimix.plots.power import draw_power

        return draw_power(self.table, self.varied, self.group, f"Power for {self.effect} at {self.alpha:g}", ax)

    @property
    def _heading(self) -> str:
        sizes = f"; n_groups are levels of {self.group}, n_rows rows per level" if self.group else ""
        return f"Power for {self.effect} at level {self.alpha:g}{sizes}"


@dataclass(frozen=True)
class _Trial:
    """One simulation of a design: draw responses, fit and test them. It is sent to worker processes."""

    simulator: Simulator
    original: Design
    engine: EngineRefitter
    weights: FloatArray
    df_method: str | None
    alpha: float

    def __call__(self, seeds: Sequence[np.random.SeedSequence]) -> list[tuple[float, float, str]]:
        """Simulate once per seed; return the numbers of :meth:`_tested` for each."""
        drawn = [self.simulator.draw(np.random.default_rng(seed)) for seed in seeds]
        designs = [self.simulator.design.with_response(y) for y in drawn]
        self.engine.prepare([d for d in designs if np.isfinite(d.y).all()], self.original)
        return [self._tested(design) for design in designs]

    def _tested(self, design: Design) -> tuple[float, float, str]:
        """Whether the test rejects (1, 0 or NaN), the first estimate, and the status of the fit."""
        try:
            inference = fixed_inference(fit := self.engine(design), self.df_method)
            estimate = float((self.weights @ inference.beta)[0])
            if fit.fixed.interval == "credible":
                rejected = self._excludes_zero(inference.functions(self.weights).draws)
            else:
                rejected = float(inference.joint_test(self.weights)[3] < self.alpha)
        except (UnimixError, np.linalg.LinAlgError) as error:
            return np.nan, np.nan, " ".join(str(error).split())
        return rejected, estimate, fit.status.state

    def _excludes_zero(self, draws: FloatArray | None) -> float:
        if draws is None:
            return np.nan
        low, high = np.quantile(draws[:, 0], [self.alpha / 2, 1 - self.alpha / 2])
        return float(low > 0 or high < 0)


@suggests_names
def power(
    fit: FitResult,
    effect: str,
    *,
    value: float | None = None,
    parameters: Mapping[str, float] | None = None,
    n_groups: Sizes = None,
    n_rows: Sizes = None,
    group: str | None = None,
    alpha: float = 0.05,
    n_sim: int = 500,
    df_method: str | None = None,
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Power:
    """Estimate by simulation how often a design would detect an effect.

    Responses are simulated from the model, fitted by its engine and tested. The estimates of a pilot study are
    uncertain and, if they were selected because they were significant, too large; give the smallest ``value`` that
    matters instead (Gelman & Carlin 2014, Perspect. Psychol. Sci. 9:641, who also define exaggeration and wrong signs).
    Designs are extended by copies of their rows, as in simr (Green & MacLeod 2016, Methods Ecol. Evol. 7:493).

    Args:
        fit: A fitted model, of pilot data or of any data with the predictors of the design.
        effect: Name of the coefficient to test, or of a term of the fixed part for its joint type III test.
        value: True value of the coefficient; its estimate, if left out. A value of 0 gives the type I error.
        parameters: True values of other parameters, by the names of ``fit.confint().table``, such as
            ``{"sd(Intercept | g)": 2.0}``; their estimates, if left out.
        n_groups: Number of levels of the grouping factor, or several numbers. Larger designs repeat levels with all of
            their rows; smaller designs keep levels that are spread evenly over their order.
        n_rows: Number of rows per level, or several numbers. Larger designs repeat the rows of each level; smaller
            designs keep rows that are spread evenly. For a model without groups it is the number of all rows.
        group: Name of the grouping factor whose levels are counted; needed to vary a design with several factors.
        alpha: Significance level of the test. For a posterior, the test is whether its interval excludes zero.
        n_sim: Number of simulations per design.
        df_method: Degrees of freedom of the test; those of the result, if left out.
        seed: Seed of the random numbers; the same seed gives the same numbers in any number of processes. Designs have
            random numbers of their own, so that their errors are independent.
        n_jobs: Number of processes (joblib); -1 uses all cores. None uses this process, or the number of a surrounding
            ``joblib.parallel_config``.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        ``.table`` with one row per design, ``.plot()``, and the assumed parameters ``.truth``.

    Raises:
        OptionError: If arguments are wrong, all faults at once; or if the coefficients of a design cannot be estimated.
        UnsupportedModelError: If the model has zero inflation or a model of the dispersion.
        FitError: If no simulation could be fitted.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> um.power(fit, "Days", value=3.0, n_groups=6, n_sim=20, seed=1, progress=False)
        Power for Days at level 0.05; n_groups are levels of Subject, n_rows rows per level
        n_groups  n_rows  n_obs   power   lower   upper  estimate  exaggeration  wrong_sign  n_sim  failed
               6      10     60  ...
    """
    refuse_correlated(fit, "A simulation of power")
    refuse_smooths(fit, "A simulation of power")
    if is_robust(fit):
        raise UnimixError(
            "um.power simulates from the estimated variances and tests with model-based standard errors: give the fit "
            "itself, without .robust(...)."
        )
    check_seed(seed)
    refuse_categories(fit.family, "power, whose truth is set for intercept and slopes,")
    if fit.parts:
        raise UnsupportedModelError(
            f"{fit.model.reading} models more than the mean ({listing(fit.parts)}): it cannot be simulated yet."
        )
    design = fit.design()
    weights = term_weights(fit, effect)
    faults = _faults(fit, effect, weights, value, alpha, n_sim, df_method, group, n_groups, n_rows)
    truth, wrong = _truth(fit, effect, value, parameters or {})
    if faults + wrong:
        raise OptionError("\n".join(faults + wrong))
    method = df_method or (None if fit.fixed.interval == "credible" else fit.fixed.df_method)
    simulator = _at(simulator_of(fit, "new"), fit, truth)
    engine, (chosen, codes) = refitter_of(fit, many=True), _codes(design, group)
    rows, states = [], []
    streams = iter(np.random.SeedSequence(seed).spawn(len(_listed(n_groups)) * len(_listed(n_rows))))
    for levels in _listed(n_groups):
        for size in _listed(n_rows):
            resized_design = resized(simulator.design, codes, levels, size)
            if np.linalg.matrix_rank(resized_design.x) < resized_design.p:
                raise OptionError(
                    f"With n_groups={levels}, n_rows={size} the coefficients are not estimable: levels of a predictor "
                    "are missing, or there are too few rows."
                )
            trial = _Trial(replace(simulator, design=resized_design), design, engine, weights, method, alpha)
            title, at_once = f"power ({resized_design.n} rows)", engine.batch_size(resized_design)
            seeds = next(streams).spawn(n_sim)
            trials = run_batches(trial, seeds, at_once, n_jobs=n_jobs, progress=progress, title=title)
            states += [s for _, _, s in trials]
            true = float((weights @ simulator.beta)[0]) if len(weights) == 1 else np.nan
            rows.append(_line(resized_design, chosen, trials, true))
    if all(r["n_sim"] == 0 for r in rows):
        raise FitError(f"No simulation could be fitted; the first says: {states[0]}")
    names = [p.name for p in parameters_of(fit)]
    assumed = pd.Series(truth, index=names, dtype=float)
    varied = tuple(n for n, sizes in (("n_groups", n_groups), ("n_rows", n_rows)) if sizes is not None)
    tested = {t for t, w in zip(fit.fixed.terms, np.abs(weights).max(axis=0), strict=True) if w > 0}
    given = value is not None or bool(tested & set(parameters or {}))
    return Power(pd.DataFrame(rows), effect, assumed, alpha, _notes(states, given=given), chosen, varied)


def _notes(states: list[str], *, given: bool) -> tuple[str, ...]:
    notes = []
    if not given:
        notes.append("The true effect is the estimate, which is itself uncertain: value= sets another.")
    failed = [s for s in states if s not in ("converged", "singular", *UNSURE)]
    if failed:
        notes.append(f"{len(failed)} of {len(states)} simulations failed and are left out; the first: {failed[0]}")
    unsure = sum(s in UNSURE for s in states)
    if unsure:
        notes.append(f"{unsure} of {len(states)} fits did not converge or are not identified, but are counted.")
    return tuple(notes)


def _listed(sizes: Sizes) -> list[int | None]:
    return [sizes] if sizes is None or np.isscalar(sizes) else list(sizes)  # type: ignore[list-item, arg-type]


def _faults(
    fit: FitResult,
    effect: str,
    weights: FloatArray,
    value: float | None,
    alpha: float,
    n_sim: int,
    df_method: str | None,
    group: str | None,
    n_groups: Sizes,
    n_rows: Sizes,
) -> list[str]:
    faults = []
    if value is not None and effect not in fit.fixed.terms:
        faults.append(f"value= is for one coefficient, but {effect!r} is a term: give its coefficients as parameters=.")
    if fit.fixed.interval == "credible" and len(weights) > 1:
        faults.append(f"A posterior has no joint test of {effect!r}: name one of its coefficients.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        faults.append(f"alpha={alpha!r}: give a probability between 0 and 1, such as 0.05.")
    faults += filter(None, [count_fault("n_sim", n_sim, 1, "simulations")])
    if df_method is not None and df_method not in DF_METHODS:
        faults.append(f"df_method={df_method!r}: choose {listing(DF_METHODS)}.{did_you_mean(df_method, DF_METHODS)}")
    elif df_method in ("satterthwaite", "kenward-roger") and not (fit.family.is_linear and fit.random):
        faults.append(f"df_method={df_method!r} is for linear mixed models.")
    groups = list(dict.fromkeys(b.group for b in fit.random))
    if group is not None and group not in groups:
        faults.append(f"group={group!r} is not a grouping factor of this model.{did_you_mean(group, groups)}")
    if group is None and len(groups) > 1 and (n_groups is not None or n_rows is not None):
        faults.append(
            f"The model has several grouping factors: name one of {listing(map(repr, groups))} as group=. n_groups= is "
            "the number of its levels, and n_rows= that of rows in each of them."
        )
    if n_groups is not None and not groups:
        faults.append("n_groups= is for models with a grouping factor: use n_rows.")
    for name, sizes, least in (("n_groups", n_groups, 2), ("n_rows", n_rows, 1)):
        wrong = [count_fault(name, s, least, name.removeprefix("n_")) for s in _listed(sizes) if s is not None]
        faults += [fault for fault in wrong if fault]
        if sizes is not None and not _listed(sizes):
            faults.append(f"{name}={sizes!r}: give whole numbers, at least {least}.")
    if not faults and n_groups is not None and n_rows is not None:
        largest = [max(s for s in _listed(sizes) if s is not None) for sizes in (n_groups, n_rows)]
        each = largest[1] * (len(fit.fixed.terms) + sum(len(b.terms) for b in fit.random) + 1)
        faults += filter(None, [memory_fault("n_groups", largest[0], each, "groups")])
    return faults


def _truth(
    fit: FitResult, effect: str, value: float | None, parameters: Mapping[str, float]
) -> tuple[dict[str, float], list[str]]:
    """The true value of every parameter by name, and messages about wrong values."""
    known = parameters_of(fit)
    truth = dict(zip((p.name for p in known), map(float, values_of(fit, known)), strict=True))
    given = {**parameters, **({effect: value} if value is not None and effect in truth else {})}
    faults = [
        f"parameters= has no parameter {name!r}.{did_you_mean(str(name), truth)} Known: {listing(truth)}."
        for name in given
        if name not in truth
    ]
    kinds = {p.name: p.target.kind if p.target else p.part for p in known}
    for name, v in given.items():
        kind = kinds.get(name)
        if isinstance(v, bool) or not isinstance(v, int | float | np.number) or not np.isfinite(v):
            faults.append(f"parameters[{name!r}]={v!r}: give a number.")
        elif kind in ("sd", "scale") and (v < 0 or (kind == "scale" and v == 0)):
            faults.append(f"parameters[{name!r}]={v!r}: give a positive number.")
        elif kind == "cor" and abs(v) > 1:
            faults.append(f"parameters[{name!r}]={v!r}: give a correlation between -1 and 1.")
    truth.update({k: float(v) for k, v in given.items() if k in truth and not faults})
    return truth, faults


def _at(simulator: Simulator, fit: FitResult, truth: Mapping[str, float]) -> Simulator:
    """The simulator with the true parameters in place of the estimates."""
    beta, scales = simulator.beta.copy(), simulator.parameters.copy()
    sds = [np.asarray(b.sd).copy() for b in fit.random]
    cors = [np.nan_to_num(np.asarray(b.correlation)).copy() for b in fit.random]
    for p in parameters_of(fit):
        _put(p, truth[p.name], beta, scales, sds, cors)
    covariances = []
    for sd, cor, block in zip(sds, cors, fit.random, strict=True):
        np.fill_diagonal(cor, 1.0)
        if np.linalg.eigvalsh(cor)[0] < -1e-8:
            raise OptionError(
                f"The correlations of {block.group} do not form a correlation matrix (it is not positive semidefinite)."
            )
        covariances.append(cor * np.outer(sd, sd))
    return replace(simulator, beta=beta, covariances=tuple(covariances), parameters=scales)


def _put(
    p: Parameter, value: float, beta: FloatArray, scales: FloatArray, sds: list[FloatArray], cors: list[FloatArray]
) -> None:
    target = p.target
    if target is None:
        return
    if target.kind == "fixed":
        beta[target.index] = value
    elif target.kind == "scale":
        scales[target.index] = value
    elif target.kind == "sd":
        sds[target.index][target.first] = value
    else:
        value = 0.0 if np.isnan(value) else value
        cors[target.index][target.first, target.second] = cors[target.index][target.second, target.first] = value


def _codes(design: Design, group: str | None) -> tuple[str | None, npt.NDArray[np.int64] | None]:
    """The grouping factor whose levels are counted, and the level of every row, shape (n,); None without groups."""
    if not design.blocks:
        return None, None
    known = {b.group: b for b in design.blocks}
    name = group or min(known, key=lambda g: known[g].n_levels)
    return name, known[name].codes


def _line(design: Design, group: str | None, trials: list[tuple[float, float, str]], true: float) -> dict[str, float]:
    rejected = np.array([r for r, _, _ in trials])
    estimates = np.array([e for _, e, _ in trials])
    good = np.isfinite(rejected)
    k, n = int(np.nansum(rejected)), int(good.sum())
    interval = scipy.stats.binomtest(k, n).proportion_ci(0.95) if n else (np.nan, np.nan)
    significant = estimates[good & (rejected == 1)]
    known = np.isfinite(true) and true != 0 and len(significant) > 0
    n_levels = {b.group: b.n_levels for b in design.blocks}[group] if group else 1
    return {
        "n_groups": n_levels if group else np.nan,
        "n_rows": design.n / n_levels,
        "n_obs": design.n,
        "power": k / n if n else np.nan,
        "lower": float(interval[0]),
        "upper": float(interval[1]),
        "estimate": float(estimates[good].mean()) if np.isfinite(true) and n else np.nan,
        "exaggeration": float(np.abs(significant).mean() / abs(true)) if known else np.nan,
        "wrong_sign": float(np.mean(np.sign(significant) != np.sign(true))) if known else np.nan,
        "n_sim": n,
        "failed": len(trials) - n,
    }


__all__ = ["Power", "power"]
