"""Adapter for glmmTMB through rpy2: numeric columns go to R, and plain vectors come back, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities
from unimix.backends.cost import Cost, Pace, sizes_of
from unimix.backends.evaluation import likely_starts
from unimix.backends.family_support import FamilySheet
from unimix.backends.r.backend import RBackend, prior_weights, r_arguments, r_offset, read_covariances
from unimix.backends.r.glmmtmb_capabilities import CAPABILITIES, FAMILIES
from unimix.backends.r.packages import REQUIRED
from unimix.design.covariance_structures import BY_DISTANCE
from unimix.design.estimates import Estimates
from unimix.errors import FitError
from unimix.likelihood.glmm.glm import fisher_scoring
from unimix.likelihood.glmm.laplace import laplace_at
from unimix.likelihood.lmm.conditioning import is_singular, nearest_singular
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.newton_decrement import (
    WORTHWHILE,
    Curvature,
    curvature_of_laplace,
    stopped_short,
)
from unimix.likelihood.response import link_unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from unimix.design.arrays import AuxiliaryDesign, Design, RandomBlock

FloatArray = npt.NDArray[np.float64]
FLAT = 1e-5
"""Difference of the log likelihood from that of a singular covariance below which a covariance is singular."""
_HALF_LINE = ("identity", "sqrt", "inverse", "inverse_squared")
"""Links of positive responses whose linear predictor is bounded."""
_R_NAMES = {
    "gamma": "Gamma",
    "negative_binomial": "nbinom2",
    "negative_binomial_1": "nbinom1",
    "beta": "beta_family",
    "beta_binomial": "betabinomial",
    "generalised_poisson": "genpois",
    "student_t": "t_family",
    "truncated_negative_binomial": "truncated_nbinom2",
}


class GlmmTMB(RBackend):
    """glmmTMB (R): maximum likelihood by Laplace's approximation with automatic differentiation.

    Attributes:
        optimizer: Optimizer of the likelihood: R's ``nlminb``, or a method of ``optim``.
        control: Settings of the optimizer.
        starts: Whether Gaussian models start at the likely maxima of unimix's own likelihood instead of at unit
            variances, from which glmmTMB is known to stop far below the optimum.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="glmmtmb",
        engine="glmmTMB",
        title="glmmTMB (R) through rpy2",
        packages=("rpy2",),
        distributions=("rpy2",),
        extra="glmmtmb",
        url="https://github.com/glmmTMB/glmmTMB",
        reference="Brooks, M. E., Kristensen, K., van Benthem, K. J., Magnusson, A., Berg, C. W., Nielsen, A., Skaug, "
        "H. J., Maechler, M., & Bolker, B. M. (2017). glmmTMB balances speed and flexibility among packages for "
        "zero-inflated generalized linear mixed modeling. The R Journal, 9(2), 378-400. "
        "https://doi.org/10.32614/RJ-2017-066",
        strengths="zero inflation, dispersion, covariance structures; needs R",
        rank=50,
        r_packages=REQUIRED["glmmtmb"],
    )
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    families: ClassVar[FamilySheet] = FAMILIES
    r_engine: ClassVar[tuple[str, ...]] = ("glmmTMB",)
    r_beneath: ClassVar[str] = "TMB"
    takes_start: ClassVar[bool] = True
    per_row: ClassVar[float] = 45.0  # the tape of automatic differentiation
    pace: ClassVar[Pace] = Pace(call=0.27, rows=23.0, dense=150.0)  # checked on six models
    per_dense: ClassVar[float] = 3.0

    optimizer: Literal["nlminb", "BFGS", "L-BFGS-B"] = "nlminb"
    control: dict[str, float] = Field(default_factory=dict)
    starts: bool = True

    def limits(self, design: Design, request: FitRequest) -> list[str]:  # noqa: ARG002  the hook's signature
        """Reasons to refuse what glmmTMB gives another meaning, or unimix cannot read."""
        if design.weights is not None and design.zero is not None:
            return ["weights with zero inflation: it is not clear what they would count"]
        if design.dispersion is not None and len(design.family.parameters) > 1:
            both = " and ".join(design.family.parameters)
            return [f"dispformula= with the {design.family.name} family, which has {both}: leave it out"]
        if design.weights is not None and design.family.name == "gaussian" and not design.is_linear:
            return ["weights: glmmTMB's multiply the log-likelihood, and a Gaussian model's are precisions"]
        return []

    def cost(self, design: Design, request: FitRequest) -> Cost:
        """Estimate the memory of the tape of automatic differentiation, and of the conditional modes by unimix."""
        general, size = super().cost(design, request), sizes_of(design)
        beside = 90.0 * size.rows if request.reml else 0.0  # fixed effects are integrated out as well
        beside += 3.0 * size.tied if len({b.group for b in design.blocks}) > 1 else 0.0
        return replace(general, bytes=(general.bytes or 0.0) + beside)

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in R."""
        bars = [
            f"{_r_structure(b)}(0 + {' + '.join(_columns(k, b.q, b.structure))} | g{k})"
            for k, b in enumerate(design.blocks)
        ]
        fixed = [f"x{j}" for j in range(design.p)]
        zero = _one_sided(design.zero, "u", "~0")
        dispersion = _one_sided(design.dispersion, "v", "~1")
        return self._call(f"y ~ {' + '.join(['0', *fixed, *bars])}", zero, dispersion, design, request)

    def _call(self, formula: str, zero: str, dispersion: str, design: Design, request: FitRequest) -> str:
        family = _R_NAMES.get(design.family.label, design.family.name)
        more = ", weights = w" if len(prior_weights(design)) else ""
        more += ", offset = off" if design.offset is not None and not design.is_linear else ""
        more += f", ziformula = {zero}" if zero != "~0" else ""
        more += f", dispformula = {dispersion}" if dispersion != "~1" else ""
        reml = "TRUE" if request.reml else "FALSE"
        return f'glmmTMB({formula}, family = {family}(link = "{design.family.link}"){more}, REML = {reml})'

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        bridge: Any = engine
        design, request = problem.design, problem.request
        default = {"eval.max": 2000.0, "iter.max": 2000.0, "rel.tol": 1e-12} if self.optimizer == "nlminb" else {}
        arguments = [
            *r_arguments(design),
            r_offset(design),
            [_r_structure(b) for b in design.blocks],
            [np.array(b.coordinates) for b in design.blocks],
            design.family.label,
            design.family.link,
            np.empty(0) if design.zero is None else design.zero.x,
            np.empty(0) if design.dispersion is None else design.dispersion.x,
            request.reml and bool(design.blocks or design.p),
            self.optimizer,
            {**default, **self.control},
        ]
        starts: list[FloatArray] = _starts(design, reml=request.reml) if self.starts else []
        if problem.start is not None and not design.is_structured:
            starts.insert(0, _start(design, problem.start, reml=request.reml))
        no_start: FloatArray = np.empty(0)
        # Links with a bounded linear predictor need a start inside the bounds, and may have several maxima.
        inside = no_start if design.family.is_linear or not design.p else fisher_scoring(design)
        pairs = [(theta, inside) for theta in starts or [no_start]]
        if len(inside) and design.family.link in _HALF_LINE:
            pairs.append((no_start, no_start))
        best: dict[str, Any] | None = None
        failure: FitError | None = None
        for pair in pairs:
            try:
                answer = bridge.call("fit_tmb", *arguments, *pair)
            except FitError as error:
                failure = error
                continue
            if best is None or answer["log_likelihood"][0] > best["log_likelihood"][0] + 1e-9:
                best = answer
        if best is None:
            raise failure if failure is not None else FitError("glmmTMB gave no answer.")
        provenance = (
            {"optimum": f"started from {len(starts)} points that unimix's own likelihood finds"} if starts else {}
        )
        if design.dispersion is not None and design.family.name == "gaussian":
            best["power"] = bridge.call("tmb_sigma_power")["power"]
        call = self._call(best["text"][0], best["zero"][0], best["dispersion"][0], design, request)
        return _read(best, problem, provenance, call)


def _one_sided(part: AuxiliaryDesign | None, letter: str, absent: str) -> str:
    return absent if part is None else "~ " + " + ".join(["0", *(f"{letter}{j}" for j in range(len(part.names)))])


def _columns(k: int, q: int, structure: str) -> list[str]:
    return [f"t{k}"] if structure in ("ar1", *BY_DISTANCE) else [f"z{k}_{j}" for j in range(q)]


def _r_structure(block: RandomBlock) -> str:
    """Name of a block's structure in glmmTMB; an autoregression in continuous time is an Ornstein-Uhlenbeck process."""
    return "ou" if block.structure == "car1" else block.structure


def _starts(design: Design, *, reml: bool) -> list[FloatArray]:
    """Values of glmmTMB's theta (log SDs, then the scaled factor of the correlations) at likely Gaussian maxima."""
    if not design.is_linear or not design.blocks or design.is_structured:
        return []
    return [_start(design, factors, reml=reml) for factors in likely_starts(design, reml=reml)]


def _start(design: Design, factors: Sequence[FloatArray], *, reml: bool) -> FloatArray:
    sigma = LinearCriterion.of(design).profiled([f @ f.T for f in factors], reml=reml)[1]
    parts = []
    for factor in factors:
        sd = np.sqrt((factor**2).sum(axis=1))
        parts.append(np.log(np.maximum(sigma * sd, 1e-4)))
        diagonal = np.maximum(np.abs(np.diag(factor)), 1e-3 * np.maximum(sd, 1e-8))
        scaled = factor / diagonal[:, None]
        parts.append(np.clip(scaled[np.tril_indices(len(factor), -1)], -20, 20))
    return np.concatenate(parts)


def _all_one(covariance: FloatArray) -> FloatArray | None:
    """Replace correlations close to +-1 in a covariance matrix (q, q) by +-1; None if there are none."""
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    if np.abs(correlation).min() < 0.9:
        return None
    return np.asarray(np.outer(sd, sd) * np.sign(correlation))


def _parts(answer: dict[str, Any], design: Design) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Read zero inflation and log dispersion, in unimix's parametrization of the dispersion."""
    parts = {}
    if design.zero is not None:
        k = len(design.zero.names)
        parts["zero"] = (answer["zero_beta"], answer["zero_cov"].reshape(k, k))
    if design.dispersion is not None:
        k = len(design.dispersion.names)
        # Gaussian: log sigma^2 in older versions; gamma: log shape, the inverse of the dispersion.
        times = {"gaussian": 0.5 * float(answer.get("power", [1.0])[0]), "gamma": -1.0}.get(design.family.name, 1.0)
        covariance = times**2 * answer["dispersion_cov"].reshape(k, k)
        parts["dispersion"] = (times * answer["dispersion_beta"], covariance)
    return parts


@dataclass(frozen=True)
class _Point:
    """Final point of glmmTMB, in the form that unimix's likelihood functions take."""

    design: Design
    beta: FloatArray
    covariances: tuple[FloatArray, ...]
    sigma: float
    parameters: FloatArray
    zero: FloatArray | None
    reml: bool

    def effects(self) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Conditional modes, shapes (L, q), and covariances, shapes (L, q, q), of each block."""
        design = self.design
        if not design.blocks:
            return (), ()
        if design.is_linear:
            return self._criterion.effects(self._evaluation)
        at = laplace_at(design, self.beta, self.covariances, self.parameters, zero=self.zero)
        return at.modes, at.mode_covs

    def is_boundary(self) -> bool:
        """Whether a covariance is singular, or so close that the likelihood is no lower at a singular one."""
        unit = self.sigma**2 if self.design.is_linear else link_unit(self.design) ** 2
        if is_singular(self.covariances, float(np.sqrt(unit))):
            return True
        for k, (block, covariance) in enumerate(zip(self.design.blocks, self.covariances, strict=True)):
            near = nearest_singular if block.structure == "us" else _all_one
            limit = near(covariance / unit)
            if limit is not None:
                tried = (*self.covariances[:k], limit * unit, *self.covariances[k + 1 :])
                if self._value(tried) > self._value(self.covariances) - FLAT:
                    return True
        return False

    def _value(self, covariances: tuple[FloatArray, ...]) -> float:
        design = self.design
        if not design.is_linear:
            return laplace_at(design, self.beta, covariances, self.parameters, zero=self.zero).log_likelihood
        return self._criterion.profiled([c / self.sigma**2 for c in covariances], reml=self.reml)[0]

    @property
    def _criterion(self) -> LinearCriterion:
        return LinearCriterion.of(self.design)

    @property
    def _evaluation(self) -> Evaluation:
        return self._criterion.at(self.covariances, self.sigma, reml=self.reml)

    def curvature(self) -> Curvature:
        """Remaining improvement and covariance of the fixed effects, for use when glmmTMB's Hessian fails."""
        design = self.design
        if design.dispersion is not None or (design.is_structured and not design.is_linear):
            return Curvature(float("inf"), None)
        if design.is_linear and not design.blocks:
            weights = np.ones(design.n) if design.weights is None else design.weights
            information = design.x.T @ (weights[:, None] * design.x)
            return Curvature(0.0, np.asarray(self.sigma**2 * np.linalg.inv(information), dtype=np.float64))
        if design.is_linear:
            return Curvature(self._evaluation.newton_decrement, self._criterion.beta_cov(self._evaluation))
        return curvature_of_laplace(
            design, self.beta, self.covariances, self.parameters, expected=False, zero=self.zero
        )


def _read(answer: dict[str, Any], problem: Problem, provenance: dict[str, str], call: str) -> Estimates:
    """Convert the values of ``glmmtmb.R`` to estimates."""
    design, request = problem.design, problem.request
    p, family = design.p, design.family
    parts = _parts(answer, design)
    sigma = float(answer["sigma"][0]) if design.dispersion is None else 1.0
    parameters = {}
    if family.parameters and not design.is_linear and design.dispersion is None:
        estimated = [sigma**2 if family.name == "gamma" else sigma, *map(float, answer["shape"])]
        parameters = dict(zip(family.parameters, estimated, strict=True))
    values = np.array(list(parameters.values()))
    if design.dispersion is not None:
        values = np.exp(design.dispersion.x @ parts["dispersion"][0])[None, :]
    point = _Point(
        design=design,
        beta=answer["beta"],
        covariances=read_covariances(answer, design),
        sigma=sigma,
        parameters=values,
        zero=None if design.zero is None else design.zero.x @ parts["zero"][0],
        reml=request.reml,
    )
    modes, mode_covs = point.effects()
    provenance["group_effects"] = (
        "conditional modes and covariances given all parameters, by unimix at glmmTMB's estimates: its own standard "
        "deviations include the uncertainty of the fixed effects"
    )
    singular = point.is_boundary()
    gain = float(answer["gain"][0])
    own = None if np.isfinite(gain) else point.curvature()
    faults = _faults(answer, own.gain if own is not None else gain, singular=singular)
    beta_cov = answer["beta_cov"]
    own_cov, kind = None, "observed information"
    if singular or len(beta_cov) != p * p or not np.isfinite(beta_cov).all():
        own = own or point.curvature()
        own_cov = own.beta_cov
    if own_cov is not None:
        provenance["std_error"] = "by unimix at glmmTMB's estimates: its own Hessian is nearly singular on the boundary"
        kind = "generalised least squares" if design.is_linear else kind
        beta_cov = own_cov
    elif len(beta_cov) != p * p or not np.isfinite(beta_cov).all():
        raise FitError(
            "glmmTMB has no standard errors: its Hessian is not positive definite, and unimix has none either. "
            f"{' '.join(faults)}"
        )
    scaled = bool({"sigma", "dispersion"} & set(family.parameters))
    scale = float(np.sqrt(parameters["dispersion"])) if "dispersion" in parameters else sigma
    cross = answer["zero_cross"]
    gradient = float(answer["gradient"][0])
    estimates = Estimates(
        beta=answer["beta"],
        beta_cov=np.asarray(beta_cov).reshape(p, p),
        std_error_kind=kind,
        covariances=point.covariances,
        sigma=scale if scaled else 1.0,
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=float(answer["log_likelihood"][0]),
        converged=not faults,
        parameters=parameters,
        parts=parts,
        zero_cross=cross.reshape((p, -1), order="F")
        if "zero" in parts and cross.size and np.isfinite(cross).all()
        else None,
        df_method="normal",
        singular=singular,
        messages=(*faults, *(str(n) for n in answer["notes"])),
        gradient=gradient if np.isfinite(gradient) else None,
        engine_call=call,
        provenance=provenance,
        native=answer.get("model"),
    )
    return _least_squares(estimates, problem) if design.is_linear and not design.blocks else estimates


def _faults(answer: dict[str, Any], gain: float, *, singular: bool) -> list[str]:
    """Reasons why the end of the search is not an optimum; empty if it is."""
    if gain <= WORTHWHILE or (singular and not np.isfinite(gain)):
        return []
    faults = (
        stopped_short(gain)
        if np.isfinite(gain)
        else "the search ended where the likelihood has no maximum (its Hessian is not positive definite)"
    )
    said = [f"the optimizer says: {answer['message'][0]}"] if int(answer["code"][0]) != 0 else []
    return [faults, *said]


def _least_squares(estimates: Estimates, problem: Problem) -> Estimates:
    """Complete a model without group effects: the variance is unbiased, likelihood and df are those of R's ``lm``."""
    design = problem.design
    residual = design.y - design.x @ estimates.beta
    log_likelihood = -0.5 * design.n * (np.log(2 * np.pi * float(residual @ residual) / design.n) + 1)
    provenance = {**estimates.provenance, "log_likelihood": "maximum likelihood of the linear model, by unimix"}
    sigma = float(np.sqrt(residual @ residual / (design.n - design.p)))
    if not problem.request.reml:
        provenance["sigma"] = "glmmTMB divides by n under ML: by n - p, as least squares, with its standard errors"
    estimates = replace(
        estimates,
        log_likelihood=float(log_likelihood),
        sigma=sigma,
        parameters={**estimates.parameters, **({"sigma": sigma} if "sigma" in estimates.parameters else {})},
        beta_cov=(sigma / estimates.sigma) ** 2 * estimates.beta_cov,
        std_error_kind="",
        provenance=provenance,
    )
    if problem.request.df_method == "normal":
        return estimates
    provenance["df"] = "residual, by unimix: exact for a linear model"
    return replace(estimates, df=np.full(design.p, float(design.n - design.p)), df_method="residual")
