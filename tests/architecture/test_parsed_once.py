"""A formula is parsed once, and a family is made from its name once, whatever is asked of a result afterwards."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.distributions import family
from unimix.formula import interpreter

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "bootstrap": (10,),
    "comparisons": ("dose",),
    "contrasts": ("arm",),
    "emmeans": ("arm",),
    "hypotheses": ("dose = 0",),
    "johnson_neyman": ("dose", "arm"),
    "slopes": ("dose",),
    "means": ("arm",),
}
"""What a verb is asked for; the others are asked without arguments."""
NO_QUESTIONS = {"from_json", "load", "predict_to", "save", "with_data"}
WITHOUT_DRAWS = {
    "log_evidence",
    "log_evidence_error",
    "loo",
    "model_graph",
    "posterior",
    "prior_predictive",
    "prior_sensitivity",
    "reweighted",
} | {f"plot.{n}" for n in ("model_graph", "prior_predictive", "rank", "trace")}
REFUSED = WITHOUT_DRAWS | {
    "plot.smooths",
    "dispersion_effects",
    "thresholds",
    "zero_inflation",
    "to_marginaleffects",
    "bootstrap",
    "drop1",
    "heterogeneity",
    "johnson_neyman",
}
"""What a result of pls may refuse: it has no draws, parts, known variances or numeric moderator; loaded, no engine."""
LINEAR = {"overdispersion", "check_zeros"}
GENERALISED = {"certificate", "effect_sizes", "r2", "icc", "influence", "confint", "plot.diagnostics"}


class Counts:
    """How often a formula was parsed and a family was made from text."""

    def __init__(self) -> None:
        self.parsed = self.families = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()
    read = interpreter._Interpreter.spec

    def spec(self: Any, *parts: Any) -> Any:
        found.parsed += 1
        return read(self, *parts)

    class Counted(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            found.families += 1
            return super().__getitem__(name)

    monkeypatch.setattr(interpreter._Interpreter, "spec", spec)
    monkeypatch.setattr(family, "FAMILIES", Counted(family.FAMILIES))
    return found


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    clinic = np.repeat(np.arange(12), 10)
    data = pd.DataFrame({"clinic": clinic, "arm": np.tile(["a", "b"], 60), "dose": rng.uniform(0, 2, 120)})
    eta = 1 + 0.5 * data["dose"] + 0.3 * (data["arm"] == "b") + rng.normal(size=12)[clinic] * (0.4 + 0.3 * data["dose"])
    return data.assign(y=eta + rng.normal(size=120), count=rng.poisson(np.exp(eta)))


def questions(fit: um.FitResult) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every public property and verb of a result and of its pictures, listed from the classes."""
    for where, cls in (("", type(fit)), ("plot.", type(fit.plot))):
        own = [n for n in dir(fit if not where else cls) if not n.startswith("_") and n not in NO_QUESTIONS]
        for name in own:

            def ask(name: str = name, where: str = where) -> Any:
                found = getattr(fit.plot if where else fit, name)
                return found(*ARGUMENTS.get(name, ())) if inspect.ismethod(found) else found

            yield where + name, ask


def test_the_list_of_questions_is_long_and_holds_the_known_ones(trial: pd.DataFrame) -> None:
    names = {name for name, _ in questions(um.fit("y ~ dose + (1 | clinic)", trial))}
    assert names >= {"emmeans", "slopes", "predict", "anova", "check", "tidy", "family", "plot.groups", "summary"}
    assert len(names) > 70


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("formula", "options", "loaded", "may_refuse"),
    [
        ("y ~ arm * dose + (1 + dose | clinic)", {}, False, REFUSED | LINEAR),
        ("y ~ arm * dose + (1 + dose | clinic)", {}, True, REFUSED | LINEAR),
        ("count ~ arm * dose + (1 | clinic)", {"family": "poisson"}, True, REFUSED | GENERALISED),
    ],
    ids=["fitted", "loaded", "generalised"],
)
def test_nothing_is_read_twice(
    trial: pd.DataFrame, counts: Counts, formula: str, options: dict[str, Any], may_refuse: set[str], *, loaded: bool
) -> None:
    fit = um.fit(formula, trial, "pls", **options)
    assert counts.parsed == 1
    if loaded:
        text = fit.to_json()
        counts.parsed = counts.families = 0
        fit = um.FitResult.from_json(text).with_data(trial)
        assert counts.parsed == 1
    counts.families = 0
    again, refused = [], {}
    for name, ask in questions(fit):
        before = counts.parsed
        try:
            ask()
        except um.UnimixError as error:
            refused[name] = str(error)
        if counts.parsed > before:
            again.append(name)
        plt.close("all")
    assert {k: v for k, v in refused.items() if k not in may_refuse} == {}
    assert again == []
    assert counts.parsed == 1
    assert counts.families <= 1


def test_new_data_and_a_pickled_result_are_read_once(trial: pd.DataFrame, counts: Counts) -> None:
    fit = um.fit("y ~ arm * dose + (1 | clinic)", trial, "pls")
    again = pickle.loads(pickle.dumps(fit))
    assert counts.parsed == 1
    for _ in range(3):
        np.testing.assert_allclose(again.predict(trial), fit.fitted)
        again.augment(trial)
    assert counts.parsed == 2
