"""Checks of a posterior: its numbers against its draws, the draws against the likelihood and priors, the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Check
from unimix.analysis.certificate.consistency import EXACT, differing
from unimix.backends.sampling.draws import (
    Posterior,
    diagnose_draws,
    expected_responses,
    is_sampled_well,
    summaries,
)
from unimix.backends.sampling.prior_names import dispersion_names, sd_names
from unimix.backends.sampling.priors import PriorTable, resolve_priors
from unimix.design.grouping_factors import block_labels
from unimix.distributions.prior_text import read_given, read_prior
from unimix.distributions.priors import LKJ, Prior, Uniform
from unimix.errors import OptionError, listing
from unimix.fitted.derived_parts import estimates_of
from unimix.fitted.sampled import engine_draws
from unimix.fitted.schema import PRIORS
from unimix.likelihood.lmm.conditioning import without_offset
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.posterior.effect_draws import draw_all_effects
from unimix.stats.correlation_pairs import correlation_matrices, pair_names
from unimix.stats.draw_diagnostics import effective_size
from unimix.stats.posterior_identities import PosteriorDraws, identities

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.design.estimates import Evidence
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
LIMIT = 6.0
"""Largest mean of an identity in Monte Carlo standard errors; a certificate looks at up to a hundred of them, whose
distributions have heavier tails than the normal."""
USABLE = 0.99
"""Least share of draws at which an identity has a value; it has none where a standard deviation underflowed to zero."""
EVIDENCE_DRAWS, EVIDENCE_SEED = 1000, 20261130
"""Draws of the importance sample that the log evidence is compared with, and their seed, which no fit uses."""
MOST_CELLS = 2_000_000
"""Number of linear predictors, rows times draws, above which the draws are thinned."""


def posterior_checks(fit: FittedModel, design: Design) -> list[Check]:
    """Check a posterior that was sampled; a result without draws has one check, which is neither for nor against it."""
    if fit._unsaved.posterior is None:
        said = (
            "the draws are not there, because JSON does not keep them (fit.save does): standard deviations, intervals "
            "and group effects cannot be checked"
        )
        return [Check(name="draws", passed=None, said=said)]
    draws, shape, diverging = read_draws(fit, design)
    checks = [_from_draws(fit, design, draws, shape, diverging), _priors(fit, design)]
    if any(c.passed is False for c in checks):  # whose draws they are does not matter then
        return checks
    checks.append(_of_the_model(fit, design, draws, shape, resolve_priors(without_offset(design), None)))
    evidence = fit.criteria.evidence
    return checks if evidence is None else [*checks, _evidence(fit, design, evidence)]


def read_draws(fit: FittedModel, design: Design) -> tuple[Posterior, tuple[int, int], npt.NDArray[np.bool_]]:
    """The draws of a fit in the user's units, the numbers of chains and draws per chain, and the diverging ones."""
    group = engine_draws(fit).posterior
    shape = (int(group.sizes["chain"]), int(group.sizes["draw"]))

    def values(name: str) -> FloatArray:
        array = np.asarray(group[name].transpose("chain", "draw", ...).values, dtype=np.float64)
        return array.reshape(shape[0] * shape[1], *array.shape[2:])

    sds, correlations, effects = [], [], []
    for block, label in zip(design.blocks, block_labels(design.blocks), strict=True):
        sds.append(values(f"sd({label})"))
        pairs = values(f"cor({label})") if block.q > 1 else np.empty((len(sds[-1]), 0))
        correlations.append(correlation_matrices(pairs, block.q))
        if f"effects({label})" in group:
            effects.append(values(f"effects({label})"))
    total = shape[0] * shape[1]
    names = design.family.parameters
    made = Posterior(
        beta=values("fixed") if design.p else np.empty((total, 0)),
        sds=tuple(sds),
        correlations=tuple(correlations),
        dispersion=np.stack([values(n) for n in names], axis=1) if names else np.empty((total, 0)),
        effects=tuple(effects) if len(effects) == len(sds) else None,
        means=tuple(b.modes for b in fit.random),
        covariances=tuple(b.mode_covariance for b in fit.random),
    )
    return (
        made,
        shape,
        np.asarray(engine_draws(fit).sample_stats["diverging"].transpose("chain", "draw").values, dtype=bool),
    )


def _from_draws(
    fit: FittedModel, design: Design, draws: Posterior, shape: tuple[int, int], diverging: npt.NDArray[np.bool_]
) -> Check:
    """Whether everything that is reported is a summary of the draws."""
    sampling, _ = diagnose_draws(design, draws, diverging)
    own = estimates_of(design, vars(fit))
    converged = own.converged and is_sampled_well(sampling)
    found = summaries(design, draws, fit.fixed.level)
    # without draws of the group effects, the means of the rows that were reported are taken for those that are there
    whole = draws if draws.effects is not None else replace(draws, expected=own.expected)
    found["expected"] = expected_responses(design, whole)
    estimates = replace(own, **found, sampling=sampling, singular=False, converged=converged, unbounded={})
    wrong = differing(fit, design, estimates)
    wrong += [] if _effects_follow(design, draws) else ["random.modes", "random.mode_covariance"]
    if wrong:
        said = f"{listing(wrong)} {'is' if len(wrong) == 1 else 'are'} not what the draws give"
        return Check(name="draws", passed=False, said=said)
    return Check(name="draws", passed=True, said=f"all numbers are summaries of {shape[0]} x {shape[1]} draws")


def _effects_follow(design: Design, draws: Posterior) -> bool:
    """Whether means and covariances of the group effects are those of the draws, or of their exact conditionals."""

    def same(means: Sequence[FloatArray], covariances: Sequence[FloatArray]) -> bool:
        for own, cov, mean, other in zip(draws.means, draws.covariances, means, covariances, strict=True):
            sd = np.sqrt(np.maximum(np.einsum("lii->li", other), 1e-300))
            units = sd[:, :, None] * sd[:, None, :]
            if not ((np.abs(own - mean) <= EXACT * sd).all() and (np.abs(cov - other) <= EXACT * units).all()):
                return False
        return True

    if draws.effects is not None:
        plain = Posterior.of_effects(draws.beta, draws.sds, draws.correlations, draws.dispersion, draws.effects)
        if same(plain.means, plain.covariances):
            return True
    return design.is_linear and same(*_conditional_effects(design, draws))


def _conditional_effects(design: Design, draws: Posterior) -> tuple[list[FloatArray], list[FloatArray]]:
    """Means and covariances of the group effects of a linear model, averaged over the draws of the parameters."""
    criterion = LinearCriterion.of(design)
    way, turns = criterion.way_back, criterion.turns
    beta = np.asarray(np.linalg.solve(way.coefficients, (draws.beta - way.shift).T).T, dtype=np.float64)
    factors = [
        np.asarray(np.linalg.inv(t) @ (sd[:, :, None] * np.linalg.cholesky(r)), dtype=np.float64)
        for t, sd, r in zip(turns, draws.sds, draws.correlations, strict=True)
    ]
    rng = np.random.default_rng(0)  # the moments use no random numbers
    sigma = draws.dispersion[:, 0] / way.residual
    found = draw_all_effects(criterion.data, beta, factors, sigma, rng, keep=False)
    means = [m @ t.T for m, t in zip(found.means, turns, strict=True)]
    return means, [t @ c @ t.T for c, t in zip(found.covariances, turns, strict=True)]


# -- priors -------------------------------------------------------------------------------------


def _priors(fit: FittedModel, design: Design) -> Check:
    """Whether the priors that are reported are the user's, and unimix's defaults for all other parameters."""
    stated, users = fit.engine.priors, read_given(fit.provenance.get(PRIORS, ""))
    try:
        texts = resolve_priors(without_offset(design), users).texts
    except OptionError as error:
        return Check(name="priors", passed=False, said=f"the priors that are reported do not suit the model: {error}")
    wrong = [name for name in {**texts, **stated} if texts.get(name) != stated.get(name)]
    if not wrong:
        return Check(name="priors", passed=True, said="the user's, and the defaults for all other parameters")
    if not any(texts[name] == text for name, text in stated.items() if name in texts):
        return Check(name="priors", passed=None, said="the engine's own")
    said = f"the priors of {listing(wrong)} are neither the user's nor the defaults"
    return Check(name="priors", passed=False, said=said)


# -- the evidence ---------------------------------------------------------------------------------


def _evidence(fit: FittedModel, design: Design, evidence: Evidence) -> Check:
    """Whether the log evidence is that of an importance sample of its own, within Monte Carlo error."""
    from unimix.backends.sampling.exact import log_evidence_again  # loads SciPy's optimisers

    alone = without_offset(design)
    table = resolve_priors(alone, read_given(fit.provenance.get(PRIORS, "")))
    value, error = log_evidence_again(alone, table, draws=EVIDENCE_DRAWS, seed=EVIDENCE_SEED)
    expected = error * float(np.sqrt(EVIDENCE_DRAWS / max(fit.status.n_draws or 1, 1)))
    away = abs(value - evidence.value) / float(np.hypot(error, evidence.error))
    numbers = {"log evidence again": value, "its Monte Carlo error": error}
    wrong = []
    if not away <= LIMIT:
        wrong.append(f"the log evidence is {evidence.value:.6g}, and {value:.6g} by draws of its own")
    if not expected / 2 <= evidence.error <= 10 * expected:  # up to ten times, as after reweighting to other priors
        wrong.append(f"the Monte Carlo error of the log evidence is {evidence.error:.2g}, which its draws do not give")
    if tuple(evidence.default_priors) != tuple(table.defaults):
        wrong.append("the parameters with default priors are not those of the model")
    if wrong:
        return Check(name="evidence", passed=False, said="; ".join(wrong), numbers=numbers)
    said = f"the log evidence is that of {EVIDENCE_DRAWS:,} other draws within {away:.2g} Monte Carlo errors"
    return Check(name="evidence", passed=True, said=said, numbers=numbers)


# -- the draws against likelihood and priors ----------------------------------------------------


def _of_the_model(
    fit: FittedModel, design: Design, draws: Posterior, shape: tuple[int, int], table: PriorTable
) -> Check:
    """Whether the draws can be of the posterior: identities that its density implies (Stein's) hold within noise."""
    if draws.effects is None:
        return Check(name="posterior", passed=None, said="the draws of the group effects were too many to keep")
    step = max(1, int(np.ceil(shape[0] * shape[1] * design.n / MOST_CELLS)))
    unknown, thinned = _thinned(fit, design, draws, shape, table, step)
    with np.errstate(all="ignore"):
        found = identities(design, thinned)
    off: dict[str, float] = {}
    for name, values in found.items():
        parameter = name.removeprefix("variance of ").removeprefix("log ")
        if any(u == parameter or u in name.split(" and ") for u in unknown):
            continue
        usable = np.isfinite(values)
        if usable.mean() < USABLE:
            off[name] = float("inf")
            continue
        chains = np.where(usable, values, 0.0).reshape(shape[0], -1)
        size = float(np.std(chains)) or 1.0
        # the mean in units of its Monte Carlo error
        off[name] = float(abs(np.mean(chains)) / size * np.sqrt(max(effective_size(chains, "mean"), 1.0)))
    worst = max(off, key=lambda k: off[k] if np.isfinite(off[k]) else np.inf) if off else ""
    largest = off.get(worst, 0.0)
    numbers = {"largest discrepancy (MC standard errors)": largest}
    if not largest <= LIMIT:
        said = f"the draws of {worst} are not from the posterior: {largest:.3g} Monte Carlo errors from what it implies"
        return Check(name="posterior", passed=False, said=said, numbers=numbers)
    said = f"{len(off)} identities of the posterior's density hold within {largest:.2g} Monte Carlo errors"
    if unknown:
        said += f"; the priors of {listing(unknown)} are of a kind that was not compared"
    return Check(name="posterior", passed=True, said=said, numbers=numbers)


def _thinned(
    fit: FittedModel, design: Design, draws: Posterior, shape: tuple[int, int], table: PriorTable, step: int
) -> tuple[list[str], PosteriorDraws]:
    """Every ``step``-th draw of each chain with the derivatives of the log priors, and the parameters without them."""
    unknown: list[str] = []

    def every(values: FloatArray) -> FloatArray:
        taken = values.reshape(*shape, *values.shape[1:])[:, ::step]
        return taken.reshape(taken.shape[0] * taken.shape[1], *values.shape[1:])

    def slope(name: str, values: FloatArray) -> FloatArray:
        prior = _stated(fit.engine.priors, name)
        if prior is None or isinstance(prior, Uniform):  # a uniform prior ends where the density is not zero
            unknown.append(name)
            return np.zeros_like(values)
        return np.asarray(prior.gradient(values))

    beta, dispersion = every(draws.beta), every(draws.dispersion)
    sds = [every(s) for s in draws.sds]
    by_beta = np.zeros_like(beta)
    for name, plain, centred in zip(design.fixed_names, np.eye(design.p), table.functionals, strict=True):
        row = centred if " at the " in fit.engine.priors.get(name, "") else plain
        by_beta += slope(name, beta @ row)[:, None] * row
    by_sds, eta = [], []
    for block, own in zip(design.blocks, sds, strict=True):
        alone = sum(b.group == block.group for b in design.blocks) == 1
        names = sd_names(block.group, block.terms, alone=alone)
        full = [f"sd({block.group}: {t})" for t in block.terms]
        names = [n if n in fit.engine.priors else f for n, f in zip(names, full, strict=True)]
        by_sds.append(np.stack([slope(n, own[:, j]) for j, n in enumerate(names)], axis=1))
        unknown += [f for n, f in zip(names, full, strict=True) if n in unknown and f not in unknown]
        lkj = _stated(fit.engine.priors, f"cor({block.group})") if block.q > 1 else None
        if block.q > 1 and not isinstance(lkj, LKJ):
            unknown += [f"cor({block.group}: {pair})" for pair in pair_names(block.terms)]
        eta.append(lkj.eta if isinstance(lkj, LKJ) else 1.0)
    priors = [slope(n, dispersion[:, j]) for j, n in enumerate(dispersion_names(design))]
    return unknown, PosteriorDraws(
        beta=beta,
        effects=[every(e) for e in draws.effects or ()],
        sds=sds,
        correlations=[every(r) for r in draws.correlations],
        dispersion=dispersion,
        by_beta=by_beta,
        by_sds=by_sds,
        eta=eta,
        by_dispersion=np.stack(priors, axis=1) if priors else np.empty((len(beta), 0)),
    )


def _stated(priors: Mapping[str, str], name: str) -> Prior | None:
    return read_prior(priors.get(name, ""))


__all__ = ["posterior_checks", "read_draws"]
