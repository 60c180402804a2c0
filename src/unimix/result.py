"""FitResult: one answer for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Never, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.plot_data.accessor import Plots
from unimix.analysis.prediction import predict as prediction
from unimix.analysis.prediction.intervals import NEW, frame_of, included, predict_interval
from unimix.analysis.summaries.augment import augment_data, augment_rows
from unimix.design.frames import one_row
from unimix.distributions.family import Family, as_family
from unimix.distributions.sampling import mean_of
from unimix.errors import DataError, OptionError, listing
from unimix.fitted import tables, text
from unimix.fitted.residuals import mean, residual_deviance, residuals
from unimix.foreign_names import refuse_keywords
from unimix.result_interval import IntervalResult

FloatArray = npt.NDArray[np.float64]
Effects = Literal["fixed", "ran_pars", "ran_vals", "ran_coefs", "zero_inflation", "dispersion", "all"]


class FitResult(IntervalResult):
    """A fitted model, in the same shape whichever engine fitted it.

    Attributes:
        model: What was fitted.
        engine: Who fitted it, with versions, options and times.
        fixed: Fixed effects.
        random: One entry per block of random effects.
        fit: Likelihood and information criteria.
        status: Whether the answer can be used.
        parts: What is modelled beside the mean: ``zero`` (zero inflation, logit scale), ``dispersion`` (log scale).
        rows: Observed and fitted values per row.
        provenance: For each quantity that is not the engine's own word: whose it is, and why.
        notes: What the engine printed or warned, verbatim, and what was done to the data.
        schema_version: Of this layout.
    """

    # -- tables ---------------------------------------------------------------------------------

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """Index term; columns estimate, std_error, df, statistic, p_value, lower, upper."""
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
    def fixed_cov(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects, terms x terms."""
        names = list(self.fixed.terms)
        return pd.DataFrame(np.array(self.fixed.covariance), index=names, columns=names)

    @property
    def variance_components(self) -> pd.DataFrame:
        """Columns group, term1, term2, covariance, sdcor: the layout of lme4's ``as.data.frame(VarCorr(m))``."""
        return tables.variance_components(self.random, self._scale)

    @property
    def group_effects(self) -> tables.GroupTables:
        """Conditional modes (posterior means) per grouping factor: ``fit.group_effects["g"]``, levels x terms."""
        return tables.group_tables(self.random, "modes")

    @property
    def group_effects_sd(self) -> tables.GroupTables:
        """Their conditional (posterior) standard deviations, in the same layout."""
        return tables.group_tables(self.random, "mode_sd")

    def coefficients(self, group: str | None = None) -> pd.DataFrame:
        """Fixed plus group effects per level of one grouping factor, levels x terms.

        Args:
            group: Grouping factor; may be left out where there is one.

        Raises:
            DataError: If there is no such grouping factor.
        """
        return tables.coefficients(self.fixed, self.random, group)

    # -- numbers --------------------------------------------------------------------------------

    @property
    def fitted(self) -> FloatArray:
        """Expected response with the group effects, shape (n_obs,)."""
        return mean(self.family, self.rows, self.rows.linear_predictor)

    @property
    def residuals(self) -> FloatArray:
        """Observed minus fitted values, shape (n_obs,)."""
        return self.rows.observed - self.fitted

    def resid(
        self,
        kind: Literal["response", "pearson", "standardized", "deviance", "working"] = "response",
        **unknown: Never,
    ) -> FloatArray:
        """Residuals of a kind, shape (n_obs,).

        Args:
            kind: response; pearson (over the root of the variance function, times the root of the weight or of the
                trials, as in R); standardized (pearson over sigma); deviance; working (response residuals over
                d mu / d eta).
            unknown: Nothing; what other packages call an argument is answered with its name here.

        Raises:
            OptionError: If the family has no such residuals.
        """
        refuse_keywords(FitResult.resid, unknown)
        if "dispersion" in self.parts and kind != "response":
            raise OptionError(f"kind={kind!r} is not defined where the dispersion has a model: choose 'response'.")
        return residuals(self.family, self.dispersion_parameters, self.rows, kind)

    @property
    def family(self) -> Family:
        """Distribution of the response, with its link."""
        return as_family(f"{self.model.family}({self.model.link})")

    @property
    def dispersion_names(self) -> tuple[str, ...]:
        """Names of the family's dispersion parameters."""
        return self.family.parameters

    @property
    def dispersion_parameters(self) -> FloatArray:
        """The family's dispersion parameters, shape (k,); NaN where the engine gave none."""
        return np.array([self.fit.parameters.get(p, np.nan) for p in self.dispersion_names])

    @property
    def _scale(self) -> float | None:
        """sigma, where the family has a scale."""
        return self.fit.sigma if {"sigma", "dispersion"} & set(self.fit.parameters) else None

    @property
    def sigma(self) -> float:
        """Residual standard deviation; root of the dispersion (gamma, inverse Gaussian); 1 without a scale."""
        return self.fit.sigma

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the criterion (restricted under REML); NaN for a posterior."""
        return self.fit.log_likelihood

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return self.fit.aic

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return self.fit.bic

    @property
    def deviance(self) -> float:
        """-2 log-likelihood; under REML the REML criterion."""
        return self.fit.deviance

    @property
    def formula(self) -> str:
        """The formula as given."""
        return self.model.formula

    @property
    def n_obs(self) -> int:
        """Rows used."""
        return self.model.n_obs

    @property
    def n_groups(self) -> dict[str, int]:
        """Levels per grouping factor."""
        return dict(self.model.groups)

    @property
    def converged(self) -> bool:
        """Whether the search ended properly; a singular fit has converged, on the boundary."""
        return self.status.state in ("converged", "singular")

    @property
    def singular(self) -> bool:
        """Whether a variance is zero or a correlation +-1."""
        return self.status.state == "singular"

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self.engine.backend

    # -- verbs ----------------------------------------------------------------------------------

    @overload
    def predict(
        self,
        data: Any = None,
        *,
        level: Literal["group", "population"] | Sequence[str] = "group",
        new_levels: Literal["error", "population", "sample"] = "error",
        kind: Literal["response", "link"] = "response",
        interval: None = None,
        ci_level: float | None = None,
        seed: int = 0,
        fitted: Any = None,
        **unknown: Never,
    ) -> FloatArray: ...
    @overload
    def predict(
        self,
        data: Any = None,
        *,
        level: Literal["group", "population"] | Sequence[str] = "group",
        new_levels: Literal["error", "population", "sample"] = "error",
        kind: Literal["response", "link"] = "response",
        interval: Literal["confidence", "prediction"],
        ci_level: float | None = None,
        seed: int = 0,
        fitted: Any = None,
        **unknown: Never,
    ) -> pd.DataFrame: ...
    def predict(
        self,
        data: Any = None,
        *,
        level: Literal["group", "population"] | Sequence[str] = "group",
        new_levels: Literal["error", "population", "sample"] = "error",
        kind: Literal["response", "link"] = "response",
        interval: Literal["confidence", "prediction"] | None = None,
        ci_level: float | None = None,
        seed: int = 0,
        fitted: Any = None,
        **unknown: Never,
    ) -> FloatArray | pd.DataFrame:
        """Predict the response, with an interval if asked for.

        Args:
            data: New rows, in any form that ``fit`` takes, or a dict of single values for one row; None for the rows
                that were fitted.
            level: group adds the group effects, population leaves them out, a list of grouping factors adds theirs.
            new_levels: For levels that were not fitted: error, population (their effects are zero) or sample (they are
                zero too, but their variance is in the interval).
            kind: response (the expected response, by the inverse link, structural zeros included), or link (the
                linear predictor). At population level this is the response of a group whose effects are zero, not the
                average over groups.
            interval: confidence, of the expected response: the joint error of fixed and group effects at the estimated
                variances. prediction, of one new response (of the weight or the trials that its row has in the column
                of ``weights=`` or in ``cbind``; else weight 1, one trial): also the residual, and the variance between
                groups of every effect that is left out or not fitted; its estimate is then the mean over them.
                Quantiles of the draws for a sampler.
            ci_level: Probability of the interval (that of the fit, if left out).
            seed: Of the draws that prediction intervals of generalised models are made of.
            fitted: The data that were fitted; needed for intervals of a result that was loaded or unpickled only.
            unknown: Nothing; what other packages call an argument is answered with its name here.

        Returns:
            One value per row; with an interval a frame with columns estimate, std_error, lower, upper. NaN where a
            predictor is missing.

        Raises:
            DataError: For absent columns or unknown levels.
            OptionError: For a wrong argument.
        """
        refuse_keywords(FitResult.predict, unknown)
        chosen = included(self, level)
        if new_levels not in NEW:
            raise OptionError(f"new_levels={new_levels!r}: choose {listing(map(repr, NEW))}.")
        if kind not in ("response", "link"):
            raise OptionError(f"kind={kind!r}: choose 'response' or 'link'.")
        if interval is not None:
            rows = self._fitted_frame(fitted) if data is None else data
            return predict_interval(
                self,
                rows,
                level=level,
                new_levels=new_levels,
                interval=interval,
                kind=kind,
                ci_level=self.interval_level(ci_level),
                seed=seed,
                fitted=fitted,
                own_rows=data is None,
            )
        if data is None and isinstance(level, str):
            eta = self.rows.linear_predictor if level == "group" else self.rows.population_predictor
            return eta if kind == "link" else mean(self.family, self.rows, eta)
        zero = self.parts["zero"].estimate if "zero" in self.parts else None
        found = prediction.predict(
            self.model.recipe,
            self.fixed.estimate,
            self.random,
            self._fitted_frame(fitted) if data is None else one_row(data),
            chosen=chosen,
            new_levels=new_levels,
            zero=zero,
            aliased=self.model.aliased,
        )
        return found.eta if kind == "link" else mean_of(self.family, found.eta) * found.share

    def _fitted_frame(self, fitted: Any) -> dict[str, Any]:
        """The columns that were fitted, in the rows used."""
        return frame_of(self.design(fitted))

    def tidy(self, effects: Effects | Sequence[Effects] = "fixed", *, exponentiate: bool = False) -> pd.DataFrame:
        """One row per estimate, with broom's column names.

        Args:
            effects: fixed; ran_pars (SDs and correlations); ran_vals (group effects); ran_coefs (coefficients per
                level); zero_inflation and dispersion, where they are modelled; a list of these, stacked; or all.
            exponentiate: Give odds ratios, rate ratios or ratios of means with their intervals: exp of the fixed
                effects, where the link is a logarithm of something (log, logit, cloglog).

        Raises:
            OptionError: For unknown effects, or a link whose coefficients have no such meaning.
        """
        found = tables.tidy(self.fixed, self.random, self._scale, effects, exponentiate=exponentiate, parts=self.parts)
        if exponentiate and self.model.link not in ("log", "logit", "cloglog"):
            raise OptionError(
                f"exponentiate=True has no meaning with the {self.model.link} link: exp of a coefficient is a ratio "
                "where the link is log, logit or cloglog."
            )
        return found

    def glance(self) -> pd.DataFrame:
        """One row with the criteria of the whole fit, with broom's column names.

        ``deviance`` is -2 log-likelihood, ``REMLcrit`` the same where the fit is by REML. ``residual.deviance`` is the
        sum of squared deviance residuals (the weighted residual sum of squares of a Gaussian model), which broom calls
        deviance for ``lm``, ``glm`` and ``glmer``.
        """
        parameters = np.full(len(self.dispersion_names), np.nan) if self.parts else self.dispersion_parameters
        deviance = residual_deviance(self.family, parameters, self.rows)
        return tables.glance(self.model, self.fit, self.status, self.engine, deviance)

    def augment(
        self, data: Any = None, *, new_levels: Literal["error", "population"] = "error", full: bool = False
    ) -> pd.DataFrame:
        """Rows with broom's columns ``.fitted``, ``.resid`` (observed minus fitted) and ``.fixed`` (population level).

        Args:
            data: The data that were fitted, or new rows. None gives the rows used with the response alone.
            new_levels: As for :meth:`predict`, for new rows.
            full: Add ``.eta``, ``.mu``, ``.offset``, ``.weights`` (or trials) and ``.wtres`` (Pearson residuals) of the
                rows that were fitted, and ``.hat``, ``.std.resid`` and ``.cooksd`` of linear models and of generalised
                ones without group effects. It costs about what a prediction with intervals does.

        Returns:
            Without data, one row per row used, under the labels that the pandas frame gave them (else their positions).
            With data, a pandas copy of them with the three columns: NaN for rows that the fit dropped; for new rows
            predictions, and ``.resid`` where the response is known.

        Raises:
            DataError: For absent columns or unknown levels of new rows; for ``full`` of a loaded result without data.
            OptionError: For ``full`` with new rows.
            UnsupportedModelError: For ``full`` with zero inflation or a formula of the dispersion.
        """
        if data is None:
            return augment_rows(self, full=full)
        return augment_data(self, data, new_levels, full=full)

    @property
    def plot(self) -> Plots:
        """Pictures: ``fit.plot.groups()``, ``.shrinkage()``, ``.caterpillar()``, ``.diagnostics()`` and others."""
        return Plots(self)

    def summary(self) -> str:
        """The whole result as text."""
        return text.summary(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return text.sentence(self)

    def _repr_html_(self) -> str:
        return text.html(self)
