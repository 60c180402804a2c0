"""What users of other packages type is answered with the line to type here."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.analysis.plot_data.plots import Plots
from unimix.analysis.prediction.predict import predict
from unimix.fitted.model import FittedModel
from unimix.testing import simulate_slopes

DATA = simulate_slopes(n_groups=10)
FORMULA = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    return um.fit(FORMULA, DATA)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"REML": False}, "fit has no argument 'REML'; type method='ML'."),
        ({"reml": True}, "type method='REML'."),
        ({"weigths": "w"}, "Did you mean 'weights'?"),
        ({"random_state": 3}, "type seed=3."),
        ({"level": 0.9}, "type ci_level=0.9."),
        ({"newdata": DATA}, "type data=..."),
        ({"groups": "g"}, "it is part of the formula, such as 'y ~ x + (1 + x | g)'"),
        ({"prior": 1}, "type priors={'x': unimix.priors.Normal(0, 1)}."),
        ({"restarts": 3}, "it is an option of the engine: type options={'restarts': 3}."),
        ({"nAGQ": 9}, "type method='AGQ'"),
        ({"sparse": True}, "fit has no argument 'sparse'. Arguments: formula, data, backend, family"),
    ],
)
def test_unknown_arguments_of_fit(arguments: dict, told: str) -> None:
    with pytest.raises(um.OptionError) as error:
        um.fit(FORMULA, DATA, "lme4", **arguments)
    assert told in str(error.value)
    assert len(str(error.value)) < 400


def test_every_unknown_argument_is_told() -> None:
    for function in (um.fit, um.explain, um.compare):
        with pytest.raises(um.OptionError, match=rf"{function.__name__} has no.*method='ML'.\n.*missing='drop'"):
            function(FORMULA, DATA, REML=False, na_action="omit")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"re_form": None}, "type level='population' (no group effects, R's re.form = NA) or level='group'"),
        ({"allow_new_levels": True}, "predict has no argument 'allow_new_levels'; type new_levels='population'."),
        ({"data": DATA}, "type newdata=..."),
        ({"fitted": DATA}, "type fit.with_data(frame).predict(...)."),
        ({"type": "link"}, "type kind='link'."),
        ({"se_fit": True}, "type interval='confidence'"),
        ({"levels": "group"}, "Did you mean 'level'?"),
    ],
)
def test_unknown_arguments_of_predict(fit: um.FitResult, arguments: dict, told: str) -> None:
    with pytest.raises(um.OptionError) as error:
        fit.predict(**arguments)
    assert told in str(error.value)


VERBS = sorted(
    name
    for owner in (um.FitResult, FittedModel)
    for name, member in vars(owner).items()
    if inspect.isfunction(member) and not name.startswith("_")
)
PICTURES = sorted(
    name for name, member in vars(Plots).items() if inspect.isfunction(member) and not name.startswith("_")
)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_answers_the_rows_that_were_fitted(fit: um.FitResult, name: str) -> None:
    known = inspect.signature(getattr(fit, name)).parameters
    with pytest.raises(um.OptionError) as error:
        getattr(fit, name)(fitted=DATA)
    assert f"{name} has no argument 'fitted'; " in str(error.value)
    assert str(error.value).endswith(f"type fit.with_data(frame).{name}(...).")
    if "data" not in known:
        with pytest.raises(um.OptionError) as error:
            getattr(fit, name)(data=DATA)
        meant = "type newdata=..." if "newdata" in known else f"type fit.with_data(frame).{name}(...)."
        assert str(error.value).endswith(meant)


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_answers_the_rows_that_were_fitted(fit: um.FitResult, name: str) -> None:
    with pytest.raises(um.OptionError, match=r"has no argument 'data'; .*type fit\.with_data\(frame\)\.plot\."):
        getattr(fit.plot, name)(data=DATA)


@pytest.mark.parametrize(
    ("verb", "arguments", "told"),
    [
        ("confint", {"alpha": 0.1}, "type ci_level=1 - 0.1."),
        ("confint", {"parm": "x"}, "type parameters='x'."),
        ("bootstrap", {"nsim": 99}, "type n=99."),
        ("simulate", {"nsim": 2}, "type n=2."),
        ("residuals", {"type": "pearson"}, "type kind='pearson'."),
        ("emmeans", {"specs": "x", "lmer_df": "kenward-roger"}, "type df_method='satterthwaite' or"),
        (
            "emmeans",
            {"specs": "x", "newdata": DATA},
            "type at={'x': [0, 1]}, with the values of",
        ),
        ("slopes", {"var": "x"}, "type variable='x'."),
        ("anova", {"ddf": "Kenward-Roger"}, "type df_method='satterthwaite' or df_method='kenward-roger'."),
        ("anova", {"typ": 3}, "type type=3."),
        ("hypotheses", {"hypothesis": "x = 0"}, "type tests='x = 0'."),
        ("influence", {"group": "g"}, "type by='g'."),
        ("check", {"everything": True}, "check has no argument 'everything'. It has none."),
    ],
)
def test_names_of_other_packages_in_verbs(fit: um.FitResult, verb: str, arguments: dict, told: str) -> None:
    with pytest.raises(um.OptionError) as error:
        getattr(fit, verb)(**arguments)
    assert told in str(error.value)


def test_functions_of_results_answer_too(fit: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match="power has no argument 'nsim'; type n_sim=10"):
        um.power(fit, "x", nsim=10)  # type: ignore[call-arg]
    with pytest.raises(um.OptionError, match=r"refit has no argument 'newdata'; type data=\.\.\.$"):
        um.refit(fit, newdata=DATA)  # type: ignore[call-arg]
    with pytest.raises(um.OptionError, match="compare has no argument 'options'; it is part of a configured engine"):
        um.compare(FORMULA, DATA, options={"optimizer": "bobyqa"})  # type: ignore[call-arg]


def test_answers_change_no_signature(fit: um.FitResult) -> None:
    assert [*inspect.signature(fit.residuals).parameters] == ["kind"]
    assert inspect.signature(um.FitResult.predict) == inspect.signature(predict)
    assert um.FitResult.predict.__doc__ == predict.__doc__


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Normal", "it is unimix.priors.Normal (a prior)"),
        ("Poisson", "it is unimix.families.Poisson (a family)"),
        ("Gamma", "it is unimix.priors.Gamma (a prior) or unimix.families.Gamma (a family)"),
    ],
)
def test_a_distribution_at_the_top_is_told_its_room(name: str, told: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(um, name)
    assert str(error.value).endswith(told)


@pytest.mark.parametrize("name", ["fit", "explain", "compare"])
def test_swapped_arguments_do_not_print_the_data(name: str) -> None:
    with pytest.raises(um.OptionError) as error:
        getattr(um, name)(DATA, FORMULA)
    assert str(error.value).endswith(f"Type unimix.{name}('{FORMULA}', data).")
    with pytest.raises(um.FormulaError, match="not a DataFrame"):
        um.fit(DATA, DATA)
    with pytest.raises(um.FormulaError, match="not None"):
        um.fit(None, DATA)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("params", "fit.fixed_effects['estimate']"),
        ("fe_params", "fit.fixed_effects['estimate']"),
        ("bse", "fit.fixed_effects['std_error']"),
        ("pvalues", "fit.fixed_effects['p_value']"),
        ("conf_int", "fit.confint()"),
        ("vcov", "fit.fixed_cov"),
        ("cov_params", "fit.fixed_cov"),
        ("ranef", "fit.group_effects['g']"),
        ("random_effects", "fit.group_effects['g']"),
        ("fixef", "fit.fixed_effects"),
        ("nobs", "fit.n_obs"),
        ("llf", "fit.log_likelihood"),
        ("VarCorr", "fit.variance_components"),
    ],
)
def test_foreign_names_of_a_result(fit: um.FitResult, name: str, meant: str) -> None:
    assert not hasattr(fit, name)
    with pytest.raises(AttributeError) as error:
        getattr(fit, name)
    assert f"FitResult has no attribute {name!r}; it is {meant}" in str(error.value)


def test_what_hints_name_exists(fit: um.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # one of them writes a file
    from unimix import foreign_names

    for hint in foreign_names._ATTRIBUTES.values():
        expression = hint.split(", with")[0].split(" and ")[0]
        if not expression.startswith(("fit.posterior", "fit.to_json")):
            eval(expression, {"fit": fit})
    for name in foreign_names._ATTRIBUTES:
        assert name not in dir(fit)


def test_other_attributes_are_as_ever(fit: um.FitResult) -> None:
    assert fit.formula == FORMULA
    assert fit.native is fit._unsaved.native is not None
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = fit.surprise
    assert copy.deepcopy(um.FitResult.from_json(fit.to_json())) == fit
    assert pickle.loads(pickle.dumps(um.FitResult.from_json(fit.to_json()))) == fit


def test_completion_lists_what_is_of_use(fit: um.FitResult) -> None:
    names = [n for n in dir(fit) if not n.startswith("_")]
    assert {"fixed_effects", "predict", "formula", "model", "rows", "to_json", "n_obs"} <= set(names)
    assert not {"model_fields", "dict", "parse_raw", "model_dump", "copy", "construct"} & set(names)
    refused = {"posterior", "log_evidence", "log_evidence_error", "zero_inflation", "dispersion_effects"}
    refused.add("thresholds")
    assert all(hasattr(fit, n) for n in names if n not in refused)


def test_single_values_are_one_row(fit: um.FitResult) -> None:
    level = fit.random[0].levels[0]
    assert fit.predict({"x": 0.5, "g": level}) == fit.predict(pd.DataFrame({"x": [0.5], "g": [level]}))
    assert fit.predict({"x": np.float64(0.5)}, level="population").shape == (1,)
    assert len(fit.augment({"x": 0.5, "g": level})) == 1
    with pytest.raises(um.DataError, match=r"'x' is a float and not an array or a list of values; type \[0.5\]"):
        fit.predict({"x": 0.5, "g": [level, level]})
