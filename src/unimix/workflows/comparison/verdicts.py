"""Verdicts on engines: whether a difference from the reference is negligible, expected or suspicious."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from unimix.errors import OptionError
from unimix.fitted.schema import PRIORS
from unimix.result import FitResult

FloatArray = npt.NDArray[np.float64]

APPROXIMATE = ("variational", "MAP")
KINDS = (
    "reference",
    "identical engine",
    "numerically equal",
    "expected to differ",
    "refused",
    "suspicious",
    "not identified",
    "not converged",
    "failed",
)


class Tolerances(BaseModel):
    """The largest differences between two engines that count as agreement.

    Attributes:
        fixed: Difference of fixed effects, in standard errors of the reference. 0.01 is far below what anyone reports,
            and above the error that optimizers leave (1e-3 in a flat likelihood).
        std_error: Relative difference of standard errors. Those of the observed information and those of generalised
            least squares differ by up to 2e-3.
        sd: Relative difference of standard deviations of effects and residual. 2 % changes the log-likelihood by less
            than 1e-3.
        log_likelihood: Absolute difference of log-likelihoods of the same criterion.
        std_error_kinds: Relative difference of standard errors of different kinds. Those of the observed information of
            all parameters include the uncertainty of the variances, those of generalised least squares do not; the
            difference is of the order of one over the number of groups.
        dispersion: Relative difference of dispersion parameters other than a standard deviation, in which the
            likelihood is flattest.
        criteria: Difference of fixed effects, in standard errors, between two approximations of one likelihood
            (Laplace, quadrature, expected or observed information).
        approximate_fixed: Difference of fixed effects, in standard errors, from an approximate posterior (variational,
            or Laplace's approximation at the joint mode).
        posterior_fixed: Difference of posterior means from maximum likelihood, in standard errors, beyond 4 Monte Carlo
            errors.
        posterior_sd: Largest ratio between the posterior mean of an SD and its estimate. With few groups the posterior
            is skewed and its mean lies above the mode.

    Example:
        >>> import unimix as um
        >>> um.Tolerances(fixed=0.05).fixed
        0.05
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: NonNegativeFloat = 0.01
    std_error: NonNegativeFloat = 5e-3
    sd: NonNegativeFloat = 0.02
    log_likelihood: NonNegativeFloat = 1e-3
    std_error_kinds: NonNegativeFloat = 0.5
    dispersion: NonNegativeFloat = 0.05
    criteria: NonNegativeFloat = 0.5
    approximate_fixed: NonNegativeFloat = 1.5
    posterior_fixed: NonNegativeFloat = 0.35
    posterior_sd: NonNegativeFloat = 2.0

    def __init__(self, **given: float) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, f['loc']))}={f['input']!r:.60}: {f['msg']}." for f in error.errors())
            raise OptionError("\n".join(faults)) from None


@dataclass(frozen=True)
class Distance:
    """How far one result is from the reference.

    Attributes:
        fixed: Differences of fixed effects in standard errors of the reference, shape (p,).
        std_error: Ratios of standard errors, shape (p,).
        sd: Ratios of SDs, shape (effects + residual,), each SD increased by a thousandth of the residual SD.
        dispersion: Ratios of dispersion parameters other than SDs.
        parts: Differences of the coefficients of zero inflation and dispersion, in standard errors of the reference.
        correlation: Differences of correlations, block by block and row by row below the diagonal.
        log_likelihood: Difference of the log-likelihoods; NaN where the criteria differ.
    """

    fixed: FloatArray
    std_error: FloatArray
    sd: FloatArray
    dispersion: FloatArray
    parts: FloatArray
    correlation: FloatArray
    log_likelihood: float


@dataclass(frozen=True)
class Verdict:
    """The verdict on one result.

    Attributes:
        kind: One of :data:`KINDS`.
        reason: The reason in one sentence.
        faults: Differences that exceed the tolerances, in words.
    """

    kind: str
    reason: str
    faults: tuple[str, ...] = field(default=())

    @property
    def agrees(self) -> bool:
        """Whether the result agrees with the reference: a kind that agrees, and no fault."""
        return self.kind in KINDS[:5] and not self.faults


def all_sds(fit: FitResult) -> FloatArray:
    """SDs of all effects, followed by those of the residuals, if there are any, shape (effects + residuals,)."""
    return np.array([s for block in fit.random for s in block.sd] + list(residual_sds(fit).values()))


def residual_sds(fit: FitResult) -> dict[str, float]:
    """Residual standard deviations by name: one, or one for each time; none outside Gaussian models."""
    part = fit.residual_part
    if part is not None and len(part.sd) > 1:
        return {f"Residual, {time}": float(sd) for time, sd in zip(part.times, part.sd, strict=True)}
    return {"Residual": fit.sigma} if "sigma" in fit.criteria.parameters else {}


def residual_correlations(fit: FitResult) -> dict[str, float]:
    """Correlations of the residuals by name: of every pair of times, or with the first time, which give all others."""
    part = fit.residual_part
    if part is None or not part.parameters:
        return {}
    sd = np.sqrt(np.diag(part.covariance))
    r = part.covariance / np.outer(sd, sd)
    firsts = range(len(sd)) if part.form.form == "us" else range(1)
    return {
        f"{part.times[j]}, {part.times[i]} | residual": float(r[i, j]) for i in range(len(sd)) for j in firsts if j < i
    }


def _scale(fit: FitResult) -> float:
    """Size of the residuals, or 1 on the scale of a link."""
    return next(iter(residual_sds(fit).values()), 1.0)


def dispersion_parameters(fit: FitResult) -> dict[str, float]:
    """Dispersion parameters other than the residual standard deviation."""
    return {name: value for name, value in fit.criteria.parameters.items() if name != "sigma"}


def all_units(fit: FitResult) -> FloatArray:
    """Factors that turn :func:`all_sds` into units of the response, of the same shape."""
    return np.array([u for block in fit.random for u in block.unit] + [1.0] * len(residual_sds(fit)))


def all_correlations(fit: FitResult) -> FloatArray:
    """Correlations of all blocks of effects, row by row below the diagonal, and those of the residuals."""
    effects = [b.correlation[i, j] for b in fit.random for i in range(len(b.terms)) for j in range(i)]
    return np.array([*effects, *residual_correlations(fit).values()])


def measure(fit: FitResult, reference: FitResult) -> Distance:
    """Measure the distance of a result from the reference; both are fits of one design."""
    same = fit.criteria.criterion == reference.criteria.criterion
    with np.errstate(divide="ignore", invalid="ignore"):
        size = all_sds(reference)
        # SDs below a thousandth of the residual SD are zero in practice, and the ratio of two of them means nothing;
        # ratio = (sd + floor) / (sd of the reference + floor)
        scale = _scale(reference)
        floor = 1e-3 * scale / all_units(reference)
        parameters, theirs = dispersion_parameters(fit), dispersion_parameters(reference)
        parts = [
            (fit.parts[name].estimate - part.estimate) / part.std_error
            for name, part in reference.parts.items()
            if name in fit.parts
        ]
        return Distance(
            fixed=(fit.fixed.estimate - reference.fixed.estimate) / reference.fixed.std_error,
            std_error=fit.fixed.std_error / reference.fixed.std_error,
            sd=(all_sds(fit) + floor) / (size + floor),
            dispersion=np.array([parameters[name] / value for name, value in theirs.items() if name in parameters]),
            parts=np.concatenate(parts) if parts else np.empty(0),
            correlation=all_correlations(fit) - all_correlations(reference),
            log_likelihood=fit.log_likelihood - reference.log_likelihood if same else float("nan"),
        )


def choose_reference(fits: list[FitResult]) -> int:
    """Choose the index of the result that all others are compared with.

    It is the converged likelihood fit with the highest log-likelihood, among fits by the criterion that most of them
    used; of equal ones, the first. A sampler is the reference only if no likelihood fit converged.
    """
    good = [i for i, f in enumerate(fits) if f.converged]
    if not good:
        return 0
    likelihood = [i for i in good if not np.isnan(fits[i].log_likelihood)]
    if not likelihood:
        return good[0]
    criteria = [fits[i].criteria.criterion for i in likelihood]
    main = max(dict.fromkeys(criteria), key=criteria.count)
    pool = [i for i in likelihood if fits[i].criteria.criterion == main]
    best = max(fits[i].log_likelihood for i in pool)
    return next(i for i in pool if fits[i].log_likelihood >= best - 1e-6)


def judge(fit: FitResult, reference: FitResult, tolerances: Tolerances) -> Verdict:
    """Give the verdict on one result, compared with the reference."""
    if not fit.converged:
        why = "; ".join(m.rstrip(".") for m in fit.status.messages) or "the engine gave no reason"
        if fit.status.state == "not_identified":
            return Verdict("not identified", f"{why[:1].upper()}{why[1:]}.", ("its parameters are not determined",))
        return Verdict("not converged", f"Do not use it: {why}.", ("it did not converge",))
    if fit is reference:
        return Verdict("reference", "The others are measured against it.")
    distance = measure(fit, reference)
    if any(f.criteria.criterion in APPROXIMATE for f in (fit, reference)):
        return _judge_approximation(fit, reference, distance, tolerances)
    if fit.criteria.criterion == "posterior" or reference.criteria.criterion == "posterior":
        return _judge_posterior(fit, reference, distance, tolerances)
    if fit.criteria.criterion != reference.criteria.criterion:
        return _judge_criteria(fit, reference, distance, tolerances)
    adjusted = [f.fixed.df_method == "kenward-roger" for f in (fit, reference)]
    kinds = {f.fixed.std_error_kind for f in (fit, reference)} - {""}
    other_errors = adjusted[0] != adjusted[1] or len(kinds) > 1
    faults = _faults(distance, tolerances, std_errors=not other_errors)
    if np.isfinite(distance.log_likelihood) and distance.log_likelihood < -tolerances.log_likelihood:
        return Verdict(
            "suspicious",
            f"It stopped {-distance.log_likelihood:.3g} log-likelihood units below the best fit.",
            tuple(faults),
        )
    if faults:
        return Verdict("suspicious", "It differs by more than rounding and vcov kinds explain.", tuple(faults))
    gap = float(np.nanmax(np.abs(distance.std_error - 1), initial=0.0))
    if other_errors and gap > tolerances.std_error:
        if adjusted[0] != adjusted[1]:
            return Verdict(
                "expected to differ",
                "Same optimum; standard errors adjusted after Kenward and Roger against plain ones.",
            )
        which = f"standard errors of {fit.fixed.std_error_kind} against {reference.fixed.std_error_kind}"
        if gap > tolerances.std_error_kinds:
            return Verdict(
                "suspicious",
                f"Same optimum, but {which} differ by {gap:.0%}.",
                (f"a standard error differs by {gap:.0%} (allowed {tolerances.std_error_kinds:.0%} between kinds)",),
            )
        return Verdict("expected to differ", f"Same optimum; {which}, which differ by up to {gap:.1%}.")
    if fit.engine.backend == reference.engine.backend:
        return Verdict("identical engine", f"The same engine again, with the same estimates{_tests(fit, reference)}.")
    if fit.engine.engine == reference.engine.engine:
        return Verdict(
            "identical engine",
            f"{reference.engine.engine} through another interface, with the same estimates{_tests(fit, reference)}.",
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
    """How tests and intervals differ although the estimates agree: by degrees of freedom, or by level."""
    differences = []
    if fit.fixed.df_method != reference.fixed.df_method:
        differences.append(f"{fit.fixed.df_method} against {reference.fixed.df_method} degrees of freedom")
    if fit.fixed.level != reference.fixed.level:
        differences.append(f"{100 * fit.fixed.level:g} % against {100 * reference.fixed.level:g} % intervals")
    return f"; tests differ ({', '.join(differences)})" if differences else ""


def _faults(distance: Distance, tolerances: Tolerances, *, std_errors: bool) -> list[str]:
    faults = []
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    if worst > tolerances.fixed:
        faults.append(f"a fixed effect is {worst:.2g} standard errors away (allowed {tolerances.fixed:g})")
    worst = float(np.nanmax(np.abs(distance.std_error - 1), initial=0.0))
    if std_errors and worst > tolerances.std_error:
        faults.append(f"a standard error differs by {worst:.1%} (allowed {tolerances.std_error:.1%})")
    worst = float(np.nanmax(np.abs(distance.sd - 1), initial=0.0))
    if worst > tolerances.sd:
        faults.append(f"a standard deviation differs by {worst:.1%} (allowed {tolerances.sd:.1%})")
    worst = float(np.nanmax(np.abs(distance.dispersion - 1), initial=0.0))
    if worst > tolerances.dispersion:
        faults.append(f"a dispersion parameter differs by {worst:.1%} (allowed {tolerances.dispersion:.1%})")
    worst = float(np.nanmax(np.abs(distance.parts), initial=0.0))
    if worst > 5 * tolerances.fixed:
        faults.append(
            f"a coefficient of zero inflation or dispersion is {worst:.2g} standard errors away "
            f"(allowed {5 * tolerances.fixed:g})"
        )
    gap = distance.log_likelihood
    if np.isfinite(gap) and abs(gap) > tolerances.log_likelihood:
        faults.append(f"the log-likelihood differs by {gap:+.3g} (allowed {tolerances.log_likelihood:g})")
    return faults


def _spread(fit: FitResult, reference: FitResult, distance: Distance) -> str:
    """The largest differences of fixed effects and SDs, in words."""
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    scale = _scale(reference)
    known = all_sds(reference) * all_units(reference) > 0.01 * scale  # a ratio to an SD of zero means nothing
    ratio = float(np.nanmax(np.abs(distance.sd[known] - 1), initial=0.0))
    text = f"fixed effects within {worst:.2f} standard errors"
    if len(all_sds(fit)):
        size = f"{ratio:.0%}" if ratio >= 0.01 else f"{ratio:.1%}"
        text += f", SDs within {size}{'' if known.all() else ' (those that are not zero)'}"
    return text


def _judge_criteria(fit: FitResult, reference: FitResult, distance: Distance, tolerances: Tolerances) -> Verdict:
    names = f"{fit.criteria.criterion} against {reference.criteria.criterion}"
    if {fit.criteria.criterion, reference.criteria.criterion} & {"REML", "ML"}:
        return Verdict("expected to differ", f"{names}: another criterion; {_spread(fit, reference, distance)}.")
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    approximations = f"{names}: two approximations of one likelihood, whose values are not comparable"
    if worst > tolerances.criteria:
        fault = f"a fixed effect is {worst:.2g} standard errors away (allowed {tolerances.criteria:g} between criteria)"
        return Verdict("suspicious", f"{approximations}; they are far apart.", (fault,))
    return Verdict("expected to differ", f"{approximations}; {_spread(fit, reference, distance)}.")


def _judge_approximation(fit: FitResult, reference: FitResult, distance: Distance, tolerances: Tolerances) -> Verdict:
    names = {
        "variational": "A variational posterior",
        "MAP": "Laplace's approximation of a posterior at its mode",
    }
    approximate = fit if fit.criteria.criterion in APPROXIMATE else reference
    posterior = f"{names[approximate.criteria.criterion]} under priors, not maximum likelihood"
    worst = float(np.nanmax(np.abs(distance.fixed), initial=0.0))
    if worst > tolerances.approximate_fixed:
        fault = f"a fixed effect is {worst:.2g} standard errors away (allowed {tolerances.approximate_fixed:g})"
        return Verdict("suspicious", f"{posterior}: {_spread(fit, reference, distance)}.", (fault,))
    low, high = float(np.nanmin(distance.std_error)), float(np.nanmax(distance.std_error))
    errors = f"its standard errors {low:.2g} to {high:.2g} times the others'"
    return Verdict("expected to differ", f"{posterior}: {_spread(fit, reference, distance)}, {errors}.")


def _judge_posterior(fit: FitResult, reference: FitResult, distance: Distance, tolerances: Tolerances) -> Verdict:
    sampled = fit if fit.criteria.criterion == "posterior" else reference
    if fit.criteria.criterion == reference.criteria.criterion and fit.engine.priors != reference.engine.priors:
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
    given = sampled.provenance.get(PRIORS)
    if faults and given and fit.criteria.criterion != reference.criteria.criterion:
        return Verdict("expected to differ", f"A posterior under priors of the user ({given}): {'; '.join(faults)}.")
    if faults:
        return Verdict(
            "suspicious", "It is farther away than priors and Monte Carlo error usually explain.", tuple(faults)
        )
    reason = f"A posterior mean under priors, not an optimum: {_spread(fit, reference, distance)}."
    return Verdict("expected to differ", reason)
