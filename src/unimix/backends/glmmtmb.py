"""glmmTMB through rpy2: our numeric columns into R, one round trip, plain vectors back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends import rbridge
from unimix.backends.base import Backend, BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Answer, Capabilities, Never, Upstream, Yes
from unimix.backends.family_sheet import FamilySheet
from unimix.errors import FitError
from unimix.model.estimates import Estimates
from unimix.model.features import Feature
from unimix.numerics import gls
from unimix.numerics.conditioning import is_singular, nearest_singular, relative_factors
from unimix.numerics.laplace import laplace_at
from unimix.numerics.optimum import curvature_of_laplace, left_to_gain
from unimix.numerics.starts import likely_starts

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.model.design import Design

FloatArray = npt.NDArray[np.float64]
WORTHWHILE = 1e-4
"""Log-likelihood that a search must not leave behind."""
FLAT = 1e-5
"""Log-likelihood by which a covariance must differ from a singular one, to count as regular."""
R_PACKAGES = ("glmmTMB",)
_NO_POSTERIOR = Never("glmmTMB maximises a likelihood; it has no posterior. Use backend='pymc'.")
_NO_FAMILY = Upstream("glmmTMB 1.1 has no such family. Use backend='pymc'.")
_NO_LINK = Upstream("glmmTMB 1.1 has not implemented this link. Use backend='pymc', or 'lme4' where it has it.")
_R_NAMES = {
    "gamma": "Gamma",
    "negative_binomial": "nbinom2",
    "negative_binomial_1": "nbinom1",
    "beta": "beta_family",
}
_SAME: dict[str, Answer] = {
    "gaussian": Yes(),
    "binomial(cauchit)": _NO_LINK,
    "binomial": Yes(),
    "poisson": Yes(),
    "gamma": Yes(),
    "inverse_gaussian": _NO_FAMILY,
    "negative_binomial": Yes("nbinom2"),
    "negative_binomial_1": Yes("nbinom1"),
    "beta(cauchit)": _NO_LINK,
    "beta": Yes("beta_family"),
    "student_t": _NO_FAMILY,
}

CAPABILITIES = Capabilities(
    {
        Feature.NO_RANDOM_PART: Yes(),
        Feature.RANDOM_INTERCEPT: Yes(),
        Feature.CORRELATED_TERMS: Yes(),
        Feature.INDEPENDENT_TERMS: Yes(),
        Feature.SEVERAL_CORRELATED_BLOCKS: Yes(),
        Feature.NESTED_FACTORS: Yes(),
        Feature.CROSSED_FACTORS: Yes(),
        Feature.CORRELATED_CROSSED: Yes(),
        Feature.WEIGHTS: Yes("rows scaled by sqrt(w) in Gaussian models, where glmmTMB's weights count likelihoods"),
        Feature.OFFSET: Yes("subtracted from the response and added back in Gaussian models"),
        Feature.REML: Yes(),
        Feature.ML: Yes(),
        Feature.LAPLACE: Yes(),
        Feature.AGQ: Never("glmmTMB integrates by Laplace's approximation. Use backend='lme4' with method='AGQ'."),
        Feature.APPROXIMATE_POSTERIOR: _NO_POSTERIOR,
        Feature.POSTERIOR: _NO_POSTERIOR,
        Feature.PRIORS: Upstream("glmmTMB 1.1.5 has no priors. Use backend='pymc'."),
        Feature.SATTERTHWAITE: Upstream("glmmTMB has no denominator degrees of freedom; it reports z."),
        Feature.KENWARD_ROGER: Upstream("glmmTMB has no denominator degrees of freedom, so no Kenward-Roger ones."),
        Feature.COMPOUND_SYMMETRY: Yes("a variance per column and one correlation"),
        Feature.AUTOREGRESSIVE: Yes("one variance and one correlation between neighbouring times"),
        Feature.ZERO_INFLATION: Yes(),
        Feature.DISPERSION_FORMULA: Yes("on the log scale"),
    }
)


class GlmmTMB(Backend):
    """glmmTMB (R): maximum likelihood by Laplace's approximation with automatic differentiation.

    Attributes:
        optimizer: How the likelihood is maximised: R's ``nlminb``, or a method of ``optim``.
        control: Settings of the optimizer.
        starts: Start Gaussian models from the likely maxima that unimix finds by a look at its own likelihood, and not
            from unit variances, from which glmmTMB is known to stop far below the optimum.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="glmmtmb",
        engine="glmmTMB",
        title="glmmTMB (R) through rpy2",
        packages=("rpy2",),
        distributions=("rpy2",),
        install="pip install 'unimix[glmmtmb]'    # needs R; `python -m unimix.doctor` names the rpy2 for your R",
        url="https://github.com/glmmTMB/glmmTMB",
    )
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    families: ClassVar[FamilySheet] = FamilySheet(_SAME, _SAME)

    optimizer: Literal["nlminb", "BFGS", "L-BFGS-B"] = "nlminb"
    control: dict[str, float] = Field(default_factory=dict)
    starts: bool = True

    def load(self) -> Any:
        """Start R and check its packages."""
        bridge = rbridge.connect(self.info.name, self.info.install)
        bridge.require(R_PACKAGES, self.info.name)
        bridge.prepare(R_PACKAGES)
        return bridge

    def versions(self) -> dict[str, str]:
        """Versions of the Python packages, R and the R packages."""
        bridge = rbridge.connect(self.info.name, self.info.install)
        return {**super().versions(), **bridge.versions([*R_PACKAGES, "TMB"])}

    def limits(self, design: Design, request: FitRequest) -> list[str]:  # noqa: ARG002  the hook's signature
        """Weights that would mean something else."""
        if design.weights is not None and design.family.name == "gaussian" and not design.family.is_linear:
            return ["weights: glmmTMB's multiply the log-likelihood, and a Gaussian model's are precisions"]
        return []

    def preview(self, design: Design, request: FitRequest) -> str:
        """The call that R would see."""
        bars = [
            f"{b.structure}(0 + {' + '.join(_columns(k, b.q, b.structure))} | g{k})"
            for k, b in enumerate(design.blocks)
        ]
        fixed = [f"x{j}" for j in range(design.p)]
        return self._call(f"y ~ {' + '.join(['0', *fixed, *bars])}", "~0", "~1", design, request)

    def _call(self, formula: str, zero: str, dispersion: str, design: Design, request: FitRequest) -> str:
        family = _R_NAMES.get(design.family.label, design.family.name)
        more = ", weights = w" if len(_prior_weights(design)) else ""
        more += ", offset = off" if design.offset is not None and not design.family.is_linear else ""
        more += f", ziformula = {zero}" if zero != "~0" else ""
        more += f", dispformula = {dispersion}" if dispersion != "~1" else ""
        reml = "TRUE" if request.reml else "FALSE"
        return f'glmmTMB({formula}, family = {family}(link = "{design.family.link}"){more}, REML = {reml})'

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        bridge: Any = engine
        design, request = problem.design, problem.request
        default = {"eval.max": 2000.0, "iter.max": 2000.0, "rel.tol": 1e-12} if self.optimizer == "nlminb" else {}
        arguments = [
            design.y,
            design.x,
            [b.z for b in design.blocks],
            [b.codes + 1 for b in design.blocks],
            np.array([b.n_levels for b in design.blocks], dtype=np.int64),
            _prior_weights(design),
            np.empty(0) if design.offset is None else design.offset,
            [b.structure for b in design.blocks],
            design.family.label,
            design.family.link,
            np.empty(0),
            np.empty(0),
            request.reml and bool(design.blocks or design.p),
            self.optimizer,
            {**default, **self.control},
        ]
        starts: list[FloatArray] = _starts(design, reml=request.reml) if self.starts else []
        best: dict[str, Any] | None = None
        failure: FitError | None = None
        for start in starts or [np.empty(0)]:
            try:
                answer = bridge.call("fit_tmb", *arguments, start)
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
        call = self._call(best["text"][0], best["zero"][0], best["dispersion"][0], design, request)
        return _read(best, problem, provenance, call)


def _columns(k: int, q: int, structure: str) -> list[str]:
    return [f"t{k}"] if structure == "ar1" else [f"z{k}_{j}" for j in range(q)]


def _prior_weights(design: Design) -> FloatArray:
    given = design.trials if design.trials is not None else design.weights
    return np.empty(0) if given is None or (design.trials is not None and (given == 1).all()) else given


def _starts(design: Design, *, reml: bool) -> list[FloatArray]:
    """GlmmTMB's theta at the likely maxima of a Gaussian model: log SDs, then the scaled factor of the correlations."""
    if not design.family.is_linear or not design.blocks or any(b.structure != "us" for b in design.blocks):
        return []
    found = []
    for factors in likely_starts(design.y, design.x, design.blocks, reml=reml):
        sigma = gls.profile(design.y, design.x, design.blocks, tuple(f @ f.T for f in factors), reml=reml)[1]
        parts = []
        for factor in factors:
            sd = np.sqrt((factor**2).sum(axis=1))
            parts.append(np.log(np.maximum(sigma * sd, 1e-4)))
            diagonal = np.maximum(np.abs(np.diag(factor)), 1e-3 * np.maximum(sd, 1e-8))
            scaled = factor / diagonal[:, None]
            parts.append(np.clip(scaled[np.tril_indices(len(factor), -1)], -20, 20))
        found.append(np.concatenate(parts))
    return found


def is_boundary(
    design: Design,
    beta: FloatArray,
    covariances: tuple[FloatArray, ...],
    sigma: float,
    parameters: FloatArray,
    *,
    reml: bool,
) -> bool:
    """Whether a covariance is on its boundary, or so close that the likelihood is no lower there."""
    linear = design.family.is_linear
    if is_singular(covariances, sigma if linear else 1.0):
        return True

    def value(tried: tuple[FloatArray, ...]) -> float:
        if not linear:
            return laplace_at(design, beta, tried, parameters).log_likelihood
        relative = tuple(c / sigma**2 for c in tried)
        return gls.profile(design.y, design.x, design.blocks, relative, reml=reml)[0]

    for k, covariance in enumerate(covariances):
        limit = nearest_singular(covariance / (sigma**2 if linear else 1.0))
        if limit is not None:
            scaled = limit * (sigma**2 if linear else 1.0)
            if value((*covariances[:k], scaled, *covariances[k + 1 :])) > value(covariances) - FLAT:
                return True
    return False


def _read(answer: dict[str, Any], problem: Problem, provenance: dict[str, str], call: str) -> Estimates:
    """Turn what ``glmmtmb.R`` extracted into estimates."""
    design, request = problem.design, problem.request
    p, family = design.p, design.family
    shapes = [(b.n_levels, b.q) for b in design.blocks]
    covariances = tuple(c.reshape(q, q) for c, (_, q) in zip(answer["covariances"], shapes, strict=True))
    sigma = float(answer["sigma"][0])
    value = {"gaussian": sigma, "gamma": sigma**2}.get(family.name, sigma)
    parameters = {family.parameters[0]: value} if family.parameters and not family.is_linear else {}
    scale = sigma if family.parameters and family.parameters[0] in ("sigma", "dispersion") else 1.0
    log_likelihood = float(answer["log_likelihood"][0])
    values = np.array(list(parameters.values()))
    told: list[str] = []
    if family.is_linear:
        found = gls.solve(design.y, design.x, design.blocks, covariances, sigma)
        modes, mode_covs = found.modes, found.mode_covs
    else:
        at = laplace_at(design, answer["beta"], covariances, values)
        modes, mode_covs = at.modes, at.mode_covs
    singular = is_boundary(design, answer["beta"], covariances, sigma, values, reml=request.reml)
    provenance["group_effects"] = (
        "conditional modes and covariances given all parameters, by unimix at glmmTMB's estimates: its own standard "
        "deviations include the uncertainty of the fixed effects"
    )
    gain, own_cov = float(answer["gain"][0]), None
    if not np.isfinite(gain):
        if family.is_linear:
            factors = relative_factors(covariances, sigma)
            gain = left_to_gain(design.y, design.x, design.blocks, factors, reml=request.reml)
            own_cov = gls.solve(design.y, design.x, design.blocks, covariances, sigma).beta_cov
        else:
            curvature = curvature_of_laplace(design, answer["beta"], covariances, values, expected=False)
            gain, own_cov = curvature.gain, curvature.beta_cov
    if not np.isfinite(gain) and not singular:
        told.append("the search ended where the likelihood has no maximum (its Hessian is not positive definite)")
    elif gain > WORTHWHILE and not singular:
        told.append(f"the search stopped short of the optimum: about {gain:.2g} log-likelihood is left to gain")
    if int(answer["code"][0]) != 0 and told:
        told.append(f"the optimizer says: {answer['message'][0]}")
    beta_cov = answer["beta_cov"]
    if len(beta_cov) != p * p or not np.isfinite(beta_cov).all():
        if own_cov is None:
            raise FitError(
                "glmmTMB has no standard errors: its Hessian is not positive definite, and neither is that of the same "
                f"criterion computed by unimix. {' '.join(told)}"
            )
        provenance["std_error"] = "by unimix at glmmTMB's estimates, where glmmTMB's own Hessian is singular"
        beta_cov = own_cov
    gradient = float(answer["gradient"][0])
    df: FloatArray | None = None
    if family.is_linear and not design.blocks:
        # Least squares: REML = TRUE gives the unbiased variance; the likelihood is the plain one, as of R's lm.
        residual = design.y - design.x @ answer["beta"]
        log_likelihood = -0.5 * design.n * (np.log(2 * np.pi * float(residual @ residual) / design.n) + 1)
        provenance["log_likelihood"] = "maximum likelihood of the linear model, by unimix"
        if request.df_method != "normal":
            df = np.full(p, float(design.n - p))
            provenance["df"] = "residual, by unimix: exact for a linear model"
    return Estimates(
        beta=answer["beta"],
        std_error_kind="least squares" if df is not None else "observed information",
        beta_cov=np.asarray(beta_cov).reshape(p, p),
        covariances=covariances,
        sigma=scale,
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=log_likelihood,
        converged=not told,
        parameters=parameters,
        df=df,
        df_method="normal" if df is None else "residual",
        singular=singular,
        messages=(*told, *(str(n) for n in answer["notes"])),
        gradient=gradient if np.isfinite(gradient) else None,
        engine_call=call,
        provenance=provenance,
        native=answer.get("model"),
    )
