"""Influence of rows, and of levels of a grouping factor, on the fixed effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.intervals.parameters import parameters_of, values_of
from unimix.analysis.summaries.variance_components import refuse_parts
from unimix.errors import DataError, UnimixError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.formatting import without_noise
from unimix.fitted.model import own_refitter
from unimix.fitted.schema import UNSURE
from unimix.fitted.smooth_parts import mixed_form
from unimix.fitted.table_result import TableResult
from unimix.parallel.jobs import run_jobs
from unimix.stats.influence import Deletions, deletions, linearise
from unimix.stats.joint_error import leverage
from unimix.stats.simulation import without

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel
    from unimix.fitted.unsaved import Refitter

FloatArray = npt.NDArray[np.float64]
SHOWN, COEFFICIENTS = 10, 5


@dataclass(frozen=True, repr=False, eq=False)
class Influence(TableResult):
    """Changes of the fixed effects when each row, or each level of a grouping factor, is left out.

    Attributes:
        by: Name of the grouping factor, or ``row``.
        table: One row per level or row that is left out; columns n (number of rows left out), cooks_distance, covratio
            (ratio of the determinants of the fixed effects' covariance matrices, without and with the rows); for single
            rows also leverage (of the response on its fitted value, group effects included: lme4's ``hatvalues``) and
            cooks_conditional (given the group effects: lme4's ``cooks.distance``).
        dfbetas: Estimates with all rows minus estimates without these rows, in standard errors; index as in ``table``,
            one column per fixed effect.
        estimates: Estimates without the rows, in the layout of ``dfbetas``; NaN if the other rows do not identify them.
        method: least squares (exact), exact (at the estimated covariance parameters), one-step (generalised models) or
            refit.
        parameters: All parameters of the refits, index as in ``table``, columns as in ``fit.confint()``; None without
            refits.
    """

    by: str
    table: pd.DataFrame
    dfbetas: pd.DataFrame
    estimates: pd.DataFrame
    method: str
    _deletions: Deletions | None
    parameters: pd.DataFrame | None = None
    _failed: tuple[str, ...] = ()

    @property
    def p_values(self) -> FloatArray:
        """P value of each change under the model, shape (m,), from the upper tail of chi-squared.

        The variance of a change is that of the estimates without the rows minus that with them. For single rows this is
        the test of a mean shift. NaN if there is no estimate, and for refits.
        """
        if self._deletions is None:
            return np.full(len(self.table), np.nan)
        return np.asarray(special.chdtrc(np.maximum(self._deletions.rank, 1.0), self._deletions.surprise))

    @property
    def notes(self) -> tuple[str, ...]:
        """How the estimates without the rows were computed, and which of them failed."""
        how = {
            "exact": "Exact at the estimated covariance parameters, which are not re-estimated.",
            "least squares": "Exact.",
            "refit": "The model was fitted again, including its covariance parameters.",
            "one-step": "One-step approximation at the working response and the estimated covariance parameters.",
        }
        lost = [str(k) for k in self.table.index[self.table["cooks_distance"].isna()]]
        notes = [how[self.method]]
        if lost:
            notes.append(f"Without {listing(lost, 3)} some fixed effects cannot be estimated.")
        return (*notes, *self._failed)

    def _picked(self) -> tuple[pd.DataFrame, list[str]]:
        """The most influential rows with the coefficients that they change most, and the notes."""
        order = np.argsort(-self.table["cooks_distance"].fillna(np.inf).to_numpy(), kind="stable")[:SHOWN]
        first, moved = self.table.iloc[order], self.dfbetas.iloc[order]
        largest = np.argsort(-moved.abs().max().fillna(-1.0).to_numpy(), kind="stable")[:COEFFICIENTS]
        notes = list(self.notes)
        if moved.shape[1] > COEFFICIENTS:
            notes.insert(0, f"The {COEFFICIENTS} most affected of {moved.shape[1]} coefficients: .dfbetas has all.")
            moved = moved.iloc[:, np.sort(largest)]
        if len(self.table) > SHOWN:
            notes.insert(0, f"The {SHOWN} most influential of {len(self.table)}.")
        return without_noise(pd.concat([first, moved.add_prefix("dfbetas ")], axis=1)), notes

    def _shown(self) -> pd.DataFrame:
        return self._picked()[0]

    def _below(self) -> Sequence[str]:
        return self._picked()[1]


@dataclass(frozen=True)
class _LeftOut:
    """Fits the model without one set of rows."""

    refitter: Refitter[FittedModel]
    design: Design
    codes: npt.NDArray[np.int64] | None
    names: tuple[str, ...]

    def __call__(self, level: int) -> tuple[FloatArray, FloatArray, str]:
        """All parameters, the covariance matrix of the fixed effects, and the problem if the fit failed."""
        p = self.design.p
        try:
            design = without(self.design, self.codes, level)
            if np.linalg.matrix_rank(design.x) < p:
                raise DataError("coefficients are not estimable")
            fit = self.refitter(design)
        except UnimixError as error:
            return np.full(len(self.names), np.nan), np.full((p, p), np.nan), " ".join(str(error).split())
        problem = "" if fit.converged else f"the fit {UNSURE.get(fit.status.state, 'failed')}"
        return values_of(fit, parameters_of(fit)), np.asarray(fit.fixed.covariance), problem


def _by_refits(
    fit: FittedModel,
    refitter: Refitter[FittedModel] | None,
    by: str | None,
    *,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Influence:
    """Fit the model without each row or level; see :func:`influence`."""
    design = _checked(fit)
    if refitter is None:
        raise UnimixError(
            "This result was loaded and has no engine to fit with: um.refit(fit, data).influence(..., refit=True)."
        )
    codes, index = _sets(fit, design, by)
    names = tuple(p.name for p in parameters_of(fit))
    work = _LeftOut(refitter, design, None if by is None else codes, names)
    refits = run_jobs(work, range(len(index)), n_jobs=n_jobs, progress=progress, title="leaving one out")
    values = np.array([v for v, _, _ in refits])
    covariances = np.array([c for _, c, _ in refits])
    covariance, p = np.asarray(fit.fixed.covariance), design.p
    change = np.asarray(fit.fixed.estimate) - values[:, :p]
    with np.errstate(invalid="ignore"):
        scaled = change / np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        covratio = np.exp(np.linalg.slogdet(covariances)[1] - np.linalg.slogdet(covariance)[1])
    distance = np.einsum("mp,mp->m", change, np.linalg.solve(covariance, change.T).T) / p
    columns: dict[str, Any] = {"n": np.bincount(codes)} if by is not None else {}
    failed = tuple(
        f"Without {level}: {problem}." for level, (_, _, problem) in zip(index, refits, strict=True) if problem
    )
    terms = list(fit.fixed.terms)
    return Influence(
        by="row" if by is None else by,
        table=pd.DataFrame({**columns, "cooks_distance": distance, "covratio": covratio}, index=index),
        dfbetas=pd.DataFrame(scaled, index=index, columns=terms),
        estimates=pd.DataFrame(values[:, :p], index=index, columns=terms),
        method="refit",
        _deletions=None,
        parameters=pd.DataFrame(values, index=index, columns=list(names)),
        _failed=failed,
    )


def _checked(fit: FittedModel) -> Design:
    if fit.fixed.interval == "credible":
        raise UnimixError(
            "Influence is not defined for a posterior, which also depends on its prior: fit.loo() has Pareto k for "
            "every row."
        )
    refuse_parts(fit, "Influence")
    design = fit.design()
    if not design.p:
        raise DataError(f"{fit.model.reading} has no fixed effects that rows could influence.")
    return design


def _by_downdating(fit: FittedModel, by: str | None = None) -> Influence:
    """Leave out each row or level; see :func:`influence`."""
    design = _checked(fit)
    codes, index = _sets(fit, design, by)
    parameters = fit.dispersion_parameters
    covariances = tuple(np.asarray(b.covariance) for b in fit.random)
    model = linearise(design, np.asarray(fit.rows.linear_predictor), covariances, parameters)
    changes = deletions(model, codes, len(index))
    n = np.bincount(codes, minlength=len(index))
    plain = fit.family.is_linear and not design.blocks
    dfbetas, covratio = _scaled(design, model.back, model.at.beta_cov, changes, n, plain=plain)
    columns: dict[str, Any] = {"n": n, "cooks_distance": changes.distance, "covratio": covratio}
    if by is None:
        del columns["n"]
        columns["leverage"] = leverage(model.at, model.design)
        columns["cooks_conditional"] = _conditional_distance(fit, columns["leverage"], design.p)
    terms = list(fit.fixed.terms)
    return Influence(
        by="row" if by is None else by,
        table=pd.DataFrame(columns, index=index),
        dfbetas=pd.DataFrame(dfbetas, index=index, columns=terms),
        estimates=pd.DataFrame(np.asarray(fit.fixed.estimate) + changes.change, index=index, columns=terms),
        method="least squares" if plain else "exact" if fit.family.is_linear else "one-step",
        _deletions=changes,
    )


def _sets(fit: FittedModel, design: Design, by: str | None) -> tuple[npt.NDArray[np.int64], pd.Index[Any]]:
    if by is None:
        labels = fit.rows.labels
        positions = pd.Index(np.asarray(fit.rows.index, dtype=np.int64), name="row")
        return np.arange(design.n), positions if labels is None else labels.index()
    known = list(dict.fromkeys(b.group for b in design.blocks if not b.is_smooth))
    if by not in known:
        raise DataError(
            f"by={by!r} is not a grouping factor of this model.{did_you_mean(str(by), known)} Known: "
            f"{listing(known) or 'none'}; by=None leaves out single rows."
        )
    block = next(b for b in design.blocks if b.group == by)
    return block.codes, pd.Index(list(block.levels), name=by)


def _scaled(
    design: Design, back: FloatArray, covariance: FloatArray, deletions: Deletions, n: Any, *, plain: bool
) -> tuple[FloatArray, FloatArray]:
    """DFBETAS (m, p) and covariance ratios (m,).

    The residual variance of a linear model without groups is estimated again, as in R; that of other models is held.
    """
    se = np.sqrt(np.diag(back @ covariance @ back.T))
    if not plain:
        return -deletions.change / se, deletions.covratio
    df_residual = (design.n - design.p - n).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(df_residual > 0, (design.n - design.p - deletions.lost) / df_residual, np.nan)
        ratio = np.maximum(ratio, 0.0)
        return -deletions.change / (np.sqrt(ratio)[:, None] * se), deletions.covratio * ratio**design.p


def _conditional_distance(fit: FittedModel, hat: FloatArray, p: int) -> FloatArray:
    """Cook's distance given the group effects, from residuals and leverages, shape (n,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (fit.residuals("standardized") / (1 - hat)) ** 2 * hat / p
        return np.where(1 - hat > 1e-12, value, np.nan)


def influence(
    fit: FittedModel,
    by: str | None = None,
    *,
    refit: bool = False,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Influence:
    """Changes of the fixed effects when each row, or each level of a grouping factor, is left out.

    The estimates without the rows are those of generalised least squares at the estimated covariance parameters,
    computed by downdating instead of refitting (Haslett 1999, J. R. Stat. Soc. B 61:603-609; Demidenko & Stukel 2005,
    Stat. Med. 24:893-909). The residual variance of a linear model without groups is estimated again, as in R's
    ``influence.measures``. Generalised models are linearised at the estimates (one-step approximation, Pregibon 1981,
    Ann. Stat. 9:705-724).

    Args:
        by: Name of the grouping factor whose levels are left out one by one; None leaves out single rows.
        refit: Whether to fit the model again with its engine each time, including the covariance parameters (as lme4's
            ``influence``), instead of downdating at the estimated ones.
        n_jobs: Number of processes for refits, by joblib; -1 uses all cores. None uses this process only, or what a
            surrounding ``joblib.parallel_config`` says.
        progress: Whether refits show a progress bar; None shows it on terminals.

    Returns:
        ``.table`` with Cook's distance (change' V^-1 change / p), covratio and, for rows, leverage and lme4's
        conditional Cook's distance; ``.dfbetas`` (changes in standard errors); ``.estimates`` without the rows; for
        refits also ``.parameters``, with standard deviations and correlations.

    Raises:
        DataError: If the grouping factor is unknown.
        UnsupportedModelError: If the model has zero inflation or a dispersion formula.
        UnimixError: If the fit is a posterior, or ``refit`` is asked of a loaded result.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> influence = fit.influence(by="Subject")
        >>> influence.table.round(3).head(3)
                  n  cooks_distance  covratio
        Subject
        308      10           0.382     1.121
        309      10           0.327     1.121
        310      10           0.147     1.121
        >>> influence.dfbetas.round(2).head(3)
                 Intercept  Days
        Subject
        308          -0.04  0.83
        309          -0.28 -0.60
        310          -0.29 -0.32
    """
    refuse_correlated(fit, "Influence of rows and groups")
    fit = mixed_form(fit)
    if refit:
        return _by_refits(fit, own_refitter(fit), by, n_jobs=n_jobs, progress=progress)
    return _by_downdating(fit, by)


__all__ = ["Influence", "influence"]
