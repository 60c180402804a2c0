"""The checks of a certificate in words, from the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Check
from unimix.errors import listing
from unimix.fitted.criterion import covariances_of
from unimix.fitted.schema import is_curve
from unimix.likelihood.lmm.conditioning import SINGULAR_TOLERANCE, relative_factors
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.stats.covariance_distance import worst_contrast

if TYPE_CHECKING:
    from unimix.design.arrays import Design, RandomBlock
    from unimix.fitted.model import FittedModel
    from unimix.fitted.schema import RandomPartResult

FloatArray = npt.NDArray[np.float64]
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
SAME_VALUE = 1e-6
"""Largest relative difference between two evaluations of the same log-likelihood."""
SAME_BETA = 1e-2
"""Largest distance, in standard errors, of an engine's fixed effects from those that its own variances imply."""
SAME_KIND = 5e-3
"""Largest relative difference of standard errors of the same kind; numerical Hessians are no more accurate."""
SAME_DF = 2e-2
AT_LIMIT = 0.9999
"""Size of a correlation that counts as 1 where the covariance matrix is singular."""
SAME_MODE = 1e-3
"""Largest difference of conditional modes, in standard deviations of the effects; engines stop their inner searches at
relative changes of 1e-4 to 1e-7."""
NO_CORRELATION = 1e-8
STRUCTURE = 1e-6
"""Largest difference of a covariance matrix from its structure, relative to the variances: rounding of the engine."""


def percent(share: float) -> str:
    """A relative difference as text: a percentage, or a multiple if it is large."""
    if not np.isfinite(share):
        return "not a number"
    return f"{100 * share:.2g} %" if share < 1 else f"{1 + share:.3g} times as large" if share < 1e6 else "far off"


def rows_check(fit: FittedModel, design: Design) -> Check:
    """Check that the result has as many rows as the design."""
    n = design.n_obs
    passed = fit.model.n_obs == n and (design.compression is not None or len(fit.rows.observed) == n)
    message = f"{fit.model.n_obs} rows" if passed else f"{fit.model.n_obs} rows, where the design has {n}"
    return Check(name="rows", passed=passed, said=message)


def same_model(fit: FittedModel, ours: float, known: Mapping[str, float], off: float, rounding: float = 0.0) -> Check:
    """Compare the engine's log-likelihood with unimix's at its parameters, and its fixed effects with its variances.

    Args:
        fit: The result.
        ours: Log-likelihood at the engine's parameters by unimix's criterion.
        known: Constants by which engines' log-likelihoods are known to differ, by a description of each.
        off: Largest distance of the engine's fixed effects from those that its variances imply, in standard errors.
        rounding: Rounding error of one evaluation of the log-likelihood.
    """
    difference = fit.log_likelihood - ours
    limit = max(SAME_VALUE * max(1.0, abs(ours)), rounding)
    numbers = {"engine's": fit.log_likelihood, "ours": ours, "difference": difference, "fixed effects off by (SE)": off}
    faults = []
    if abs(difference) > limit or not np.isfinite(difference):
        names = [name for name, value in known.items() if abs(difference - value) <= limit and abs(value) > limit]
        if names:
            faults.append(f"its log-likelihood, {fit.log_likelihood:.6g}, is {names[0]}; it should be {ours:.6g}")
        else:
            faults.append(
                f"its log-likelihood, {fit.log_likelihood:.6g}, is not that of its own estimates, {ours:.6g} "
                f"(difference {difference:.3g})"
            )
    if not off <= SAME_BETA:
        faults.append(f"its fixed effects are up to {off:.2g} standard errors away from those that its variances imply")
    if faults:
        return Check(name="same model", passed=False, said="; ".join(faults), numbers=numbers)
    message = f"log-likelihood {fit.log_likelihood:.6f}, ours at its estimates {ours:.6f}"
    return Check(name="same model", passed=True, said=message, numbers=numbers)


def optimum(
    fit: FittedModel,
    gap: float,
    moved: float,
    best_sd: Sequence[FloatArray],
    numbers: Mapping[str, float],
    rounding: float = 0.0,
) -> Check:
    """Check the distance to the best known optimum, and its effect on the estimates.

    Where rounding hides the distance, the estimates decide; if they differ, nothing is known about the optimum.
    """
    if rounding >= gap > NOTICEABLE and not moved <= SAME_BETA:
        said = (
            f"counts of this size leave a rounding error of {rounding:.2g} in the log-likelihood, within which "
            f"estimates {moved:.2g} standard errors apart are equally good. "
            "Divide the counts by an exposure, or model their "
            "logarithms"
        )
        return Check(name="optimum", passed=None, said=said, numbers=dict(numbers))
    if gap <= max(NOTICEABLE, rounding):
        return Check(
            name="optimum",
            passed=True,
            said=f"{max(gap, 0.0):.1e} log-likelihood below the best known",
            numbers=dict(numbers),
        )
    message = f"{gap:.3g} log-likelihood below the best known; fixed effects move by up to {moved:.2g} standard errors"
    changes = _changes(fit, best_sd)
    message = "; ".join(part for part in (message, changes) if part)
    return Check(name="optimum", passed=False, said=message, numbers=dict(numbers))


def independent(fit: FittedModel) -> list[int]:
    """Indices of blocks whose correlations are all exactly zero although their variances are positive."""
    blocks = []
    for k, block in enumerate(fit.random):
        covariance = np.asarray(block.covariance)
        size = np.asarray(block.sd) * np.asarray(block.unit)
        off = np.abs(covariance - np.diag(np.diag(covariance))).max(initial=0.0)
        if (
            len(block.terms) > 1
            and off <= NO_CORRELATION * np.abs(np.diag(covariance)).min()
            and size.min() > 1e-3 * size.max()
        ):
            blocks.append(k)
    return blocks


def left_out(fit: FittedModel, blocks: Sequence[int], lost: float) -> Check:
    """The failed check of an engine that fitted independent effects and is at the optimum of that smaller model."""
    groups = listing(dict.fromkeys(fit.random[k].group for k in blocks))
    message = (
        f"the correlations of {groups} are exactly zero and the rest is the best that independent effects allow: the "
        f"engine left the correlations out, which costs {lost:.3g} log-likelihood"
    )
    return Check(name="independent terms", passed=False, said=message, numbers={"lost": lost})


def _changes(fit: FittedModel, best_sd: Sequence[FloatArray]) -> str:
    """The standard deviation that differs most from that at the optimum, in words."""
    names = [f"{t} | {b.group}" for b in fit.random for t in b.terms]
    ours = np.concatenate([*best_sd]) if best_sd else np.empty(0)
    theirs = np.concatenate([*(np.asarray(b.sd) for b in fit.random), np.empty(0)])
    if len(ours) < len(theirs) or not len(theirs):
        return ""
    ours = ours[: len(theirs)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(np.log(theirs / ours))
    worst = int(np.nanargmax(np.where(np.isfinite(ratio), ratio, 1e9)))
    return f"the SD of {names[worst]} is {theirs[worst]:.4g} instead of {ours[worst]:.4g}"


def structures(fit: FittedModel, blocks: Sequence[RandomBlock]) -> list[Check]:
    """Whether the covariances have the structures that the formula asks for; empty if it asks for none."""
    asked = [(b, s, r) for b, r in zip(blocks, fit.random, strict=True) if (s := b.covariance_structure) is not None]
    off = {f"{s.name} | {b.group}": s.difference(np.asarray(r.covariance)) for b, s, r in asked}
    wrong = [name for name, size in off.items() if not size < STRUCTURE]
    if not off:
        return []
    if wrong:
        said = f"the covariance matrix of {listing(wrong)} does not have this structure"
        return [Check(name="covariance structure", passed=False, said=said, numbers=off)]
    said = f"the covariance matrices have the structures of {listing(off)}"
    return [Check(name="covariance structure", passed=True, said=said, numbers=off)]


def group_effects(worst: float, spread: float) -> Check:
    """Compare conditional modes and their covariances with unimix's at the engine's parameters.

    Args:
        worst: Largest difference of a mode, in standard deviations of the effects.
        spread: Largest difference of a conditional covariance, in products of conditional standard deviations.
    """
    passed = worst < SAME_MODE and spread <= 2 * SAME_KIND
    message = f"conditional modes within {worst:.1e} SD of ours at its estimates, their covariances within {spread:.1e}"
    if not worst < SAME_MODE:
        message = f"group effects are up to {worst:.2g} SD away from the conditional modes at its own estimates"
    elif not passed:
        message = (
            f"conditional covariances of the group effects differ from those at its own estimates by {percent(spread)}"
        )
    numbers = {"largest difference (SD)": worst, "largest difference of a covariance": spread}
    return Check(name="group effects", passed=passed, said=message, numbers=numbers)


PART_NAMES = {"zero": "zero inflation", "dispersion": "dispersion", "thresholds": "thresholds"}
"""Names of the parts of a model other than the mean, in words."""


def standard_errors_of_part(
    fit: FittedModel,
    name: str,
    covariance: FloatArray,
    beside: tuple[FloatArray, FloatArray] | None,
    tolerance: float,
) -> Check:
    """Check the covariance matrix of the coefficients of a part other than the mean, jointly with the fixed effects.

    Args:
        fit: The result.
        name: Name of the part: ``zero``, ``dispersion`` or ``thresholds``.
        covariance: Their covariance matrix from the observed information of all parameters, shape (k, k).
        beside: Covariance matrix of the fixed effects, shape (p, p), and that of the fixed effects with the part, shape
            (p, k); None where the fixed effects have no finite one.
        tolerance: Largest relative difference of the standard error of any contrast.
    """
    part = fit.parts[name]
    claimed, cross = np.asarray(part.covariance), np.asarray(part.cross_covariance)
    off = worst_contrast(claimed, covariance)
    if beside is not None and cross.size:
        fixed, exact_cross = beside
        claimed = np.block([[np.asarray(fit.fixed.covariance), cross], [cross.T, claimed]])
        off = max(off, worst_contrast(claimed, np.block([[fixed, exact_cross], [exact_cross.T, covariance]])))
        # a correlation that is small hardly moves a contrast: its own error counts ten times
        sds = np.sqrt(np.outer(np.diag(fixed), np.diag(covariance)))
        off = max(off, 10 * float((np.abs(cross - exact_cross) / sds).max()))
    passed = off <= tolerance
    said = f"observed information, within {off:.1e}" if passed else f"a contrast is {percent(off)} from ours"
    title = f"standard errors of the {PART_NAMES[name]}"
    return Check(name=title, passed=passed, said=said, numbers={"observed information": off})


def largest_difference(claimed: FloatArray, exact: FloatArray, least: FloatArray) -> float:
    """Largest difference of covariance matrices in products of the exact standard deviations.

    Args:
        claimed: Covariance matrices, shape (L, q, q).
        exact: Matrices to compare with, shape (L, q, q).
        least: Smallest standard deviation that counts, shape (q,).
    """
    sd = np.maximum(np.sqrt(np.maximum(np.einsum("lii->li", exact), 0.0)), least)
    return float((np.abs(claimed - exact) / (sd[:, :, None] * sd[:, None, :])).max(initial=0.0))


def standard_errors(fit: FittedModel, kinds: Mapping[str, FloatArray], tolerance: float = SAME_KIND) -> Check:
    """Check that the covariance matrix of the fixed effects, and with it every contrast, is of the kind it claims.

    Args:
        fit: The result.
        kinds: Covariance matrices (p, p) that the model can have, by kind.
        tolerance: Largest relative difference of the standard error of any contrast.
    """
    claimed, covariance = fit.fixed.std_error_kind, np.asarray(fit.fixed.covariance)
    kept = np.flatnonzero(~fit.fixed.is_unbounded(np.eye(len(covariance))))
    covariance, kinds = covariance[np.ix_(kept, kept)], {k: v[np.ix_(kept, kept)] for k, v in kinds.items()}
    matrix = {k: worst_contrast(covariance, v) for k, v in kinds.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {k: np.asarray(fit.fixed.std_error)[kept] / np.sqrt(np.diag(v)) for k, v in kinds.items()}
    # Kenward and Roger's adjustment may be of the standard errors alone.
    adjusted = claimed == "Kenward-Roger"
    off = {
        k: max(min(matrix.values()) if adjusted else matrix[k], float(np.abs(r - 1).max(initial=0.0)))
        for k, r in ratio.items()
    }
    off = {k: v if np.isfinite(v) else float("inf") for k, v in off.items()}
    nearest = min(off, key=lambda k: off[k])
    numbers = dict(off)
    if claimed and claimed not in kinds:
        message = f"they are reported as {claimed}, which this model does not have; they are nearest to {nearest}"
        return Check(name="standard errors", passed=False, said=message, numbers=numbers)
    if not off[nearest] <= tolerance:
        message = f"not of any known kind: a contrast is {percent(off[nearest])} from the nearest, {nearest}"
        return Check(name="standard errors", passed=False, said=message, numbers=numbers)
    if claimed and (not off[claimed] <= tolerance or _mistaken(off[claimed], off[nearest])):
        message = f"they are reported as {claimed}, but are of the kind {nearest}"
        return Check(name="standard errors", passed=False, said=message, numbers=numbers)
    kind = claimed or nearest
    return Check(name="standard errors", passed=True, said=f"{kind}, within {off[kind]:.1e}", numbers=numbers)


def _mistaken(claimed: float, other: float) -> bool:
    """Whether numbers are those of another method: two can be nearly the same, and further digits distinguish them."""
    return other < 1e-5 and claimed > max(20 * other, 1e-4)


def degrees(fit: FittedModel, methods: Mapping[str, FloatArray]) -> Check:
    """Compare the engine's degrees of freedom with unimix's.

    Args:
        fit: The result.
        methods: Degrees of freedom, shape (p,), by each method that the model can have.
    """
    claimed, df = fit.fixed.df_method, np.asarray(fit.fixed.df)
    if claimed == "normal":
        right = bool(np.isinf(df).all())
        message = "normal: z tests" if right else "they are reported as normal, but are finite"
        return Check(name="degrees of freedom", passed=None if right else False, said=message)
    if claimed not in methods:
        message = f"they are reported as {claimed}, which this model does not have"
        return Check(name="degrees of freedom", passed=False, said=message)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = {k: float(np.max(np.abs(df / v - 1), initial=0.0)) for k, v in methods.items()}
    twin = [k for k, v in off.items() if k != claimed and v <= SAME_DF]
    mistaken = [k for k in twin if _mistaken(off[claimed], off[k])]
    if off[claimed] <= SAME_DF and not mistaken:
        message = f"{claimed}, within {off[claimed]:.1e} of ours"
        return Check(name="degrees of freedom", passed=True, said=message, numbers=off)
    twin = mistaken or twin
    message = (
        f"they are reported as {claimed}, but are {twin[0]}"
        if twin
        else f"they are reported as {claimed}, but differ from these by up to {percent(off[claimed])}"
    )
    return Check(name="degrees of freedom", passed=False, said=message, numbers=off)


def posterior(fit: FittedModel, pull: FloatArray, lost: float, criterion: str) -> Check:
    """Check how well a posterior was sampled, and how far the prior and averaging move it from the optimum."""
    status = fit.status
    ess = float(status.ess_bulk or np.nan)
    rhat = float(status.rhat or np.nan)
    mcse = 1.0 / np.sqrt(ess) if ess > 0 else np.nan
    worst = float(pull.max(initial=0.0))
    numbers = {
        "R-hat": rhat,
        "ESS": ess,
        "MCSE (posterior SDs)": mcse,
        "pull (SE)": worst,
        "log-likelihood lost": float(lost),
    }
    well = bool(fit.converged and rhat < 1.01 and ess >= 400)
    said = (
        f"R-hat {rhat:.3f}, ESS {ess:.0f}, so that a posterior mean is known to {mcse:.2g} of its SD; it lies up to "
        f"{worst:.2g} standard errors from the {criterion} optimum, {max(lost, 0.0):.2g} log-likelihood below it"
    )
    return Check(name="sampling and prior", passed=well, said=said, numbers=numbers)


def boundary(fit: FittedModel, *factors: Sequence[FloatArray]) -> str:
    """Which variances are zero and which correlations +-1, in words; empty if the fit is not on the boundary.

    Args:
        fit: The result.
        factors: Relative covariance factors (q, q) per block, for well-scaled columns (in the user's columns, a slope
            far from zero correlates with the intercept through its mean alone): first those of the result, then those
            of the optimum, because an engine whose parameters cannot reach the boundary stops near it.
    """
    return next((edge for f in factors if (edge := _edge(fit, [factor @ factor.T for factor in f]))), "")


def _edge(fit: FittedModel, relative: Sequence[FloatArray]) -> str:
    parts: list[str] = []
    own, size_of_residual = relative[: len(fit.random)], covariances_of(fit)[1]
    parts += [
        "a correlation of the residuals is at its limit, or one of their variances is zero"
        for covariance in relative[len(fit.random) :]
        if (np.diag(relative_factors((covariance,), 1.0)[0]) < SINGULAR_TOLERANCE).any()
    ]
    for block, covariance in zip(fit.random, own, strict=True):
        if (np.diag(relative_factors((covariance,), 1.0)[0]) >= SINGULAR_TOLERANCE).all():
            continue
        if is_curve(block):
            parts.append(f"the variance of the curve of {block.group} is zero")
            continue
        size, r = np.asarray(block.sd) * np.asarray(block.unit), np.asarray(block.correlation)
        zero = size <= 1e-4 * max(float(size.max()), size_of_residual)
        parts += [f"the variance of {t} | {block.group} is zero" for t, z in zip(block.terms, zero, strict=True) if z]
        pairs = [
            f"the correlation of {block.terms[j]} and {block.terms[i]} | {block.group} is {r[i, j]:+.0f}"
            for i in range(len(zero))
            for j in range(i)
            if not (zero[i] or zero[j]) and abs(r[i, j]) > AT_LIMIT
        ]
        parts += pairs
        if not (zero.any() or pairs):
            parts.append(f"the variance of {_without_variance(block)} | {block.group} is zero")
    return listing(dict.fromkeys(parts)) if parts else ""


def _without_variance(block: RandomPartResult) -> str:
    """The combination of a block's effects that varies least, such as ``(Intercept - 0.5 x)``."""
    unit = np.asarray(block.unit)
    _, vectors = np.linalg.eigh(np.asarray(block.covariance) * np.outer(unit, unit))
    shares = vectors[:, 0]
    weights = np.where(np.abs(shares) > 1e-3, shares, 0.0) * unit
    weights = weights / weights[np.flatnonzero(weights)[0]]
    parts = [
        f"{'-' if w < 0 else '+'} {'' if w == 1 else f'{abs(w):.3g} '}{term}"
        for w, term in zip(weights, block.terms, strict=True)
        if w
    ]
    return f"({' '.join(parts).removeprefix('+ ')})"


def identification(fit: FittedModel, ridge: str) -> Check:
    """Check whether the data determine all parameters.

    Args:
        fit: The result.
        ridge: What the data leave open; empty if nothing.
    """
    if ridge:
        return Check(name="identification", passed=False, said=ridge)
    if fit.status.state == "not_identified":
        said = "the fit is called not identified, but the likelihood changes in every direction"
        return Check(name="identification", passed=False, said=said)
    if fit.fixed.unbounded.size:
        said = "coefficients are reported as unbounded, but the likelihood has a maximum in every direction"
        return Check(name="identification", passed=False, said=said)
    return Check(name="identification", passed=True, said="the likelihood changes in every direction")
