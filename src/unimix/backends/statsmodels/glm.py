"""Generalised models without group effects, by statsmodels' GLM, NegativeBinomial and BetaModel.

The iterations of GLM have no step control, and its ``converged`` is based on a difference of deviances. unimix
therefore checks the score at the end, and starts failed iterations again from coefficients inside the range of the
link.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.backends.statsmodels.joint import LINK_NAMES, WORTHWHILE, fit_jointly, where_it_failed
from unimix.design.estimates import Estimates
from unimix.distributions.links import LINKS
from unimix.likelihood.glmm.dispersion import profile_dispersion
from unimix.likelihood.glmm.glm import fisher_scoring
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.lmm.weights import as_copies
from unimix.likelihood.response import row_log_likelihood

if TYPE_CHECKING:
    from unimix.backends.base import FitRequest, Problem
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]

_FAMILIES = {
    "gaussian": "Gaussian",
    "binomial": "Binomial",
    "poisson": "Poisson",
    "gamma": "Gamma",
    "inverse_gaussian": "InverseGaussian",
}


def limits(design: Design, request: FitRequest) -> list[str]:
    """Reasons to refuse a model without group effects beyond the sheets."""
    faults = []
    if request.method in ("variational", "MAP", "posterior"):
        faults.append(
            f"method={request.method!r}: without group effects statsmodels maximises the likelihood only. Leave "
            "method= out, or use backend='pymc'"
        )
    name = {"negative_binomial": "NegativeBinomial", "beta": "BetaModel"}.get(design.family.name)
    if name is not None and design.weights is not None:
        faults.append(f"weights: statsmodels' {name} has no weights")
    if name == "BetaModel" and design.offset is not None:
        faults.append("an offset: statsmodels' BetaModel has no offset")
    return faults


def call_text(design: Design) -> str:
    """Text of the call in Python, with generated names."""
    family, x = design.family, f"X[{', '.join(f'x{j}' for j in range(design.p))}]"
    offset = ", offset=off" if design.offset is not None else ""
    if family.name == "negative_binomial":
        form = "nb2" if family.label == "negative_binomial" else "nb1"
        return f"NegativeBinomial(y, {x}, loglike_method={form!r}{offset}).fit()"
    if family.name == "beta":
        return f"BetaModel(y, {x}, link={LINK_NAMES[family.link]}()).fit()"
    y = "[successes, failures]" if _has_trials(design) else "y"
    weights = ", var_weights=w" if design.weights is not None else ""
    return f"GLM({y}, {x}, family={_FAMILIES[family.name]}({LINK_NAMES[family.link]}()){offset}{weights}).fit()"


def fit_plain(problem: Problem, max_iterations: int) -> Estimates:
    """Fit a generalised model without group effects; a failed search is reported as a status.

    Args:
        problem: The model, without blocks, and the request.
        max_iterations: Maximum number of iterations of one search.
    """
    design = problem.design
    if not design.p:
        estimates = _without_coefficients(design)
    elif design.family.name in ("negative_binomial", "beta"):
        estimates = fit_jointly(design, max_iterations)
    else:
        estimates = _fit_glm(problem, max_iterations)
    return replace(estimates, engine_call=call_text(design))


@dataclass(frozen=True)
class _Attempt:
    """Result of one search, or the message of its failure, and the remaining improvement of a Fisher scoring step."""

    results: Any
    gain: float
    words: str = ""


def _has_trials(design: Design) -> bool:
    return design.trials is not None and not bool((design.trials == 1).all())


def _build_glm(design: Design) -> Any:
    glm = importlib.import_module("statsmodels.genmod.generalized_linear_model")
    families = importlib.import_module("statsmodels.genmod.families")
    family = getattr(families, _FAMILIES[design.family.name])(getattr(families.links, LINK_NAMES[design.family.link])())
    y = design.y
    if design.trials is not None and _has_trials(design):
        successes = np.round(design.y * design.trials)
        y = np.column_stack([successes, design.trials - successes])
    more = {} if design.weights is None else {"var_weights": design.weights}
    more |= {} if design.offset is None else {"offset": design.offset}
    return glm.GLM(y, design.x, family=family, **more)


def _fit_glm(problem: Problem, max_iterations: int) -> Estimates:
    design, request = problem.design, problem.request
    with warnings.catch_warnings():
        # statsmodels warns at every fit with a link that can leave the range of the mean; unimix checks the range.
        warnings.filterwarnings("ignore", message="The .* link function does not respect the domain")
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        model = _build_glm(design)
        attempt = _attempt_glm(model, design, None, max_iterations)
        provenance: dict[str, str] = {}
        if attempt.gain > WORTHWHILE:
            second = _attempt_glm(model, design, fisher_scoring(design, rounds=max_iterations), max_iterations)
            if second.gain < attempt.gain or attempt.results is None:
                attempt = second
                provenance["start"] = "coefficients inside the range of the link, by unimix: its own start failed"
    results = attempt.results
    if results is None:
        return where_it_failed(design, attempt.words)
    beta = np.asarray(results.params, dtype=np.float64)
    messages: tuple[str, ...] = ()
    if not np.isfinite(attempt.gain):
        messages = ("the search ended where no maximum of the likelihood is near",)
    elif attempt.gain > WORTHWHILE:
        step = f"a Fisher step would raise the log-likelihood by about {attempt.gain:.2g}"
        messages = (f"the iterations stopped short of the optimum: {step}",)
    estimates = Estimates(
        beta=beta,
        beta_cov=np.asarray(results.cov_params(), dtype=np.float64).reshape(design.p, design.p),
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=None,
        converged=not messages,
        df_method="normal",
        singular=False,
        messages=messages,
        provenance=provenance,
        native=results,
    )
    if not design.family.parameters:
        return replace(estimates, log_likelihood=float(results.llf))
    value, log_likelihood = profile_dispersion(design, fixed_predictor(design, beta))
    z, name = request.df_method == "normal", design.family.parameters[0]
    factor, df_residual, copies_note = as_copies(design)
    return replace(
        estimates,
        beta_cov=factor * estimates.beta_cov,
        std_error_kind="Pearson dispersion",
        sigma=value if name == "sigma" else float(np.sqrt(value)),
        parameters={name: value},
        log_likelihood=log_likelihood,
        df=None if z else np.full(design.p, df_residual),
        df_method="normal" if z else "residual",
        provenance={
            **provenance,
            "dispersion, log_likelihood": "by maximum likelihood given the coefficients, by unimix: statsmodels' llf "
            "of a GLM takes the Pearson estimate of the dispersion",
            "std_error": "statsmodels', with the Pearson estimate of the dispersion" + copies_note,
        },
    )


def _attempt_glm(model: Any, design: Design, start: FloatArray | None, max_iterations: int) -> _Attempt:
    """Iterate until the coefficients are stable, and compute the remaining improvement."""
    mean = float(np.abs(design.y).mean())
    mean = float(np.clip(mean, 1e-3, 0.999)) if design.family.response == "binomial" else max(mean, 1e-100)
    size = 1.0 + abs(float(LINKS[design.family.link].forward(np.array(mean))))
    try:
        results = model.fit(
            start_params=start, maxiter=max_iterations, tol_criterion="params", atol=1e-12 * size, rtol=1e-11
        )
        gain = remaining_improvement(design, np.asarray(results.params, dtype=np.float64))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        return _Attempt(None, np.inf, f"{type(error).__name__}: {error}")
    if not _is_possible(design, fixed_predictor(design, np.asarray(results.params))):
        return _Attempt(None, np.inf, "its search ended at expected values that the family cannot have")
    if not np.isfinite(results.cov_params()).all() or (np.diag(results.cov_params()) <= 0).any():
        return _Attempt(None, np.inf, "its standard errors are not finite")
    return _Attempt(results, gain)


def _is_possible(design: Design, eta: FloatArray) -> bool:
    some = np.ones(len(design.family.parameters))
    return bool(np.isfinite(eta).all() and np.isfinite(row_log_likelihood(design, some, eta).value).all())


def remaining_improvement(design: Design, beta: FloatArray) -> float:
    """Remaining improvement of a Fisher step from coefficients (p,); infinity if no maximum is near."""
    eta = fixed_predictor(design, beta)
    if not _is_possible(design, eta):
        return np.inf
    likely = np.array([profile_dispersion(design, eta)[0]] if design.family.parameters else [])
    rows = row_log_likelihood(design, likely, eta)
    if not np.isfinite(rows.observed).all() or not np.isfinite(rows.expected).all():
        return np.inf
    # The mixed derivative with the dispersion vanishes with the score, so that the coefficients' block suffices.
    curvature = np.linalg.eigvalsh(design.x.T @ (rows.observed[:, None] * design.x))
    score = design.x.T @ rows.score
    try:
        gain = 0.5 * float(score @ np.linalg.solve(design.x.T @ (rows.expected[:, None] * design.x), score))
    except np.linalg.LinAlgError:
        return np.inf
    return gain if gain >= 0 and curvature.min() > -1e-9 * curvature.max() else np.inf


def _without_coefficients(design: Design) -> Estimates:
    """Fit a model without coefficients, which has at most a dispersion parameter."""
    family, eta = design.family, fixed_predictor(design, np.empty(0))
    parameters, sigma = {}, 1.0
    if family.parameters:
        value, log_likelihood = profile_dispersion(design, eta)
        parameters = {family.parameters[0]: value}
        sigma = value if family.parameters[0] == "sigma" else sigma
        sigma = float(np.sqrt(value)) if family.parameters[0] == "dispersion" else sigma
    else:
        log_likelihood = float(row_log_likelihood(design, np.empty(0), eta).value.sum())
    return Estimates(
        beta=np.empty(0),
        beta_cov=np.empty((0, 0)),
        covariances=(),
        sigma=sigma,
        modes=(),
        mode_covs=(),
        log_likelihood=log_likelihood if np.isfinite(log_likelihood) else None,
        converged=bool(np.isfinite(log_likelihood)),
        parameters=parameters,
        singular=False,
        provenance={"log_likelihood": "by unimix: there are no coefficients for statsmodels to estimate"},
    )
