"""Arguments of every kind of wrong type and odd text: public functions answer with errors of unimix only.

The test makes a sample of all calls; ``UNIMIX_FUZZ=all`` in the environment makes every one.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

import unimix as um
from unimix.argument_types import call, fits, type_faults

FORMULA = "y ~ x + f + (1 | g)"
DIGITS = "9" * 5000
ODD: tuple[Any, ...] = (
    None, 3, -1, 2**70, np.nan, "", "x", "`#99` = 0", f"b{DIGITS} = 0", "a\0b", "\ud800", "(" * 3000, "x = ",
    "~ x ~ f | g", [], [None], [[], [1]], ["x", "x"], {}, {"x": None}, {"x": pd.NA}, {"x": [[1, 2], [3]]}, {"x": "a"},
    {3: 4}, pd.NA, b"x", ("x", 3), {"x"}, np.arange(3.0), np.ones((2, 2)), object(), int, 1j, "x" * 5000, "/",
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 6)
    frame = pd.DataFrame({"x": rng.normal(size=36), "f": list("abc") * 12, "g": [f"g{i}" for i in g]})
    frame["y"] = frame["x"] + rng.normal(size=6)[g] + rng.normal(size=36)
    return frame


Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@pytest.fixture(scope="module")
def calls(data: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    """A call of every quick public function that works."""
    fit, small = um.fit(FORMULA, data), um.fit("y ~ x + (1 | g)", data)
    same = um.compare(fit, um.fit(FORMULA, data, "statsmodels"))
    sampled = um.fit("y ~ x", data, "bayes", seed=1)
    many = um.fit_many(FORMULA, data, progress=False)
    folder = tmp_path_factory.mktemp("odd")
    asked: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("anova", "augment", "coefficients", "comparisons", "effect_sizes", "icc", "predict"), ()),
        **dict.fromkeys(("citations", "r2", "report", "residuals", "simulate", "tidy", "to_json"), ()),
        "confint": ("wald",), "contrasts": ("f",), "draws": (5,), "emmeans": ("f",), "hypotheses": ("x = 0",),
        "slopes": ("x",), "with_data": (data,),
    }  # fmt: skip
    found: dict[str, Call] = {name: (getattr(fit, name), arguments, {}) for name, arguments in asked.items()}
    found |= {f"plot.{n}": (getattr(fit.plot, n), (), {}) for n in ("forest", "groups", "population", "shrinkage")}
    return found | {
        "plot.means": (fit.plot.means, ("f",), {}),
        "contrasts of means": (fit.emmeans("f").contrasts, (), {}),
        "hypotheses of comparisons": (fit.comparisons("x").hypotheses, ("b0 = 0",), {}),
        "to_latex": (fit.anova().to_latex, (), {}),
        "from_json": (um.FitResult.from_json, (fit.to_json(),), {}),
        "Comparison.from_json": (um.Comparison.from_json, (same.to_json(),), {}),
        "fit.save": (fit.save, (str(folder / "fit.zip"),), {}),
        "load": (um.FitResult.load, (fit.save(folder / "whole.zip"),), {}),
        "same.to_json": (same.to_json, (), {}),
        "same.assert_agree": (same.assert_agree, (), {}),
        "many.compare": (many.compare, (), {}),
        "many.tidy": (many.tidy, (), {}),
        "save": (um.table(fit).save, (str(folder / "t.csv"),), {}),
        "fit": (um.fit, (FORMULA, data), {}),
        "explain": (um.explain, (FORMULA, data), {}),
        "recommend": (um.recommend, (FORMULA, data), {}),
        "fit_many": (um.fit_many, (FORMULA, data), {"progress": False}),
        "compare": (um.compare, (FORMULA, data), {"backends": ["pls", "statsmodels"]}),
        "um.anova": (um.anova, (fit, small), {}),
        "bayes_factor": (um.bayes_factor, (sampled, sampled), {"accept_default_priors": True}),
        "prior_predictive": (um.prior_predictive, (FORMULA, data), {"n": 5}),
        "reweighted": (sampled.reweighted, ({"x": um.priors.Normal(0, 1)},), {}),
        "compare_ic": (um.compare_ic, (fit, small), {}),
        "table": (um.table, (fit,), {}),
        "read_many": (um.read_many, ("nothing",), {}),
        "refit": (um.refit, (fit,), {}),
        "load_dataset": (um.load_dataset, ("sleepstudy",), {}),
        "register_function": (um.register_function, ("odd", abs), {}),
        "backend_class": (um.backends.backend_class, ("pls",), {}),
        "Binomial": (um.families.Binomial, (), {}),
        "Normal": (um.priors.Normal, (), {}),
    }


SLOW = {"n_jobs", "progress", "n", "time_limit", "memory_limit", "backends"}
"""Arguments that start processes or much work."""
EVERY = os.environ.get("UNIMIX_FUZZ") == "all"


@pytest.mark.filterwarnings("ignore")
def test_odd_arguments_end_in_errors_of_unimix(
    calls: dict[str, Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # "x" is a fine name of a file
    raw: list[str] = []
    rng = np.random.default_rng(4)
    for name, (function, arguments, options) in calls.items():
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        for i, parameter in enumerate(parameters):
            for odd in ODD if parameter.name not in SLOW else ():
                if not EVERY and rng.random() > 0.15:
                    continue
                given = list(arguments)
                named = dict(options)
                if parameter.kind is parameter.VAR_POSITIONAL:
                    given = [odd]
                elif i < len(given):
                    given[i] = odd
                else:
                    named[parameter.name] = odd
                try:
                    function(*given, **named)
                except um.UnimixError:
                    pass
                except Exception as error:  # noqa: BLE001  these are looked for
                    raw.append(f"{name}({parameter.name}={odd!r:.30}): {type(error).__name__}: {error!s:.80}")
                plt.close("all")
    assert not raw, "\n".join(raw)


# -- annotations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [
        (str, ["", "a"], [None, 1, b"a", ["a"], pd.NA]),
        (int, [1, np.int64(3)], [True, 1.0, 2**70, "1", None]),
        (float, [1, 1.5, np.float32(2), np.inf], [True, "1", 1j, None, 2**70]),
        (bool, [True, np.True_], [1, "True", None, pd.NA, np.ones(2)]),
        (str | None, [None, "a"], [1]),
        (Literal["a", "b"], ["a"], ["c", 1, ["a"], np.array(["a"]), pd.NA]),
        (str | Sequence[str], ["a", ["a"], ("a", "b"), np.array(["a"]), pd.Index(["a"]), []], [1, ["a", 1], {"a": 1}]),
        (Mapping[str, float], [{}, {"a": 1}], [{"a": "b"}, {1: 2.0}, ["a"], "a"]),
        (Mapping[str, Any] | None, [None, {"a": object()}], ["a", 3]),
        (Callable[..., Any], [len], [3, "len"]),
        (Any, [1, None, "a"], []),
        (pd.DataFrame, [1, None], []),  # a class excludes nothing here
    ],
)
def test_values_fit_their_annotations(expected: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [v for v in right if not fits(v, expected)] == []
    assert [v for v in wrong if fits(v, expected)] == []


def test_the_wrong_argument_is_told_when_the_call_fails(calls: dict[str, Call]) -> None:
    emmeans = calls["emmeans"][0]
    for name, value, told in (
        ("specs", None, r"specs=None: give a string or a list \(a string each\)\.$"),
        ("by", 3, r"by=3: give a string or a list \(a string each\)\.$"),
        ("at", "x", r"at='x': give a dict or None\.$"),
        ("weights", np.ones(2), r"weights=array\(\[1., 1.\]\): give 'equal', 'proportional', 'outer', 'cells'\.$"),
    ):
        with pytest.raises(um.OptionError, match=told) as error:
            emmeans(**{"specs": "f", name: value})
        assert error.value.__cause__ is not None


def test_other_failures_stay_what_they_are() -> None:
    def divide(a: float, b: float) -> float:
        return a / b

    with pytest.raises(ZeroDivisionError):
        call(divide, (1.0, 0.0), {})
    with pytest.raises(um.OptionError, match=r"b='x': give a number\."):
        call(divide, (1.0, "x"), {})
    assert type_faults(divide, (1.0,), {}) == []
    with pytest.raises(um.OptionError, match=r"^divide needs b=\.$"):
        call(divide, (1.0,), {})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda fit: fit.certificate(3), r"^certificate takes no argument by position; 1 was given\.$"),
        (
            lambda fit: fit.anova("III", "satterthwaite"),
            r"^anova takes at most 1 \(type\) by position; 2 were given\. ",
        ),
        (lambda fit: fit.emmeans(), r"^emmeans needs specs=\.$"),
        (lambda fit: fit.emmeans("x", specs="x"), r"^specs is given twice, by position and by name\.$"),
        (lambda _: um.fit("y ~ x"), r"^fit needs data=\.$"),
        (lambda _: um.fit("y ~ x", {}, "pls", "ML"), r"^fit takes at most 3 \(formula, data, backend\) by position"),
        (lambda _: um.power(), r"^power needs fit=, effect=\.$"),
    ],
)
def test_too_many_and_missing_arguments_are_told_in_words(call: Any, said: str) -> None:
    fit = um.fit("y ~ x", {"y": [1.0, 2.0, 4.0, 4.5], "x": [1.0, 2.0, 3.0, 5.0]})
    with pytest.raises(um.OptionError, match=said):
        call(fit)
