"""The scikit-learn regressor in pipelines and searches, in other processes, and what it refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import unimix as um
from unimix.workflows.sklearn_estimator import MixedModelRegressor

FORMULA = "~ Time + (1 + Time | Pig)"
PIGS = um.load_dataset("dietox")
X, Y = PIGS[["Time", "Pig", "Cu"]], PIGS["Weight"]


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    return um.fit("Weight " + FORMULA, PIGS, "pls")


def test_metadata_routing_carries_weights_and_level() -> None:
    weights = 1.0 + np.arange(len(Y)) % 2
    folds = list(KFold(2, shuffle=True, random_state=0).split(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = MixedModelRegressor(FORMULA).set_fit_request(sample_weight=True).set_predict_request(level=True)
        found = cross_val_predict(model, X, Y, cv=folds, params={"sample_weight": weights})
        train, test = folds[0]
        alone = MixedModelRegressor(FORMULA).fit(X.iloc[train], Y.iloc[train], weights[train])
        assert np.array_equal(found[test], alone.predict(X.iloc[test]))
        piped = make_pipeline("passthrough", model).fit(X, Y, sample_weight=weights)
        assert np.array_equal(piped.predict(X, level="population"), piped[-1].result_.predict(PIGS, level="population"))


def test_a_pipeline_on_held_out_groups() -> None:
    scaled = ColumnTransformer(
        [("scale", StandardScaler(), ["Time"])], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipeline = make_pipeline(scaled, MixedModelRegressor(FORMULA, new_levels="population"))
    scores = cross_val_score(pipeline, X, Y, groups=X["Pig"], cv=GroupKFold(5))
    assert ((scores > 0.7) & (scores < 0.98)).all()
    known = cross_val_score(pipeline, X, Y, cv=KFold(5, shuffle=True, random_state=0))
    assert known.min() > 0.98
    some = X["Pig"].isin(X["Pig"].unique()[:9])
    strict = pipeline.set_params(mixedmodelregressor__new_levels="error").fit(X[some], Y[some])
    with pytest.raises(um.DataError, match="were not fitted"):
        strict.predict(X)


def test_a_search_over_formulas() -> None:
    grid = {"formula": ["~ Time + (1 | Pig)", FORMULA, "~ Time + I(Time^2) + (1 + Time | Pig)"], "method": ["ML"]}
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(MixedModelRegressor(), grid, cv=folds, scoring="neg_root_mean_squared_error").fit(X, Y)
    means = search.cv_results_["mean_test_score"]
    assert means[0] < means[1] < means[2]
    assert search.best_params_["formula"].startswith("~ Time + I(Time^2)")
    assert search.best_estimator_.result_.model.method == "ML"


def test_a_transformed_response() -> None:
    model = TransformedTargetRegressor(MixedModelRegressor(FORMULA), func=np.log, inverse_func=np.exp).fit(X, Y)
    same = um.fit("log(Weight) " + FORMULA, PIGS, "pls")
    np.testing.assert_allclose(model.predict(X), np.exp(same.predict(PIGS)), rtol=1e-7)


def test_clone_and_parameters() -> None:
    options = {"max_steps": 50}
    model = MixedModelRegressor(FORMULA, options=options, priors=None).fit(X, Y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert model.get_params()["options"] is options
    assert " ".join(repr(copy).split()) == f"MixedModelRegressor(formula={FORMULA!r}, options={options})"
    with pytest.raises(NotFittedError):
        _ = copy.result_
    assert copy.set_params(formula="~ 1 + (1 | Pig)", options=None).fit(X, Y).result_.formula == "y ~ 1 + (1 | Pig)"
    assert not hasattr(clone(MixedModelRegressor(backend=um.backends.Pls(max_steps=9))), "result_")


def test_a_failed_fit_leaves_no_older_model() -> None:
    model = MixedModelRegressor(groups="Pig").fit(X[["Time", "Pig"]], Y)
    with pytest.raises(um.DataError):
        model.fit(X[["Time", "Pig"]].assign(Time=np.nan), Y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not hasattr(model, "coef_")


def test_another_process_predicts_the_same(tmp_path: Path) -> None:
    exact = MixedModelRegressor().fit(np.arange(8.0)[:, None], np.ones(8))
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((MixedModelRegressor(FORMULA).fit(X, Y), exact, X)))
    code = (
        "import pickle, pathlib, sys; model, exact, X = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()); "
        "print(repr(float(model.predict(X).sum())), exact.predict([[3]])[0].round(9), len(str(model.result_)) > 99)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["1.0", "True"]
    assert float(done.stdout.split()[0]) == MixedModelRegressor(FORMULA).fit(X, Y).predict(X).sum()


def test_tags() -> None:
    for model in (MixedModelRegressor(FORMULA), MixedModelRegressor(groups=0)):
        tags = model.__sklearn_tags__()
        assert (tags.input_tags.categorical, tags.input_tags.string, tags.input_tags.allow_nan) == (True, True, False)
    tags = MixedModelRegressor(family="gamma(log)").__sklearn_tags__()
    assert (tags.input_tags.categorical, tags.input_tags.string, tags.target_tags.positive_only) == (False, False, True)
    assert (tags.estimator_type, tags.target_tags.required) == ("regressor", True)
    assert not MixedModelRegressor(family=3).__sklearn_tags__().target_tags.positive_only


def test_scikit_learn_is_optional() -> None:
    code = (
        "import sys, unimix; unimix.fit; assert 'sklearn' not in sys.modules; sys.modules['sklearn'] = None\n"
        "from unimix import *\n"
        "try:\n    import unimix.workflows.sklearn_estimator\n"
        "except EngineNotInstalledError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("MixedModelRegressor needs scikit-learn. Type:\n    pip install ")
    assert '"scikit-learn>=' in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("model", "error", "told"),
    [
        (MixedModelRegressor(FORMULA, groups="Pig"), um.OptionError, r"both given.*MixedModelRegressor\(groups='g'\)"),
        (MixedModelRegressor(new_levels="zero"), um.OptionError, "new_levels='zero': choose 'population' or 'error'"),
        (
            MixedModelRegressor("log(y) ~ Time"),
            um.FormulaError,
            r"log\(y\) is a transformation.*TransformedTargetRegressor",
        ),
        (MixedModelRegressor("cbind(a, b) ~ Time"), um.FormulaError, r"sample_weight = a \+ b"),
        (MixedModelRegressor("Time + (1 | Pig)"), um.FormulaError, "'~' between the response and the predictors"),
        (MixedModelRegressor(3), um.FormulaError, "A formula is a string"),
        (MixedModelRegressor("~ Tim + (1 | Pig)"), um.FormulaError, r"Did you mean 'Time'\? Columns: Time, Pig, Cu"),
        (MixedModelRegressor(groups="pig"), um.DataError, r"groups='pig': 'pig' is not a column of X. Did you m"),
        (
            MixedModelRegressor(groups=["Pig", 3]),
            um.DataError,
            r"3 is not a column of X. X has 3 feature\(s\): Time",
        ),
        (MixedModelRegressor(groups=1.5), um.OptionError, "groups=1.5: give the name or the position of a column"),
        (MixedModelRegressor(groups=[["Pig"]]), um.OptionError, "give the name or the position of a column"),
        (MixedModelRegressor(FORMULA, backend="lme5"), um.UnknownBackendError, "Did you mean 'lme4'"),
        (MixedModelRegressor(FORMULA, method="reml"), um.OptionError, "Did you mean 'REML'"),
        (MixedModelRegressor(FORMULA, options={"steps": 3}), um.OptionError, "steps"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_refused_models(model: MixedModelRegressor, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        model.fit(X, Y)


def test_refused_names_in_arrays_say_what_the_columns_are_called() -> None:
    array = X[["Time", "Pig"]].to_numpy()
    called = r"X has no column names: its 2 feature\(s\) are called x0, x1\."
    with pytest.raises(um.FormulaError, match=rf"(?s)'Time' is not a column.*{called}"):
        MixedModelRegressor(FORMULA).fit(array, Y)
    with pytest.raises(um.DataError, match=rf"'Pig' is not a column of X. {called}"):
        MixedModelRegressor(groups="Pig").fit(array, Y)
    with pytest.raises(um.FormulaError, match=r"(?s)^((?!called x0).)*$"):
        MixedModelRegressor("~ x0 + (1 | x1").fit(array, Y)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.assign(Time=d["Time"].where(d["Time"] > 2)), r"contains NaN or other missing values: Time \d+\. "),
        (lambda d: d.assign(Pig=d["Pig"].astype(object).where(d["Time"] > 2, None)), r"missing values: Pig \d+\. "),
        (lambda d: d.assign(Time=np.inf), "'Time' holds .*infinite values"),
        (lambda d: d.set_axis(["Time", "Pig", "Pig"], axis=1), "X has several columns called Pig; rename them"),
        (lambda d: d.head(1), r"1 sample\(s\)"),
        (lambda d: d.head(0), r"0 sample\(s\)"),
        (lambda d: d[[]], r"0 feature\(s\)"),
        (lambda d: d.to_numpy(dtype=str), "array of text; give a data frame"),
        (lambda d: d["Time"], "Expected 2D array|Expected a 2-dimensional container"),
    ],
    ids=["NaN", "None", "inf", "twice", "one", "none", "no columns", "text", "series"],
)
def test_refused_data(change: Any, told: str) -> None:
    model = MixedModelRegressor(FORMULA)
    changed = change(X)
    with pytest.raises(ValueError, match=told):
        model.fit(changed, Y.head(len(changed)))


def test_refused_new_data() -> None:
    model = MixedModelRegressor(FORMULA).fit(X, Y)
    with pytest.raises(um.DataError, match="missing values: Pig 861"):
        model.predict(X.assign(Pig=None), level="population")
    with pytest.raises(um.DataError, match="'Time' holds infinite values"):
        model.predict(X.assign(Time=np.inf))
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing"):
        model.predict(X[["Time", "Pig"]])
    with pytest.raises(um.OptionError, match="level=None: choose 'group' or 'population'"):
        model.predict(X, level=None)
    with pytest.raises(um.OptionError, match="new_levels='zero'"):
        model.set_params(new_levels="zero").predict(X)
    assert np.isfinite(model.set_params(new_levels="population").predict(X.assign(Cu=None))).all()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sample_weight": np.ones(3)}, r"has the shape \(3,\); give one number per row of X, shape \(861,\)"),
        ({"sample_weight": np.ones((861, 2))}, r"sample_weight has the shape \(861, 2\)"),
        ({"sample_weight": 2.0}, r"sample_weight has the shape \(1,\)"),
        ({"sample_weight": np.full(861, -1.0)}, "sample_weight is negative in 861 rows"),
        ({"sample_weight": np.zeros(861)}, "sample_weight is zero in all rows but 0; a fit needs two"),
        ({"sample_weight": np.arange(861) == 5}, "sample_weight is zero in all rows but 1"),
        ({"sample_weight": np.full(861, np.nan)}, "sample_weight contains NaN"),
        ({"y": None}, "requires y to be passed, but the target y is None"),
        ({"y": Y.head(9)}, "inconsistent numbers of samples"),
        ({"y": np.column_stack([Y, Y])}, "y should be a 1d array"),
        ({"y": Y.where(Y > 30)}, "Input y contains NaN"),
        ({"y": ["heavy"] * 861}, "could not convert"),
    ],
)
def test_refused_weights_and_responses(given: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MixedModelRegressor(FORMULA).fit(**({"X": X, "y": Y} | given))


def test_a_search_that_stops_short_warns() -> None:
    model = MixedModelRegressor(FORMULA, options={"max_steps": 1})
    with pytest.warns(ConvergenceWarning, match="pls did not converge"):
        model.fit(X, Y)
    assert np.isfinite(model.predict(X)).all()
