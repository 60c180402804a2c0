"""Generalised models without group effects: statsmodels' GLM, NegativeBinomial and BetaModel by arrays.

GLM's iterations have no step control and their `converged` is a difference of deviances; they are followed by a look at
the score, and where they fail they start once more from coefficients inside the range of the link.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.model.estimates import Estimates
from unimix.numerics.dispersion import profile_dispersion
from unimix.numerics.families import of_design
from unimix.numerics.glm import fisher_scoring
from unimix.numerics.laplace import fixed_predictor
from unimix.numerics.links import LINKS

if TYPE_CHECKING:
    from unimix.backends.base import FitRequest, Problem
    from unimix.model.design import Design

FloatArray = npt.NDArray[np.float64]

WORTHWHILE = 1e-8
"""Log-likelihood that a search must not leave behind: a ten-thousandth of a standard error."""
BOUNDLESS = 1e6
"""Theta (or 1 / alpha) beyond which counts are not overdispersed."""
_NOT_OVERDISPERSED = (
    "the counts are not overdispersed: the variance is that of a Poisson distribution, and the dispersion parameter "
    "has no estimate inside its range. Use family='poisson'"
)
_FAMILIES = {
    "gaussian": "Gaussian",
    "binomial": "Binomial",
    "poisson": "Poisson",
    "gamma": "Gamma",
    "inverse_gaussian": "InverseGaussian",
}
_LINKS = {
    "identity": "Identity",
    "log": "Log",
    "sqrt": "Sqrt",
    "inverse": "InversePower",
    "inverse_squared": "InverseSquared",
    "logit": "Logit",
    "probit": "Probit",
    "cloglog": "CLogLog",
    "cauchit": "Cauchy",
}


def limits(design: Design, request: FitRequest) -> list[str]:
    """Why a model without group effects is refused beyond the sheets, if so."""
    found = []
    if request.method in ("variational", "MAP", "posterior"):
        found.append(
            f"method={request.method!r}: without group effects statsmodels maximises the likelihood only. Leave "
            "method= out, or use backend='pymc'"
        )
    name = {"negative_binomial": "NegativeBinomial", "beta": "BetaModel"}.get(design.family.name)
    if name is not None and design.weights is not None:
        found.append(f"weights: statsmodels' {name} has no weights")
    if name == "BetaModel" and design.offset is not None:
        found.append("an offset: statsmodels' BetaModel has no offset")
    return found


def call_text(design: Design) -> str:
    """What statsmodels is given, in Python, under the generated names."""
    family, x = design.family, f"X[{', '.join(f'x{j}' for j in range(design.p))}]"
    offset = ", offset=off" if design.offset is not None else ""
    if family.name == "negative_binomial":
        form = "nb2" if family.label == "negative_binomial" else "nb1"
        return f"NegativeBinomial(y, {x}, loglike_method={form!r}{offset}).fit()"
    if family.name == "beta":
        return f"BetaModel(y, {x}, link={_LINKS[family.link]}()).fit()"
    y = "[successes, failures]" if _has_trials(design) else "y"
    weights = ", var_weights=w" if design.weights is not None else ""
    return f"GLM({y}, {x}, family={_FAMILIES[family.name]}({_LINKS[family.link]}()){offset}{weights}).fit()"


def fit_plain(problem: Problem, max_iterations: int) -> Estimates:
    """Fit a generalised model without group effects; a search that fails is a status.

    Args:
        problem: Without blocks.
        max_iterations: Of one search.
    """
    design = problem.design
    if not design.p:
        found = _without_coefficients(design)
    elif design.family.name in ("negative_binomial", "beta"):
        found = _fit_likelihood(design, max_iterations)
    else:
        found = _fit_glm(problem, max_iterations)
    return replace(found, engine_call=call_text(design))


# -- GLM ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attempt:
    """One search: the engine's results, or its words; and what a step of Fisher's would still gain."""

    results: Any
    gain: float
    words: str = ""


def _has_trials(design: Design) -> bool:
    return design.trials is not None and not bool((design.trials == 1).all())


def _build_glm(design: Design) -> Any:
    glm = importlib.import_module("statsmodels.genmod.generalized_linear_model")
    families = importlib.import_module("statsmodels.genmod.families")
    family = getattr(families, _FAMILIES[design.family.name])(getattr(families.links, _LINKS[design.family.link])())
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
        # Links that can leave the range of the mean are warned of at every fit; here the range is checked.
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
        return _where_it_failed(design, attempt.words)
    beta = np.asarray(results.params, dtype=np.float64)
    told: tuple[str, ...] = ()
    if not np.isfinite(attempt.gain):
        told = ("the search ended where no maximum of the likelihood is near",)
    elif attempt.gain > WORTHWHILE:
        told = (
            f"the iterations stopped short of the optimum: about {attempt.gain:.2g} log-likelihood is left to gain",
        )
    found = Estimates(
        beta=beta,
        beta_cov=np.asarray(results.cov_params(), dtype=np.float64).reshape(design.p, design.p),
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=None,
        converged=not told,
        df_method="normal",
        singular=False,
        messages=told,
        provenance=provenance,
        native=results,
    )
    if not design.family.parameters:
        return replace(found, log_likelihood=float(results.llf))
    value, log_likelihood = profile_dispersion(design, fixed_predictor(design, beta))
    z, name = request.df_method == "normal", design.family.parameters[0]
    return replace(
        found,
        sigma=value if name == "sigma" else float(np.sqrt(value)),
        parameters={name: value},
        log_likelihood=log_likelihood,
        df=None if z else np.full(design.p, float(results.df_resid)),
        df_method="normal" if z else "residual",
        provenance={
            **provenance,
            "dispersion, log_likelihood": "by maximum likelihood given the coefficients, by unimix: statsmodels' llf "
            "of a GLM takes the Pearson estimate of the dispersion",
            "std_error": "statsmodels', with the Pearson estimate of the dispersion",
        },
    )


def _attempt_glm(model: Any, design: Design, start: FloatArray | None, max_iterations: int) -> _Attempt:
    """Iterate until the coefficients rest, and measure what is left."""
    mean = float(np.abs(design.y).mean())
    mean = float(np.clip(mean, 1e-3, 0.999)) if design.family.response == "binomial" else max(mean, 1e-100)
    size = 1.0 + abs(float(LINKS[design.family.link].forward(np.array(mean))))
    try:
        results = model.fit(
            start_params=start, maxiter=max_iterations, tol_criterion="params", atol=1e-12 * size, rtol=1e-11
        )
        gain = left_to_gain(design, np.asarray(results.params, dtype=np.float64))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        return _Attempt(None, np.inf, f"{type(error).__name__}: {error}")
    if not _is_possible(design, fixed_predictor(design, np.asarray(results.params))):
        return _Attempt(None, np.inf, "its search ended at expected values that the family cannot have")
    if not np.isfinite(results.cov_params()).all() or (np.diag(results.cov_params()) <= 0).any():
        return _Attempt(None, np.inf, "its standard errors are not finite")
    return _Attempt(results, gain)


def _is_possible(design: Design, eta: FloatArray) -> bool:
    some = np.ones(len(design.family.parameters))
    return bool(np.isfinite(eta).all() and np.isfinite(of_design(design, some, eta).value).all())


def left_to_gain(design: Design, beta: FloatArray) -> float:
    """Log-likelihood that a Fisher step from these coefficients (p,) promises; infinite where no maximum is near."""
    eta = fixed_predictor(design, beta)
    if not _is_possible(design, eta):
        return np.inf
    likely = np.array([profile_dispersion(design, eta)[0]] if design.family.parameters else [])
    rows = of_design(design, likely, eta)
    if not np.isfinite(rows.observed).all() or not np.isfinite(rows.expected).all():
        return np.inf
    # The derivative by coefficients and dispersion vanishes with the score: the coefficients' block decides.
    curvature = np.linalg.eigvalsh(design.x.T @ (rows.observed[:, None] * design.x))
    score = design.x.T @ rows.score
    try:
        gain = 0.5 * float(score @ np.linalg.solve(design.x.T @ (rows.expected[:, None] * design.x), score))
    except np.linalg.LinAlgError:
        return np.inf
    return gain if gain >= 0 and curvature.min() > -1e-9 * curvature.max() else np.inf


def _where_it_failed(design: Design, words: str) -> Estimates:
    """What can be said of a model that statsmodels gave up on: where unimix's own Fisher scoring ends."""
    beta = fisher_scoring(design)
    eta = fixed_predictor(design, beta)
    scale = np.array([1.0] * len(design.family.parameters))
    expected = np.nan_to_num(of_design(design, scale, eta).expected)
    covariance = np.asarray(np.linalg.pinv(design.x.T @ (expected[:, None] * design.x)), dtype=np.float64)
    return Estimates(
        beta=beta,
        beta_cov=covariance,
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=None,
        converged=False,
        df_method="normal",
        singular=False,
        messages=(f"statsmodels gave up: {words}",),
        provenance={"estimate, std_error": "where unimix's own search ended, at dispersion 1: statsmodels gave up"},
    )


def _without_coefficients(design: Design) -> Estimates:
    """A model whose expected values are given: at most a dispersion parameter is left."""
    family, eta = design.family, fixed_predictor(design, np.empty(0))
    parameters, sigma = {}, 1.0
    if family.parameters:
        value, log_likelihood = profile_dispersion(design, eta)
        parameters = {family.parameters[0]: value}
        sigma = value if family.parameters[0] == "sigma" else sigma
        sigma = float(np.sqrt(value)) if family.parameters[0] == "dispersion" else sigma
    else:
        log_likelihood = float(of_design(design, np.empty(0), eta).value.sum())
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


# -- models that statsmodels maximises jointly with their dispersion -------------------------------


def _fit_likelihood(design: Design, max_iterations: int) -> Estimates:
    """Negative binomial or beta: quasi-Newton, then Newton's own steps on the engine's score and Hessian."""
    beta_model = design.family.name == "beta"
    build, name = (_build_beta, "precision") if beta_model else (_build_nb, design.family.parameters[0])
    model = build(design)
    best: tuple[float, FloatArray, Any] | None = None
    words = "no search ended"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in (None, _likely_start(design)):
            try:
                results = model.fit(start_params=start, method="bfgs", maxiter=max_iterations, gtol=1e-6, disp=0)
                at, gain = _polish(model, np.asarray(results.params, dtype=np.float64), max_iterations, beta_model)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                words = f"{type(error).__name__}: {error}"
                continue
            if best is None or gain < best[0]:
                best = gain, at, results
            if gain <= WORTHWHILE:
                break
    if best is None:
        return _where_it_failed(design, words)
    gain, at, results = best
    value = float(np.exp(at[-1])) if beta_model else float(at[-1])
    told: tuple[str, ...] = ()
    if not beta_model and value < 1 / BOUNDLESS:
        told = (_NOT_OVERDISPERSED,)
        value = max(value, 1e-12)
    elif gain > WORTHWHILE:
        left = f"about {gain:.2g} log-likelihood is left to gain" if np.isfinite(gain) else "no maximum is near"
        told = (f"the search stopped short of the optimum: {left}",)
    values, vectors = np.linalg.eigh(-np.asarray(model.hessian(at), dtype=np.float64))
    covariance = (vectors / np.maximum(np.abs(values), 1e-10)) @ vectors.T
    theta = 1 / value if name == "theta" else value
    return Estimates(
        beta=at[: design.p],
        beta_cov=covariance[: design.p, : design.p],
        covariances=(),
        sigma=1.0,
        modes=(),
        mode_covs=(),
        log_likelihood=float(model.loglike(at)),
        converged=not told,
        parameters={name: theta},
        std_error_kind="observed information",
        df_method="normal",
        singular=False,
        messages=told,
        provenance={
            "optimum": "statsmodels' search, finished by Newton steps on its score and Hessian by unimix",
            "std_error": "observed information of coefficients and dispersion together, by statsmodels' Hessian",
        },
        native=results,
    )


def _build_nb(design: Design) -> Any:
    discrete = importlib.import_module("statsmodels.discrete.discrete_model")
    form = "nb2" if design.family.label == "negative_binomial" else "nb1"
    more = {} if design.offset is None else {"offset": design.offset}
    return discrete.NegativeBinomial(design.y, design.x, loglike_method=form, **more)


def _build_beta(design: Design) -> Any:
    betareg = importlib.import_module("statsmodels.othermod.betareg")
    links = importlib.import_module("statsmodels.genmod.families.links")
    return betareg.BetaModel(design.y, design.x, link=getattr(links, _LINKS[design.family.link])())


def _likely_start(design: Design) -> FloatArray:
    """Coefficients of unimix's Fisher scoring and the dispersion that suits them, as statsmodels takes them."""
    beta = fisher_scoring(design)
    value = profile_dispersion(design, fixed_predictor(design, beta))[0]
    last = {"beta": np.log(value), "negative_binomial": 1 / value}.get(design.family.label, value)
    return np.append(beta, np.clip(last, 1e-4 if design.family.name != "beta" else None, None))


def _polish(model: Any, at: FloatArray, rounds: int, unbounded: bool) -> tuple[FloatArray, float]:
    """Newton steps on the engine's log-likelihood; returns where they end and what is left to gain there.

    Args:
        model: With loglike, score and hessian.
        at: Where to start, shape (k,).
        rounds: Limit.
        unbounded: Whether the last parameter may have any sign.
    """
    here, gain = float(model.loglike(at)), np.inf
    for _ in range(min(rounds, 50)):
        score, information = np.asarray(model.score(at)), -np.asarray(model.hessian(at))
        values, vectors = np.linalg.eigh((information + information.T) / 2)
        if not np.isfinite(values).all() or values.min() <= 0:
            return at, np.inf
        step = vectors @ ((vectors.T @ score) / values)
        gain = 0.5 * float(score @ step)
        if gain < 1e-16 * (1 + abs(here)):
            break
        size = 1.0
        while size > 1e-8:
            moved = at + size * step
            there = float(model.loglike(moved)) if unbounded or moved[-1] > 0 else -np.inf
            if there >= here - 1e-13 * abs(here):
                break
            size /= 2
        else:
            break
        at, here = moved, there
    return at, gain
