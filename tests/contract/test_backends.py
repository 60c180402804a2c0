"""The built-in engines keep the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unimix.backends import Backend
from unimix.backends.family_support import Cell
from unimix.design.features import Feature
from unimix.testing import BackendContract, OrderedContract

SAMPLED = (Cell("binomial", "logit", True), Cell("poisson", "log", True), Cell("gamma", "log", False))
"""The families that samplers are run on; tests of their densities (bayes: test_group_integrals.py) prove the rest."""

FEATURES = frozenset({Feature.RANDOM_INTERCEPT, Feature.CROSSED_FACTORS, Feature.PRIORS})
"""The features that PyMC and bambi are run on; tests of their densities prove the rest."""


class TestLme4(BackendContract):
    backend = "lme4"
    starved = {"control": {"maxeval": 4}, "restarts": 0}


class TestPls(BackendContract):
    backend = "pls"
    starved = {"max_steps": 1}


class TestGlmmTMB(BackendContract):
    backend = "glmmtmb"
    starved = {"control": {"iter.max": 1, "eval.max": 1}, "starts": False}


class TestNlme(BackendContract):
    backend = "nlme"
    starved = {"control": {"msMaxIter": 1, "maxIter": 1, "niterEM": 0}, "restarts": 0}


class TestOrdinal(OrderedContract):
    backend = "ordinal"
    starved = {"control": {"iter.max": 1}, "restarts": 0}
    # clmm takes seconds for each of the others; tests/backends/test_ordinal.py has them together in one model
    fitted_features = frozenset(
        {Feature.NO_RANDOM_PART, Feature.RANDOM_INTERCEPT, Feature.OFFSET, Feature.ML, Feature.LAPLACE, Feature.AGQ}
    )


class TestPymer4(BackendContract):
    backend = "pymer4"
    starved = {"control": {"maxeval": 4}, "restarts": 0}


class TestStatsmodels(BackendContract):
    backend = "statsmodels"
    starved = {"max_iterations": 1, "restarts": 0}


class TestPyMC(BackendContract):
    backend = "pymc"
    # nutpie compiles each structure once; tests/backends has PyMC's own sampler too
    # 2,500 draws end below R-hat 1.01; after 1,500 the model of most tests was sampled again with four times as many
    options = {"sampler": "nutpie", "draws": 2500, "tune": 500, "chains": 2, "cores": 1, "target_accept": 0.9}
    # the others have nested factors, which need chains of minutes; TestBayes has all, with the same priors
    references = frozenset({"sleepstudy_slope", "penicillin"})
    starved = {"sampler": "pymc", "draws": 40, "tune": 20, "retry": False}  # compiled in seconds
    fitted_features = FEATURES | {Feature.CORRELATED_TERMS}
    fitted_cells = SAMPLED


class TestBayes(BackendContract):
    backend = "bayes"
    starved = {"draws": 100, "chains": 2}
    fitted_cells = (*SAMPLED, Cell("negative_binomial", "log", True), Cell("student_t", "identity", True))


class TestGlmm(BackendContract):
    backend = "glmm"

    def stopped_early(self, monkeypatch: pytest.MonkeyPatch) -> Backend:
        """glmm has no option that limits its search: its answer is moved to where a search might have stopped."""
        glmm = pytest.importorskip("glmm")
        search = glmm.fit

        def elsewhere(*args: object, **more: object) -> object:
            found = search(*args, **more)
            return replace(found, varcorr=[[1.5 * v for v in cells] for cells in found.varcorr])

        monkeypatch.setattr(glmm, "fit", elsewhere)
        return self.engine


class TestMixedlm(BackendContract):
    backend = "mixedlm"
    starved = {"max_iterations": 1, "restarts": 0}


class TestMixedlmRs(BackendContract):
    backend = "mixedlm_rs"
    starved = {"max_iterations": 1, "restarts": 0}


class TestBambi(BackendContract):
    backend = "bambi"
    # nutpie compiles in a third of the time of bambi's default sampler
    options = {"sampler": "nutpie", "target_accept": 0.95, "draws": 4000, "tune": 1000, "chains": 2, "cores": 1}
    starved = {"draws": 40, "tune": 20}
    # twenty rows a group tell the effects, and their mean hangs together with the intercept
    family_options = {"noncentered": False, "target_accept": 0.8, "draws": 5000, "tune": 500}
    fitted_features = FEATURES
    fitted_cells = SAMPLED
    # six samples measured 24 times each: effects that are multiples of their SD depend on it
    flagged = frozenset({"penicillin"})
