"""The likelihood of a linear mixed model: against dense algebra, and formed once per design."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_effects import dense_effects

import unimix as um
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.glmm import criterion as laplace_criterion
from unimix.likelihood.lmm import conditioning, criterion, evaluation, penalised_least_squares
from unimix.likelihood.lmm.batched_linalg import matrix_root
from unimix.likelihood.lmm.conditioning import well_scaled, without_offset
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.weights import scale_rows
from unimix.testing import dense

FORMULAS = {
    "one": "y ~ x + (1 + x | outer)",
    "independent": "y ~ x + (1 + x || outer)",
    "nested": "y ~ x + (1 + x | outer) + (1 | inner)",
    "crossed": "y ~ x + (1 + x | outer) + (1 | other) + (1 | inner)",
    "without fixed effects": "y ~ 0 + (1 + x | outer)",
}
FULL = np.array([[2.0, 0.7], [0.7, 0.9]])
COVARIANCES = {
    "regular": FULL,
    "zero": np.zeros((2, 2)),
    "rank one": np.outer([1.0, -0.5], [1.0, -0.5]),
    "first zero": np.diag([0.0, 1.3]),
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 60
    x = rng.normal(size=n)
    outer = np.sort(np.r_[np.arange(7), rng.integers(7, size=n - 7)])
    other = np.r_[np.arange(5), rng.integers(5, size=n - 5)]
    made = pd.DataFrame({"x": 100 + x, "outer": outer, "inner": outer * 3 + rng.integers(3, size=n), "other": other})
    made = made.astype({"outer": str, "inner": str, "other": str})
    return made.assign(y=rng.normal(size=n) + 3 * x, w=rng.uniform(0.3, 3, n), o=rng.normal(size=n))


def design_of(formula: str, **more: Any) -> Design:
    return build_design(parse(formula), frame(), **more)


@pytest.mark.parametrize("more", [{}, {"weights": "w", "offset": "o"}], ids=["plain", "weights and offset"])
@pytest.mark.parametrize("size", list(COVARIANCES))
@pytest.mark.parametrize("kind", list(FORMULAS))
def test_equals_dense_algebra(kind: str, size: str, more: dict[str, str]) -> None:
    """In the user's columns, which are far from well scaled: x lies at 100."""
    design, sigma = design_of(FORMULAS[kind], **more), 1.3
    covariances = tuple(COVARIANCES[size][: b.q, : b.q] for b in design.blocks)
    own = LinearCriterion.of(design)
    beta, cov = dense.gls(design, covariances, sigma)
    means, spreads, _ = dense_effects(without_offset(design), beta, [matrix_root(c) for c in covariances], sigma)
    for reml in (True, False):
        at = own.at(covariances, sigma, reml=reml)
        assert own.value(at) == pytest.approx(dense.log_likelihood(design, covariances, sigma, reml=reml), abs=1e-8)
        np.testing.assert_allclose(own.beta(at), beta, rtol=1e-8)
        np.testing.assert_allclose(own.beta_cov(at), cov, rtol=1e-8)
        modes, mode_covs = own.effects(at)
        for m, v, mean, spread in zip(modes, mode_covs, means, spreads, strict=True):
            np.testing.assert_allclose(m, mean, atol=1e-7)
            np.testing.assert_allclose(v, spread, atol=1e-7)
        best, scale = own.profiled([c / sigma**2 for c in covariances], reml=reml)
        wanted = [
            dense.log_likelihood(design, tuple((s / sigma) ** 2 * c for c in covariances), s, reml=reml)
            for s in (scale, 0.99 * scale, 1.01 * scale)
        ]
        assert best == pytest.approx(wanted[0], abs=1e-8)
        assert max(wanted) == wanted[0]


def test_large_variances_do_not_cancel() -> None:
    """With an infinite variance of the intercepts the slope is the within-groups estimate."""
    design = design_of("y ~ x + (1 | outer)")
    own = LinearCriterion.of(design)
    at = own.at([np.array([[1e12]])], 1.0, reml=True)
    codes = design.blocks[0].codes
    dx, dy = (v - (np.bincount(codes, v) / np.bincount(codes))[codes] for v in (design.x[:, 1], design.y))
    assert own.beta(at)[1] == pytest.approx(dx @ dy / (dx @ dx), rel=1e-8)
    assert own.beta_cov(at)[1, 1] == pytest.approx(1 / (dx @ dx), rel=1e-8)


def test_cost_goes_by_levels_not_by_their_square() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=60_000), "g": np.repeat(np.arange(20_000), 3)})
    own = LinearCriterion.of(build_design(parse("y ~ 1 + (1 | g)"), data))
    covariances = own.effects(own.at([np.eye(1)], 1.0, reml=True))[1]
    assert covariances[0].shape == (20_000, 1, 1)
    np.testing.assert_allclose(covariances[0], 0.25)


@pytest.mark.parametrize("more", [{}, {"weights": "w"}], ids=["plain", "weighted"])
def test_all_coordinates_of_a_design_share_the_data(more: dict[str, str]) -> None:
    design = design_of(FORMULAS["crossed"], **more)
    scaled = well_scaled(design)
    rows = scaled.rows
    inner, outer = LinearCriterion.of(rows), LinearCriterion.of(design)
    assert inner.data is outer.data
    covariances = tuple(COVARIANCES["regular"][: b.q, : b.q] for b in design.blocks)
    at = outer.at(covariances, 1.3, reml=True)
    same = inner.at(scaled.way_back.conditioned(covariances), 1.3 / scaled.way_back.residual, reml=True)
    assert inner.value(same) - scaled.way_back.lost(reml=True) == pytest.approx(outer.value(at), abs=1e-9)
    once, constant = scale_rows(design)
    emulated = LinearCriterion.of(once)
    there = emulated.at(covariances, 1.3, reml=True)
    assert emulated.value(there) + constant == pytest.approx(outer.value(at), abs=1e-9)
    assert emulated.value(there) == pytest.approx(dense.log_likelihood(once, covariances, 1.3, reml=True), abs=1e-8)


def test_well_scaled_rows_are_let_go_and_nothing_is_pickled() -> None:
    design = design_of(FORMULAS["one"], offset="o")
    rows = weakref.ref(well_scaled(design).rows)
    own = LinearCriterion.of(design)
    gc.collect()
    assert rows() is None
    assert LinearCriterion.of(design) is own
    loaded = pickle.loads(pickle.dumps(design))
    assert loaded._kept == {}
    assert LinearCriterion.of(loaded) is not own
    changed = replace(design, y=2 * design.y)
    assert LinearCriterion.of(changed).way_back.scale != own.way_back.scale


def test_a_design_goes_with_its_last_holder() -> None:
    """No circle keeps a million rows until the garbage collector comes."""
    gc.disable()
    try:
        fit = um.fit(FORMULAS["crossed"], frame(), "pls")
        design = weakref.ref(fit.design())
        _ = fit.certificate(), fit.hypotheses("x = 0")
        del fit
        assert design() is None
    finally:
        gc.enable()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the data are conditioned and reduced, and the likelihood worked out at a point."""
    made: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def count(*arguments: Any, **more: Any) -> Any:
            made[name] += 1
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, count)

    counted(conditioning, "condition")
    counted(criterion, "form")
    counted(criterion, "search")
    counted(evaluation, "climb")
    counted(evaluation, "moments")
    counted(penalised_least_squares, "profile")
    counted(laplace_criterion, "search_laplace")
    return made


@pytest.mark.r
@pytest.mark.parametrize("more", [{}, {"weights": "w", "offset": "o"}], ids=["plain", "weights and offset"])
def test_a_comparison_forms_the_likelihood_once(counts: Counter[str], more: dict[str, str]) -> None:
    same = um.compare(FORMULAS["one"], frame(), backends=["pls", "lme4", "glmmtmb", "mixedlm"], **more)
    assert not same.failures
    assert (counts["condition"], counts["form"]) == (1, 1)
    printed, before = str(same), dict(counts)
    assert "certify()" in printed
    assert counts == before
    assert "No certificates yet" not in str(same.certify())
    _ = same.certificates, same.causes, [fit.certificate() for fit in same.results.values()]
    assert (counts["condition"], counts["form"], counts["search"]) == (1, 1, 1)


@pytest.mark.parametrize("formula", [FORMULAS["one"], FORMULAS["crossed"]])
def test_after_a_fit_nothing_is_formed_or_searched_again(counts: Counter[str], formula: str) -> None:
    fit = um.fit(formula, frame(), "pls")
    assert (counts["condition"], counts["form"], counts["search"]) == (1, 1, 1)
    evaluated = counts["moments"]
    table = fit.hypotheses("x = 1")
    _ = fit.anova(), fit.slopes("x"), fit.predict(frame(), interval="confidence")
    assert counts["moments"] == evaluated
    first = fit.certificate()
    assert first.certified
    assert (counts["condition"], counts["form"], counts["search"]) == (1, 1, 1)
    assert counts["climb"] <= 1
    before = dict(counts)
    assert fit.certificate() is first
    assert counts == before
    assert um.fit(formula, frame(), "pls").hypotheses("x = 1").table.equals(table.table)


def test_a_copy_with_other_numbers_has_a_certificate_of_its_own() -> None:
    fit = um.fit(FORMULAS["one"], frame(), "pls")
    assert fit.certificate().certified
    wider = fit.fixed.model_copy(update={"std_error": 2 * fit.fixed.std_error})
    assert not replace(fit, fixed=wider).certificate().certified
    assert "_kept" not in vars(pickle.loads(pickle.dumps(fit)))


def test_a_generalised_model_is_searched_once(counts: Counter[str]) -> None:
    data = frame()
    data["hit"] = (data["y"] > 0).astype(int)
    fit = um.fit("hit ~ x + (1 | outer)", data, "pls", family="binomial")
    assert (counts["condition"], counts["search_laplace"]) == (1, 1)
    first = fit.certificate()
    # Once more from the estimates themselves.
    assert counts["search_laplace"] == 2
    before = dict(counts)
    assert fit.certificate() is first
    assert counts == before
