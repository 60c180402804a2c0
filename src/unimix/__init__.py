"""unimix: one formula, every mixed-model engine, and proof that they agree."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unimix._version import __version__ as __version__

if TYPE_CHECKING:
    from unimix import backends, families
    from unimix.api import compare, explain, fit
    from unimix.bootstrap_tests import BootstrapTest, bootstrap_test
    from unimix.comparison.comparison import Comparison
    from unimix.comparison.verdicts import Tolerances
    from unimix.datasets import list_datasets, load_dataset
    from unimix.doctor import doctor
    from unimix.errors import (
        DataError,
        DisagreementError,
        EngineBrokenError,
        EngineNotInstalledError,
        FitError,
        FormulaError,
        LimitError,
        OptionError,
        UnimixError,
        UnknownBackendError,
        UnsupportedModelError,
        WorkerError,
    )
    from unimix.estimator import MixedModelRegressor as MixedModelRegressor
    from unimix.likelihood_tests import ModelTests, anova, compare_ic, compare_loo, ranova
    from unimix.many.fits import ManyFits, read_many
    from unimix.many.run import fit_many
    from unimix.model.expressions import register_function
    from unimix.model.family import Beta, Binomial, Gaussian, InverseGaussian, NegativeBinomial, Poisson
    from unimix.model.priors import (
        LKJ,
        Cauchy,
        Exponential,
        Gamma,
        HalfCauchy,
        HalfNormal,
        HalfStudentT,
        InverseGamma,
        LogNormal,
        Normal,
        StudentT,
        Uniform,
    )
    from unimix.optimizers import AllFit, all_fit
    from unimix.papers.model import ModelTable
    from unimix.papers.table import table
    from unimix.pooled import Pooling, pooling
    from unimix.power_simulation import Power, power
    from unimix.recommendation import Recommendation, recommend
    from unimix.refitting import refit
    from unimix.results.certificate import Certificate
    from unimix.results.result import FitResult
    from unimix.validation.crossvalidation import CrossValidation
    from unimix.validation.run import cross_validate

_HOMES = {
    "unimix.bootstrap_tests": ("bootstrap_test", "BootstrapTest"),
    "unimix.power_simulation": ("power", "Power"),
    "unimix.refitting": ("refit",),
    "unimix.likelihood_tests": ("anova", "ranova", "compare_ic", "compare_loo", "ModelTests"),
    "unimix.papers.model": ("ModelTable",),
    "unimix.papers.table": ("table",),
    "unimix.estimator": ("MixedModelRegressor",),
    "unimix.validation.crossvalidation": ("CrossValidation",),
    "unimix.validation.run": ("cross_validate",),
    "unimix.pooled": ("pooling", "Pooling"),
    "unimix.recommendation": ("Recommendation", "recommend"),
    "unimix.api": ("fit", "compare", "explain"),
    "unimix.optimizers": ("all_fit", "AllFit"),
    "unimix.results.certificate": ("Certificate",),
    "unimix.comparison.comparison": ("Comparison",),
    "unimix.comparison.verdicts": ("Tolerances",),
    "unimix.datasets": ("load_dataset", "list_datasets"),
    "unimix.doctor": ("doctor",),
    "unimix.errors": (
        "UnimixError", "DataError", "DisagreementError", "EngineBrokenError", "EngineNotInstalledError", "FitError",
        "FormulaError", "LimitError", "OptionError", "UnknownBackendError", "UnsupportedModelError", "WorkerError",
    ),
    "unimix.many.fits": ("ManyFits", "read_many"),
    "unimix.many.run": ("fit_many",),
    "unimix.model.expressions": ("register_function",),
    "unimix.model.family": (
        "Beta", "Binomial", "Gaussian", "InverseGaussian", "NegativeBinomial", "Poisson",
    ),
    "unimix.model.priors": (
        "Normal", "StudentT", "Cauchy", "HalfNormal", "HalfStudentT", "HalfCauchy", "Exponential", "Gamma",
        "InverseGamma", "LogNormal", "Uniform", "LKJ",
    ),
    "unimix.results.result": ("FitResult",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LKJ",
    "AllFit",
    "Beta",
    "Binomial",
    "BootstrapTest",
    "Cauchy",
    "Certificate",
    "Comparison",
    "CrossValidation",
    "DataError",
    "DisagreementError",
    "EngineBrokenError",
    "EngineNotInstalledError",
    "Exponential",
    "FitError",
    "FitResult",
    "FormulaError",
    "Gamma",
    "Gaussian",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "InverseGamma",
    "InverseGaussian",
    "LimitError",
    "LogNormal",
    "ManyFits",
    "ModelTable",
    "ModelTests",
    "NegativeBinomial",
    "Normal",
    "OptionError",
    "Poisson",
    "Pooling",
    "Power",
    "Recommendation",
    "StudentT",
    "Tolerances",
    "Uniform",
    "UnimixError",
    "UnknownBackendError",
    "UnsupportedModelError",
    "WorkerError",
    "all_fit",
    "anova",
    "backends",
    "bootstrap_test",
    "compare",
    "compare_ic",
    "compare_loo",
    "cross_validate",
    "doctor",
    "explain",
    "families",
    "fit",
    "fit_many",
    "list_datasets",
    "load_dataset",
    "pooling",
    "power",
    "ranova",
    "read_many",
    "recommend",
    "refit",
    "register_function",
    "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("backends", "families"):
        return importlib.import_module(f"unimix.{name}")
    if name in _HOME_OF:
        module = importlib.import_module(_HOME_OF[name])
        value = getattr(module, name)
        globals()[name] = value  # `unimix.doctor` is the function, although a module has the same name
        return value
    raise AttributeError(f"module 'unimix' has no attribute {name!r}")


def __dir__() -> list[str]:
    # What needs an optional package is not in __all__: `from unimix import *` must not fail without it.
    return sorted({*globals(), *__all__, *_HOME_OF})
