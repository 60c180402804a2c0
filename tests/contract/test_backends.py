"""The ten engines keep the contract."""

from __future__ import annotations

from unimix.testing import BackendContract


class TestLme4(BackendContract):
    backend = "lme4"
    starved = {"control": {"maxeval": 4}, "restarts": 0}


class TestPls(BackendContract):
    backend = "pls"
    starved = {"max_steps": 1}


class TestGlmmTMB(BackendContract):
    backend = "glmmtmb"
    starved = {"control": {"iter.max": 1, "eval.max": 1}, "starts": False}


class TestPymer4(BackendContract):
    backend = "pymer4"
    starved = {"control": {"maxeval": 4}, "restarts": 0}


class TestStatsmodels(BackendContract):
    backend = "statsmodels"
    starved = {"max_iterations": 1, "restarts": 0}


class TestPyMC(BackendContract):
    backend = "pymc"
    options = {"draws": 600, "chains": 2}  # the reference cases run at the defaults
    starved = {"draws": 40, "tune": 20}
    family_options = {"draws": 500, "tune": 400}


class TestBayes(BackendContract):
    backend = "bayes"
    starved = {"draws": 100, "chains": 2}


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
    # six samples measured 24 times each: effects that are multiples of their SD depend on it
    flagged = frozenset({"penicillin"})
