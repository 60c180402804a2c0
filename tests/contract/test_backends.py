"""The nine engines keep the contract."""

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
    options = {"draws": 500}  # the reference cases run at the defaults
    starved = {"draws": 40, "tune": 20}
    # The draws of these models are nearly independent: an effective sample size of 1000 is enough for the bounds.
    family_options = {"draws": 400, "tune": 400}


class TestBayes(BackendContract):
    backend = "bayes"
    starved = {"draws": 100, "chains": 2}


class TestMixedlm(BackendContract):
    backend = "mixedlm"
    starved = {"max_iterations": 1, "restarts": 0}


class TestMixedlmRs(BackendContract):
    backend = "mixedlm_rs"
    starved = {"max_iterations": 1, "restarts": 0}
