"""Adapter for lme4 through rpy2: numeric columns go to R, and plain vectors come back, in one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from unimix.backends.base import BackendInfo, Problem
from unimix.backends.r import glmer
from unimix.backends.r.backend import prior_weights, r_arguments, r_offset
from unimix.backends.r.mermod import (
    LmerBackend,
    call_text,
    effects_are_ours,
    evaluate,
    first_start,
    homoscedastic,
    n_starts_provenance,
    read_lm,
    read_merMod,
    theta_to_restart,
)
from unimix.backends.r.packages import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.design.estimates import Estimates

FloatArray = npt.NDArray[np.float64]


class Lme4(LmerBackend):
    """lme4's ``lmer`` and ``glmer`` (``lm`` and ``glm`` without a random part), called in R."""

    info: ClassVar[BackendInfo] = BackendInfo(
        name="lme4",
        engine="lme4",
        title="lme4 (R) through rpy2",
        packages=("rpy2",),
        distributions=("rpy2",),
        extra="lme4",
        url="https://github.com/lme4/lme4",
        reference="Bates, D., Maechler, M., Bolker, B., & Walker, S. (2015). Fitting linear mixed-effects models using "
        "lme4. Journal of Statistical Software, 67(1), 1-48. https://doi.org/10.18637/jss.v067.i01",
        strengths="the field's standard; large crossed factors; needs R",
        rank=40,
        quick_when_crossed=True,
        r_packages=REQUIRED["lme4"],
        r_optional=OPTIONAL["lme4"],
        r_trial="lme4::lmer(y ~ 1 + (1 | g), d)",
    )

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        bridge: Any = engine
        if not problem.design.family.is_linear:
            if not problem.design.blocks:
                return fit_glm(bridge, self, problem)
            settings = self.glmer_settings(problem.request)
            return glmer.with_looser_tolerance(settings, lambda own: fit_glmer(bridge, own, problem))
        return fit_lmer(bridge, self, problem) if problem.design.blocks else fit_lm(bridge, problem)


def fit_glmer(bridge: Any, settings: glmer.Settings, problem: Problem) -> Estimates:
    """Fit a generalised mixed model by ``glmer``."""
    design = problem.design
    answer = bridge.call(
        "fit_glmer",
        *r_arguments(design),
        r_offset(design),
        design.family.name,
        design.family.link,
        settings.n_agq,
        settings.optimizer,
        {k: float(v) for k, v in settings.control.items()},
        settings.tolerance,
        np.asarray(settings.start or [], dtype=np.float64),
        float(0 if settings.start is not None else settings.restarts),
    )
    call = glmer.call_text(answer["text"][0], design, settings)
    return glmer.read_glmer(answer, problem, settings, n_starts_provenance(int(answer["n_starts"][0])), call)


def fit_glm(bridge: Any, options: Lme4, problem: Problem) -> Estimates:
    """Fit a generalised model without a random part by R's ``glm`` (``MASS::glm.nb``)."""
    design = problem.design
    answer = bridge.call(
        "fit_glm",
        design.y,
        design.x,
        prior_weights(design),
        r_offset(design),
        design.family.name,
        design.family.link,
    )
    call = glmer.call_text(answer["text"][0], design, options.glmer_settings(problem.request))
    return glmer.read_glm(answer, problem, call)


def fit_lmer(bridge: Any, options: Lme4, problem: Problem) -> Estimates:
    """Fit a mixed model by ``lmer``."""
    request = options.r_request(problem.request)
    design, constant, provenance = homoscedastic(problem.design, request)
    given = r_arguments(design)

    whole = not effects_are_ours(design)

    def search(start: FloatArray, restarts: int, optimizer: str, control: dict[str, float]) -> dict[str, Any]:
        answer: dict[str, Any] = bridge.call(
            "fit_lmer",
            *given,
            request.reml,
            optimizer,
            {k: float(v) for k, v in control.items()},
            start,
            float(restarts),
            problem.coefficients,
            request.df_method,
            whole,
        )
        return answer

    start = first_start(options.start, problem)
    restarts = options.restarts if start is None else 0
    tight = (options.optimizer, options.controls())
    # If unimix's criterion is more expensive than lme4's own, lme4 chooses further starts itself.
    answer = search(np.empty(0) if start is None else start, restarts if whole else 0, *tight)
    n_starts = int(answer["n_starts"][0])
    for _ in range(0 if whole else restarts):
        further = theta_to_restart(answer, design, reml=request.reml)
        if further is None:
            break
        other = search(further, 0, *tight)
        n_starts += 1
        if other["log_likelihood"][0] <= answer["log_likelihood"][0]:
            break
        answer = other
    evaluation = evaluate(answer, design, reml=request.reml)
    call = call_text(answer["text"][0], design, request, options.control_text())
    provenance |= n_starts_provenance(n_starts)
    return read_merMod(
        answer, problem, constant, provenance, call, finished=int(answer["code"][0]) == 0, evaluation=evaluation
    )


def fit_lm(bridge: Any, problem: Problem) -> Estimates:
    """Fit a model without a random part by R's ``lm``."""
    design = problem.design
    weights = design.weights if design.weights is not None else np.empty(0)
    answer = bridge.call("fit_lm", design.y, design.x, weights)
    return read_lm(answer, problem, call_text(answer["text"][0], design, problem.request, ""))
