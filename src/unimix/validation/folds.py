"""One fold by one model: fit the training rows, score the test rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.api import fit
from unimix.backends.base import Backend
from unimix.errors import DataError, UnimixError, UnsupportedModelError
from unimix.model.design import Design, build_design
from unimix.model.grouping import level_codes
from unimix.model.newdata import design_rows, response_values
from unimix.model.parse import parse
from unimix.numerics.regressions import LevelRegressions, all_columns, regressions
from unimix.results.predictive import MixedPredictive, NormalPredictive, Predictive, predictive, quantile_points

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COLUMNS = ("observed", "mean", "lower", "upper", "log_score", "crps")


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes:
        label: Its name.
        kind: complete, none or partial.
        formula: What is fitted.
        engine: By whom; None for regressions per level.
        arguments: Of ``fit``.
    """

    label: str
    kind: str
    formula: str
    engine: Backend | None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One fit and its test rows.

    Attributes:
        model: What to fit.
        fold: Number of the fold.
        train: Training rows.
        test: Test rows.
        position: Positions of the test rows among the rows used.
        group: Grouping factor of the regressions per level.
        weights: Name of the column of weights, or None.
        trials: Of the test rows, shape (m,), for a binomial family.
        ci_level: Probability of the prediction intervals.
        seed: Of this fold.
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
    """What a job gives back.

    Attributes:
        label: Of the model.
        fold: Number of the fold.
        rows: One row per test row: position, and :data:`COLUMNS`; NaN where the model says nothing.
        state: Of the fit.
        seconds: That it took.
        error: Why there is nothing, or an empty text.
        unpredicted: Why single rows have no prediction, by reason with its count.
    """

    label: str
    fold: int
    rows: pd.DataFrame
    state: str
    seconds: float
    error: str
    unpredicted: dict[str, int]


def run(job: Job) -> Scored:
    """Do one job; an error of unimix is part of the answer."""
    started = time.perf_counter()
    table = pd.DataFrame(np.nan, index=range(len(job.test)), columns=list(COLUMNS))
    table.insert(0, "position", job.position)
    state, error, unpredicted = "", "", {}
    try:
        if job.model.kind == "none":
            unpredicted = _by_level(job, table)
        else:
            state, unpredicted = _by_engine(job, table)
    except (UnimixError, ArithmeticError, np.linalg.LinAlgError) as fault:
        error = f"{type(fault).__name__}: {fault}"
    return Scored(job.model.label, job.fold, table, state, time.perf_counter() - started, error, unpredicted)


def _weights_of(job: Job, rows: IntArray) -> FloatArray | None:
    if job.weights is None or job.trials is not None:
        return None
    return job.test[job.weights].to_numpy(dtype=np.float64)[rows]


def _fill(job: Job, table: pd.DataFrame, rows: IntArray, found: Predictive, y: FloatArray) -> None:
    lower, upper = found.interval(job.ci_level)
    values = np.column_stack([y, found.mean, lower, upper, found.log_density(y), found.crps(y)])
    table.loc[rows, list(COLUMNS)] = values


def _by_engine(job: Job, table: pd.DataFrame) -> tuple[str, dict[str, int]]:
    arguments = dict(job.model.arguments)
    if job.model.engine is not None and job.model.engine.info.default_method == "posterior":
        arguments["seed"] = job.seed
    found = fit(job.model.formula, job.train, job.model.engine or "pls", **arguments)
    observed = response_values(found.model.recipe, job.test)
    if observed is None:
        raise DataError("The response is missing in the test rows.")
    reasons: dict[str, int] = {}

    def score(rows: IntArray) -> None:
        part = job.test.iloc[rows]
        trials = None if job.trials is None else job.trials[rows]
        made = predictive(found, part, weights=_weights_of(job, rows), trials=trials, seed=job.seed)
        _fill(job, table, rows, made, observed[rows])

    everything = np.arange(len(job.test))
    try:
        score(everything)
    except DataError:  # a predictor has a level that the training rows lack: only those rows cannot be predicted
        for row in everything:
            try:
                score(everything[[row]])
            except DataError as fault:
                table.loc[row, "observed"] = observed[row]
                reason = str(fault).split(":")[0]
                reasons[reason] = reasons.get(reason, 0) + 1
    return found.status.state, reasons


def _by_level(job: Job, table: pd.DataFrame) -> dict[str, int]:
    arguments = {k: v for k, v in job.model.arguments.items() if k in ("weights", "offset", "contrasts", "family")}
    if {"ziformula", "dispformula"} & set(job.model.arguments):
        raise UnsupportedModelError(
            "A regression per level models the mean alone: leave ziformula= and dispformula= out."
        )
    design = build_design(parse(job.model.formula), job.train, **arguments)
    blocks = [b for b in design.blocks if b.group == job.group]
    columns = all_columns(design, blocks)
    found = regressions(design, columns, blocks[0].codes, blocks[0].n_levels)
    at = [k for k, b in enumerate(design.blocks) if b.group == job.group]
    new = design_rows(design.recipe, job.test, with_groups=True)
    codes = level_codes(blocks[0].levels, new.labels[at[0]])
    values = np.zeros((len(codes), len(columns.names)))
    for place, k in zip(columns.place, at, strict=True):
        values[:, place] = new.z[k]
    values[:, : design.p] = new.x
    y = response_values(design.recipe, job.test)
    if y is None:
        raise DataError("The response is missing in the test rows.")
    table["observed"] = y
    reasons: dict[str, int] = {}

    def refuse(rows: IntArray, reason: str) -> None:
        if len(rows):
            reasons[reason] = reasons.get(reason, 0) + len(rows)

    refuse(np.flatnonzero(codes < 0), f"a {job.group} without training rows")
    alone = np.zeros(blocks[0].n_levels, dtype=bool)
    alone[list(found.why)] = True
    rows = np.flatnonzero(codes >= 0)
    lacking = alone[codes[rows]]
    refuse(rows[lacking], f"a {job.group} whose training rows allow no regression of their own")
    rows = rows[~lacking]
    known = _within(values[rows], found, codes[rows])
    refuse(rows[~known], f"values that no training row of the {job.group} has")
    rows = rows[known]
    # Dispersion parameters differ by level, which a predictive distribution of many rows cannot; sigma is pooled.
    shared = design.is_linear or not design.family.parameters
    for part in [rows] if shared else [rows[codes[rows] == level] for level in np.unique(codes[rows])]:
        if len(part):
            made = _of_levels(job, design, found, codes[part], values[part], new.offset[part], part)
            _fill(job, table, part, made, y[part])
    return reasons


def _within(values: FloatArray, found: LevelRegressions, codes: IntArray) -> npt.NDArray[np.bool_]:
    """Whether rows follow the dependences between columns that held among their level's training rows."""
    implied = np.einsum("ni,nij->nj", values * found.own[codes], found.turned[codes])
    size = 1e-8 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
    return np.asarray((np.abs(values - implied) <= size).all(axis=1))


def _of_levels(
    job: Job,
    design: Design,
    found: LevelRegressions,
    codes: IntArray,
    values: FloatArray,
    offset: FloatArray,
    rows: IntArray,
) -> Predictive:
    """The predictive distribution of rows by the regressions of their levels."""
    estimate, covariance = np.nan_to_num(found.estimate[codes]), np.nan_to_num(found.covariance[codes])
    centre = np.einsum("ni,ni->n", values, estimate) + offset
    variance = np.einsum("ni,nij,nj->n", values, covariance, values)
    weights = _weights_of(job, rows)
    if design.is_linear:
        return NormalPredictive(centre, np.sqrt(variance + found.sigma**2 / (1.0 if weights is None else weights)))
    trials = None if job.trials is None else job.trials[rows]
    eta = quantile_points(centre, np.sqrt(variance))
    parameters = np.broadcast_to(found.parameters[codes[0]], (len(eta), found.parameters.shape[1]))
    return MixedPredictive(design.family, eta, parameters, weights, trials, None, job.seed)


__all__ = ["COLUMNS", "Job", "Model", "Scored", "run"]
