"""Intervals of all parameters: Wald, profile likelihood, bootstrap, quantiles of draws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.certificate.supported_models import out_of_reach, without_profiles
from unimix.analysis.intervals.parameters import Parameter, chosen, parameter_draws, parameters_of, values_of
from unimix.design.arrays import Design
from unimix.distributions.parameter_scales import to_free, value_at
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.criterion import covariances_of, criterion_at, likelihood_arrays
from unimix.fitted.model import has_design
from unimix.fitted.schema import UNSURE
from unimix.fitted.smooth_parts import mixed_form
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.profile.constrained_parameters import Target
from unimix.likelihood.profile.likelihoods import LaplaceModel, LinearModel, Model, ModelledModel
from unimix.likelihood.profile.profiling import (
    HigherMaximumError,
    joint_spread,
    least_squares_profile,
    profile_interval,
    unbounded,
)
from unimix.likelihood.profile.structured_spread import structured_spread
from unimix.parallel.jobs import run_jobs
from unimix.stats.inference import checked_level, wald_interval

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

METHODS = ("wald", "profile", "bootstrap")
VAGUE = 3.0
"""Standard error on the log (or atanh) scale from which a Wald interval is too wide to be informative."""


@dataclass(frozen=True, repr=False, eq=False)
class Intervals(TableResult):
    """Intervals of the parameters of a result.

    Attributes:
        table: Index parameter; columns estimate, lower, upper.
        method: Method of the intervals: wald, profile, credible, or the kind of a bootstrap interval.
        ci_level: Probability of the intervals, between 0 and 1.
        notes: Remarks on the intervals.
    """

    table: pd.DataFrame
    method: str
    ci_level: float
    notes: tuple[str, ...] = ()

    @property
    def _heading(self) -> str:
        return f"{100 * self.ci_level:g}% {self.method} intervals"


def method_of(fit: FittedModel, method: str | None) -> str:
    """Check the method of the intervals, and fill in the default.

    Raises:
        OptionError: If the method is unknown, or does not exist for the fit (a posterior has only credible intervals).
    """
    if fit.fixed.interval == "credible":
        if method not in (None, "credible"):
            raise OptionError(f"method={method!r} is not for posteriors, which have credible intervals: fit.confint().")
        return "credible"
    chosen_method = method or "wald"
    if chosen_method not in METHODS:
        raise OptionError(
            f"method={method!r}: choose {listing(METHODS)}.{did_you_mean(str(method), METHODS)}"
            + (" Credible intervals need a posterior: backend='pymc'." if method == "credible" else "")
        )
    return chosen_method


def table_of(parameters: Sequence[Parameter], estimates: FloatArray, ends: FloatArray) -> pd.DataFrame:
    """Intervals as a table: index parameter; columns estimate, lower, upper."""
    index = pd.Index([p.name for p in parameters], name="parameter")
    return pd.DataFrame({"estimate": estimates, "lower": ends[:, 0], "upper": ends[:, 1]}, index=index)


def wald(fit: FittedModel, asked: str | Sequence[str] | None, ci_level: float) -> Intervals:
    """Wald intervals: estimate -/+ quantile times standard error; SDs on the log scale, correlations by atanh.

    Args:
        fit: A result that is not a posterior.
        asked: Parameters wanted; None for all.
        ci_level: Probability of the intervals.
    """
    checked_level(ci_level)
    fit = mixed_form(fit)
    parameters = chosen(parameters_of(fit), asked)
    estimates, ends, notes = values_of(fit, parameters), np.full((len(parameters), 2), np.nan), []
    for part, kind in ((fit.fixed, "fixed"), *((part_result, name) for name, part_result in fit.parts.items())):
        df = None if not np.isfinite(np.asarray(part.df)).all() else np.asarray(part.df)
        lower, upper = wald_interval(np.asarray(part.estimate), np.asarray(part.std_error), df, ci_level)
        for i, p in enumerate(parameters):
            if p.part == kind or (kind == "fixed" and p.target and p.target.kind == "fixed"):
                j = p.target.index if p.target else p.index
                ends[i] = lower[j], upper[j]
    wanted = [i for i, p in enumerate(parameters) if p.target and p.target.kind != "fixed"]
    if wanted:
        scales, why = _wald_of_scales(fit, ci_level, [parameters[i] for i in wanted], estimates[wanted])
        ends[wanted] = scales
        notes += [why] if why else []
    if not wanted and any(p.part == "residual" for p in parameters):
        notes.append("No Wald intervals of the residuals' SDs and correlations: method='bootstrap' gives intervals.")
    return Intervals(table_of(parameters, estimates, ends), "wald", ci_level, tuple(notes))


def _wald_of_scales(
    fit: FittedModel, ci_level: float, parameters: list[Parameter], estimates: FloatArray
) -> tuple[FloatArray, str]:
    none = np.full((len(parameters), 2), np.nan)
    reach = float(special.ndtri(0.5 + ci_level / 2))
    why = no_likelihood(fit)
    if not why and not has_design(fit):
        why = "they need the data that were fitted, fit.with_data(frame)"
    if why:
        return none, f"No Wald intervals of SDs, correlations and scales: {why}."
    design = likelihood_arrays(fit)
    why = out_of_reach(design)
    if design.residual is not None:
        why = "they are not computed beside a covariance of the residuals; method='bootstrap' gives intervals"
    if design.is_structured and not design.is_linear:
        why = "they are not computed beside the curve of a smooth in a generalised model; method='bootstrap' gives them"
    if why:
        return none, f"No Wald intervals of SDs, correlations and scales: {why}."
    if not design.blocks and design.is_linear:
        se = 1 / np.sqrt(2 * (design.n_obs - design.p if fit.model.method == "REML" else design.n_obs))
        return estimates[:, None] * np.exp(reach * se * np.array([-1.0, 1.0])), ""
    by_structures = design.is_structured or design.has_modelled_variances
    if by_structures:
        targets, covariance = structured_spread(*criterion_at(fit))
    else:
        targets, joint = joint_error(fit, design)
        own = slice(len(joint) - len(targets), None)
        covariance = joint[own, own]
    if not np.isfinite(covariance).all():
        there = "method='bootstrap'" if by_structures else "method='profile'"
        return none, (
            "No Wald intervals of SDs, correlations and scales: an estimate is on its boundary. "
            f"{there} gives intervals there."
        )
    place = {_key(target): k for k, (target, _) in enumerate(targets)}
    ends, unknown = [], []
    for p, estimate in zip(parameters, estimates, strict=True):
        assert p.target is not None  # noqa: S101  chosen above
        k = place[_key(p.target)]
        sd = float(np.sqrt(max(covariance[k, k], 0.0)))
        if not 0 < sd < VAGUE:
            unknown.append(p.name)
            ends.append(np.full(2, np.nan))
        elif p.target.kind == "cor":
            ends.append(np.tanh(unbounded(p.target, estimate) + reach * sd * np.array([-1.0, 1.0])))
        elif p.target.kind == "scale" and not fit.family.is_linear:
            free = to_free(fit.family, fit.dispersion_parameters)[p.target.index] + reach * sd * np.array([-1.0, 1.0])
            ends.append(np.array([value_at(fit.family, p.target.index, end) for end in free]))
        else:
            ends.append(estimate * np.exp(reach * sd * np.array([-1.0, 1.0])))
    other = "bootstrap" if by_structures else "profile"
    note = f"No Wald interval of {listing(unknown)}: the data barely limit it. method={other!r} may give one."
    return np.array(ends), note if unknown else ""


def _key(target: Any) -> tuple[str, int, int, int]:
    return target.kind, target.index, max(target.first, target.second), min(target.first, target.second)


def no_likelihood(fit: FittedModel) -> str:
    """The reason why the criterion of a fit is no likelihood; empty if it is one."""
    criterion = fit.criteria.criterion
    known = ("REML", "ML", "Laplace", "least squares")
    if criterion.startswith(known) or re.fullmatch(r"AGQ\(\d+\)", criterion):
        return ""
    return f"{criterion} maximises no likelihood"


def likelihood_of(fit: FittedModel, design: Design, *, reml: bool) -> Model:
    """The likelihood of a result's model by unimix's own criterion, at its maximum.

    Raises:
        UnsupportedModelError: If unimix has no criterion for the model.
    """
    covariances = [np.asarray(b.covariance) for b in fit.random]
    if design.has_modelled_variances:
        return ModelledModel(design, *covariances_of(fit), reml=reml)
    if design.is_linear:
        return LinearModel(design, covariances, fit.sigma, reml=reml)
    nodes = int(fit.criteria.criterion[4:-1]) if fit.criteria.criterion.startswith("AGQ(") else 1
    values = np.array([fit.criteria.parameters[name] for name in design.parameters])
    parts = {name: np.asarray(part.estimate) for name, part in fit.parts.items()}
    return LaplaceModel(design, covariances, np.asarray(fit.fixed.estimate), values, nodes, parts)


def joint_error(fit: FittedModel, design: Design) -> tuple[list[tuple[Target, float]], FloatArray]:
    """What :func:`.joint_spread` returns at the maximum of the likelihood of a result's model; kept with the result."""
    reml = fit.criteria.criterion == "REML"
    return fit._keep("joint error", lambda: joint_spread(likelihood_of(fit, design, reml=reml)))


@dataclass(frozen=True)
class _Profiler:
    """Everything that a process needs to profile any parameter."""

    model: Model
    ci_level: float

    def __call__(self, job: tuple[Target, float]) -> tuple[float, float]:
        target, std_error = job
        return profile_interval(self.model, target, self.ci_level, std_error)


def profile(
    fit: FittedModel,
    asked: str | Sequence[str] | None,
    ci_level: float,
    *,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Intervals:
    """Profile-likelihood intervals by unimix's own criterion: ML for linear models, as lme4's ``confint``.

    Args:
        fit: A result that is not a posterior.
        asked: Parameters wanted; None for all.
        ci_level: Probability of the intervals.
        n_jobs: Number of processes; None for this process only.
        progress: Whether to show a progress bar.

    Raises:
        UnsupportedModelError: If unimix has no criterion for the model.
        DataError: If the likelihood has a higher maximum than the one found.
    """
    refuse_correlated(
        fit,
        "A profile of the likelihood",
        "method='wald' is for the fixed effects and method='bootstrap' for all parameters.",
    )
    checked_level(ci_level)
    fit = mixed_form(fit)
    parameters = chosen(parameters_of(fit), asked)
    why = no_likelihood(fit) or without_profiles(design := likelihood_arrays(fit))
    if why:
        raise UnsupportedModelError(f"There is no profile: {why}. Try method='bootstrap' or 'wald'.")
    notes = ("The profiles are of the ML criterion.",) if fit.criteria.criterion == "REML" else ()
    if fit.parts and not design.has_modelled_variances:
        beside = [p.name for p in parameters if p.target is None]
        parameters = [p for p in parameters if p.target is not None]
        if not parameters:
            raise UnsupportedModelError(f"There is no profile of {listing(beside)}: method='wald' has an interval.")
        notes = (*notes, f"No profile of {listing(beside)}: method='wald' has an interval.") if beside else notes
    if any(p.part == "thresholds" for p in parameters):
        notes = (*notes, "Thresholds are not profiled: method='wald' or 'bootstrap' has their intervals.")
        parameters = [p for p in parameters if p.part != "thresholds"]
    estimates = values_of(fit, parameters)
    if not fit.converged:
        words = UNSURE.get(fit.status.state, "failed")
        notes = (*notes, f"The fit {words}; the profiles start from unimix's own optimum.")
    if not design.blocks and design.is_linear:
        fixed, sigma = least_squares_profile(design, ci_level)
        ends = np.array([fixed[p.target.index] if p.target and p.target.kind == "fixed" else sigma for p in parameters])
        return Intervals(table_of(parameters, estimates, ends), "profile", ci_level, notes)
    # an estimate that tends to infinity has no standard error: the first step changes the predictor by about one
    errors = np.where(np.isinf(fit.fixed.std_error), 1.0 / column_scale(design.x, design.n_obs), fit.fixed.std_error)
    model = likelihood_of(fit, design, reml=False)
    # the coefficients of the residual standard deviations are the scales of their model
    targets = [p.target or Target("scale", p.index) for p in parameters]
    jobs = [(t, float(errors[t.index]) if t.kind == "fixed" else 0.0) for t in targets]
    try:
        ends = np.array(
            run_jobs(
                _Profiler(model, ci_level), jobs, n_jobs=n_jobs, progress=progress, title="profiles", unit="parameters"
            )
        )
    except HigherMaximumError as error:
        raise DataError(
            f"The likelihood has a higher maximum than the one that was found ({error}): see fit.certificate() and "
            "um.all_fit."
        ) from error
    return Intervals(table_of(parameters, estimates, ends.reshape(-1, 2)), "profile", ci_level, notes)


def credible(fit: FittedModel, asked: str | Sequence[str] | None, ci_level: float) -> Intervals:
    """Equal-tailed quantiles of posterior draws; estimates are means.

    Args:
        fit: A posterior with draws.
        asked: Parameters wanted; None for all.
        ci_level: Probability of the intervals.
    """
    checked_level(ci_level)
    parameters = chosen(parameters_of(fit), asked)
    draws = parameter_draws(fit, parameters)
    tail = 0.5 - ci_level / 2
    ends = np.quantile(draws, [tail, 1 - tail], axis=0).T
    return Intervals(table_of(parameters, draws.mean(axis=0), ends), "credible", ci_level)


__all__ = ["Intervals", "credible", "method_of", "profile", "table_of", "wald"]
