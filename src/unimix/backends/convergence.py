"""Whether estimates may be called converged: judged by numbers, the same for every engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.distributions.links import LINKS
from unimix.errors import listing
from unimix.likelihood.glmm.laplace import fixed_predictor
from unimix.likelihood.glmm.separation import separated_terms
from unimix.likelihood.lmm.conditioning import column_scale
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE

RUNAWAY = 50.0
"""Standard deviation of a binomial model's group effects, on the link scale, that no data support."""
NO_ZEROS = -10.0
"""Logit of the probability of a structural zero below which there are none for all purposes."""
LEAST_RESIDUAL = 1e-5
"""Residual standard deviation, in those of the response, below which it counts as zero."""


def judge(found: Estimates, design: Design, fitted: Design, method: str) -> Estimates:
    """Withdraw `converged` where the likelihood has no maximum at these estimates.

    Args:
        found: In the coordinates of ``fitted``.
        design: In the user's coordinates.
        fitted: The model that the engine was given.
        method: The criterion.
    """
    found = _at_a_maximum(_with_residual(found, fitted), fitted, method)
    return found if method in ("posterior", "variational", "MAP") else _without_separation(found, design, fitted)


def _at_a_maximum(found: Estimates, design: Design, method: str) -> Estimates:
    """Withdraw `converged` on a boundary, or in badly scaled columns, that unimix's own search leaves uphill.

    There engines' own checks fail: every zero variance is a stationary point, and differences have one step for all.
    """
    mixed = design.is_linear and design.blocks and method in ("REML", "ML")
    units = [column_scale(b.z) for b in design.blocks]
    scaled = all(np.allclose(u, 1.0) for u in units)
    if not (mixed and found.converged and (found.singular or not scaled)):
        return found
    if any(b.structure != "us" for b in design.blocks):
        return found
    at = LinearCriterion.of(design).at(found.covariances, found.sigma, reml=method == "REML")
    gap = at.uphill.profile.value - at.profile.value
    if gap <= NOTICEABLE:
        return found
    told = f"the search ended at a false maximum: unimix's own climbs {gap:.3g} log-likelihood higher from there"
    return replace(found, converged=False, messages=(told, *found.messages))


def _with_residual(found: Estimates, design: Design) -> Estimates:
    """Withdraw `converged` where the residual variance vanished: the covariance parameters ran off to a limit."""
    if not design.blocks or not design.is_linear or found.sigma > LEAST_RESIDUAL * float(np.std(design.y)):
        return found
    told = (
        f"the residual standard deviation fell to {found.sigma / float(np.std(design.y)):.1g} of the response's: the "
        "group effects explain every row, and the likelihood has no maximum with a residual"
    )
    return replace(found, converged=False, messages=(*found.messages, told))


def _without_separation(found: Estimates, design: Design, fitted: Design) -> Estimates:
    """Withdraw `converged` where a coefficient has no finite estimate; ``found`` belongs to ``fitted``."""
    endless = separated_terms(design)
    if not endless:
        return _without_runaway(found, fitted)
    told = (
        f"separation: some combination of {listing(endless)} predicts part of the responses perfectly; their "
        "estimates would be infinite, and what stands here is where the search gave up. Leave a term out, join levels, "
        "or use priors (backend='pymc')"
    )
    return replace(found, converged=False, messages=(told, *found.messages))


def _without_runaway(found: Estimates, design: Design) -> Estimates:
    """Withdraw `converged` where group effects predict every response, and a variance runs off to infinity."""
    limit = _without_overdispersion(found, design) or _outside_the_link(found, design) or _without_zeros(found, design)
    if limit:
        return replace(found, converged=False, messages=(limit, *found.messages))
    if design.family.response != "binomial":
        return found
    sizes = [
        (np.sqrt(np.diag(c)) * column_scale(b.z)).max() for c, b in zip(found.covariances, design.blocks, strict=True)
    ]
    if max(sizes, default=0.0) < RUNAWAY:
        return found
    told = (
        f"a standard deviation of group effects reached {max(sizes):.3g} on the {design.family.link} scale: the group "
        "effects predict (nearly) every response, and the likelihood grows with their variance. Use fewer random "
        "columns, or priors (backend='pymc')"
    )
    return replace(found, converged=False, messages=(told, *found.messages))


def _without_overdispersion(found: Estimates, design: Design) -> str:
    """What to say where a negative binomial ran off to its limit, the Poisson distribution."""
    extra = float(found.parameters.get("alpha", np.inf))
    if "theta" in found.parameters:
        extra = float(design.y.mean()) / found.parameters["theta"]
    if extra > 1e-3:
        return ""
    name, value = next(iter(found.parameters.items()))
    return (
        f"the counts show no overdispersion: {name} ran off to {value:.2g}, towards the Poisson distribution, and has "
        "no maximum-likelihood estimate. Use family='poisson'"
    )


def _without_zeros(found: Estimates, design: Design) -> str:
    """What to say where no structural zeros are left: the logit ran off to minus infinity."""
    if design.zero is None or "zero" not in found.parts:
        return ""
    logits = design.zero.x @ found.parts["zero"][0]
    if logits.max() > NO_ZEROS:
        return ""
    return (
        f"the counts show no zero inflation: its logit ran off to {logits.max():.3g} and has no maximum-likelihood "
        "estimate, and its standard errors mean nothing. Leave ziformula= out"
    )


def _outside_the_link(found: Estimates, design: Design) -> str:
    """What to say where linear predictors reach the end of what the link can give."""
    if not LINKS[design.family.link].positive:
        return ""
    eta = fixed_predictor(design, found.beta)
    for block, modes in zip(design.blocks, found.modes, strict=True):
        eta = eta + np.einsum("nq,nq->n", block.z, modes[block.codes])
    outside = int((eta <= 1e-6 * np.abs(eta).max()).sum())
    if not outside:
        return ""
    return (
        f"the linear predictor of {outside} rows is not positive, where the {design.family.link} link has no mean: "
        "engines go on there, each in its own way. Use the log link"
    )
