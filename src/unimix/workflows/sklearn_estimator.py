"""A scikit-learn regressor: mixed models in pipelines, cross-validation and grid searches."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import narwhals as nw
import narwhals.dependencies
import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.design.aliasing import independent_columns, residual_scale
from unimix.design.frames import read_series
from unimix.design.typed_columns import column_labels
from unimix.distributions.family import FamilyLike, as_family
from unimix.distributions.ordered import refuse_categories
from unimix.errors import (
    DataError,
    EngineNotInstalledError,
    Fault,
    FormulaError,
    OptionError,
    did_you_mean,
    listing,
    to_type,
)
from unimix.estimation.arguments import Method
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import suggests_names
from unimix.formula.interpreter import parse, part_columns, used_columns
from unimix.formula.parser import Name, quote, render
from unimix.formula.tokens import MAX_LENGTH
from unimix.installation import pip_line
from unimix.result import FitResult

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_array, check_consistent_length, column_or_1d
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise EngineNotInstalledError(f"MixedModelRegressor needs scikit-learn. {to_type(pip_line('sklearn'))}") from error
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn 1.5

    def validate_data(estimator: Any, X: Any, **given: Any) -> Any:
        """Do what the function of this name does in later versions of scikit-learn."""
        return estimator._validate_data(X, **given)


FloatArray = npt.NDArray[np.float64]

_GIVEN = ("family", "method", "ziformula", "dispformula", "df_method", "options", "priors", "seed")


class MixedModelRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A mixed model as a scikit-learn regressor.

    With a formula, X holds the columns that the formula names, grouping factors included: a data frame (pandas, polars,
    or any other that narwhals reads), or an array, whose columns are called x0, x1, and so on. Without a formula every
    column of X has a linear fixed effect (text is coded against its first level), except the columns of ``groups``,
    which have random intercepts. With neither formula nor groups the model is ordinary least squares. Missing values in
    an array, or in a column that is used, are refused.

    Args:
        formula: The model in lme4's language, with a response, ``"math ~ homework + (1 + homework | schid)"``, or
            without one, ``"~ homework + (1 + homework | schid)"``. The response is always the y of ``fit``; a formula
            may name it, but not transform it. None gives linear effects of all columns.
        groups: Name or position of the column of X that is a grouping factor, or a list of them for crossed factors;
            only without a formula.
        backend: The engine: a name, a class or a configured instance; pls, unimix's own engine, if left out.
        method: Criterion of the estimates, as in :func:`unimix.fit`.
        family: Distribution of the response, as in :func:`unimix.fit`. ``predict`` gives the expected response, which
            for a binomial family is the probability.
        new_levels: Prediction for groups that were not fitted: ``"population"`` takes their effects as zero,
            ``"error"`` refuses them.
        options: Options of the backend, where it is given by name or class.
        priors: Prior distributions of the parameters, for samplers.
        ziformula: Fixed terms of the zero inflation, such as ``"~ 1"``.
        dispformula: Fixed terms of the logarithm of the dispersion, such as ``"~ x"``.
        df_method: Denominator degrees of freedom of the tests in ``result_``. Predictions do not depend on them, and
            ``"normal"`` is the fastest.
        seed: Seed of the random numbers.

    Attributes:
        n_features_in_: Number of columns of X, grouping factors included.
        feature_names_in_: Names of the columns, if X is a data frame whose names are text.
        coef_: Fixed effects, shape (n_features_in_,), for a model without a formula whose predictors are all numeric.
            They are 0 for grouping factors and for columns that are linear combinations of the columns before them.
        intercept_: The intercept, where there is ``coef_``.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> model = um.MixedModelRegressor("~ Days + (Days | Subject)")
        >>> model.fit(sleep[["Days", "Subject"]], sleep["Reaction"]).predict(sleep[["Days", "Subject"]][:3]).round(1)
        array([253.7, 273.3, 293. ])
    """

    @suggests_names
    def __init__(
        self,
        formula: str | None = None,
        *,
        groups: str | int | Sequence[str | int] | None = None,
        backend: BackendLike = DEFAULT_BACKEND,
        method: Method | None = None,
        family: FamilyLike = "gaussian",
        new_levels: Literal["population", "error"] = "population",
        options: Mapping[str, Any] | None = None,
        priors: Mapping[str, Any] | None = None,
        ziformula: str | None = None,
        dispformula: str | None = None,
        df_method: DfMethod = "satterthwaite",
        seed: int | None = None,
    ) -> None:
        self.formula = formula
        self.groups = groups
        self.backend = backend
        self.method = method
        self.family = family
        self.new_levels = new_levels
        self.options = options
        self.priors = priors
        self.ziformula = ziformula
        self.dispformula = dispformula
        self.df_method = df_method
        self.seed = seed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Args:
            X: Predictors and grouping factors, shape (n, columns).
            y: Response, shape (n,): numbers; for a binomial family 0 and 1, or proportions of ``sample_weight`` trials.
            sample_weight: The weights of :func:`unimix.fit`, shape (n,). For a Gaussian response they are precisions:
                the variance of a row is sigma^2 / w. Without grouping factors, predictions are those of w copies of the
                row; with grouping factors they are not, because copies would also change the estimate of sigma. Rows of
                weight 0 are left out.

        Raises:
            FormulaError: If the formula cannot be read.
            OptionError: If arguments are wrong; the message lists every fault.
            DataError: If the data do not allow the model.
            UnsupportedModelError: If the family is of ordered categories.
            ValueError: If X, y or the weights have a form that scikit-learn refuses.
        """
        for name in ("_result", "coef_", "intercept_"):
            self.__dict__.pop(name, None)
        self._check_arguments()
        refuse_categories(as_family(self.family), "A regressor of scikit-learn")
        columns = self._read(X, reset=True)
        target = _target(y, type(self).__name__)
        check_consistent_length(next(iter(columns.values())), target)
        weights = _weights(sample_weight, len(target))
        if weights is not None and not weights.all():
            rows = weights > 0
            columns = {k: c.filter(rows.tolist()) if isinstance(c, nw.Series) else c[rows] for k, c in columns.items()}
            target, weights = target[rows], weights[rows]
        response, formula, self._used = self._model()
        _refuse_missing(columns, self._used)
        data = columns | {response: target}
        given = {name: getattr(self, name) for name in _GIVEN}
        try:
            self._result: FitResult | None = fit(formula, data, self.backend, weights=weights, missing="raise", **given)
        except FormulaError as error:
            names = self._names_of_array()
            if names and any("is not a column" in fault.message for fault in error.faults):
                raise FormulaError(error.formula, [*error.faults, Fault(names)]) from None
            raise
        except DataError as error:
            beta = self._exact(columns, target, weights)
            if beta is None:
                raise
            self._set_coefficients(beta)
            self._result, self._reason = None, str(error)
            return self
        encoding = self._result.model.encoding
        if self.formula is None and all(self._names[j] in encoding.numeric for j in self._predictors):
            beta = np.zeros(1 + len(self._predictors))
            beta[list(encoding.kept)] = self._result.fixed.estimate
            self._set_coefficients(beta)
        if not self._result.converged:
            loose = self._result.status.state == "not_identified"
            words = "The model is not identified." if loose else f"{self._result.backend} did not converge."
            message = " ".join((words, *self._result.status.messages))
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return self

    def predict(self, X: Any, level: Literal["group", "population"] = "group") -> FloatArray:
        """Predict the expected response.

        Args:
            X: Predictors and grouping factors, with the same columns as in ``fit``.
            level: ``"group"`` adds the effects of groups that were fitted (see ``new_levels`` for others);
                ``"population"`` leaves all group effects out.

        Returns:
            Predictions, shape (n,).

        Raises:
            DataError: If values are missing, or if there are new groups and ``new_levels="error"``.
            OptionError: If an argument is wrong.
            NotFittedError: If ``fit`` was not called before.
        """
        check_is_fitted(self)
        if level not in ("group", "population"):
            raise OptionError(f"level={level!r}: choose 'group' or 'population'.")
        self._check_arguments()
        columns = self._read(X, reset=False)
        _refuse_missing(columns, self._used)
        if self._result is not None:
            return self._result.predict(columns, level=level, new_levels=self.new_levels)
        return np.asarray(self._with_intercept(columns)[:, 1:] @ self.coef_[self._predictors]) + self.intercept_

    @property
    def result_(self) -> FitResult:
        """The :class:`unimix.FitResult` with its tables, tests and certificate.

        Raises:
            AttributeError: If a model without a formula leaves no residual variance, because it has as many columns as
                rows, or the columns explain the response exactly. ``predict`` then uses least squares.
            NotFittedError: If ``fit`` was not called before.
        """
        check_is_fitted(self)
        if self._result is None:
            raise AttributeError(f"There is no result_. {self._reason} predict() uses least squares.")
        return self._result

    def __sklearn_is_fitted__(self) -> bool:
        return "_result" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = self._by_column
        tags.target_tags.positive_only = self._takes_positive()
        return tags

    def _more_tags(self) -> dict[str, Any]:  # of scikit-learn 1.5
        kinds = ["categorical", "string"] if self._by_column else []
        return {"X_types": ["2darray", *kinds], "requires_positive_y": self._takes_positive()}

    @property
    def _by_column(self) -> bool:
        """Whether the columns of X have different roles and types; otherwise X is one matrix of numbers."""
        return self.formula is not None or self.groups is not None

    def _takes_positive(self) -> bool:
        try:
            return as_family(self.family).response == "positive"
        except OptionError:
            return False

    def _check_arguments(self) -> None:
        if self.formula is not None and self.groups is not None:
            raise OptionError(
                "formula= and groups= were both given, and a formula holds its grouping factors. Type "
                "MixedModelRegressor('~ x + (1 | g)'), or MixedModelRegressor(groups='g')."
            )
        if self.new_levels not in ("population", "error"):
            raise OptionError(f"new_levels={self.new_levels!r}: choose 'population' or 'error'.")

    def _read(self, X: Any, *, reset: bool) -> dict[str, Any]:
        """The columns of X by the names that they had in ``fit``, after the checks of scikit-learn."""
        least = 2 if reset else 1
        if self._by_column and narwhals.dependencies.is_into_dataframe(X):
            labels = column_labels(X)
            twice = sorted({n for n in labels if labels.count(n) > 1})
            if twice:
                raise DataError(f"X has several columns called {listing(twice)}; rename them.")
            if not labels:
                raise DataError("X is a data frame with 0 feature(s); give the columns of the model.")
            names = X.columns if isinstance(X, pd.DataFrame) else labels
            # some versions of scikit-learn read names only from pandas, so they are given an empty pandas frame
            header = pd.DataFrame(np.zeros((min(2, X.shape[0]), len(labels))), columns=names)
            validate_data(self, header, reset=reset, ensure_min_samples=least)
            columns: list[Any] = list(read_series(X, labels).values())
        else:
            kind = None if self._by_column else np.float64
            values = validate_data(self, X, reset=reset, dtype=kind, ensure_min_samples=least)
            if values.dtype.kind in "US":
                raise DataError("X is an array of text; give a data frame, with a type for every column.")
            columns = list(values.T)
        if reset:
            self._name_columns()
        if self.formula is None:
            columns = [c if j in self._grouping else _as_number(c) for j, c in enumerate(columns)]
        return dict(zip(self._names, columns, strict=True))

    def _name_columns(self) -> None:
        """Set the names of the columns, and the positions of grouping factors and predictors."""
        plain = [f"x{j}" for j in range(self.n_features_in_)]
        names = [str(n) for n in getattr(self, "feature_names_in_", plain)]
        self._grouping = [] if self.groups is None else self._positions(names)
        self._predictors = [j for j in range(len(names)) if j not in self._grouping]
        unusable = len(set(names)) < len(names) or any("`" in n or not n for n in names)
        self._names = plain if self.formula is None and unusable else names

    def _positions(self, names: list[str]) -> list[int]:
        places: dict[Any, int] = {n: j for j, n in enumerate(names)} | {j: j for j in range(len(names))}
        try:
            one = isinstance(self.groups, str | numbers.Integral)
            columns: list[Any] = [self.groups] if one else list(self.groups)  # type: ignore[arg-type]
            absent = [g for g in columns if g not in places]
        except TypeError:
            advice = "give the name or the position of a column of X, or a list of them"
            raise OptionError(f"groups={self.groups!r}: {advice}.") from None
        if absent:
            known = self._names_of_array() or f"X has {len(names)} feature(s): {listing(names)}."
            hint = did_you_mean(str(absent[0]), names)
            raise DataError(f"groups={self.groups!r}: {absent[0]!r} is not a column of X.{hint} {known}")
        return list(dict.fromkeys(places[g] for g in columns))

    def _names_of_array(self) -> str:
        """A sentence that gives the names of the columns of an array; empty if X is a data frame."""
        if hasattr(self, "feature_names_in_"):
            return ""
        n = self.n_features_in_
        return f"X has no column names: its {n} feature(s) are called {listing((f'x{j}' for j in range(n)), 3)}."

    def _model(self) -> tuple[str, str, list[str]]:
        """The name of the response, the formula, and the names of the columns of X that the formula uses."""
        response = "y"
        while response in self._names:
            response += "_"
        if self.formula is None:
            right = " + ".join(quote(self._names[j]) for j in self._predictors) or "1"
            terms = [f"(1 | {quote(self._names[j])})" for j in self._grouping]
            short = len(right) < MAX_LENGTH // 2
            return response, " + ".join([f"{response} ~ {right if short else '.'}", *terms]), self._names
        text = self.formula
        if isinstance(text, str) and text.lstrip().startswith("~"):
            text = f"{response} {text.lstrip()}"
        spec = parse(text, self.ziformula, self.dispformula)
        if not isinstance(spec.response, Name):
            advice = (
                f"The response {render(spec.response)} is a transformation, but fit() takes y as it is. For log(y): "
                "sklearn.compose.TransformedTargetRegressor(MixedModelRegressor('~ ...'), func=numpy.log, "
                "inverse_func=numpy.exp). For cbind(a, b): y = a / (a + b), and sample_weight = a + b."
            )
            raise FormulaError(text, [Fault(advice, 0, len(text.partition("~")[0].rstrip()))])
        named = {*used_columns(spec), *(n for part in spec.parts.values() for n in part_columns(part))}
        used = [n for n in self._names if n != spec.response.name and (spec.has_dot() or n in named)]
        return spec.response.name, text, used

    def _set_coefficients(self, beta: FloatArray) -> None:
        """Set ``intercept_`` and ``coef_`` from coefficients of shape (1 + predictors,)."""
        self.intercept_ = float(beta[0])
        self.coef_ = np.zeros(self.n_features_in_)
        self.coef_[self._predictors] = beta[1:]

    def _with_intercept(self, columns: dict[str, Any]) -> FloatArray:
        picked = [columns[self._names[j]] for j in self._predictors]
        values = [np.asarray(c.to_numpy() if isinstance(c, nw.Series) else c, dtype=np.float64) for c in picked]
        return np.column_stack([np.ones(len(next(iter(columns.values())))), *values])

    def _exact(self, columns: dict[str, Any], target: FloatArray, weights: FloatArray | None) -> FloatArray | None:
        """Least-squares coefficients if no residual variance remains, shape (1 + predictors,); None for other models.

        They are the limit of the Gaussian model as sigma goes to zero: the columns explain the response, and all group
        effects are zero.
        """
        if self.formula is not None or self.priors or self.ziformula or self.dispformula:
            return None
        sampler = registry.resolve(self.backend, self.options).info.samples
        if sampler or self.method not in (None, "REML", "ML") or not as_family(self.family).is_linear:
            return None
        try:
            x = self._with_intercept(columns)
        except (TypeError, ValueError):  # text
            return None
        kept = list(independent_columns(x))
        x = x[:, kept]
        saturated = len(target) <= len(kept)
        if self._grouping and (saturated or self.new_levels == "error"):
            return None
        if not saturated and residual_scale(target, x, weights, None) > 0:
            return None
        units = np.abs(x).max(axis=0)
        beta = np.zeros(1 + len(self._predictors))
        beta[kept] = np.linalg.lstsq(x / units, target, rcond=None)[0] / units
        return beta


def _as_number(column: Any) -> Any:
    """Turn booleans and numbers into floats, whose linear effect has one coefficient; leave other columns unchanged."""
    if not isinstance(column, nw.Series):
        return column if column.dtype == object else column.astype(np.float64)
    plain = column.dtype == nw.Boolean or (column.dtype.is_numeric() and not column.dtype.is_decimal())
    return column.cast(nw.Float64) if plain else column


def _target(y: Any, name: str) -> FloatArray:
    if y is None:
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    try:
        return np.asarray(check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y"))
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise ValueError(f"{error}: y is text. A regressor takes numbers: y = (y == 'yes').astype(float).") from error


def _weights(given: Any, n: int) -> FloatArray | None:
    if given is None:
        return None
    given = [given] if np.isscalar(given) else given
    weights = np.asarray(check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight"))
    if weights.shape != (n,):
        raise DataError(f"sample_weight has the shape {weights.shape}; give one number per row of X, shape ({n},).")
    if (weights < 0).any():
        raise DataError(f"sample_weight is negative in {int((weights < 0).sum())} rows; weights are 0 or more.")
    if np.count_nonzero(weights) < 2:
        raise DataError(f"sample_weight is zero in all rows but {np.count_nonzero(weights)}; a fit needs two.")
    return weights


def _refuse_missing(columns: dict[str, Any], used: list[str]) -> None:
    """Refuse missing values in data frames; scikit-learn has checked arrays already."""
    counts = {}
    for name, column in ((n, columns[n]) for n in used if isinstance(columns[n], nw.Series)):
        missing = column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()
        if missing.any():
            counts[name] = int(missing.sum())
    if counts:
        raise DataError(
            f"Input X contains NaN or other missing values: {listing(f'{k} {v}' for k, v in counts.items())}. Leave "
            "those rows out, or put an imputer such as sklearn.impute.SimpleImputer() before the model."
        )


__all__ = ["MixedModelRegressor"]
