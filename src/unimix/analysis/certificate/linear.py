"""Certificates of linear (mixed) models: results are compared with unimix's criterion by penalised least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate import messages, verdicts
from unimix.analysis.certificate.certificate import Certificate, Check
from unimix.analysis.certificate.consistency import arithmetic
from unimix.analysis.certificate.posterior import posterior_checks
from unimix.design.arrays import Design, RandomBlock
from unimix.fitted.criterion import covariances_of
from unimix.likelihood.lmm.conditioning import column_scale, well_scaled, without_offset
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.denominator_df import df_of_contrasts
from unimix.likelihood.lmm.evaluation import Evaluation, own_factors
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.likelihood.lmm.optimise import Optimum
from unimix.likelihood.lmm.reduced_data import form
from unimix.likelihood.lmm.search import search

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


REACH, REACH_CROSSED = 3e-7, 1e-4
"""Residual standard deviation, relative to that of the response given the fixed effects, below which rounding errors
dominate; the limit is higher with several grouping factors, where more digits cancel."""
LEAST_SQUARES = ("least squares", "generalised least squares", "observed information")
"""Kinds of covariance matrices that are the same without group effects."""


class LinearGround:
    """A design with its optima by REML and ML, shared by all results of the design."""

    def __init__(self, design: Design, fits: Sequence[FittedModel]) -> None:
        self.design, self.fits = design, fits
        self.log_weights = design.log_weights

    @cached_property
    def criterion(self) -> LinearCriterion:
        """The likelihood criterion of the design."""
        return LinearCriterion.of(self.design)

    def lost(self, *, reml: bool) -> float:
        """Difference between the log-likelihood in well-scaled coordinates and that in the user's coordinates."""
        return self.criterion.way_back.lost(reml=reml)

    def best(self, *, reml: bool) -> Optimum:
        """The highest maximum reached from every result and every likely starting value."""
        return self.criterion.optimum([self.point(f, reml=reml) for f in self.fits], reml=reml)

    def point(self, fit: FittedModel, *, reml: bool) -> Evaluation:
        """The evaluation of the likelihood at a result's covariance parameters."""
        return self.criterion.at(*covariances_of(fit), reml=reml)

    def beta(self, fit: FittedModel) -> FloatArray:
        """A result's fixed effects in well-scaled coordinates, shape (p,)."""
        way = self.criterion.way_back
        return np.asarray(np.linalg.solve(way.coefficients, fit.fixed.estimate - way.shift))

    def certify(self, fit: FittedModel) -> Certificate:
        """The certificate of one result."""
        if not self.design.has_covariances:
            return self._without_groups(fit)
        sampled = fit.fixed.interval == "credible"
        reml = sampled or fit.criteria.criterion == "REML"
        at = self.point(fit, reml=reml)
        reach = REACH_CROSSED if self.criterion.data.rest else REACH
        least = at.sigma * self._least_residual(at)
        if least < reach:
            return verdicts.out_of_reach(fit, least, reach)
        if sampled:
            checks = [self._bayes(fit, at), *posterior_checks(fit, self.design)]
        else:
            checks = self._frequentist(fit, at, reml=reml)
        checks[:0] = [messages.rows_check(fit, self.design), arithmetic(fit, self.design)]
        best = self.best(reml=reml)
        value = self._value(fit, at, reml=reml)
        return verdicts.conclude(
            fit,
            checks,
            gap=best.profile.value - value,
            best_value=best.profile.value - self.lost(reml=reml),
            best_fixed=self._fixed(best.profile.beta),
            best_sd=self._sds(reml=reml),
            boundary=messages.boundary(fit, at.own_factors, own_factors(self.criterion.data, best.factors)),
        )

    def _least_residual(self, at: Evaluation) -> float:
        """Smallest residual standard deviation of a row relative to sigma, where they have a formula; else 1."""
        if not self.design.has_modelled_variances:
            return 1.0
        return float(np.sqrt(np.sum(at.factors[-1] ** 2, axis=1)).min())

    def best_covariances(self, *, reml: bool) -> tuple[tuple[FloatArray, ...], float]:
        """Covariances and residual standard deviation of the best known optimum, in the user's units."""
        optimum = self.best(reml=reml)
        return self.criterion.covariances(optimum.factors, optimum.profile.sigma)

    def _value(self, fit: FittedModel, at: Evaluation, *, reml: bool) -> float:
        """Log-likelihood at a result's parameters, in well-scaled coordinates."""
        return at.log_likelihood(self.beta(fit), reml=reml)

    def _fixed(self, beta: FloatArray) -> FloatArray:
        way = self.criterion.way_back
        return way.shift + way.coefficients @ beta

    def _sds(self, *, reml: bool) -> list[FloatArray]:
        covariances, sigma = self.best_covariances(reml=reml)
        if self.design.has_modelled_variances:  # those of the residuals are exp(w'gamma), row by row
            return [np.sqrt(np.diag(c)) for c in covariances[:-1]]
        return [*(np.sqrt(np.diag(c)) for c in covariances), np.array([sigma])]

    def _frequentist(self, fit: FittedModel, at: Evaluation, *, reml: bool) -> list[Check]:
        here = at.profile
        scale = np.sqrt(np.diag(self.criterion.coefficients_cov(here.sigma**2 * here.cov_unscaled)))
        ridge = self.criterion.undetermined(at, self.design)
        return [
            messages.identification(fit, "" if ridge is None else str(ridge)),
            self._same_model(fit, at, scale, reml=reml),
            self._optimum(fit, at, scale, reml=reml),
            self._effects(fit, at),
            *messages.structures(fit, self.design.blocks),
            *self._independent(fit, at, reml=reml),
            *self._inference(fit, at, reml=reml),
        ]

    def _independent(self, fit: FittedModel, at: Evaluation, *, reml: bool) -> list[Check]:
        """Whether the engine fitted independent effects where the model has correlated ones."""
        value = self._value(fit, at, reml=reml)
        lost = self.best(reml=reml).profile.value - value
        independent = messages.independent(fit) if lost > NOTICEABLE else []
        correlated = [k for k in independent if self.design.blocks[k].structure == "us"]
        if not correlated or self.design.residual is not None:
            return []
        # Independence is a property of the user's columns: the well-scaled columns are mixtures of them.
        single: list[RandomBlock] = []
        for k, block in enumerate(self.design.blocks):
            columns = [[j] for j in range(block.q)] if k in correlated else [list(range(block.q))]
            single += [
                replace(
                    block,
                    terms=tuple(block.terms[j] for j in kept),
                    z=block.z[:, kept] / column_scale(block.z[:, kept]),
                )
                for kept in columns
            ]
        rows = well_scaled(self.design).rows
        best = search(form(replace(rows, blocks=tuple(single))), reml=reml).profile.value
        return [messages.left_out(fit, correlated, lost)] if abs(best - value) < NOTICEABLE else []

    def _same_model(self, fit: FittedModel, at: Evaluation, scale: FloatArray, *, reml: bool) -> Check:
        n, p = self.design.n_obs, self.design.p
        ours = self._value(fit, at, reml=reml) - self.lost(reml=reml)
        other = self._value(fit, at, reml=not reml) - self.lost(reml=not reml)
        with np.errstate(all="ignore"):
            log_x = float(np.linalg.slogdet(self.design.x.T @ self.design.x)[1]) / 2
        known = {
            f"the log-likelihood of {'ML, not REML' if reml else 'REML, not ML'}": other - ours,
            "without the weights' constant sum(log w)/2": -self.log_weights,
            "with twice the weights' constant sum(log w)/2": self.log_weights,
            "without n log(2 pi)/2": n * messages.HALF_LOG_2PI,
            "without (n - p) log(2 pi)/2": (n - p) * messages.HALF_LOG_2PI,
            "with n instead of n - p in log(2 pi)/2": -p * messages.HALF_LOG_2PI,
            "with log|X'X|/2 added": log_x,
            "with log|X'X|/2 taken off": -log_x,
        }
        off = float(np.max(np.abs(self._fixed(self.beta(fit)) - self.criterion.beta(at)) / scale, initial=0.0))
        return messages.same_model(fit, ours, known, off)

    def _optimum(self, fit: FittedModel, at: Evaluation, scale: FloatArray, *, reml: bool) -> Check:
        best, value = self.best(reml=reml), self._value(fit, at, reml=reml)
        gap = best.profile.value - value
        moved = float(np.max(np.abs(fit.fixed.estimate - self._fixed(best.profile.beta)) / scale, initial=0.0))
        values = np.linalg.eigvalsh(-at.curvature[1])
        numbers = {
            "gap": gap,
            "gap to the maximum uphill of it": at.uphill.profile.value - value,
            "scaled gradient": at.scaled_gradient,
            "least eigenvalue of -Hessian": float(values.min()),
            "largest eigenvalue of -Hessian": float(values.max()),
            "fixed effects move by (SE)": moved,
        }
        return messages.optimum(fit, gap, moved, self._sds(reml=reml), numbers)

    def _effects(self, fit: FittedModel, at: Evaluation) -> Check:
        worst, spread = [0.0], [0.0]
        for block, modes, covariances in zip(fit.random, *self.criterion.effects(at), strict=True):
            least = 1e-6 * covariances_of(fit)[1] / np.asarray(block.unit)
            sd = np.maximum(np.asarray(block.sd), least)
            worst.append(float((np.abs(np.asarray(block.modes) - modes) / sd).max()))
            spread.append(messages.largest_difference(np.asarray(block.mode_covariance), covariances, least))
        return messages.group_effects(max(worst), max(spread))

    def _inference(self, fit: FittedModel, at: Evaluation, *, reml: bool) -> list[Check]:
        m = self.criterion.way_back.coefficients
        kinds = {
            "generalised least squares": self.criterion.beta_cov(at),
            "observed information": self.criterion.coefficients_cov(at.observed_covariance(self.beta(fit))),
        }
        dfs = {"satterthwaite": df_of_contrasts(at.satterthwaite, m)}
        if reml:
            kinds["Kenward-Roger"] = self.criterion.coefficients_cov(at.kenward_roger.adjusted)  # type: ignore[arg-type]
            dfs["kenward-roger"] = df_of_contrasts(at.kenward_roger, m)
        checks = [messages.standard_errors(fit, kinds), messages.degrees(fit, dfs)]
        if self.design.has_modelled_variances and not at.singular:
            ours = self.criterion.dispersion(at)[1]
            checks.append(messages.standard_errors_of_part(fit, "dispersion", ours, None, messages.SAME_KIND))
        return checks

    def _bayes(self, fit: FittedModel, at: Evaluation) -> Check:
        best = self.best(reml=True)
        se = np.sqrt(np.diag(self.criterion.coefficients_cov(best.profile.sigma**2 * best.profile.cov_unscaled)))
        pull = np.abs(fit.fixed.estimate - self._fixed(best.profile.beta)) / se
        lost = best.profile.value - at.log_likelihood(reml=True)
        return messages.posterior(fit, pull, lost, "REML")

    def _without_groups(self, fit: FittedModel) -> Certificate:
        design = self.design
        root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
        y = without_offset(design).y
        q, r = np.linalg.qr(root[:, None] * design.x)
        beta = np.linalg.solve(r, q.T @ (root * y)) if design.p else np.empty(0)
        rest = float(np.sum((root * (y - design.x @ beta)) ** 2))
        known_variance = None if design.sigma is None else design.sigma**2
        sigma = float(np.sqrt(rest / (design.n_obs - design.p))) if design.sigma is None else design.sigma
        inverse = np.linalg.inv(r) if design.p else np.empty((0, 0))
        covariance = sigma**2 * inverse @ inverse.T
        se = np.sqrt(np.diag(covariance))
        ml = known_variance or rest / design.n_obs  # of the residual variance
        ours = -0.5 * (design.n_obs * np.log(2 * np.pi * ml) + rest / ml) + self.log_weights
        off = float(np.max(np.abs(fit.fixed.estimate - beta) / se, initial=0.0))
        if fit.fixed.interval == "credible":
            checks = [
                messages.rows_check(fit, design),
                arithmetic(fit, design),
                messages.posterior(fit, np.abs(fit.fixed.estimate - beta) / se, 0.5 * off**2, "least squares"),
                *posterior_checks(fit, design),
            ]
        else:
            known = {"without the weights' constant sum(log w)/2": -self.log_weights}
            divided_by_n = float(np.sqrt(rest / design.n_obs))
            if known_variance is None and abs(fit.sigma / divided_by_n - 1) < 1e-6:  # maximum likelihood
                sigma, covariance = divided_by_n, covariance * (divided_by_n / sigma) ** 2
            spread = Check(
                name="residual",
                passed=bool(abs(fit.sigma / sigma - 1) < 1e-6),
                said=f"residual standard deviation {fit.sigma:.6g}, ours {sigma:.6g}",
            )
            checks = [
                messages.rows_check(fit, design),
                arithmetic(fit, design),
                messages.identification(fit, ""),
                spread,
                messages.same_model(fit, ours, known, off),
                messages.standard_errors(fit, dict.fromkeys(LEAST_SQUARES, covariance)),
                messages.degrees(fit, {"residual": np.full(design.p, float(design.n_obs - design.p))}),
            ]
        return verdicts.conclude(
            fit,
            checks,
            gap=0.5 * off**2,
            best_value=ours,
            best_fixed=beta,
            best_sd=[np.array([sigma])],
            boundary="",
        )
