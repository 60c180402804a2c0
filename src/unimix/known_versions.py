"""The versions of every package that unimix is known to work with, and which of them each engine needs."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """A Python package and the versions that work: ``at_least <= version < below``."""

    name: str
    at_least: str
    below: str | None
    use: str
    why: str = ""
    extra: str = ""
    optional: bool = False


CORE = (
    Rule("numpy", "2.0", "3", "arrays"),
    Rule("scipy", "1.13", None, "numerics"),
    Rule("pandas", "2.2.3", "4", "tables"),
    Rule("formulaic", "1.2", "2", "columns of the fixed effects"),
    Rule("statsmodels", "0.14.5", "0.16", "engine of backend='statsmodels'"),
)
PYMC = (
    Rule("pymc", "5.28", "6", "engine of backend='pymc'", "unimix speaks to PyMC 5", "pymc"),
    Rule("pytensor", "2.38", "2.39", "compiles PyMC's models", "PyMC 5.28 needs this series", "pymc"),
    Rule("arviz", "0.20", "1", "holds the draws", "PyMC 5 needs ArviZ below 1", "pymc"),
    Rule("nutpie", "0.16", "0.17", "fast sampler", "other series are untried", "pymc", optional=True),
    Rule("numpyro", "0.15", None, "another sampler", optional=True),
)
RUST = (
    Rule("mixedlm", "1.3", "1.4", "engine of backend='mixedlm'", "other series are untried", "mixedlm"),
    Rule("mixedlm-rs", "0.2", "0.3", "engine of backend='mixedlm_rs'", "other series are untried", "mixedlm-rs"),
)
BAMBI = Rule(
    "bambi", "0.17.2", "0.18", "engine of backend='bambi'", "later series speak to PyMC 6", "bambi", optional=True
)
MATPLOTLIB = Rule("matplotlib", "3.9", "3.11", "pictures", "with 3.11 `import pymc` breaks in ArviZ's plots", "plot")
PYMER4 = Rule("pymer4", "0.9.2", "0.10", "engine of backend='pymer4'", "only 0.9 is known to work", "pymer4")
PYMER4_FORGETS = ("rpy2", "polars", "great_tables", "scikit-learn", "joblib", "formulae", "pyarrow")
RPY2_PARTS = ("rpy2", "rpy2-robjects", "rpy2-rinterface")

R_PACKAGES = {
    "lme4": "engine of backend='lme4' and 'pymer4'",
    "Matrix": "sparse matrices of lme4",
    "glmmTMB": "engine of backend='glmmtmb'",
    "lmerTest": "Satterthwaite degrees of freedom by option; pymer4 imports it",
    "pbkrtest": "Kenward-Roger degrees of freedom",
    "emmeans": "pymer4 imports it",
    "broom.mixed": "pymer4 imports it",
    "parameters": "pymer4 imports it",
    "performance": "pymer4 imports it",
    "insight": "pymer4 imports it",
}
PYMER4_R = ("lmerTest", "emmeans", "broom.mixed", "parameters", "performance", "insight")

_CORE = ("unimix", *(rule.name for rule in CORE))
_LME4 = (*_CORE, "R", "rpy2", "lme4", "Matrix")
NEEDS: dict[str, tuple[str, ...]] = {
    "statsmodels": _CORE,
    "lme4": _LME4,
    "glmmtmb": (*_CORE, "R", "rpy2", "glmmTMB"),
    "pymer4": (*_LME4, *PYMER4_R, "pymer4"),
    "pls": _CORE,
    "bayes": (*_CORE, "arviz", "matplotlib"),
    "pymc": (*_CORE, "pymc", "pytensor", "arviz", "matplotlib"),
    "mixedlm": (*_CORE, "mixedlm"),
    "mixedlm_rs": (*_CORE, "mixedlm-rs"),
    "bambi": (*_CORE, "pymc", "pytensor", "arviz", "matplotlib", "bambi"),
}
