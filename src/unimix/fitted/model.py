"""FittedModel: a fit without its analyses, which are functions of it and methods of :class:`unimix.FitResult`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.arrays import Design, keep_in
from unimix.design.estimates import Absent, Deferred
from unimix.distributions.family import Family
from unimix.errors import DataError, OptionError, UnimixError
from unimix.fitted import tables
from unimix.fitted.no_rows import REFUSED, NoRows, has_no_rows
from unimix.fitted.residuals import mean, refuse_kind, residual_deviance, residuals
from unimix.fitted.sampled import engine_draws, ratio_draws
from unimix.fitted.saved_fit import SavedFit
from unimix.fitted.saving import load, written
from unimix.fitted.schema import (
    Criteria,
    EngineInfo,
    FixedPartResult,
    ModelInfo,
    RandomPartResult,
    ResidualPartResult,
    Rows,
    SmoothPartResult,
    Status,
)
from unimix.fitted.unsaved import Refitter, Unsaved
from unimix.foreign_names import attribute_hint, suggests_names
from unimix.formula.terms import ModelSpec

FloatArray = npt.NDArray[np.float64]
Kept = TypeVar("Kept")
Effects = Literal["fixed", "ran_pars", "ran_vals", "ran_coefs", "zero_inflation", "dispersion", "thresholds", "all"]
Model = TypeVar("Model", bound="FittedModel")


@suggests_names
@dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """A fitted model without the analyses: its estimates, exact in JSON, its tables, and the arrays that were fitted.

    Attributes:
        model: The model: formula, family, method, and how the data were encoded.
        engine: The engine that fitted the model, with versions, options and times.
        fixed: Fixed effects.
        random: Random effects, one entry per block.
        criteria: Likelihood, information criteria and dispersion parameters.
        status: Whether the fit converged and can be used.
        rows: Observed and fitted values per row.
        provenance: Source of each quantity that the engine did not compute itself, and the reason.
        notes: Output and warnings of the engine, verbatim, and changes that were made to the data.
        parts: ``zero`` (zero inflation, logit scale), ``dispersion`` (log scale), ``thresholds`` (ordered responses).
        residual_part: Covariance of the residuals, where they are correlated or have several variances; else None.
        smooths: Smooths s(x), whose coefficients are among the fixed effects.
    """

    model: ModelInfo
    engine: EngineInfo
    fixed: FixedPartResult
    random: tuple[RandomPartResult, ...]
    criteria: Criteria
    status: Status
    rows: Rows
    provenance: dict[str, str]
    notes: tuple[str, ...]
    parts: dict[str, FixedPartResult] = field(default_factory=dict)
    residual_part: ResidualPartResult | None = None
    smooths: tuple[SmoothPartResult, ...] = ()
    _unsaved: Unsaved = field(default_factory=Unsaved)

    def _keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """A quantity that follows from the result: computed at the first call and kept as long as the result."""
        return keep_in(self.__dict__.setdefault("_kept", {}), name, make)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedModel) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.model.fingerprint, self.engine.backend, self.fixed.estimate.tobytes()))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            message = attribute_hint(name) or f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)

    def __copy__(self) -> Self:
        """A copy without the kept quantities, because the copy may be given other numbers."""
        return replace(self)

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle: all but the engine's own object, which belongs to its process, and the arrays."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {"_unsaved": replace(self._unsaved, native=None, design=None, generative=None)}

    @property
    def native(self) -> Any:
        """The engine's own result object, such as a statsmodels result; None in a loaded result.

        Raises:
            UnimixError: If the fit had a limit: it then ran in a process of its own, where the object was left.
        """
        native = self._unsaved.native
        if isinstance(native, Absent):
            raise UnimixError(native.why)
        return native.get() if isinstance(native, Deferred) else native

    @property
    def posterior(self) -> Any:
        """Posterior draws as an ArviZ object.

        Raises:
            UnimixError: If the engine does not sample, or the result was loaded from JSON.
        """
        return engine_draws(self)

    def design(self) -> Design:
        """The arrays that were fitted: the response y, the matrix X, and the blocks of Z with their levels.

        Raises:
            DataError: If the result was loaded or unpickled and has not been given its data, or if it was fitted to
                reduced data (:func:`unimix.reduce`), which hold no rows.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.design().x.shape
            (180, 2)
        """
        design = self._arrays()
        if design.compression is not None:
            raise DataError(REFUSED)
        return design

    def _arrays(self) -> Design:
        """The arrays that were fitted: rows, or compressed rows (:class:`unimix.design.arrays.Compression`)."""
        if self._unsaved.design is None:
            raise DataError(
                "A loaded result holds no data. Give it the frame that was fitted, fit = fit.with_data(frame), or fit "
                "the model again: um.refit(fit, frame)."
            )
        return self._unsaved.design

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """Fixed effects: index term; columns estimate, std_error, df, statistic, p_value, lower, upper.

        A posterior has a further column p_direction: the larger of the posterior probabilities of the two signs.
        """
        return tables.fixed_effects(self.fixed)

    @property
    def zero_inflation(self) -> pd.DataFrame:
        """Coefficients of the logit of the probability of a structural zero, in the layout of ``fixed_effects``."""
        return self._part_table("zero", "ziformula='~ 1'")

    @property
    def dispersion_effects(self) -> pd.DataFrame:
        """Coefficients of the logarithm of the dispersion, in the layout of ``fixed_effects``."""
        return self._part_table("dispersion", "dispformula='~ x'")

    def _part_table(self, name: str, how: str) -> pd.DataFrame:
        if name not in self.parts:
            raise DataError(f"The model has no such part; fit it with {how}.")
        return tables.fixed_effects(self.parts[name])

    @property
    def thresholds(self) -> pd.DataFrame:
        """Thresholds between neighbouring categories of an ordered response, in the layout of ``fixed_effects``."""
        return self._part_table("thresholds", "family='cumulative'")

    @property
    def fixed_cov(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects, terms x terms; infinite variances under separation."""
        names = list(self.fixed.terms)
        return pd.DataFrame(self.fixed.reported_covariance(), index=names, columns=names)

    @property
    def variance_components(self) -> pd.DataFrame:
        """Columns group, term1, term2, covariance, sdcor (SD or correlation): lme4's ``as.data.frame(VarCorr(m))``."""
        return tables.variance_components(tables.with_sds(self.random, self.smooths), self.residual_part or self._scale)

    @property
    def group_effects(self) -> tables.GroupTables:
        """Conditional modes (posterior means) per grouping factor: ``fit.group_effects["g"]``, levels x terms."""
        return tables.group_tables(self.random, "modes")

    @property
    def group_effects_sd(self) -> tables.GroupTables:
        """Conditional (posterior) standard deviations of the group effects, in the layout of ``group_effects``."""
        return tables.group_tables(self.random, "mode_sd")

    def coefficients(self, group: str | None = None) -> pd.DataFrame:
        """Sum of fixed and group effects for each level of one grouping factor, levels x terms.

        Args:
            group: Name of the grouping factor; optional if the model has only one.

        Raises:
            DataError: If the model has no such grouping factor, or several and none is named.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.coefficients("Subject").round(2).head(3)
                     Intercept   Days
            Subject
            308         292.19  10.47
            309         173.56  10.47
            310         188.30  10.47
        """
        return tables.coefficients(self.fixed, self.random, group)

    # -- numbers --------------------------------------------------------------------------------

    @property
    def fitted(self) -> FloatArray:
        """Expected response with the group effects, shape (n_obs,); of a posterior its posterior mean."""
        return mean(self.family, self.dispersion_parameters, self.rows)

    def residuals(
        self,
        kind: Literal["response", "pearson", "standardized", "deviance", "working"] = "response",
    ) -> FloatArray:
        """Observed minus fitted values, or residuals of another kind, shape (n_obs,).

        Args:
            kind: Kind of residuals. response: observed minus fitted. pearson: divided by the root of the variance
                function, times that of the weight or trials, as in R. standardized: divided by sigma, too; a sigma with
                a formula divides both. deviance: signed roots of deviance. working: divided by d mu / d eta.

        Raises:
            OptionError: If the kind is unknown or the family has no such residuals.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.residuals("standardized")[:3].round(2)
            array([-1.38, -1.42, -2.01])
        """
        modelled = "dispersion" in self.parts and not (self.family.is_linear and kind != "deviance")
        refuse_kind(kind, modelled=modelled, residual=self.residual_part)
        return residuals(self.family, self.dispersion_parameters, self.rows, kind)

    @property
    def spec(self) -> ModelSpec:
        """The parsed formula, with ``.`` replaced by the columns it stands for; the dispersion formula is not in it."""
        return self.model.encoding.spec

    @cached_property
    def family(self) -> Family:
        """Distribution of the response, with its link."""
        return self.model.distribution() if self._unsaved.design is None else self._unsaved.design.family

    @property
    def dispersion_parameters(self) -> FloatArray:
        """The family's dispersion parameters, shape (k,); NaN where the engine gave none."""
        return np.array([self.criteria.parameters.get(p, np.nan) for p in self.family.parameters])

    @property
    def _scale(self) -> float | None:
        """Residual standard deviation sigma if the family has a scale; else None."""
        return self.criteria.sigma if {"sigma", "dispersion"} & set(self.criteria.parameters) else None

    @property
    def sigma(self) -> float:
        """Residual standard deviation; square root of the dispersion (gamma, inverse Gaussian); 1 without a scale."""
        return self.criteria.sigma

    @property
    def log_likelihood(self) -> float:
        """Maximised log-likelihood (restricted under REML); NaN for a posterior."""
        return self.criteria.log_likelihood

    @property
    def aic(self) -> float:
        """Akaike's information criterion, -2 log-likelihood + 2 parameters."""
        return self.criteria.aic

    @property
    def bic(self) -> float:
        """Schwarz's Bayesian information criterion, -2 log-likelihood + log(n) parameters."""
        return self.criteria.bic

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood; under REML, the REML criterion."""
        return self.criteria.deviance

    @property
    def formula(self) -> str:
        """Formula as the user wrote it."""
        return self.model.formula

    @property
    def n_obs(self) -> int:
        """Number of rows used."""
        return self.model.n_obs

    @property
    def n_groups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return dict(self.model.groups)

    @property
    def converged(self) -> bool:
        """Whether the engine converged; a singular fit counts as converged, one that is not identified does not."""
        return self.status.state in ("converged", "singular")

    @property
    def singular(self) -> bool:
        """Whether a variance is estimated as zero or a correlation as +-1."""
        return self.status.state == "singular"

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self.engine.backend

    def tidy(self, effects: Effects | Sequence[Effects] = "fixed", *, exponentiate: bool = False) -> pd.DataFrame:
        """One row per estimate, with broom's column names.

        Args:
            effects: fixed; ran_pars (SDs and correlations); ran_vals (group effects); ran_coefs (coefficients per
                level); zero_inflation and dispersion, if they are modelled; a list of these, stacked; or all.
            exponentiate: Whether to exponentiate the fixed effects and their intervals: odds ratios, rate ratios or
                ratios of means (links log, logit and cloglog). Of a posterior these are summaries of the exponentiated
                draws, or of a lognormal distribution where it is a normal approximation.

        Returns:
            Columns effect, term, estimate, std.error, p.value, conf.low, conf.high and others of broom. Fixed effects
            of a posterior have ``p.direction``, the larger of the posterior probabilities of the two signs.

        Raises:
            OptionError: If the effects are unknown, or exponentiated coefficients have no meaning for the link.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.tidy("ran_pars").round(2)
                 effect     group             term  estimate
            0  ran_pars   Subject    sd__Intercept     37.12
            1  ran_pars  Residual  sd__Observation     30.99
        """
        if exponentiate:
            tables.check_ratios(self.model)
        draws = ratio_draws(self) if exponentiate else None
        of = (self.fixed, self.random, self.residual_part or self._scale, self.smooths)
        return tables.tidy(*of, effects, exponentiate=exponentiate, parts=self.parts, draws=draws)

    def glance(self) -> pd.DataFrame:
        """Fit statistics of the whole model in one row, with broom's column names.

        ``deviance`` is -2 log-likelihood; ``REMLcrit`` is the same number for REML fits. ``residual.deviance`` is the
        sum of squared deviance residuals (the weighted residual sum of squares of a Gaussian model), which broom calls
        deviance for ``lm``, ``glm`` and ``glmer``.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.glance()[["nobs", "sigma", "logLik", "AIC", "BIC"]].round(2)
               nobs  sigma  logLik      AIC      BIC
            0   180  30.99 -893.23  1794.47  1807.24
        """
        parameters = np.full(len(self.family.parameters), np.nan) if self.parts else self.dispersion_parameters
        deviance = np.nan if has_no_rows(self) else residual_deviance(self.family, parameters, self.rows)
        return tables.glance(self.model, self.criteria, self.status, self.engine, deviance)

    @overload
    def to_json(self, path: None = None, *, indent: int | None = None) -> str: ...
    @overload
    def to_json(self, path: str | Path, *, indent: int | None = None) -> Path: ...
    def to_json(self, path: str | Path | None = None, *, indent: int | None = None) -> str | Path:
        """Write the result as JSON; a loaded result is written as the same bytes.

        Args:
            path: File to write; None returns the text.
            indent: Number of spaces of indentation, or None for one line.

        Raises:
            OptionError: If ``path`` is not a path, or ``indent`` is not a number of spaces.
            DataError: If the file cannot be written.

        Returns:
            The JSON text, or the path if one was given.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.to_json()[:42]
            '{"model":{"formula":"Reaction ~ Days + (1 '
        """
        if indent is not None and not 0 <= indent < 100:
            raise OptionError(f"indent={indent!r}: give the number of spaces, or None for one line.")
        saved = {f.name: getattr(self, f.name) for f in fields(self) if f.name in SavedFit.model_fields}
        saved |= {"rows": None} if has_no_rows(self) else {}
        return written(SavedFit.model_construct(**saved).model_dump_json(indent=indent), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Self:
        """Read a result from JSON text or a file; no engine is needed.

        Args:
            source: The JSON text, or the path of the file.

        Raises:
            DataError: If the source is not a saved result, is damaged, or has another schema version.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> um.FitResult.from_json(fit.to_json()) == fit
            True
        """
        return with_content(cls, load(SavedFit, source, "saved FitResult"))


def with_content(kind: type[Model], saved: SavedFit) -> Model:
    """A result with the content of a saved one."""
    content = {name: getattr(saved, name) for name in SavedFit.model_fields if name != "schema_version"}
    return kind(**content | ({"rows": NoRows()} if saved.rows is None else {}))


def is_sampled(fit: FittedModel) -> bool:
    """Whether the result holds posterior draws."""
    return fit.fixed.interval == "credible" and fit.status.n_draws is not None


def interval_level(fit: FittedModel, ci_level: float | None) -> float:
    """Probability of the intervals: the value given, or that of the fit if None is given."""
    return fit.fixed.level if ci_level is None else ci_level


def has_design(fit: FittedModel) -> bool:
    """Whether the result holds the fitted arrays; a result that was loaded or unpickled does not."""
    return fit._unsaved.design is not None


def own_refitter(fit: FittedModel) -> Refitter[FittedModel] | None:
    """The engine with the options of this fit, ready for other responses and rows; None in a loaded result."""
    return fit._unsaved.refitter
