"""unimix: one formula, every mixed-model engine, and proof that they agree."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unimix._version import __version__ as __version__

if TYPE_CHECKING:
    from unimix import backends, families, priors
    from unimix.analysis.certificate.certificate import Certificate
    from unimix.api import explain, fit
    from unimix.datasets import list_datasets, load_dataset
    from unimix.design.evaluate import register_function
    from unimix.design.relationships import Relationship, inverse, pedigree
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
    from unimix.estimation.collapse import Collapsed, collapse
    from unimix.estimation.reduce import reduce
    from unimix.estimation.refit import refit
    from unimix.fitted.table_result import TableResult
    from unimix.reduction.reduced import Reduced, load_reduced
    from unimix.result import FitResult, register_accessor
    from unimix.workflows.all_fit import AllFit, all_fit
    from unimix.workflows.comparison.compare import compare
    from unimix.workflows.comparison.comparison import Comparison
    from unimix.workflows.comparison.verdicts import Tolerances
    from unimix.workflows.design_power import design_power
    from unimix.workflows.imputation.fit_imputed import fit_imputed
    from unimix.workflows.imputation.imputed_fit import ImputedFit
    from unimix.workflows.many.fits import ManyFits, read_many
    from unimix.workflows.many.run import fit_many
    from unimix.workflows.model_tests.bayes_factor import BayesFactor, bayes_factor
    from unimix.workflows.model_tests.drop_terms import drop1
    from unimix.workflows.model_tests.likelihood_ratio import anova, compare_ic, compare_loo, ranova
    from unimix.workflows.model_tests.parametric_bootstrap import BootstrapTest, bootstrap_test
    from unimix.workflows.pooling import Pooling, pooling
    from unimix.workflows.power import Power, power
    from unimix.workflows.prior_predictive import PriorPredictive, prior_predictive
    from unimix.workflows.recommend import Recommendation, recommend
    from unimix.workflows.simplify import Simplification, simplify
    from unimix.workflows.sklearn_estimator import MixedModelRegressor  # noqa: F401  not in __all__: scikit-learn is optional
    from unimix.workflows.tables.model import ModelTable
    from unimix.workflows.tables.table import table
    from unimix.workflows.validation.crossvalidation import CrossValidation
    from unimix.workflows.validation.run import cross_validate

_HOMES = {
    "unimix.workflows.model_tests.parametric_bootstrap": ("bootstrap_test", "BootstrapTest"),
    "unimix.workflows.power": ("power", "Power"),
    "unimix.workflows.design_power": ("design_power",),
    "unimix.workflows.prior_predictive": ("prior_predictive", "PriorPredictive"),
    "unimix.estimation.refit": ("refit",),
    "unimix.estimation.reduce": ("reduce",),
    "unimix.estimation.collapse": ("collapse", "Collapsed"),
    "unimix.reduction.reduced": ("Reduced", "load_reduced"),
    "unimix.workflows.model_tests.drop_terms": ("drop1",),
    "unimix.workflows.model_tests.bayes_factor": ("bayes_factor", "BayesFactor"),
    "unimix.workflows.model_tests.likelihood_ratio": ("anova", "ranova", "compare_ic", "compare_loo"),
    "unimix.workflows.tables.model": ("ModelTable",),
    "unimix.workflows.tables.table": ("table",),
    "unimix.workflows.sklearn_estimator": ("MixedModelRegressor",),
    "unimix.workflows.validation.crossvalidation": ("CrossValidation",),
    "unimix.workflows.validation.run": ("cross_validate",),
    "unimix.workflows.pooling": ("pooling", "Pooling"),
    "unimix.workflows.recommend": ("Recommendation", "recommend"),
    "unimix.workflows.simplify": ("Simplification", "simplify"),
    "unimix.api": ("fit", "explain"),
    "unimix.workflows.comparison.compare": ("compare",),
    "unimix.workflows.all_fit": ("all_fit", "AllFit"),
    "unimix.analysis.certificate.certificate": ("Certificate",),
    "unimix.workflows.comparison.comparison": ("Comparison",),
    "unimix.workflows.comparison.verdicts": ("Tolerances",),
    "unimix.datasets": ("load_dataset", "list_datasets"),
    "unimix.doctor": ("doctor",),
    "unimix.errors": (
        "UnimixError", "DataError", "DisagreementError", "EngineBrokenError", "EngineNotInstalledError", "FitError",
        "FormulaError", "LimitError", "OptionError", "UnknownBackendError", "UnsupportedModelError", "WorkerError",
    ),
    "unimix.workflows.imputation.fit_imputed": ("fit_imputed",),
    "unimix.workflows.imputation.imputed_fit": ("ImputedFit",),
    "unimix.workflows.many.fits": ("ManyFits", "read_many"),
    "unimix.workflows.many.run": ("fit_many",),
    "unimix.design.evaluate": ("register_function",),
    "unimix.design.relationships": ("Relationship", "inverse", "pedigree"),
    "unimix.fitted.table_result": ("TableResult",),
    "unimix.result": ("FitResult", "register_accessor"),
}  # fmt: skip
_MODULES = ("backends", "families", "priors")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AllFit",
    "BayesFactor",
    "BootstrapTest",
    "Certificate",
    "Collapsed",
    "Comparison",
    "CrossValidation",
    "DataError",
    "DisagreementError",
    "EngineBrokenError",
    "EngineNotInstalledError",
    "FitError",
    "FitResult",
    "FormulaError",
    "ImputedFit",
    "LimitError",
    "ManyFits",
    "ModelTable",
    "OptionError",
    "Pooling",
    "Power",
    "PriorPredictive",
    "Recommendation",
    "Reduced",
    "Relationship",
    "Simplification",
    "TableResult",
    "Tolerances",
    "UnimixError",
    "UnknownBackendError",
    "UnsupportedModelError",
    "WorkerError",
    "all_fit",
    "anova",
    "backends",
    "bayes_factor",
    "bootstrap_test",
    "collapse",
    "compare",
    "compare_ic",
    "compare_loo",
    "cross_validate",
    "design_power",
    "doctor",
    "drop1",
    "explain",
    "families",
    "fit",
    "fit_imputed",
    "fit_many",
    "inverse",
    "list_datasets",
    "load_dataset",
    "load_reduced",
    "pedigree",
    "pooling",
    "power",
    "prior_predictive",
    "priors",
    "ranova",
    "read_many",
    "recommend",
    "reduce",
    "refit",
    "register_accessor",
    "register_function",
    "simplify",
    "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"unimix.{name}")
    if name in _HOME_OF:
        module = importlib.import_module(_HOME_OF[name])
        value = getattr(module, name)
        globals()[name] = value  # `unimix.doctor` is the function, although a module has the same name
        return value
    raise AttributeError(f"module 'unimix' has no attribute {name!r}{_where(name)}")


def _where(name: str) -> str:
    """Hint for a prior or family that was asked for as ``unimix.Normal``; an empty text for any other name."""
    if not name[:1].isupper():  # notebooks and test runners ask every module for such names: load nothing for them
        return ""
    rooms = {"priors": "a prior", "families": "a family"}
    places = [
        f"unimix.{r}.{name} ({w})" for r, w in rooms.items() if name in importlib.import_module(f"unimix.{r}").__all__
    ]
    return f"; it is {' or '.join(places)}" if places else ""


def __dir__() -> list[str]:
    # Names that need an optional package are not in __all__: `from unimix import *` must not fail without it.
    return sorted({*globals(), *__all__, *_HOME_OF})
