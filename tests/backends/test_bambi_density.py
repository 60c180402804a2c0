"""The model that bambi samples is the one that was asked for: its log density against ours, cell by cell.

bambi runs for a few steps, in PyTensor's mode that compiles nothing. At each draw, PyMC's own log density of bambi's model
must be, up to one constant, that of the model in the user's units: the rows given the linear predictor, the effects given
their standard deviations, and the priors as the result words them. That holds the formula, the family and the link, the
scaled columns, the way back to the user's units and the priors against each other; it does not depend on long chains.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from generalised_data import design_of, simulate
from scipy import stats

import unimix as um
from unimix.backends.bambi import Bambi, is_one, model_of, priors_of, read, scaled
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import Cell, all_families
from unimix.backends.sampling.draws import Posterior
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.features import Feature
from unimix.distributions.family import Family
from unimix.formula.interpreter import parse
from unimix.likelihood.response import row_log_likelihood
from unimix.testing import simulate_rich
from unimix.testing.examples import EXAMPLES

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]

bambi = pytest.importorskip("bambi")

CELLS = [
    (family, mixed)
    for family in all_families()
    for mixed in (True, False)
    if isinstance(Bambi.families[Cell(family.label, family.link, mixed)], Yes)
]
"""Every cell that the sheet claims."""

CLAIMED = [f for f in EXAMPLES if isinstance(Bambi.capabilities[f], Yes)]
"""Every feature that the sheet claims."""


def few_draws(design: Design, *, noncentered: bool) -> tuple[Posterior, np.ndarray]:
    """Draws in the user's units, and PyMC's log density of bambi's model at each, Jacobians of its logarithms included."""
    import pytensor

    own, units = scaled(design)
    model = model_of(bambi, own, noncentered=noncentered)
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        trace = model.fit(
            draws=5, tune=5, chains=1, cores=1, random_seed=1, progressbar=False, compute_convergence_checks=False
        )
    return read(trace, design, units)[0], trace.sample_stats["lp"].to_numpy().ravel()


def prior_density(text: str, value: float) -> float:
    """Log density of a prior as the result words it, such as ``HalfNormal(sigma: 2.5)``; 1 / x is meant by itself."""
    found = re.search(r"(\w+)\((.*)\)", text)
    assert found is not None
    numbers = [float(part.partition(":")[2]) for part in found[2].split(",")]
    value = 1 / value if text.startswith("1 / ") else value
    return float(getattr(um.priors, found[1])(*numbers).log_density(value))


def log_density(design: Design, posterior: Posterior, s: int, told: dict[str, str], *, noncentered: bool) -> float:
    """Log density of one draw; of logarithms of what is positive, and of effects in SDs where bambi samples those."""
    beta, parameters = posterior.beta[s], posterior.dispersion[s]
    eta = design.x @ beta + (0 if design.offset is None else design.offset)
    total = 0.0
    for block, sds, effects in zip(design.blocks, posterior.sds, posterior.effects or (), strict=True):
        sd, own = sds[s, 0], effects[s, :, 0]
        eta += block.z[:, 0] * own[block.codes]
        total += stats.norm.logpdf(own, 0, sd).sum() + noncentered * block.n_levels * np.log(sd)
        total += prior_density(told[f"sd({block.group}: {block.terms[0]})"], sd) + np.log(sd)
    total += row_log_likelihood(design, parameters, eta).value.sum()
    centred = design.x.mean(axis=0) @ beta
    for name, column, value in zip(design.fixed_names, design.x.T, beta, strict=True):
        total += prior_density(told[name], centred if is_one(column) else value)
    for name, value in zip(design.family.parameters, parameters, strict=True):
        total += prior_density(told[name], value)
        total += -np.log(value) if told[name].startswith("1 / ") else np.log(value)
    return float(total)


def assert_same_density(design: Design, *, noncentered: bool = True) -> None:
    """Up to a constant; priors are worded with six digits, which is 1e-5 of a log density."""
    posterior, bambis = few_draws(design, noncentered=noncentered)
    told = priors_of(model_of(bambi, design, noncentered=noncentered), design)
    ours = [log_density(design, posterior, s, told, noncentered=noncentered) for s in range(len(bambis))]
    assert len(np.unique(bambis)) >= 3, "the chain did not move"
    assert np.ptp(bambis - ours) < 1e-4


@pytest.mark.parametrize(("family", "mixed"), CELLS, ids=[f"{f}-{'mixed' if m else 'plain'}" for f, m in CELLS])
def test_claimed_families_have_the_density_of_their_model(family: Family, mixed: bool) -> None:
    data = simulate(family, groups=5, rows=6)
    trials = "trials" if family.name == "binomial" else None
    offset = None if family.is_linear else "o"
    formula = "y ~ x + (1 | g)" if mixed else "y ~ x"
    assert_same_density(build_design(parse(formula), data, family=family, weights=trials, offset=offset))


@pytest.mark.parametrize("feature", CLAIMED, ids=lambda f: f.name)
def test_claimed_features_have_the_density_of_their_model(feature: Feature) -> None:
    formula, arguments = EXAMPLES[feature]
    kept = {k: v for k, v in arguments.items() if k == "offset"}
    assert_same_density(build_design(parse(formula), simulate_rich(n_groups=6), **kept))


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x || g) + (1 | h)", "y ~ x * h + (1 | g:h)"])
def test_effects_can_be_sampled_centred(formula: str) -> None:
    family = next(f for f in all_families() if f.label == "negative_binomial")
    assert_same_density(design_of(family, formula, extras=False), noncentered=False)
