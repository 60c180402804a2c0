"""One fold and one model: fit the training rows and score the test rows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.prediction.distributions import Predictive, Rows, of_normal, predictive
from unimix.backends.base import Backend
from unimix.design.arrays import Design
from unimix.errors import DataError, UnimixError, UnsupportedModelError
from unimix.estimation.arguments import FitArguments
from unimix.estimation.run import fit_problem
from unimix.stats.per_level_regressions import LevelRegressions, all_columns, follow, new_columns, regressions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEEP = ("log", "logit", "probit", "cloglog", "cauchit")
MOST_ERROR = 5.0
"""Largest standard error of a linear predictor with a steep link that still gives a prediction.

A standard error of 5 on the log scale is a factor of 150 to either side.
"""
COLUMNS = ("observed", "mean", "lower", "upper", "log_score", "crps")


@dataclass(frozen=True)
class Model:
    """One model of the cross-validation, a row of its table.

    Attributes:
        label: Label of the model in the table.
        kind: Kind of pooling: complete, none or partial.
        formula: Text of the formula that is fitted.
        engine: The engine; None for regressions per level.
        arguments: Arguments of the fit.
    """

    label: str
    kind: str
    formula: str
    engine: Backend | None
    arguments: FitArguments


@dataclass(frozen=True)
class Job:
    """One fit and its test rows.

    Attributes:
        model: The model to fit.
        fold: Number of the fold.
        train: Training rows.
        test: Test rows, m of them.
        position: Positions of the test rows among the rows without missing values, shape (m,).
        group: Grouping factor of the regressions per level.
        weights: Name of the column of weights, or None.
        trials: Numbers of trials of the test rows for a binomial family, shape (m,).
        ci_level: Probability of the prediction intervals.
        seed: Seed of the random numbers of this fold.
    """

    model: Model
    fold: int
    train: pd.DataFrame
    test: pd.DataFrame
    position: IntArray
    group: str | None
    weights: str | None
    trials: FloatArray | None
    ci_level: float
    seed: int


@dataclass(frozen=True)
class Scored:
    """The scores of one job.

    Attributes:
        label: Label of the model.
        fold: Number of the fold.
        rows: One row per test row, with its position and :data:`COLUMNS`; NaN where the model has no prediction.
        state: Status of the fit.
        seconds: Duration of the job in seconds.
        error: Error of the fit, or an empty text.
        unpredicted: Numbers of test rows without a prediction, by reason.
    """

    label: str
    fold: int
    rows: pd.DataFrame
    state: str
    seconds: float
    error: str
    unpredicted: dict[str, int]


def run(job: Job) -> Scored:
    """Fit one model to one fold and score it. An error of the fit is part of the answer."""
    started = time.perf_counter()
    table = pd.DataFrame(np.nan, index=range(len(job.test)), columns=list(COLUMNS))
    table.insert(0, "position", job.position)
    state, error, unpredicted = "", "", {}
    try:
        if job.model.engine is None:
            unpredicted = _by_level(job, table)
        else:
            state, unpredicted = _by_engine(job.model.engine, job, table)
    except (UnimixError, ArithmeticError, np.linalg.LinAlgError) as fault:
        error = f"{type(fault).__name__}: {fault}"
    return Scored(job.model.label, job.fold, table, state, time.perf_counter() - started, error, unpredicted)


def _weights_of(job: Job, rows: IntArray) -> FloatArray | None:
    if job.weights is None or job.trials is not None:
        return None
    return job.test[job.weights].to_numpy(dtype=np.float64)[rows]


def _fill(job: Job, table: pd.DataFrame, rows: IntArray, predicted: Predictive, y: FloatArray) -> None:
    lower, upper = predicted.interval(job.ci_level)
    values = np.column_stack([y, predicted.mean, lower, upper, predicted.log_density(y), predicted.crps(y)])
    table.loc[rows, list(COLUMNS)] = values


def _by_engine(engine: Backend, job: Job, table: pd.DataFrame) -> tuple[str, dict[str, int]]:
    arguments = replace(job.model.arguments, seed=job.seed)
    fit = fit_problem(engine, arguments.problem(job.model.formula, job.train))
    observed = fit.model.encoding.response(job.test)
    if observed is None:
        raise DataError("The response is missing in the test rows.")
    reasons: dict[str, int] = {}

    def score(rows: IntArray) -> None:
        part = job.test.iloc[rows]
        trials = None if job.trials is None else job.trials[rows]
        predicted = predictive(fit, part, weights=_weights_of(job, rows), trials=trials, seed=job.seed)
        _fill(job, table, rows, predicted, observed[rows])

    everything = np.arange(len(job.test))
    try:
        score(everything)
    except DataError:  # a predictor has a level that the training rows lack: find the rows that cannot be predicted
        for row in range(len(job.test)):
            try:
                score(everything[[row]])
            except DataError as fault:
                table.loc[row, "observed"] = observed[row]
                _count(reasons, fault)
    return fit.status.state, reasons


def _by_level(job: Job, table: pd.DataFrame) -> dict[str, int]:
    arguments = job.model.arguments
    if arguments.ziformula is not None or arguments.dispformula is not None:
        raise UnsupportedModelError(
            "A regression per level models the mean alone: leave ziformula= and dispformula= out."
        )
    if arguments.sigma is not None:
        raise UnsupportedModelError("A regression per level estimates its residual variance: leave sigma= out.")
    design = arguments.problem(job.model.formula, job.train).design
    blocks = [b for b in design.blocks if b.group == job.group]
    columns = all_columns(design, blocks)
    per_level = regressions(design, columns, blocks[0].codes, blocks[0].n_levels)
    at = [k for k, b in enumerate(design.blocks) if b.group == job.group]
    observed = design.encoding.response(job.test)
    if observed is None:
        raise DataError("The response is missing in the test rows.")
    table["observed"] = observed
    reasons: dict[str, int] = {}

    def refuse(rows: IntArray, reason: str) -> None:
        if len(rows):
            reasons[reason] = reasons.get(reason, 0) + len(rows)

    usable = _usable(design, job.test, reasons)
    if not len(usable):
        return reasons
    new = design.encoding.transform(job.test.iloc[usable], with_groups=True)
    codes = new.levels[at[0]].among(blocks[0].levels)
    values = new_columns(columns, new.x, [new.z[k] for k in at])
    refuse(np.flatnonzero(codes < 0), f"a {job.group} without training rows")
    alone = np.zeros(blocks[0].n_levels, dtype=bool)
    alone[list(per_level.why)] = True
    rows = np.flatnonzero(codes >= 0)
    lacking = alone[codes[rows]]
    refuse(rows[lacking], f"a {job.group} whose training rows allow no regression of their own")
    rows = rows[~lacking]
    known = follow(values[rows], per_level, codes[rows])
    refuse(rows[~known], f"values that no training row of the {job.group} has")
    rows = rows[known]
    if design.family.link in STEEP:
        covariance = np.nan_to_num(per_level.covariance[codes[rows]])
        far = np.einsum("ni,nij,nj->n", values[rows], covariance, values[rows]) > MOST_ERROR**2
        refuse(rows[far], f"a {job.group} whose own regression is all but undetermined")
        rows = rows[~far]
    # A predictive distribution of many rows has one set of dispersion parameters. Sigma is pooled over levels; other
    # parameters differ by level, so that each level is scored separately.
    shared = design.is_linear or not design.family.parameters
    for part in [rows] if shared else [rows[codes[rows] == level] for level in np.unique(codes[rows])]:
        if len(part):
            given = usable[part]
            predicted = _of_levels(job, design, per_level, codes[part], values[part], new.offset[part], given)
            _fill(job, table, given, predicted, observed[given])
    return reasons


def _usable(design: Design, test: pd.DataFrame, reasons: dict[str, int]) -> IntArray:
    """Positions of the test rows for which a row of the design exists.

    Rows with an unknown level of a predictor, or a value outside the range of a spline, are counted in ``reasons``.
    """
    everything = np.arange(len(test))
    try:
        design.encoding.transform(test, with_groups=True)
    except DataError:
        kept = []
        for row in range(len(test)):
            try:
                design.encoding.transform(test.iloc[[row]], with_groups=True)
            except DataError as fault:
                _count(reasons, fault)
            else:
                kept.append(row)
        return np.array(kept, dtype=np.int64)
    return everything


def _count(reasons: dict[str, int], fault: DataError) -> None:
    reason = str(fault).split(":")[0]
    reasons[reason] = reasons.get(reason, 0) + 1


def _of_levels(
    job: Job,
    design: Design,
    per_level: LevelRegressions,
    codes: IntArray,
    values: FloatArray,
    offset: FloatArray,
    rows: IntArray,
) -> Predictive:
    """The predictive distribution of rows, from the regressions of their levels."""
    estimate, covariance = np.nan_to_num(per_level.estimate[codes]), np.nan_to_num(per_level.covariance[codes])
    centre = np.einsum("ni,ni->n", values, estimate) + offset  # x' beta_level + offset
    variance = np.einsum("ni,nij,nj->n", values, covariance, values)  # x' Cov(beta_level) x
    weights = _weights_of(job, rows) if design.family.name == "gaussian" else None
    trials = None if job.trials is None else job.trials[rows]
    predicted_rows = Rows(design.family, weights, trials, None, job.seed)
    return of_normal(predicted_rows, centre, variance, per_level.parameters[codes[0]])


__all__ = ["COLUMNS", "Job", "Model", "Scored", "run"]
