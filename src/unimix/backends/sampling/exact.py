"""Exact sampling without gradients: the adapted independence sampler on a posterior with the effects integrated out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import RawDraws, Sampled, fits_in_memory
from unimix.backends.sampling.integrated import TRIED, IntegratedPosterior
from unimix.backends.sampling.marginal import CollapsedPosterior
from unimix.backends.sampling.priors import PriorTable
from unimix.design.arrays import Design
from unimix.distributions.links import LINKS
from unimix.likelihood.lmm.reduced_data import n_dense_effects
from unimix.likelihood.posterior.group_integrals import LADDER, GroupIntegrals
from unimix.likelihood.posterior.independence_sampler import Proposal, adapt, draw_chains, proposal_at_mode
from unimix.likelihood.posterior.independence_sampler import Sampled as Chains
from unimix.stats.draw_diagnostics import pareto_k

FloatArray = npt.NDArray[np.float64]

MOST_COVARIANCES = 12
"""Largest number of covariance parameters for which a single proposal fits their posterior."""
MOST_COORDINATES = 25
"""Largest number of coordinates of a generalised model, whose fixed effects are among them and nearly normal."""
MOST_WORK = 3e9
"""Largest number of evaluations of rows, draws x rows x nodes, before gradients are the quicker way."""
K_LIMIT = 0.7
"""Pareto k above which the proposal does not cover the posterior (Vehtari et al. 2024)."""
LARGEST = 0.01
"""Share of the largest importance weight below which no single draw matters, whatever the value of k."""
NODE_SECONDS, SLOW_SECONDS = 4e-8, 4e-7
"""Seconds per row, draw and node, of families with and without short formulas."""
MOST_SECONDS = 60.0
"""Time of all integrals beyond which gradients are the quicker way."""
LEAST_ACCEPTED = 0.2
"""Share of accepted proposals below which 4,000 draws have fewer than about 400 effective ones."""
NODES_ERROR = 0.25
"""Largest error of the quadrature, in Monte Carlo errors of a posterior mean of independent draws."""


@dataclass(frozen=True)
class ExactSample:
    """Draws of the independence sampler.

    Attributes:
        target: The posterior that was sampled.
        sampled: The draws.
        fault: Reason not to trust the draws; empty if there is none.
        how: Text about the integration and the proposal.
        log_evidence: Log density of the response with all parameters integrated over their priors, and its Monte Carlo
            standard error.
    """

    target: CollapsedPosterior | IntegratedPosterior
    sampled: Sampled
    fault: str
    how: str
    log_evidence: tuple[float, float]


def reasons_against(design: Design, draws: int, max_dense: int) -> list[str]:
    """Reasons why the independence sampler does not suit a model; empty if it does.

    Args:
        design: Design of the model.
        draws: Number of draws of all chains.
        max_dense: Largest number of connected effects of crossed factors, without the largest factor.
    """
    blocks = design.blocks
    count = sum(b.q * (b.q + 1) // 2 for b in blocks) + len(design.family.parameters)
    reasons = []
    if count > MOST_COVARIANCES:
        reasons.append(
            f"{count} covariance parameters: their posterior is drawn from a single approximation, which fits up to "
            f"{MOST_COVARIANCES}"
        )
    if design.is_linear:
        dense = n_dense_effects(design)
        if dense > max_dense:
            reasons.append(
                f"{dense:,} effects of crossed factors are tied together, beside those of the largest factor, and a "
                f"dense matrix of that size would be factored for every draw (max_dense={max_dense})"
            )
        return reasons
    factors = list(dict.fromkeys(b.group for b in blocks))
    q = sum(b.q for b in blocks)
    if len(factors) > 1:
        reasons.append(f"several grouping factors ({', '.join(factors)}): the effects are not independent by group")
    elif q > max(LADDER):
        reasons.append(f"{q} effects per group: quadrature in that many dimensions takes too many nodes")
    elif q > 1 and (LINKS[design.family.link].positive or _ends(design)):
        reasons.append(
            f"the {design.family.link} link ends the range of the effects, where quadrature of several converges slowly"
        )
    elif design.n * draws * (5.0**q if q else 1.0) > MOST_WORK:
        reasons.append(f"{design.n:,} rows: gradients of the whole are quicker than integrals for every draw")
    if design.p + count > MOST_COORDINATES:
        reasons.append(f"{design.p + count} parameters: one proposal fits up to {MOST_COORDINATES} of them")
    return reasons


def _ends(design: Design) -> bool:
    """Whether means beyond a finite linear predictor are impossible, under the identity link."""
    return design.family.link == "identity" and design.family.response != "real"


class UnsuitedError(Exception):
    """The integrals of a model are too slow or not accurate; the message says why."""


def sample_exactly(
    design: Design, table: PriorTable, *, chains: int, draws: int, seed: int | None, forced: bool
) -> ExactSample:
    """Draw all parameters of a model that :func:`reasons_against` does not exclude.

    Args:
        design: Design in the user's columns, without an offset if the model is linear.
        table: Priors of all parameters.
        chains: Number of chains.
        draws: Number of draws per chain.
        seed: Seed of the random numbers.
        forced: Whether to draw although the integrals are too slow or not accurate.

    Raises:
        UnsuitedError: If they are, and ``forced`` is False.
    """
    rng = np.random.default_rng([seed or 0, 0])
    started = time.perf_counter()
    target, proposal, fault, how = _adapted(design, table, chains * draws, rng)
    if isinstance(target, IntegratedPosterior):
        fault = fault or _too_slow(target.integrals, design.n * chains * draws)
        if fault and not forced:
            raise UnsuitedError(fault)
    found = draw_chains(target.log_density, proposal, chains=chains, draws=draws, rng=rng)
    seconds = time.perf_counter() - started
    k = pareto_k(found.log_weights)
    kept = fits_in_memory(design, chains * draws)
    points = found.points.reshape(-1, target.size)
    posterior = target.posterior(points, np.random.default_rng([seed or 0, 1]), keep=kept)
    fault = fault or _of_the_proposal(k, found)
    integral, error = found.log_integral()
    evidence = (integral + target.constant, error)
    return ExactSample(target, Sampled(posterior, _raw(found, k, seconds), kept), fault, how, evidence)


def log_evidence_again(design: Design, table: PriorTable, *, draws: int, seed: int) -> tuple[float, float]:
    """Log evidence and its Monte Carlo standard error, from draws of their own.

    Args:
        design: Design in the user's columns, without an offset if the model is linear.
        table: Priors of all parameters, all of them proper.
        draws: Number of draws.
        seed: Seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    target, proposal, _, _ = _adapted(design, table, draws, rng)
    integral, error = draw_chains(target.log_density, proposal, chains=1, draws=draws, rng=rng).log_integral()
    return integral + target.constant, error


def _adapted(
    design: Design, table: PriorTable, total: int, rng: np.random.Generator
) -> tuple[CollapsedPosterior | IntegratedPosterior, Proposal, str, str]:
    """The posterior, a proposal for it, what is wrong with its integrals, and how they are computed."""
    target = CollapsedPosterior(design, table) if design.is_linear else IntegratedPosterior(design, table)
    proposal = proposal_at_mode(target.log_density, target.start(), target.folded)
    if isinstance(target, CollapsedPosterior):
        return target, adapt(target.log_density, proposal, rng), "", ""
    target.move_reference(proposal.centre)
    proposal = adapt(target.log_density, proposal, rng)
    return target, proposal, *_with_nodes(target, proposal, total, rng)


def _with_nodes(
    target: IntegratedPosterior, proposal: Proposal, total: int, rng: np.random.Generator
) -> tuple[str, str]:
    """Choose the number of nodes; return what is wrong with the largest, or an empty text, and what was chosen."""
    q = target.integrals.q
    if not q:
        return "", ""
    log_proposal: Callable[[FloatArray], FloatArray] = proposal.log_density
    tolerance = NODES_ERROR / np.sqrt(total)
    error = target.choose_nodes(proposal.draw(TRIED, rng), log_proposal, tolerance)
    nodes = target.integrals.nodes
    fault = ""
    if not error < tolerance:
        fault = (
            f"Quadrature with {nodes} nodes per effect is wrong by {error:.2g} in the log posterior, more than the "
            f"{tolerance:.2g} that the draws would not show."
        )
    return fault, f"group effects integrated out by {nodes}{f'^{q}' if q > 1 else ''} nodes per group, "


def _too_slow(integrals: GroupIntegrals, cells: int) -> str:
    seconds = cells * integrals.nodes**integrals.q * (NODE_SECONDS if integrals.has_short_formulas else SLOW_SECONDS)
    if seconds < MOST_SECONDS:
        return ""
    return f"{integrals.nodes}^{integrals.q} nodes per group would take about {seconds:.0f} s."


def _of_the_proposal(k: float, found: Chains) -> str:
    if not k < K_LIMIT and found.largest > LARGEST:
        return (
            f"Pareto k of the proposal is {k:.2f} ({K_LIMIT} at most), and one draw has {found.largest:.0%} of all "
            "importance weight: the proposal does not cover the posterior."
        )
    if found.accepted < LEAST_ACCEPTED:
        return f"Only {found.accepted:.0%} of the proposals were accepted: the posterior is not close to one of them."
    return ""


def _raw(found: Chains, k: float, seconds: float) -> RawDraws:
    chains, draws = found.points.shape[:2]
    stats = {
        "acceptance_rate": np.full((chains, draws), found.accepted),
        "pareto_k": np.full((chains, draws), k),
    }
    return RawDraws(found.points, np.zeros((chains, draws), dtype=bool), stats, seconds)


__all__ = ["ExactSample", "UnsuitedError", "reasons_against", "sample_exactly"]
