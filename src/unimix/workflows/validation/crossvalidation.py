"""The answer of ``cross_validate``: how well engines and kinds of pooling predict new data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.display import Block
from unimix.errors import OptionError, UnimixError, did_you_mean, listing
from unimix.fitted.formatting import text_table
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.stats.scores import clustered_mean

FloatArray = npt.NDArray[np.float64]
Loss = Callable[[FloatArray, FloatArray], FloatArray]

METRICS = {
    "rmse": "root of the mean squared error of the predictive mean",
    "mae": "mean absolute error of the predictive mean",
    "log_score": "mean log predictive density (larger is better)",
    "crps": "continuous ranked probability score",
    "coverage": "share of responses inside the prediction interval",
}
LARGER = ("log_score",)
ALONE = "no pooling"
FEW = 10
"""Number of clusters below which clustered standard errors are rough."""


def per_row(rows: pd.DataFrame, metric: str, losses: Mapping[str, Loss]) -> FloatArray:
    """The loss or score of each row, of which a metric is the mean, shape (n,).

    Args:
        rows: Test rows with the columns of :attr:`CrossValidation.rows`.
        metric: Name of the metric.
        losses: Loss functions of the user by name.
    """
    y, mean = rows["observed"].to_numpy(), rows["mean"].to_numpy()
    if metric in losses:
        return np.asarray(losses[metric](y, mean), dtype=np.float64)
    match metric:
        case "rmse":
            return np.asarray((y - mean) ** 2)
        case "mae":
            return np.asarray(np.abs(y - mean))
        case "coverage":
            inside = (rows["lower"] <= y) & (y <= rows["upper"])
            return np.where(rows["lower"].notna(), inside.astype(np.float64), np.nan)
        case _:
            return rows[metric].to_numpy(dtype=np.float64)


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class CrossValidation(TableResult):
    """The answer of :func:`cross_validate`.

    Attributes:
        formula: Text of the formula.
        split: The rule by which rows were left out, in words.
        n_folds: Number of folds.
        rows: One row per model and test row, with the columns model, fold, position (in the given data), level,
            observed, mean, lower, upper, log_score, crps; NaN where a model has no prediction.
        fits: One row per model and fold, with the columns model, fold, state, seconds, error.
        why: Predictions that a model could not make, with the reason, by model.
        metrics: Names of the metrics.
        own_metrics: Metrics that were given as functions, by name.
        ci_level: Probability of the prediction intervals, between 0 and 1.
        loo: PSIS-LOO of the samplers, from one fit to all rows. One row per engine, with the columns elpd, se, p_loo,
            mean (elpd per row, to compare with log_score), bad_k (number of rows with a Pareto k above 0.7).
        clusters: The clusters of the standard errors, in words.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> cv = um.cross_validate("Reaction ~ Days + (Days | Subject)", sleep, folds=3, progress=False)
        >>> cv.differences("crps").round(2)
                                difference    se  ratio    n
        model
        complete pooling (pls)       11.95  3.65   3.27  180
        no pooling                    0.23  0.20   1.17  180
        partial pooling (pls)         0.00  0.00    NaN  180
    """

    formula: str
    split: str
    n_folds: int
    rows: pd.DataFrame
    fits: pd.DataFrame
    why: dict[str, str]
    metrics: tuple[str, ...]
    own_metrics: Mapping[str, Loss]
    ci_level: float
    loo: pd.DataFrame
    clusters: str

    @property
    def models(self) -> list[str]:
        """Labels of the models, in the order of the table."""
        return list(dict.fromkeys(self.fits["model"]))

    @cached_property
    def _predicted(self) -> dict[str, pd.DataFrame]:
        """Rows with a prediction, by model; models without any prediction are left out."""
        keyed = {m: self.rows[self.rows["model"] == m].set_index(["fold", "position"]) for m in self.models}
        predicted = {m: part[part["mean"].notna()] for m, part in keyed.items()}
        return {m: part for m, part in predicted.items() if len(part)}

    @cached_property
    def _common(self) -> pd.MultiIndex:
        """Test rows that complete pooling and partial pooling by every engine predict, as pairs (fold, position)."""
        kept = [part.index for m, part in self._predicted.items() if m != ALONE] or [
            part.index for part in self._predicted.values()
        ]
        common = kept[0] if kept else pd.MultiIndex.from_tuples([], names=["fold", "position"])
        for index in kept[1:]:
            common = common.intersection(index, sort=None)
        return pd.MultiIndex.from_tuples(list(common), names=["fold", "position"])

    @cached_property
    def _wide(self) -> dict[str, pd.DataFrame]:
        """Scored rows by model."""
        return {m: part.loc[part.index.isin(self._common)] for m, part in self._predicted.items()}

    @property
    def n_common(self) -> int:
        """Number of the scored rows: test rows that complete and partial pooling by every engine predict."""
        return len(self._common)

    @property
    def n_clusters(self) -> int:
        """Number of clusters of the standard errors."""
        return int(self.rows["level"].nunique())

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model, with the value and the standard error of every metric (``rmse``, ``rmse_se``) and n.

        Complete and partial pooling are scored on the same rows, those that all of them predict. No pooling is scored
        on those of these rows that it predicts. If its n is smaller, its row is not comparable with the others, and
        :meth:`differences` compares two models on the rows that they share. Standard errors take the rows of a level as
        one cluster (Cameron & Miller 2015, J. Hum. Resour. 50:317); that of the RMSE follows from the delta method. A
        model without predictions has NaN, and ``why`` gives the reason.
        """
        lines = {}
        for model in self.models:
            losses = self._wide.get(model)
            line: dict[str, float] = {}
            for metric in self.metrics:
                value, se = (np.nan, np.nan) if losses is None else self._score(losses, metric)
                line |= {metric: value, f"{metric}_se": se}
            lines[model] = {**line, "n": 0 if losses is None else len(losses)}
        frame = pd.DataFrame.from_dict(lines, orient="index")
        frame.index.name = "model"
        return frame.astype({"n": int})

    def _score(self, rows: pd.DataFrame, metric: str) -> tuple[float, float]:
        values = per_row(rows, metric, self.own_metrics)
        mean, se = clustered_mean(values, _codes(rows["level"]))
        if metric == "rmse":
            root = float(np.sqrt(mean))
            return root, se / (2 * root) if root > 0 else np.nan  # SE(sqrt(m)) = SE(m) / (2 sqrt(m))
        return mean, se

    @cached_property
    def folds(self) -> pd.DataFrame:
        """The metrics of every fold, with the index model and fold."""
        parts = {}
        for model, losses in self._wide.items():
            for fold, rows in losses.groupby(level="fold"):
                parts[model, fold] = {m: self._score(rows, m)[0] for m in self.metrics}
        frame = pd.DataFrame.from_dict(parts, orient="index", columns=list(self.metrics))
        frame.index = pd.MultiIndex.from_tuples(list(parts), names=["model", "fold"]) if parts else frame.index
        return frame

    def differences(self, metric: str = "rmse", reference: str | None = None) -> pd.DataFrame:
        """Compare every model with a reference on the rows that both predict.

        Differences are paired by row, so that the difficulty of a row cancels.

        Args:
            metric: Name of a metric.
            reference: Label of the reference model; the best model, if left out.

        Returns:
            One row per model, with the columns difference (model - reference, on the scale of the metric), se (standard
            error of the paired difference, clustered by level), ratio = difference / se, n (rows that both predict).

        Raises:
            OptionError: If there is no such metric or model.
        """
        self._known([metric])
        if reference is None:
            reference = self.best(metric)
        if reference not in self._wide:
            raise OptionError(
                f"reference={reference!r} is not a model with predictions."
                f"{did_you_mean(reference, self._wide)} Models: "
                f"{listing(self._wide)}."
            )
        lines = {}
        for model, losses in self._wide.items():
            both = losses.index.intersection(self._wide[reference].index, sort=None)
            rows, against = losses.loc[both], self._wide[reference].loc[both]
            values, base = (per_row(r, metric, self.own_metrics) for r in (rows, against))
            mean, se = clustered_mean(values - base, _codes(rows["level"]))
            if metric == "rmse":
                # sqrt(a) - sqrt(b) = (a - b) / (sqrt(a) + sqrt(b))
                scale = float(np.sqrt(base.mean()) + np.sqrt(values.mean()))
                mean, se = mean / scale, se / scale
            ratio = mean / se if se > 0 else np.nan
            lines[model] = {"difference": mean, "se": se, "ratio": ratio, "n": len(rows)}
        frame = pd.DataFrame.from_dict(lines, orient="index")
        frame.index.name = "model"
        return frame

    def best(self, metric: str = "rmse") -> str:
        """Label of the model with the best value of a metric.

        The best coverage is nearest to its nominal value, the best value of a metric of your own is nearest to zero.

        Args:
            metric: Name of a metric.

        Raises:
            OptionError: If there is no such metric.
            UnimixError: If no model has predictions.
        """
        self._known([metric])
        column = self.table[metric].dropna()
        if column.empty:
            raise UnimixError("No model has predictions: .why and .fits say why.")
        if metric == "coverage":
            return str((column - self.ci_level).abs().idxmin())
        if metric in self.own_metrics:
            return str(column.abs().idxmin())
        return str(column.idxmax() if metric in LARGER else column.idxmin())

    def _known(self, metrics: Sequence[str]) -> None:
        strange = [m for m in metrics if m not in self.metrics]
        if strange:
            hint = did_you_mean(strange[0], self.metrics)
            raise OptionError(f"{strange[0]!r} was not computed.{hint} Metrics: {listing(self.metrics)}.")

    def plot(self, metrics: Sequence[str] | None = None, *, columns: int = 3) -> Any:
        """Draw the table: one panel per metric, with the models and their standard errors.

        Args:
            metrics: Names of the metrics; all, if left out.
            columns: Number of panels per row.

        Returns:
            The matplotlib Axes, one per metric.

        Raises:
            OptionError: If metrics are unknown, or none is named.
        """
        from unimix.plots.scores import draw_scores

        shown = list(self.metrics if metrics is None else metrics)
        if not shown:
            raise OptionError("metrics=[] names no metric: leave it out for all of them.")
        self._known(shown)
        nominal = {"coverage": self.ci_level}
        return draw_scores(self.table, shown, nominal, columns=columns, title=f"{self.formula}: {self.split}")

    @property
    def notes(self) -> tuple[str, ...]:
        """The meaning of the numbers in brackets, and predictions that models could not make."""
        few = f" ({self.n_clusters} clusters: rough)" if self.n_clusters < FEW else ""
        coverage = f"Coverage is that of {100 * self.ci_level:g}% intervals."
        notes = [f"In brackets: standard errors, {self.clusters}{few}. {coverage}"]
        if 0 < self.table["n"].get(ALONE, 0) < self.n_common:
            notes.append(
                f"{ALONE} is scored on the {self.table['n'][ALONE]} rows that it predicts, the others on "
                f"{self.n_common}: compare them by .differences(..., reference={ALONE!r})."
            )
        return (*notes, *(f"{model}: {reason}" for model, reason in self.why.items()))

    @property
    def _heading(self) -> str:
        folds = "1 fold" if self.n_folds == 1 else f"{self.n_folds} folds"
        return f"{self.formula}: {self.split}, {folds}, {self.n_common} rows scored"

    def _shown(self) -> pd.DataFrame:
        """Every metric with its standard error in brackets."""
        columns = {
            m: [
                "-" if np.isnan(v) else f"{v:.4g}" if np.isnan(s) else f"{v:.4g} ({s:.2g})"
                for v, s in zip(self.table[m], self.table[f"{m}_se"], strict=True)
            ]
            for m in self.metrics
        }
        return pd.DataFrame(columns, index=self.table.index).assign(n=self.table["n"])

    def _view(self) -> Iterable[Block]:
        blocks: list[Block] = [self._heading, "", text_table(self._shown()), "", *self.notes]
        if len(self.loo):
            heading = "PSIS-LOO (one fit to all rows, one row left out at a time, by ArviZ):"
            blocks += ["", heading, text_table(self.loo)]
        return blocks


def _codes(levels: pd.Series[Any]) -> npt.NDArray[np.int64]:
    return np.asarray(pd.factorize(levels)[0], dtype=np.int64)


def checked_metrics(metrics: Sequence[str] | Mapping[str, Loss] | None) -> tuple[tuple[str, ...], dict[str, Loss]]:
    """Check the argument ``metrics``.

    Returns:
        The names of all metrics, and the functions of the user by name.

    Raises:
        OptionError: If names are unknown, or functions do not give one loss per row.
    """
    if metrics is None:
        return tuple(METRICS), {}
    if isinstance(metrics, str):
        raise OptionError(f"metrics={metrics!r}: give a list, metrics=[{metrics!r}].")
    losses = dict(metrics) if isinstance(metrics, Mapping) else {}
    bad = [k for k, f in losses.items() if not callable(f)]
    if bad:
        raise OptionError(
            f"metrics={{{bad[0]!r}: ...}}: a function of (observed, predicted) that gives a loss per row."
        )
    taken = [k for k in losses if k in METRICS]
    if taken:
        raise OptionError(f"metrics={{{taken[0]!r}: ...}}: a metric of this name exists already.")
    for name, function in losses.items():
        try:
            shape = np.shape(function(np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])))
        except Exception as error:
            raise OptionError(
                f"metrics={{{name!r}: ...}} fails on three numbers: {type(error).__name__}: {error}"
            ) from error
        if shape != (3,):
            raise OptionError(
                f"metrics={{{name!r}: ...}} gives the shape {shape} for three rows: a metric gives one loss per row, "
                "such as lambda y, mean: (y - mean) ** 2, and is averaged here."
            )
    if losses:
        return (*METRICS, *losses), losses
    names = tuple(metrics)
    strange = [m for m in names if m not in METRICS]
    if strange or not names:
        shown = repr(strange[0]) if strange else "nothing"
        raise OptionError(
            f"metrics: {shown} is unknown.{did_you_mean(strange[0], METRICS) if strange else ''} Choose among "
            f"{listing(METRICS)}, or give functions: metrics={{'bias': lambda y, mean: mean - y}}."
        )
    return names, {}


def loo_table(fits: Mapping[str, FitResult]) -> pd.DataFrame:
    """PSIS-LOO of sampled results: one row per engine, with the columns elpd, se, p_loo, mean, bad_k."""
    lines = {}
    for label, fit in fits.items():
        loo = fit.loo()
        k = np.asarray(loo.pareto_k)
        elpd = float(loo.elpd_loo)
        lines[label] = {
            "elpd": elpd,
            "se": float(loo.se),
            "p_loo": float(loo.p_loo),
            "mean": elpd / len(k),
            "bad_k": int((k > 0.7).sum()),
        }
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=["elpd", "se", "p_loo", "mean", "bad_k"])
    frame.index.name = "engine"
    return frame
