"""The model that bambi samples is the one that was asked for: its log density against ours, cell by cell.

bambi takes a few steps. At each, PyMC's log density of bambi's model must be, up to one constant, that of the model in
the user's units. That holds the formula, the family and its link, the scaled columns, the way back to the user's units
and the priors that are reported against each other, and does not depend on long chains.
"""

from __future__ import annotations

import numpy as np
import pytest
from generalised_data import design_of, simulate
from written_density import Draw, assert_same_up_to_a_constant, log_density, nothing_compiled

from unimix.backends.bambi import Bambi, model_of, priors_of, read, scaled
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import Cell, all_families
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.features import Feature
from unimix.distributions.family import Family, as_family
from unimix.formula.interpreter import parse
from unimix.testing import simulate_rich
from unimix.testing.examples import EXAMPLES

pytestmark = [
    pytest.mark.mcmc,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]

bambi = pytest.importorskip("bambi")

CELLS = [
    pytest.param(family, mixed, id=f"{family}-{'mixed' if mixed else 'plain'}")
    for family in all_families()
    for mixed in (True, False)
    if isinstance(Bambi.families[Cell(family.label, family.link, mixed)], Yes)
]
"""Every cell that the sheet claims."""

CLAIMED = [feature for feature in EXAMPLES if isinstance(Bambi.capabilities[feature], Yes)]
"""Every feature that the sheet claims."""


def assert_same_density(design: Design, *, noncentered: bool = True) -> None:
    """Run bambi as the adapter does, for ten steps."""
    own, units = scaled(design)
    model = model_of(bambi, own, noncentered=noncentered)
    short = {"draws": 5, "tune": 5, "chains": 1, "cores": 1, "random_seed": 1}
    with nothing_compiled():
        trace = model.fit(**short, progressbar=False, compute_convergence_checks=False)
    found, _ = read(trace, design, units)
    told = priors_of(model_of(bambi, design, noncentered=noncentered), design)
    ours = []
    for s, beta in enumerate(found.beta):
        covariances = [np.atleast_2d(sd[s, 0] ** 2) for sd in found.sds]
        draw = Draw(beta, covariances, [e[s] for e in found.effects or ()], found.dispersion[s])
        ours.append(log_density(design, draw, told, noncentered=noncentered))
    assert_same_up_to_a_constant(trace.sample_stats["lp"].to_numpy().ravel(), ours)


@pytest.mark.parametrize(("family", "mixed"), CELLS)
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
    design = design_of(as_family("negative_binomial"), formula, extras=False)
    assert_same_density(design, noncentered=False)
