"""From estimates and a design to a result. All derived quantities are computed here, alike for all engines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.fitted.residuals import pearson_dispersion
from unimix.fitted.schema import Criteria, EngineInfo, FixedPartResult, ModelInfo, RandomPartResult, Rows, State, Status
from unimix.formula.parser import render
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.weights import counted_rows
from unimix.result import FitResult
from unimix.stats.inference import correlation, information_criteria, n_covariance_parameters, wald_interval, wald_test

FloatArray = npt.NDArray[np.float64]

BAYESIAN = ("posterior", "variational", "MAP")
COMPUTED = {
    "statistic": "estimate / std_error, computed by unimix",
    "interval": "Wald interval at the stated df, computed by unimix",
    "aic, bic, deviance": "computed by unimix from the log-likelihood",
    "fitted, residuals": "computed by unimix from the design and the estimates",
}


def assemble(
    design: Design,
    estimates: Estimates,
    *,
    method: str,
    engine: EngineInfo,
    provenance: dict[str, str],
    notes: tuple[str, ...],
    ci_level: float,
) -> FitResult:
    """Make the result of a fit.

    Args:
        design: The model that was fitted, in the units of the user's data.
        estimates: Estimates of the engine, in the units of the user's data.
        method: Criterion of the estimates, such as REML, ML or posterior.
        engine: Name, versions, options and call of the engine.
        provenance: Origin of the quantities that the engine did not report itself, by name of the quantity.
        notes: Notes on the fit, beyond those of the design.
        ci_level: Probability of the intervals, between 0 and 1.
    """
    bayesian = method in BAYESIAN
    if not design.blocks and not bayesian:
        method = "least squares" if design.is_linear else "ML"
    rows = _rows(design, estimates)
    fixed = _fixed(design, estimates, ci_level, bayesian=bayesian)
    computed = {k: v for k, v in COMPUTED.items() if not bayesian or k.startswith("fitted")}
    return FitResult(
        model=_model(design, method),
        engine=engine,
        fixed=fixed,
        random=tuple(
            RandomPartResult(
                group=b.group,
                terms=b.terms,
                unit=column_scale(b.z),
                sd=np.sqrt(np.diag(c)),
                correlation=correlation(np.array(c), column_scale(b.z)),
                covariance=c,
                levels=b.levels,
                modes=m,
                mode_sd=np.sqrt(np.maximum(np.einsum("lii->li", v), 0.0)),
                mode_covariance=v,
            )
            for b, c, m, v in zip(
                design.blocks, estimates.covariances, estimates.modes, estimates.mode_covs, strict=True
            )
        ),
        criteria=_criteria(design, estimates, method, rows),
        status=_status(estimates),
        rows=rows,
        parts={name: _part(design, name, *estimated, ci_level) for name, estimated in estimates.parts.items()},
        provenance={**computed, **provenance},
        notes=(*design.notes, *notes),
    )


def _model(design: Design, method: str) -> ModelInfo:
    return ModelInfo(
        formula=design.spec.formula,
        reading=design.spec.text(),
        response=render(design.spec.response),
        family=design.family.label,
        link=design.family.link,
        method=method,
        n_obs=design.n,
        n_dropped=max(design.n_rows - design.n, 0),  # rows of a resized design are copies of those given
        missing=design.dropped,
        groups=design.groups,
        aliased=design.aliased,
        fingerprint=design.fingerprint(),
        encoding=design.encoding,
        weighted=design.weights is not None,
    )


def _fixed(design: Design, estimates: Estimates, level: float, *, bayesian: bool) -> FixedPartResult:
    p = design.p
    std_error = estimates.std_error
    if std_error is None:
        std_error = np.sqrt(np.diag(estimates.beta_cov))
    none = np.full(p, np.nan)
    if bayesian:
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
    )


def _part(design: Design, name: str, coefficients: FloatArray, covariance: FloatArray, level: float) -> FixedPartResult:
    columns = design.zero if name == "zero" else design.dispersion
    std_error = np.sqrt(np.diag(covariance))
    statistic, p_value = wald_test(coefficients, std_error, None)
    lower, upper = wald_interval(coefficients, std_error, None, level)
    return FixedPartResult(
        terms=columns.names if columns is not None else (),
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
    )


def _criteria(design: Design, estimates: Estimates, method: str, rows: Rows) -> Criteria:
    family = design.family
    parameters = dict(estimates.parameters)
    if not parameters and family.name == "gaussian" and design.dispersion is None:
        parameters = {"sigma": estimates.sigma}
    k = design.p + sum(n_covariance_parameters(b.structure, b.q) for b in design.blocks) + len(parameters)
    k += sum(len(coefficients) for coefficients, _ in estimates.parts.values())
    value = estimates.log_likelihood
    n = counted_rows(family, design.n, design.weights)
    aic, bic = (np.nan, np.nan) if value is None else information_criteria(value, k, n)
    return Criteria(
        log_likelihood=np.nan if value is None else value,
        criterion=estimates.criterion or ("ML" if method == "least squares" else method),
        n_parameters=k,
        aic=aic,
        bic=bic,
        deviance=np.nan if value is None else -2 * value,
        sigma=estimates.sigma if design.dispersion is None else np.nan,
        df_residual=int(n) - (k if design.blocks else design.p),
        parameters=parameters,
        pearson_dispersion=np.nan
        if family.is_linear or len(parameters) < len(family.parameters)
        else pearson_dispersion(family, np.array([parameters[p] for p in family.parameters]), rows, k),
    )


def _status(estimates: Estimates) -> Status:
    state: State = "not_converged" if not estimates.converged else "singular" if estimates.singular else "converged"
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


def _rows(design: Design, estimates: Estimates) -> Rows:
    population: FloatArray = design.x @ estimates.beta
    if design.offset is not None:
        population = population + design.offset
    fitted = population.copy()
    for block, modes in zip(design.blocks, estimates.modes, strict=True):
        fitted += np.einsum("nq,nq->n", block.z, modes[block.codes])
    return Rows(
        index=design.rows.astype(np.float64),
        observed=design.y,
        linear_predictor=fitted,
        population_predictor=population,
        weights=design.weights,
        trials=design.trials,
        offset=design.offset,
        labels=design.labels,
        zero_probability=None if design.zero is None else expit(design.zero.x @ estimates.parts["zero"][0]),
    )
