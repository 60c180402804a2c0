"""Several responses of one model, searched together, reach the maxima that each reaches alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import unimix as um
from unimix.design.arrays import Design
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.lmm.criterion import LinearCriterion

FloatArray = npt.NDArray[np.float64]


def sleep_design() -> Design:
    return um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls").design()


def crossed_design() -> Design:
    return um.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", um.load_dataset("penicillin"), "pls").design()


def weighted_design() -> Design:
    sleep = um.load_dataset("sleepstudy")
    weights = np.random.default_rng(3).uniform(0.2, 3.0, len(sleep))
    return um.fit("Reaction ~ Days + (1 | Subject)", sleep, "pls", weights=weights).design()


def responses_of(design: Design, count: int) -> list[FloatArray]:
    """Responses with group effects of many sizes, in turn none at all, so that some maxima lie on the boundary."""
    rng = np.random.default_rng(11)
    made = []
    for k in range(count):
        y = design.x @ rng.normal(size=design.p) + rng.normal(size=design.n)
        for block in design.blocks:
            size = (0.0, 0.3, 2.0)[k % 3]
            effects = size * rng.normal(size=(block.n_levels, block.q)) / np.sqrt(np.mean(block.z**2, axis=0))
            y = y + (block.z * effects[block.codes]).sum(axis=1)
        made.append(10.0**k * y if k < 4 else y)
    return made


@pytest.mark.parametrize("make", [sleep_design, crossed_design, weighted_design])
@pytest.mark.parametrize("reml", [True, False])
def test_every_response_reaches_the_maximum_that_it_reaches_alone(make: object, *, reml: bool) -> None:
    design = make()  # type: ignore[operator]
    responses = responses_of(design, 9)
    together = [design.with_response(y) for y in responses]
    LinearCriterion.search_together(together, reml=reml, thorough=False)
    singular = set()
    for shared, y in zip(together, responses, strict=True):
        alone = LinearCriterion.of(replace(design, y=y))
        apart = alone.search(reml=reml, thorough=False)
        found = LinearCriterion.of(shared)._known.optima[reml, 200, False]
        # both stop when at most 1e-9 of log likelihood is left to gain
        assert found.profile.value == pytest.approx(apart.profile.value, abs=2e-9)
        for a, b in zip(found.factors, apart.factors, strict=True):
            # a gain of 1e-9 allows a change of the factors of about its square root
            np.testing.assert_allclose(a @ a.T, b @ b.T, rtol=1e-4, atol=1e-4)
        singular.add(any(np.diag(f).min() < 1e-4 for f in found.factors))
    assert singular == {True, False}


def test_a_response_shares_what_belongs_to_the_columns() -> None:
    design = sleep_design()
    other = design.with_response(design.y[::-1].copy())
    assert other.keep_of_columns("a name", lambda: [1]) is design.keep_of_columns("a name", lambda: [2])
    assert other.keep("a name", lambda: 1) != design.keep("a name", lambda: 2)
    assert LinearCriterion.of(other).way_back.inverse is LinearCriterion.of(design).way_back.inverse


def test_estimates_of_a_bootstrap_are_those_of_single_fits() -> None:
    fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), "pls")
    replicates = fit.bootstrap(5, seed=4, progress=False).replicates
    from unimix.analysis.prediction.simulate import simulator_of

    simulator = simulator_of(fit, "new")
    for seed, row in zip(np.random.SeedSequence(4).spawn(5), replicates.itertuples(index=False), strict=True):
        data = um.load_dataset("sleepstudy").assign(Reaction=simulator.draw(np.random.default_rng(seed)))
        alone = um.fit("Reaction ~ Days + (Days | Subject)", data, "pls")
        # the searches may end 1e-9 of log likelihood apart, about 1e-4 standard errors
        np.testing.assert_allclose(row[:2], alone.fixed.estimate, rtol=0, atol=2e-4 * alone.fixed.std_error.max())
        assert row.sigma == pytest.approx(alone.sigma, rel=1e-4)


@pytest.mark.parametrize("sd", [0.0, 0.8])
def test_generalised_responses_reach_the_same_maximum_from_the_first_fit(sd: float) -> None:
    rng = np.random.default_rng(8)
    g, h = np.divmod(np.arange(300), 15)
    x = rng.normal(size=300)
    eta = 0.5 * x + 0.9 * rng.normal(size=20)[g] + 0.6 * rng.normal(size=15)[h]
    frame = pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g, "h": h})
    first = um.fit("y ~ x + (x | g) + (1 | h)", frame, "pls", family="poisson").design()
    for _ in range(4):
        eta = 0.2 * x + sd * (rng.normal(size=20)[g] + rng.normal(size=15)[h])
        y = rng.poisson(np.exp(eta)).astype(float)
        near = LaplaceCriterion.of(replace(first, y=y)).search_near(LaplaceCriterion.of(first))
        usual = LaplaceCriterion.of(replace(first, y=y)).search()
        # a climb stops at a remaining gain of 1e-9, or where rounding hides a gain, 1e-12 of the likelihood
        assert near.value == pytest.approx(usual.value, abs=1e-7)
