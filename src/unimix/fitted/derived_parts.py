"""The parts of a result that follow from a design and an engine's estimates, alike for all engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates, Sampling
from unimix.distributions.family import Cumulative
from unimix.errors import FitError
from unimix.fitted.no_rows import NoRows
from unimix.fitted.residuals import pearson_dispersion
from unimix.fitted.schema import (
    Criteria,
    FixedPartResult,
    ModelInfo,
    Part,
    RandomPartResult,
    ResidualPartResult,
    Rows,
    State,
    Status,
)
from unimix.formula.parser import render
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.weights import counted_rows
from unimix.stats.direction import normal_direction
from unimix.stats.inference import correlation, information_criteria, wald_interval, wald_test
from unimix.stats.predictor import expected_response

FloatArray = npt.NDArray[np.float64]

BAYESIAN = ("posterior", "variational", "MAP")


def assembled(
    design: Design, estimates: Estimates, *, method: str, ci_level: float
) -> dict[str, Part | tuple[Part, ...] | dict[str, FixedPartResult] | None]:
    """Compute everything in a result that follows from the design and the estimates, by field of the result.

    Args:
        design: The model that was fitted, in the units of the user's data.
        estimates: Estimates of the engine, in the units of the user's data.
        method: Criterion of the estimates, such as REML, ML or posterior.
        ci_level: Probability of the intervals, between 0 and 1.
    """
    bayesian = method in BAYESIAN
    if not design.has_covariances and not bayesian:
        method = "least squares" if design.is_linear else "ML"
    rows = _rows(design, estimates, bayesian=bayesian)
    return {
        "model": _model(design, method),
        "fixed": _fixed(design, estimates, ci_level, bayesian=bayesian),
        "random": _random(design, estimates),
        "criteria": _criteria(design, estimates, method, rows),
        "status": _status(estimates),
        "rows": rows,
        "parts": {name: _part(design, name, estimates, ci_level) for name in estimates.parts},
        "residual_part": _residual(design, estimates),
    }


def estimates_of(design: Design, parts: Mapping[str, Any]) -> Estimates:
    """The estimates from which the parts of a result were computed: the inverse of :func:`assembled`.

    Args:
        design: The model that was fitted.
        parts: Parts of a result, by field of the result.
    """
    fixed, random, criteria = parts["fixed"], parts["random"], parts["criteria"]
    status, method = parts["status"], parts["model"].method
    bayesian, parameters = method in BAYESIAN, dict(criteria.parameters)
    sampling = None
    if status.n_draws is not None:
        names = ("rhat", "ess_bulk", "ess_tail", "divergences", "n_draws", "n_chains")
        sampling = Sampling(**{name: getattr(status, name) for name in names})
    unbounded = {"fixed": fixed.unbounded} | {name: p.unbounded for name, p in parts["parts"].items()}
    residual = parts["residual_part"]
    cross = {name: p.cross_covariance for name, p in parts["parts"].items() if p.cross_covariance.size}
    thresholds = "thresholds" in parts["parts"]
    return Estimates(
        beta=fixed.estimate,
        beta_cov=fixed.covariance,
        covariances=tuple(b.covariance for b in random),
        sigma=(criteria.sigma if residual is None else residual.reference_sd)
        if bayesian or design.is_linear
        else _scale(design, parameters),
        residual=None if residual is None else residual.covariance,
        modes=tuple(b.modes for b in random),
        mode_covs=tuple(b.mode_covariance for b in random),
        log_likelihood=None if bayesian else criteria.log_likelihood,
        converged=status.state in ("converged", "singular"),
        parameters={} if design.is_linear else parameters,
        parts={
            # thresholds follow from the parameters
            name: (design.family.matrix @ list(parameters.values()), p.covariance)
            if isinstance(design.family, Cumulative) and name == "thresholds"
            else (p.estimate, p.covariance)
            for name, p in parts["parts"].items()
        },
        criterion=criteria.criterion if _refines(criteria.criterion, method) else "",
        std_error=fixed.std_error if fixed.std_error_kind == "Kenward-Roger" else None,
        std_error_kind=fixed.std_error_kind,
        df=None if bayesian or fixed.df_method == "normal" else fixed.df,
        df_method=fixed.df_method,
        interval=np.column_stack([fixed.lower, fixed.upper]) if bayesian else None,
        direction=fixed.p_direction if sampling else None,
        unbounded={name: directions for name, directions in unbounded.items() if directions.size},
        zero_cross=cross.get("zero"),
        threshold_cross=parts["parts"]["thresholds"].cross_covariance if thresholds else None,
        expected=_stacked(parts["rows"]) if sampling else None,
        identified=status.state != "not_identified",
        singular=status.state == "singular",
        messages=status.messages,
        gradient=status.gradient,
        sampling=sampling,
        evidence=criteria.evidence,
    )


def _stacked(rows: Rows) -> FloatArray | None:
    """Expected responses with and without the group effects, shape (2, n), or None."""
    if rows.expected is None or rows.population_expected is None:
        return None
    return np.stack([rows.expected, rows.population_expected])


def _refines(criterion: str, method: str) -> bool:
    """Whether a criterion is a kind of the method: Laplace's approximation has several, and quadrature has nodes."""
    return method in ("Laplace", "AGQ") and criterion.startswith(("Laplace", "AGQ("))


def _scale(design: Design, parameters: Mapping[str, float]) -> float:
    """Residual standard deviation, or square root of the dispersion; 1 for families without a scale."""
    if design.dispersion is not None:
        return np.nan
    return parameters.get("sigma", float(np.sqrt(parameters.get("dispersion", 1.0))))


def _random(design: Design, estimates: Estimates) -> tuple[RandomPartResult, ...]:
    rows = design if design.compression is None else design.compression.moments
    units = [column_scale(b.z) for b in rows.blocks]
    return tuple(
        RandomPartResult(
            group=b.group,
            terms=b.terms,
            unit=unit,
            sd=np.sqrt(np.diag(c)),
            correlation=correlation(np.array(c), unit),
            covariance=c,
            levels=b.levels,
            modes=m,
            mode_sd=np.sqrt(np.maximum(np.einsum("lii->li", v), 0.0)),
            mode_covariance=v,
        )
        for b, unit, c, m, v in zip(
            design.blocks, units, estimates.covariances, estimates.modes, estimates.mode_covs, strict=True
        )
    )


def _residual(design: Design, estimates: Estimates) -> ResidualPartResult | None:
    block, covariance = design.residual, estimates.residual
    if block is None or covariance is None:
        return None
    sd, parameters = block.structure.parameters(covariance)
    return ResidualPartResult(
        text=block.text,
        group=block.group,
        n_groups=block.n_groups,
        structure=block.structure.name,
        times=block.structure.labels,
        coordinates=block.structure.coordinates,
        sd=sd,
        parameters=block.structure.parameter_names,
        estimates=parameters,
        relative=design.dispersion is not None,
    )


def _model(design: Design, method: str) -> ModelInfo:
    return ModelInfo(
        formula=design.spec.formula,
        reading=design.spec.text(),
        response=render(design.spec.response),
        family=design.family.label,
        link=design.family.link,
        method=method,
        n_obs=design.n_obs,
        n_dropped=max(design.n_rows - design.n_obs, 0),  # rows of a resized design are copies of those given
        missing=design.dropped,
        groups=design.groups,
        aliased=design.aliased,
        fingerprint=design.fingerprint(),
        encoding=design.encoding,
        weighted=design.weights is not None,
        sigma=design.sigma,
        related=design.related,
        threshold=design.family.threshold if isinstance(design.family, Cumulative) else None,
    )


def _fixed(design: Design, estimates: Estimates, level: float, *, bayesian: bool) -> FixedPartResult:
    p = design.p
    std_error = estimates.std_error
    if std_error is None:
        # a variance that was cut off, because its estimate is infinite, may be negative by rounding
        std_error = np.sqrt(np.maximum(np.diag(estimates.beta_cov), 0.0))
    unbounded, std_error = _without_information(estimates.unbounded.get("fixed"), design.x, std_error)
    none, direction = np.full(p, np.nan), None
    if bayesian:
        direction = estimates.direction
        if direction is None:  # known as a normal approximation, or the engine did not say
            direction = none if estimates.sampling else normal_direction(estimates.beta, std_error)
        ends = estimates.interval if estimates.interval is not None else np.full((p, 2), np.nan)
        statistic, p_value, lower, upper, df = none, none, ends[:, 0], ends[:, 1], none
    else:
        statistic, p_value = wald_test(estimates.beta, std_error, estimates.df)
        lower, upper = wald_interval(estimates.beta, std_error, estimates.df, level)
        df = estimates.df if estimates.df is not None else np.full(p, np.inf)
    return FixedPartResult(
        terms=design.fixed_names,
        estimate=estimates.beta,
        std_error=std_error,
        df=df,
        statistic=statistic,
        p_value=p_value,
        lower=lower,
        upper=upper,
        covariance=estimates.beta_cov,
        interval="credible" if bayesian else "confidence",
        level=level,
        df_method="posterior" if bayesian else estimates.df_method,
        std_error_kind=estimates.std_error_kind,
        p_direction=direction,
        unbounded=unbounded,
    )


def _without_information(
    directions: FloatArray | None, x: FloatArray, std_error: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Directions (m, p) without elements that are rounding errors, and standard errors, infinite along them."""
    if directions is None:
        return np.empty((0, 0)), std_error
    sizes = np.abs(directions) * column_scale(x)
    directions = np.where(sizes > 1e-6 * sizes.max(axis=1, keepdims=True), directions, 0.0)
    return directions, np.where(directions.any(axis=0), np.inf, std_error)


def _part(design: Design, name: str, estimates: Estimates, level: float) -> FixedPartResult:
    columns = {"zero": design.zero, "dispersion": design.dispersion}.get(name)
    coefficients, covariance = estimates.parts[name]
    std_error = np.sqrt(np.diag(covariance))
    terms = columns.names if columns is not None else ()
    cross = {"zero": estimates.zero_cross, "thresholds": estimates.threshold_cross}.get(name)
    if isinstance(design.family, Cumulative) and name == "thresholds":
        terms = design.family.threshold_names
    unbounded = np.empty((0, 0))
    if columns is not None:
        unbounded, std_error = _without_information(estimates.unbounded.get(name), columns.x, std_error)
    statistic, p_value = wald_test(coefficients, std_error, None)
    lower, upper = wald_interval(coefficients, std_error, None, level)
    return FixedPartResult(
        terms=terms,
        estimate=coefficients,
        std_error=std_error,
        df=np.full(len(coefficients), np.inf),
        statistic=statistic,
        p_value=p_value,
        lower=lower,
        upper=upper,
        covariance=covariance,
        interval="confidence",
        level=level,
        df_method="normal",
        unbounded=unbounded,
        cross_covariance=np.empty((0, 0)) if cross is None else cross,
    )


def _criteria(design: Design, estimates: Estimates, method: str, rows: Rows) -> Criteria:
    family = design.family
    parameters = dict(estimates.parameters)
    by_time = design.residual is not None and not design.residual.structure.homogeneous
    if not parameters and family.name == "gaussian" and design.dispersion is None and not by_time:
        parameters = {"sigma": estimates.sigma}
    k = design.p + sum(b.n_parameters for b in design.blocks) + len(parameters) - (design.sigma is not None)
    own_scale = by_time and design.dispersion is None  # the standard deviation at the first time
    k += 0 if design.residual is None else design.residual.structure.n_parameters + int(own_scale)
    k += sum(len(b) for name, (b, _) in estimates.parts.items() if name != "thresholds")  # which follow from parameters
    value = estimates.log_likelihood
    n = counted_rows(family, design.n_obs, design.weights)
    aic, bic = (np.nan, np.nan) if value is None else information_criteria(value, k, n)
    return Criteria(
        log_likelihood=np.nan if value is None else value,
        criterion=estimates.criterion or ("ML" if method == "least squares" else method),
        n_parameters=k,
        aic=aic,
        bic=bic,
        deviance=np.nan if value is None else -2 * value,
        sigma=estimates.sigma if design.dispersion is None and not by_time else np.nan,
        df_residual=int(n) - (k if design.has_covariances else design.p),
        parameters=parameters,
        pearson_dispersion=np.nan
        if family.is_linear or family.response == "ordered" or not set(family.parameters) <= parameters.keys()
        else pearson_dispersion(family, np.array([parameters[p] for p in family.parameters]), rows, k),
        evidence=estimates.evidence,
    )


def _status(estimates: Estimates) -> Status:
    state: State = "singular" if estimates.singular else "converged"
    if not (estimates.converged and estimates.identified):
        state = "not_converged" if estimates.identified else "not_identified"
    s = estimates.sampling
    return Status(
        state=state,
        messages=estimates.messages,
        gradient=estimates.gradient,
        rhat=s.rhat if s else None,
        ess_bulk=s.ess_bulk if s else None,
        ess_tail=s.ess_tail if s else None,
        divergences=s.divergences if s else None,
        n_draws=s.n_draws if s else None,
        n_chains=s.n_chains if s else None,
    )


def _rows(design: Design, estimates: Estimates, *, bayesian: bool) -> Rows:
    if design.compression is not None:
        return cast("Rows", NoRows())
    population: FloatArray = design.x @ estimates.beta
    if design.offset is not None:
        population = population + design.offset
    fitted = population.copy()
    for block, modes in zip(design.blocks, estimates.modes, strict=True):
        fitted += np.einsum("nq,nq->n", block.z, modes[block.codes])
    expected: FloatArray | tuple[None, None] = (None, None)
    if estimates.expected is not None:
        expected = estimates.expected
    elif bayesian and design.family.link != "identity":
        if estimates.sampling is not None:
            raise FitError(
                "The engine sampled, and does not say the expected responses, which are means over its draws: "
                "unimix.backends.estimates_of_draws computes them."
            )
        expected = _expected_by_normal(design, estimates, fitted, population)
    return Rows(
        index=design.rows.astype(np.float64),
        observed=design.y,
        linear_predictor=fitted,
        population_predictor=population,
        weights=design.weights,
        trials=design.trials,
        offset=design.offset,
        labels=design.labels,
        expected=expected[0],
        population_expected=expected[1],
        zero_probability=None if design.zero is None else expit(design.zero.x @ estimates.parts["zero"][0]),
        dispersion=None
        if design.dispersion is None
        else np.exp(design.dispersion.x @ estimates.parts["dispersion"][0]),
    )


def _expected_by_normal(design: Design, estimates: Estimates, fitted: FloatArray, population: FloatArray) -> FloatArray:
    """Expected responses under a posterior that is known as a normal approximation, shape (2, n).

    The linear predictor of a row has the variance x'V x + sum_k z_k' C_k z_k, with the errors of fixed effects V and of
    the level's effects C taken as independent, as they are in the mean-field approximation.
    """
    alone = np.einsum("np,np->n", design.x @ estimates.beta_cov, design.x)
    whole = alone.copy()
    for block, covariances in zip(design.blocks, estimates.mode_covs, strict=True):
        whole += np.einsum("nr,nr->n", np.einsum("nq,nqr->nr", block.z, covariances[block.codes]), block.z)
    pairs = ((fitted, whole), (population, alone))
    return np.stack([expected_response(design.family, eta, np.sqrt(np.maximum(v, 0.0))) for eta, v in pairs])
