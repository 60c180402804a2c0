"""A result as a model of the Python package marginaleffects."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.means.reference_grid import PopulationRows, fitted_frame, given_offset
from unimix.design.typed_columns import FactorColumn
from unimix.distributions.family import Family
from unimix.distributions.ordered import refuse_categories
from unimix.distributions.random_responses import mean_of
from unimix.errors import EngineBrokenError, EngineNotInstalledError, OptionError, UnsupportedModelError, to_type
from unimix.installation import pip_line

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

LEAST_STEP = 1e-6
STEP_TOLD = (
    "The standard errors of these slopes can be far off: marginaleffects 0.6 differentiates them numerically with "
    "steps of the coefficients down to 1e-10, where rounding errors dominate. Type eps_vcov=1e-4, as in "
    "avg_slopes(model, eps_vcov=1e-4), or use fit.comparisons('x', comparison='dydx')."
)
RESERVED = (
    *("rowid", "type", "group", "estimate", "std_error", "p_value", "s_value", "conf_low", "conf_high", "term"),
    *("contrast", "statistic"),
)
"""Column names that marginaleffects reserves (its sanitize/newdata.py)."""


def to_marginaleffects(fit: FittedModel) -> Any:
    """The result as a model of the Python package marginaleffects, for its predictions, slopes and plots.

    Returns:
        A model for ``marginaleffects.avg_predictions(model)`` and the package's other functions. Predictions are for
        the population (group effects zero), standard errors come from the fixed effects by the delta method, tests are
        z tests (t tests for linear models without group effects), and a posterior is represented by its mean and
        covariance matrix, so that predictions are the inverse link of that mean. :meth:`comparisons` gives degrees of
        freedom per row, and uses posterior draws.

    Raises:
        EngineNotInstalledError: If marginaleffects is missing.
        EngineBrokenError: If the installed version of marginaleffects or polars does not work.
        UnsupportedModelError: If the model has zero inflation.

    Example:
        >>> import unimix as um
        >>> from marginaleffects import avg_comparisons
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> average = avg_comparisons(fit.to_marginaleffects(), variables="Days")
        >>> average["estimate"].round(3).to_list(), average["std_error"].round(3).to_list()
        ([10.467], [0.804])
    """
    pl, base, vault = _package()
    refuse_categories(fit.family, "to_marginaleffects")
    if "zero" in fit.parts:
        raise UnsupportedModelError(
            "With zero inflation the expected response depends on two parts, and the result does not hold their common "
            "covariance matrix: marginaleffects would be given wrong standard errors. Use fit.predict, or fit without "
            "ziformula=."
        )
    design = fit.design()
    frame = fitted_frame(design)
    taken = [str(c) for c in frame.columns]
    shown = {name: _free(name, [t for t in taken if t != name]) for name in taken}
    response = _free(fit.model.response, taken)
    offset = given_offset(fit, design)
    offset_name = None if offset is None else _free("offset", [*taken, *shown.values(), response])
    columns = {}
    for name in taken:
        column = design.columns.get(name)
        values: Any = frame[name].tolist()
        if isinstance(column, FactorColumn) and column.levels != (False, True):
            values = pl.Series([str(v) for v in values], dtype=pl.Enum([str(v) for v in column.levels]))
        columns[shown[name]] = values
    columns[response] = np.asarray(fit.rows.observed, dtype=np.float64).tolist()
    if offset is not None:
        columns[str(offset_name)] = offset.tolist()
    predictors = [shown[n] for n in fit.model.encoding.predictors if n in shown]
    beta = np.array(fit.fixed.estimate, dtype=np.float64)
    facts = vault(
        coef=beta,
        coefnames=np.array(fit.fixed.terms),
        vcov=fit.fixed.reported_covariance(),
        modeldata=pl.DataFrame(columns),
        formula=lambda newdata: (None, newdata),  # formulaic would parse a string, and it has no random terms
        variable_names=[response, *predictors, *([offset_name] if offset_name else [])],
        package="unimix",
    )
    back = {new: old for old, new in shown.items()}
    family: Family = fit.family
    span = np.ptp(design.x, axis=0)

    class UnimixModel(base):  # type: ignore[misc, valid-type]
        """A unimix result, predicted at population level."""

        last: FloatArray = np.empty((0, 0))
        near = False
        warned = False

        def get_vcov(self, vcov: Any = True) -> FloatArray | None:
            """The covariance matrix of the fixed effects."""
            if vcov is None or vcov is False:
                return None
            if vcov is not True:
                raise OptionError(f"vcov={vcov!r}: True, False, or a matrix; unimix computes no other kind.")
            return fit.fixed.reported_covariance()

        def get_exog(self, newdata: Any) -> FloatArray:
            """Columns of the fixed effects and the offset, shape (n, p + 1)."""
            # marginaleffects adds columns of its own, such as ``term``: only the fit's are taken.
            made = pd.DataFrame({back[c]: newdata[c].to_list() for c in newdata.columns if c in back})
            extra = None if offset_name is None else np.asarray(newdata[offset_name].to_list(), dtype=np.float64)
            rows = PopulationRows(fit, design, extra)(made, "newdata")
            self.near, self.last = _nearly(rows.x, self.last, span), rows.x
            return np.column_stack([rows.x, rows.offset])

        def get_predict(self, params: FloatArray, newdata: Any) -> Any:
            """Expected responses, columns rowid and estimate."""
            x = np.asarray(newdata, dtype=np.float64)
            step = float(np.abs(np.asarray(params) - beta).max(initial=0.0))
            if self.near and 0 < step < LEAST_STEP and not self.warned:
                self.warned = True
                warnings.warn(STEP_TOLD, UserWarning, stacklevel=2)
            mean = mean_of(family, x[:, :-1] @ np.asarray(params) + x[:, -1])
            return pl.DataFrame({"rowid": np.arange(len(x), dtype=np.int32), "estimate": mean})

    made = UnimixModel(fit, facts)
    if fit.fixed.df_method == "residual":
        made.df_resid = float(fit.fixed.df[0])
    return made


def _package() -> tuple[Any, Any, Any]:
    """The module polars, and the two classes of marginaleffects that a model is made of."""
    try:
        versions = {name: metadata.version(name) for name in ("marginaleffects", "polars")}
    except metadata.PackageNotFoundError as error:
        raise EngineNotInstalledError(
            f"{error.name} is not installed, which fit.to_marginaleffects() needs. "
            f"{to_type(pip_line('marginaleffects'))}\n"
            "fit.comparisons(), fit.hypotheses() and fit.emmeans() need no other package."
        ) from error
    main = {name: tuple(int(part) for part in v.split(".")[:2]) for name, v in versions.items()}
    if main["marginaleffects"] != (0, 6) or not (1, 42) <= main["polars"] < (2, 0):
        installed = " and ".join(f"{name} {v}" for name, v in versions.items())
        raise EngineBrokenError(
            f"{installed} are installed; fit.to_marginaleffects() runs with marginaleffects 0.6, which needs polars "
            f"1.42 or newer and fails with polars 2. {to_type(pip_line('marginaleffects'))}"
        )
    import polars as pl
    from marginaleffects.classes.model import ModelAbstract, ModelVault

    return pl, ModelAbstract, ModelVault


def _nearly(x: FloatArray, before: FloatArray, span: FloatArray) -> bool:
    """Whether rows differ from the previous ones only by the small step of a numerical slope.

    Args:
        x: Rows, shape (n, p).
        before: Rows of the previous call, shape (n, p).
        span: Ranges of the fitted columns, shape (p,).
    """
    if x.shape != before.shape:
        return False
    moved = (np.abs(x - before) / np.where(span > 0, span, 1.0)).max(axis=1, initial=0.0)
    return bool(((moved > 0) & (moved < 1e-3)).any())


def _free(name: str, taken: list[str]) -> str:
    """The name, with as many underscores appended as make it different from all names taken."""
    while name in RESERVED or name in taken:
        name += "_"
    return name


__all__ = ["to_marginaleffects"]
