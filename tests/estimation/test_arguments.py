"""The arguments of a fit: one list, read in the same words wherever they are taken."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.backends.registry import DEFAULT_BACKEND, resolve
from unimix.estimation.arguments import FitArguments, FitOptions, ModelOptions, SharedOptions
from unimix.fitted.model import own_refitter
from unimix.testing import simulate_slopes

DATA = simulate_slopes(n_groups=10)
FORMULA = "y ~ x + (1 | g)"
MODEL = [
    "family", "method", "weights", "offset", "contrasts", "ziformula", "dispformula", "residual", "sigma",
    "relationship", "df_method", "missing", "priors", "time_limit", "memory_limit",
]  # fmt: skip
SHARED = [*MODEL, "ci_level", "seed", "progress"]
EVERY = [*SHARED, "options", "restart"]
OWN = {
    um.fit: (["formula", "data", "backend"], EVERY),
    um.explain: (["formula", "data", "backend"], EVERY),
    um.compare: (["formula", "data", "more", "backends"], SHARED),
    um.fit_many: (["formulas", "data", "backends", "path", "retry_failed", "versions", "n_jobs"], EVERY),
    um.recommend: (["formula", "data"], MODEL),
    um.pooling: (["formula", "data", "backend", "group", "backends", "restart"], SHARED),
    um.all_fit: (["formula", "data", "backends", "conditioning"], SHARED),
    um.cross_validate: (
        ["formula", "data", "backends", "backend", "split", "folds", "group", "pooling", "metrics", "ci_level", "loo",
         "seed", "n_jobs", "progress", "restart"],
        MODEL,
    ),
}  # fmt: skip
FUNCTIONS = pytest.mark.parametrize("function", list(OWN), ids=lambda f: f.__name__)

WRONG = {
    "family": ("binomal", "family='binomal' is unknown. Did you mean 'binomial'?"),
    "method": ("RELM", "method='RELM': choose 'REML', 'ML', "),
    "df_method": ("kenward", "df_method='kenward': choose 'satterthwaite', 'kenward-roger', "),
    "ci_level": (95, "ci_level=95: give a probability between 0 and 1, such as 0.95."),
    "missing": ("keep", "missing='keep': choose 'drop' or 'raise'."),
    "priors": (1, "priors=1: give a dict, such as {'x': unimix.priors.Normal(0, 1)}."),
    "seed": (-1, "seed=-1: give a whole number that is not negative."),
    "progress": ("yes", "progress='yes': choose True, False or None."),
    "time_limit": ("soon", "time_limit='soon': give seconds above 0"),
    "memory_limit": ("8 apples", "memory_limit='8 apples': give bytes or a string"),
    "restart": ("yes", "restart='yes': choose True or False."),
    "options": (3, "options=3: give a dict, such as {'conditioning': False}."),
}


@FUNCTIONS
def test_signatures_list_every_argument_with_its_default(function: Callable[..., Any]) -> None:
    own, shared = OWN[function]
    found = inspect.signature(function).parameters
    assert [*found] == [*own, *(n for n in inspect.signature(um.fit).parameters if n in shared)]
    plain = inspect.signature(um.fit).parameters
    others = {"df_method": "normal"} if function is um.cross_validate else {}
    assert {n: found[n].default for n in shared} == {n: plain[n].default for n in shared} | others


def test_the_three_lists_of_arguments_are_one() -> None:
    declared = [p for p in inspect.signature(um.fit).parameters.values() if p.kind is p.KEYWORD_ONLY]
    kept = fields(FitArguments)
    assert [p.name for p in declared] == [f.name for f in kept]
    assert [p.default for p in declared] == [f.default for f in kept]
    assert all(f.default is not MISSING for f in kept)
    for options, names in ((ModelOptions, MODEL), (SharedOptions, SHARED), (FitOptions, EVERY)):
        assert options.__optional_keys__ == set(names)
        assert not options.__required_keys__
    assert {p.name: p.annotation for p in declared} == {
        name: annotation.__forward_arg__ for name, annotation in FitOptions.__annotations__.items()
    }


@FUNCTIONS
def test_help_describes_every_argument(function: Callable[..., Any]) -> None:
    lines = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters:
        assert f"    {name}: " in lines, name
    assert lines.count("    weights: Name of a column, or array of shape (n,).") == 1
    assert lines.index("    weights: ") < lines.index("Raises:")


@FUNCTIONS
def test_wrong_arguments_are_refused_in_the_same_words_all_at_once(function: Callable[..., Any]) -> None:
    taken = {n: value for n, (value, _) in WRONG.items() if n in inspect.signature(function).parameters}
    with pytest.raises(um.OptionError) as error:
        function(FORMULA, DATA, REML=False, na_action="omit", weigths="w", **taken)
    text = str(error.value)
    for name in taken:
        assert WRONG[name][1] in text, name
    head = f"{function.__name__} has no argument"
    assert f"{head} 'REML'; type method='ML'." in text
    assert f"{head} 'na_action'; type missing='drop' or missing='raise'." in text
    assert f"{head} 'weigths'. Did you mean 'weights'?" in text


@FUNCTIONS
def test_a_wrong_engine_is_told_with_the_rest(function: Callable[..., Any]) -> None:
    name = next((n for n in ("backends", "backend") if n in inspect.signature(function).parameters), None)
    if name is None:
        assert function is um.recommend
        return
    wrong = "lme" if name == "backend" else ["lme", "statsmodel"]
    with pytest.raises(um.OptionError) as error:
        function(FORMULA, DATA, method="RELM", **{name: wrong})
    assert "method='RELM'" in str(error.value)
    for one in [wrong] if isinstance(wrong, str) else wrong:
        assert f"There is no backend {one!r}. Did you mean" in str(error.value)


@FUNCTIONS
def test_swapped_arguments_are_told_by_every_function(function: Callable[..., Any]) -> None:
    with pytest.raises(um.OptionError) as error:
        function(DATA, FORMULA, ziformula=None)
    assert f"Type unimix.{function.__name__}('{FORMULA}', data)." in str(error.value)
    assert len(str(error.value)) < 600


def test_the_estimator_refuses_in_the_same_words() -> None:
    regressor = um.MixedModelRegressor("~ x + (1 | g)", method="RELM", df_method="kenward", seed=-1)
    with pytest.raises(um.OptionError) as error:
        regressor.fit(DATA[["x", "g"]], DATA["y"])
    for name in ("method", "df_method", "seed"):
        assert WRONG[name][1] in str(error.value)
    with pytest.raises(um.OptionError, match="MixedModelRegressor has no argument 'REML'; type method='ML'"):
        um.MixedModelRegressor("~ x + (1 | g)", REML=False)  # type: ignore[call-arg]


def test_one_engine_is_the_default_everywhere() -> None:
    for function in (um.fit, um.explain, um.pooling, um.fit_many, um.cross_validate, um.MixedModelRegressor):
        parameters = inspect.signature(function).parameters
        first = next(parameters[n] for n in ("backends", "backend") if n in parameters and parameters[n].default)
        assert first.default == DEFAULT_BACKEND, function
    assert um.fit_many(FORMULA, DATA).backends == (DEFAULT_BACKEND,)
    assert um.cross_validate(FORMULA, DATA, folds=2, pooling=["partial"]).models == [
        f"partial pooling ({DEFAULT_BACKEND})"
    ]


def test_what_cannot_be_asked_of_an_engine_is_adapted_to_it() -> None:
    asked = FitArguments(method="ML", df_method="kenward-roger", priors={"x": um.priors.Normal(0, 1)})
    own = asked.adapted(resolve("pls"))
    assert (own.method, own.df_method, own.priors) == ("ML", "kenward-roger", None)
    sampled = asked.adapted(resolve("bayes"))
    assert (sampled.method, sampled.df_method, sampled.priors) == ("posterior", "satterthwaite", asked.priors)


def test_a_result_keeps_no_arrays_for_its_refits() -> None:
    rng = np.random.default_rng(1)
    fit = um.fit(FORMULA, DATA, weights=rng.uniform(1, 2, len(DATA)), offset=rng.normal(size=len(DATA)), seed=3)
    refitter = pickle.loads(pickle.dumps(own_refitter(fit)))
    asked = refitter.arguments
    assert (asked.weights, asked.offset, asked.contrasts, asked.time_limit) == (None, None, None, None)
    assert (asked.method, asked.seed) == ("REML", 3)
    assert refitter(fit.design()).log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-9)


def test_finished_results_are_compared_as_they_are() -> None:
    one, two = um.fit(FORMULA, DATA), um.fit(FORMULA, DATA, "statsmodels")
    assert um.compare(one, two).agree
    with pytest.raises(um.OptionError, match="leave ci_level, backends out"):
        um.compare(one, two, backends=["pls"], ci_level=0.9)  # type: ignore[misc]


def test_a_call_of_fit_can_be_explained_as_it_stands() -> None:
    call: dict[str, Any] = {"seed": 1, "ci_level": 0.9, "progress": False, "time_limit": 60, "restart": True}
    assert um.explain(FORMULA, DATA, **call).refusals == ()
