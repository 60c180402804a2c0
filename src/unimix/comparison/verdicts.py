"""Is a difference between two engines nothing, expected, or suspicious?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from unimix.results.result import FitResult

FloatArray = npt.NDArray[np.float64]

KINDS = (
    "reference",
    "identical engine",
    "numerically equal",
    "expected to differ",
    "suspicious",
    "not converged",
    "failed",
)


class Tolerances(BaseModel):
    """How far two engines may be apart and still agree.

    Attributes:
        fixed: Fixed effects, in standard errors of the reference. 0.01 is far below what anyone reports, and above
            what optimizers leave (1e-3 in a flat likelihood).
        std_error: Standard errors, relative. The observed-information and the GLS kind differ by up to 2e-3.
        sd: Standard deviations of effects and residual, relative. 2 % moves the log-likelihood by less than 1e-3.
        log_likelihood: Same criterion, absolute.
        posterior_fixed: Posterior means against maximum likelihood, in standard errors, beyond 4 Monte Carlo errors.
        posterior_sd: Largest ratio between a posterior mean of an SD and the estimate: with few groups the posterior
            is skewed and its mean lies above the mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: NonNegativeFloat = 0.01
    std_error: NonNegativeFloat = 5e-3
    sd: NonNegativeFloat = 0.02
    log_likelihood: NonNegativeFloat = 1e-3
    posterior_fixed: NonNegativeFloat = 0.35
    posterior_sd: NonNegativeFloat = 2.0


@dataclass(frozen=True)
class Distance:
    """How far one result is from the reference.

    Attributes:
        fixed: Differences of fixed effects in reference standard errors, shape (p,).
        std_error: Ratios of standard errors, shape (p,).
        sd: Ratios of SDs (effects, then residual); NaN where both are zero.
        correlation: Differences of correlations.
        log_likelihood: Difference; NaN where the criteria differ.
    """

    fixed: FloatArray
    std_error: FloatArray
    sd: FloatArray
    correlation: FloatArray
    log_likelihood: float


@dataclass(frozen=True)
class Verdict:
    """What to make of one result.

    Attributes:
        kind: One of :data:`KINDS`.
        reason: One sentence.
        faults: What exceeds the tolerances.
    """

    kind: str
    reason: str
    faults: tuple[str, ...] = field(default=())

    @property
    def agrees(self) -> bool:
        """Whether the result can stand beside the reference."""
        return self.kind in KINDS[:4] and not self.faults


def all_sds(fit: FitResult) -> FloatArray:
    """SDs of all effects, then the residual's."""
    return np.array([s for block in fit.random for s in block.sd] + [fit.sigma])


def all_units(fit: FitResult) -> FloatArray:
    """What turns :func:`all_sds` into units of the response."""
    return np.array([u for block in fit.random for u in block.unit] + [1.0])


def all_correlations(fit: FitResult) -> FloatArray:
    """Correlations of all blocks, row by row below the diagonal."""
    return np.array([b.correlation[i, j] for b in fit.random for i in range(len(b.terms)) for j in range(i)])


def measure(fit: FitResult, reference: FitResult) -> Distance:
    """Measure the distance between two results of one design."""
    same = fit.fit.criterion == reference.fit.criterion
    with np.errstate(divide="ignore", invalid="ignore"):
        size = all_sds(reference)
        # SDs below a thousandth of the residual SD are zero for all purposes: a ratio of two of them says nothing.
        floor = 1e-3 * reference.sigma / all_units(reference)
        return Distance(
            fixed=(fit.fixed.estimate - reference.fixed.estimate) / reference.fixed.std_error,
            std_error=fit.fixed.std_error / reference.fixed.std_error,
            sd=(all_sds(fit) + floor) / (size + floor),
            correlation=all_correlations(fit) - all_correlations(reference),
            log_likelihood=fit.log_likelihood - reference.log_likelihood if same else float("nan"),
        )


def choose_reference(fits: list[FitResult]) -> int:
    """Index of the result that others are held against.

    The converged likelihood fit with the highest log-likelihood (of the criterion that most of them used); the first
    one of equals; a sampler only where nothing else converged.
    """
    good = [i for i, f in enumerate(fits) if f.converged]
    if not good:
        return 0
    likelihood = [i for i in good if not np.isnan(fits[i].log_likelihood)]
    if not likelihood:
        return good[0]
    criteria = [fits[i].fit.criterion for i in likelihood]
    main = max(dict.fromkeys(criteria), key=criteria.count)
    pool = [i for i in likelihood if fits[i].fit.criterion == main]
    best = max(fits[i].log_likelihood for i in pool)
    return next(i for i in pool if fits[i].log_likelihood >= best - 1e-6)


def judge(fit: FitResult, reference: FitResult, tolerances: Tolerances) -> Verdict:
    """Judge one result against the reference."""
    if not fit.converged:
        why = "; ".join(m.rstrip(".") for m in fit.status.messages) or "the engine gave no reason"
        return Verdict("not converged", f"Do not use it: {why}.", ("it did not converge",))
    if fit is reference:
        return Verdict("reference", "The others are measured against it.")
    distance = measure(fit, reference)
    if fit.fit.criterion == "posterior" or reference.fit.criterion == "posterior":
        return _judge_posterior(fit, reference, distance, tolerances)
    if fit.fit.criterion != reference.fit.criterion:
        return Verdict(
            "expected to differ", f"{fit.fit.criterion} against {reference.fit.criterion}: another criterion."
        )
    adjusted = [f.fixed.df_method == "kenward-roger" for f in (fit, reference)]
    other_errors = adjusted[0] != adjusted[1]
    faults = _faults(distance, tolerances, std_errors=not other_errors)
    if np.isfinite(distance.log_likelihood) and distance.log_likelihood < -tolerances.log_likelihood:
        return Verdict(
            "suspicious",
            f"It stopped {-distance.log_likelihood:.3g} log-likelihood units below the best fit.",
            tuple(faults),
        )
    if faults:
        return Verdict("suspicious", "It differs by more than rounding and vcov kinds explain.", tuple(faults))
    if other_errors and np.nanmax(np.abs(distance.std_error - 1), initial=0.0) > tolerances.std_error:
        return Verdict(
            "expected to differ", "Same optimum; standard errors adjusted after Kenward and Roger against plain ones."
        )
    if fit.engine.backend == reference.engine.backend:
        return Verdict("identical engine", f"The same engine again, with the same estimates{_tests(fit, reference)}.")
    if fit.engine.engine == reference.engine.engine:
        return Verdict(
            "identical engine",
            f"{reference.engine.engine} by another road, with the same estimates{_tests(fit, reference)}.",
        )
    fixed, se, sd = (
        float(np.nanmax(np.abs(v), initial=0.0)) for v in (distance.fixed, distance.std_error - 1, distance.sd - 1)
    )
    return Verdict(
        "numerically equal",
        f"Same optimum: fixed effects within {fixed:.0e} standard errors, standard errors within a relative {se:.0e}, "
        f"SDs within {sd:.0e}{_tests(fit, reference)}.",
    )


def _tests(fit: FitResult, reference: FitResult) -> str:
    """How tests and intervals differ where estimates do not: by degrees of freedom or by level."""
    told = []
    if fit.fixed.df_method != reference.fixed.df_method:
        told.append(f"{fit.fixed.df_method} against {reference.fixed.df_method} degrees of freedom")
    if fit.fixed.level != reference.fixed.level:
        told.append(f"{100 * fit.fixed.level:g} % against {100 * reference.fixed.level:g} % intervals")
    return f"; tests differ ({', '.join(told)})" if told else ""


def _faults(distance: Distance, tolerances: Tolerances, *, std_errors: bool) -> list[str]:
    found = []
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    if worst > tolerances.fixed:
        found.append(f"a fixed effect is {worst:.2g} standard errors away (allowed {tolerances.fixed:g})")
    worst = float(np.nanmax(np.abs(distance.std_error - 1), initial=0.0))
    if std_errors and worst > tolerances.std_error:
        found.append(f"a standard error differs by {worst:.1%} (allowed {tolerances.std_error:.1%})")
    worst = float(np.nanmax(np.abs(distance.sd - 1), initial=0.0))
    if worst > tolerances.sd:
        found.append(f"a standard deviation differs by {worst:.1%} (allowed {tolerances.sd:.1%})")
    gap = distance.log_likelihood
    if np.isfinite(gap) and abs(gap) > tolerances.log_likelihood:
        found.append(f"the log-likelihood differs by {gap:+.3g} (allowed {tolerances.log_likelihood:g})")
    return found


def _judge_posterior(fit: FitResult, reference: FitResult, distance: Distance, tolerances: Tolerances) -> Verdict:
    sampled = fit if fit.fit.criterion == "posterior" else reference
    if fit.fit.criterion == reference.fit.criterion and fit.engine.priors != reference.engine.priors:
        changed = [k for k in fit.engine.priors if fit.engine.priors[k] != reference.engine.priors.get(k)]
        return Verdict("expected to differ", f"Posteriors under other priors ({', '.join(changed)}).")
    noise = 4 / np.sqrt(max(sampled.status.ess_bulk or 1.0, 1.0))
    faults = []
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    allowed = tolerances.posterior_fixed + noise
    if worst > allowed:
        faults.append(f"a fixed effect is {worst:.2g} standard errors away (allowed {allowed:.2g})")
    if not fit.singular and not reference.singular:
        ratio = float(np.nanmax(np.maximum(distance.sd, 1 / distance.sd), initial=1.0))
        if ratio > tolerances.posterior_sd:
            faults.append(
                f"a standard deviation differs by a factor of {ratio:.2g} (allowed {tolerances.posterior_sd:g})"
            )
    if faults:
        return Verdict(
            "suspicious", "It is further away than priors and Monte Carlo error usually explain.", tuple(faults)
        )
    known = all_sds(reference) * all_units(reference) > 0.01 * reference.sigma  # a ratio to zero says nothing
    spread = float(np.nanmax(np.abs(distance.sd[known] - 1), initial=0.0))
    return Verdict(
        "expected to differ",
        f"A posterior mean under priors, not an optimum: fixed effects within {worst:.2f} standard errors, SDs within "
        f"{spread:.0%}{'' if known.all() else ' (those that are not zero)'}.",
    )
