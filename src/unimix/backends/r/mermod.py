"""Options and limits of lme4 and R's lm, and the reading of their results, whatever the interface."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import FitRequest, Problem
from unimix.backends.capabilities import Answer, Capabilities, Never, Upstream, Yes
from unimix.backends.cost import Pace
from unimix.backends.evaluation import AtEstimates, better_start, linear_at
from unimix.backends.family_support import FamilySheet
from unimix.backends.r import glmer
from unimix.backends.r.backend import RBackend, read_covariances, read_modes
from unimix.design.estimates import Estimates
from unimix.errors import FitError
from unimix.likelihood.lmm.conditioning import column_scale, is_singular
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.newton_decrement import is_at_optimum
from unimix.likelihood.lmm.reduced_data import n_dense_effects
from unimix.likelihood.lmm.weights import scale_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]
R_PACKAGES = ("lme4",)
MOST_DENSE = 2000
"""Number of crossed effects without the largest factor's above which lme4's sparse factor is faster than unimix's."""
_NO_POSTERIOR = Never("lme4 maximises a likelihood; it has no posterior.")
_NO_STRUCTURE = Upstream("lme4 before version 2 has unstructured covariance matrices only.")
_NO_PART = Never("lme4 models the mean only.")
_WRONG_SCALE = Upstream(
    "glmer of lme4 1.x leaves the dispersion out of its inner loop: its log-likelihood is too high and its SDs are too "
    "small (a simulated gamma model: 0.36 instead of 0.52)."
)
_NO_FAMILY = Never("neither glmer nor R's glm has this family.")
_EXPECTED = Yes("the determinant of Laplace's approximation takes the expected information")

_MIXED: dict[str, Answer] = {
    "gaussian(identity)": Yes("by lmer"),
    "gaussian": _WRONG_SCALE,
    "binomial(logit)": Yes(),
    "binomial": _EXPECTED,
    "poisson(log)": Yes(),
    "poisson": _EXPECTED,
    "negative_binomial(log)": Yes("by glmer.nb, which searches theta around glmer"),
    "negative_binomial": Upstream("glmer.nb has the log link only."),
    "gamma": _WRONG_SCALE,
    "inverse_gaussian": _WRONG_SCALE,
}
_PLAIN: dict[str, Answer] = {
    "gaussian(identity)": Yes("by lm"),
    "gaussian": Yes("by glm"),
    "binomial": Yes("by glm"),
    "poisson": Yes("by glm"),
    "negative_binomial": Yes("by MASS::glm.nb"),
    "gamma": Yes("by glm"),
    "inverse_gaussian": Yes("by glm"),
}
FAMILIES = FamilySheet(_MIXED, _PLAIN, others=_NO_FAMILY)
_NO_NB = Upstream("pymer4's classes have no negative binomial.")
_WITHOUT_NB: dict[str, Answer] = {"negative_binomial(log)": _NO_NB, "negative_binomial": _NO_NB}
PYMER4_FAMILIES = FamilySheet(_MIXED | _WITHOUT_NB, _PLAIN | _WITHOUT_NB, others=_NO_FAMILY)

CAPABILITIES = Capabilities(
    smooths=Never("lme4 has no smooths."),
    no_random_part=Yes("by R's lm"),
    group_effects=Yes(),
    weights=Yes(),
    offset=Yes("subtracted from the response and added back"),
    likelihood=Yes(),
    laplace=Yes("by glmer; with links that are not canonical, its determinant takes the expected information"),
    agq=Yes("by glmer, nAGQ = n_agq (25)"),
    bayesian=_NO_POSTERIOR,
    priors=Never("lme4 has no priors."),
    satterthwaite=Yes("by unimix, from exact derivatives, or by lmerTest"),
    kenward_roger=Yes("by unimix, or by pbkrtest"),
    structures=_NO_STRUCTURE,
    parts=_NO_PART,
    residual_covariance=Upstream("lme4 has independent residuals."),
)


class LmerBackend(RBackend):
    """Options of ``lmer``, which all interfaces to it share.

    Attributes:
        optimizer: lme4's optimizer.
        control: Settings of the optimizer (lme4's ``optCtrl``), in addition to the tight tolerances that are the
            default.
        start: Relative covariance parameters (theta) at which the search starts, in the fitted coordinates.
        restarts: Largest number of further starts after a search that ended on the boundary or short of the optimum. A
            linear model is started again only from the best optimum that unimix knows, and only if the log likelihood
            there is higher by more than 1e-4.
        glmer_optimizer: Optimizer of generalised models.
        tol_pwrss: Tolerance of glmer's inner loop (``tolPwrss``). lme4's own default, 1e-7, leaves an error of up to
            3e-4 in the log likelihood.
        n_agq: Number of nodes of adaptive Gauss-Hermite quadrature for ``method="AGQ"``; a value above 1 also makes it
            the default method of a generalised model.
        satterthwaite: Source of Satterthwaite degrees of freedom: ``unimix``, from exact derivatives, or ``lmerTest``,
            from differences. They agree to about 1e-5; lmerTest takes as long as a small fit.
        kenward_roger: Source of Kenward-Roger degrees of freedom and standard errors: ``unimix``, whose time and memory
            depend on the number of levels, or ``pbkrtest``, with n x n matrices. They agree to about 1e-6.
    """

    capabilities: ClassVar[Capabilities] = CAPABILITIES
    families: ClassVar[FamilySheet] = FAMILIES
    r_engine: ClassVar[tuple[str, ...]] = R_PACKAGES
    r_beneath: ClassVar[str] = "Matrix"
    per_row: ClassVar[float] = 19.0
    pace: ClassVar[Pace] = Pace(
        call=0.097,
        rows=0.47,
        products=14,
        visits=17,
        set_pairs=1.4,
        moments=5.1,
        pairs=0.68,
        crossed_rows=4.7,
        crossed_moments=0.11,
        dense_pairs=1.2,
    )
    per_dense: ClassVar[float] = 1.5
    takes_start: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}

    optimizer: Literal["nloptwrap", "bobyqa", "Nelder_Mead"] = "nloptwrap"
    control: dict[str, float] = Field(default_factory=dict)
    start: tuple[float, ...] | None = None
    restarts: Annotated[int, Field(ge=0, le=3)] = 2
    glmer_optimizer: Literal["bobyqa", "nloptwrap", "Nelder_Mead"] = "bobyqa"
    tol_pwrss: Annotated[float, Field(gt=0, le=1e-2)] = 1e-12
    n_agq: Annotated[int, Field(ge=1, le=100)] = 1
    satterthwaite: Literal["unimix", "lmerTest"] = "unimix"
    kenward_roger: Literal["unimix", "pbkrtest"] = "unimix"

    def r_request(self, request: FitRequest) -> FitRequest:
        """Request to R, without degrees of freedom that unimix will compute."""
        whose = {"satterthwaite": self.satterthwaite, "kenward-roger": self.kenward_roger}
        return replace(request, df_method="normal") if whose.get(request.df_method) == "unimix" else request

    def r_needed(self) -> tuple[str, ...]:
        """The R packages that these options need."""
        more = [name for name in (self.satterthwaite, self.kenward_roger) if name != "unimix"]
        return tuple(dict.fromkeys([*super().r_needed(), *more]))

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse quadrature, which requires one scalar term."""
        return [] if design.family.is_linear else glmer.limits(design, request)

    def default_method(self, design: Design) -> str:
        """REML, Laplace, AGQ with ``n_agq`` above 1, or ML without group effects."""
        method = super().default_method(design)
        return "AGQ" if method == "Laplace" and self.n_agq > 1 else method

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in R."""
        if not design.family.is_linear:
            return glmer.call_text(super().preview(design, request), design, self.glmer_settings(request))
        return call_text(super().preview(design, request), design, request, self.control_text())

    def control_text(self) -> str:
        """Text of the optimizer's settings in R."""
        controls = ", ".join(f"{k} = {v:g}" for k, v in self.controls().items())
        return f'lmerControl(optimizer = "{self.optimizer}", optCtrl = list({controls}))'

    def glmer_settings(self, request: FitRequest) -> glmer.Settings:
        """Settings of ``glmer``."""
        return glmer.Settings(
            n_agq=(self.n_agq if self.n_agq > 1 else glmer.NODES) if request.method == "AGQ" else 1,
            optimizer=self.glmer_optimizer,
            control={**glmer.TIGHT[self.glmer_optimizer], **self.control},
            tolerance=self.tol_pwrss,
            start=self.start,
            restarts=self.restarts,
        )

    def controls(self) -> dict[str, float]:
        """Settings of the optimizer, with tight tolerances because lme4's own stop visibly short of the optimum."""
        tight = {
            "nloptwrap": {"xtol_abs": 1e-10, "ftol_abs": 1e-12, "maxeval": 100_000.0},
            "bobyqa": {"rhoend": 1e-9, "maxfun": 100_000.0},
            "Nelder_Mead": {"FtolAbs": 1e-12, "XtolRel": 1e-10, "maxfun": 100_000.0},
        }
        return {**tight[self.optimizer], **self.control}


def call_text(formula: str, design: Design, request: FitRequest, control: str) -> str:
    """Text of the R call for a design, with generated names."""
    weights = "" if design.weights is None else ", weights = w"
    if not design.blocks:
        return f"lm({formula}{weights})"
    return f"lmer({formula}, REML = {'TRUE' if request.reml else 'FALSE'}{weights}, control = {control})"


def effects_are_ours(design: Design) -> bool:
    """Whether conditional covariances come from unimix's closed form instead of lme4."""
    return n_dense_effects(design) <= MOST_DENSE


def homoscedastic(design: Design, request: FitRequest) -> tuple[Design, float, dict[str, str]]:
    """Scale rows by sqrt(w) if Kenward-Roger degrees of freedom are requested, because pbkrtest ignores weights."""
    if design.weights is None or request.df_method != "kenward-roger":
        return design, 0.0, {}
    scaled, constant = scale_rows(design)
    return scaled, constant, {"weights": "rows scaled by sqrt(w), because pbkrtest ignores weights (exact)"}


def theta_of(design: Design, factors: Sequence[FloatArray]) -> FloatArray:
    """Convert relative factors (q, q) to lme4's theta: blocks by decreasing number of levels, column by column."""
    order = sorted(range(len(design.blocks)), key=lambda k: -design.blocks[k].n_levels)
    return np.concatenate([factors[k].T[np.triu_indices(len(factors[k]))] for k in order])


def first_start(given: Sequence[float] | None, problem: Problem) -> FloatArray | None:
    """Start given by the user, or the start of the problem, or None."""
    if given is not None:
        return np.asarray(given, dtype=np.float64)
    return None if problem.start is None else theta_of(problem.design, problem.start)


def n_starts_provenance(n_starts: int) -> dict[str, str]:
    """Provenance of an optimum that took more than one search."""
    if n_starts <= 1:
        return {}
    return {"optimum": f"best of {n_starts} searches by lme4 (one ended on the boundary, or short of the optimum)"}


def evaluate(answer: dict[str, Any], design: Design, *, reml: bool) -> AtEstimates | None:
    """Evaluate the result of ``lme4.R`` by unimix; None if that would take longer than lme4 itself."""
    if not effects_are_ours(design):
        return None
    return linear_at(design, read_covariances(answer, design), float(answer["sigma"][0]), reml=reml)


def theta_to_restart(answer: dict[str, Any], design: Design, *, reml: bool) -> FloatArray | None:
    """Theta of the best known optimum, if it deserves another search; see :func:`unimix.backends.better_start`.

    Args:
        answer: Values that ``lme4.R`` returned.
        design: Fitted design.
        reml: Whether the criterion is the restricted likelihood.
    """
    covariances, sigma = read_covariances(answer, design), float(answer["sigma"][0])
    factors = better_start(design, covariances, sigma, reml=reml)
    return None if factors is None else theta_of(design, factors)


def read_merMod(  # noqa: N802  the R class is called so
    answer: dict[str, Any],
    problem: Problem,
    constant: float,
    provenance: dict[str, str],
    call: str,
    *,
    finished: bool,
    evaluation: AtEstimates | None,
) -> Estimates:
    """Convert the values that ``lme4.R`` extracted to estimates.

    Args:
        answer: Values that ``lme4.R`` returned.
        problem: The model and the request.
        constant: Constant to add to the log likelihood, for scaled rows.
        provenance: Provenance of quantities that is already known.
        call: Text of the R call.
        finished: Whether the optimizer reports convergence.
        evaluation: Evaluation by unimix at these estimates; without it, lme4's own derivatives and conditional
            covariances are used.

    Raises:
        FitError: If lme4 dropped a column (it never should: the design has full rank).
    """
    design, request = problem.design, problem.request
    p = design.p
    if len(answer["beta"]) != p:
        raise FitError(
            f"lme4 returned {len(answer['beta'])} fixed effects for {p} columns: {', '.join(answer['names'])}."
        )
    messages = [str(w) for w in answer["warnings"]]
    sigma = float(answer["sigma"][0])
    covariances = read_covariances(answer, design)
    # isSingular depends on theta and therefore on the units of the columns: both checks must agree.
    units = [column_scale(b.z) for b in design.blocks]
    unit_free = tuple(c * np.outer(u, u) for c, u in zip(covariances, units, strict=True))
    singular = bool(answer["singular"][0]) and is_singular(unit_free, sigma)
    if evaluation is None:
        gain, curvature, gradient = (float(answer[name][0]) for name in ("gain", "curvature", "gradient"))
    else:
        gain, curvature, gradient = evaluation.gain, 0.0, float(evaluation.gradient or 0.0)
    at_optimum, faults = is_at_optimum(gain, curvature, singular=singular)
    if not at_optimum and evaluation is None:
        # lme4's derivatives are differences with one step for all parameters: inaccurate if these differ in size.
        gain = LinearCriterion.of(design).at(covariances, sigma, reml=request.reml).newton_decrement
        at_optimum, faults = is_at_optimum(gain, 0.0, singular=singular)
    notes = [str(n) for n in answer["notes"] if not _is_noise(str(n), messages)]
    if at_optimum:
        messages = [glmer.judged(m, gain, singular=singular) for m in messages]
        notes = [glmer.judged(n, gain, singular=singular) for n in notes]
    df: FloatArray | None = answer["df"] if len(answer["df"]) else None
    method = request.df_method if df is not None else "normal"
    provenance = dict(provenance)
    if df is not None:
        source = "lmerTest" if request.df_method == "satterthwaite" else "pbkrtest"
        provenance["df"] = f"{request.df_method} by {source}"
        if not (np.isfinite(df) & (df > 0)).all():
            df, method = None, "normal"
            provenance["df"] = f"none: {source} gave values that are not degrees of freedom; z is reported"
    elif request.df_method == "residual":
        provenance["df"] = "none: residual degrees of freedom belong to models without a random part; z is reported"
    elif answer["df_error"][0]:
        provenance["df"] = f"none: {request.df_method} failed ({answer['df_error'][0]}); z is reported"
    modes, mode_covs = read_modes(answer, design)
    if evaluation is not None:
        mode_covs = evaluation.mode_covs
        provenance["group_effects"] = "conditional modes by lme4; their covariances by unimix at lme4's estimates"
    return Estimates(
        beta=answer["beta"],
        beta_cov=answer["beta_cov"].reshape(p, p),
        covariances=covariances,
        sigma=sigma,
        modes=modes,
        mode_covs=mode_covs,
        log_likelihood=float(answer["log_likelihood"][0]) + constant,
        converged=finished and at_optimum,
        std_error_kind="Kenward-Roger" if len(answer["std_error"]) else "generalised least squares",
        std_error=answer["std_error"] if len(answer["std_error"]) else None,
        df=df,
        df_method=method,
        singular=singular,
        messages=(*faults, *messages, *notes),
        gradient=gradient if np.isfinite(gradient) else None,
        engine_call=call,
        provenance=provenance,
        native=answer.get("model"),
    )


def _is_noise(note: str, messages: list[str]) -> bool:
    heading = note.startswith("Warning in ") and note.endswith(":")  # the next line holds the warning itself
    return heading or "singular" in note or any(m in note for m in messages)


def read_lm(answer: dict[str, Any], problem: Problem, call: str) -> Estimates:
    """Convert the values of an ``lm`` to estimates."""
    p = problem.design.p
    z = problem.request.df_method == "normal"
    return Estimates(
        beta=answer["beta"],
        beta_cov=answer["beta_cov"].reshape(p, p),
        covariances=(),
        sigma=float(answer["sigma"][0]),
        modes=(),
        mode_covs=(),
        log_likelihood=float(answer["log_likelihood"][0]),
        converged=True,
        df=None if z else np.full(p, float(answer["df"][0])),
        df_method="normal" if z else "residual",
        singular=False,
        messages=tuple(answer["notes"]),
        engine_call=call,
        native=answer.get("model"),
    )
