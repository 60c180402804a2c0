"""Certificates of linear (mixed) models: everything is held against the criterion of penalised least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate import messages as words
from unimix.analysis.certificate.arithmetic import arithmetic
from unimix.analysis.certificate.certificate import Certificate, Check
from unimix.design.arrays import Design, RandomBlock
from unimix.likelihood.lmm import penalised_least_squares
from unimix.likelihood.lmm.conditional_modes import conditional_effects
from unimix.likelihood.lmm.conditioning import column_scale, condition
from unimix.likelihood.lmm.denominator_df import df_of_contrasts, kenward_roger, observed_covariance, satterthwaite
from unimix.likelihood.lmm.newton_decrement import NOTICEABLE
from unimix.likelihood.lmm.optimise import Optimum, climb, curvature_at, scaled_gradient, search
from unimix.likelihood.lmm.reduced_data import Products, form

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


REACH, REACH_CROSSED = 3e-7, 1e-4
"""Residual standard deviations, in those of the response given the fixed effects, below which rounding rules; with
several grouping factors more cancels."""


@dataclass(frozen=True)
class Point:
    """A result's parameters in conditioned coordinates.

    Attributes:
        factors: Relative factors, lower triangular, shapes (q, q).
        sigma: Residual standard deviation.
        beta: Shape (p,).
    """

    factors: list[FloatArray]
    sigma: float
    beta: FloatArray


class LinearGround:
    """The design and its optimum, for all results of it."""

    def __init__(self, design: Design, fits: Sequence[FittedModel]) -> None:
        self.design = design
        plain = design if design.offset is None else replace(design, y=design.y - design.offset, offset=None)
        self.conditioned, self.way_back = condition(plain)
        self.fits = fits
        self.log_weights = 0.0 if design.weights is None else 0.5 * float(np.log(design.weights).sum())
        self.units = [column_scale(b.z) for b in self.conditioned.blocks]
        self._best: dict[bool, Optimum] = {}

    @cached_property
    def products(self) -> Products:
        """The reduced data."""
        return form(self.conditioned)

    def lost(self, *, reml: bool) -> float:
        """What the user's log-likelihood is less than the conditioned one's."""
        scale, p, n = np.log(self.way_back.scale), self.design.p, self.design.n
        return float((n - p) * scale + self.way_back.log_det if reml else n * scale)

    def best(self, *, reml: bool) -> Optimum:
        """The highest maximum, climbed to from every result and every likely start."""
        if reml not in self._best:
            points = [self.point(f).factors for f in self.fits]
            self._best[reml] = search(self.products, self.units, points, reml=reml)
        return self._best[reml]

    def point(self, fit: FittedModel) -> Point:
        """A result's parameters in conditioned coordinates."""
        way = self.way_back
        factors = list(way.relative([b.covariance for b in fit.random], fit.sigma))
        beta = np.asarray(np.linalg.solve(way.coefficients, fit.fixed.estimate - way.shift))
        return Point(factors, fit.sigma / way.residual, beta)

    def certify(self, fit: FittedModel) -> Certificate:
        """The certificate of one result."""
        if not self.design.blocks:
            return self._without_groups(fit)
        at = self.point(fit)
        reach = REACH_CROSSED if self.products.rest else REACH
        if at.sigma < reach:
            return words.out_of_reach(fit, at.sigma, reach)
        sampled = fit.fixed.interval == "credible"
        reml = sampled or fit.fit.criterion == "REML"
        checks = [self._bayes(fit, at)] if sampled else self._frequentist(fit, at, reml=reml)
        checks[:0] = [words.rows_check(fit, self.design), arithmetic(fit, self.design)]
        best = self.best(reml=reml)
        value = self._value(at, reml=reml)
        return words.conclude(
            fit,
            checks,
            gap=best.profile.value - value,
            best_value=best.profile.value - self.lost(reml=reml),
            best_fixed=self._fixed(best.profile.beta),
            best_sd=self._sds(reml=reml),
            boundary=words.boundary(fit, at.factors, best.factors),
        )

    def best_covariances(self, *, reml: bool) -> tuple[tuple[FloatArray, ...], float]:
        """Covariances and residual standard deviation of the best known optimum, in the user's units."""
        found = self.best(reml=reml)
        s = self.way_back.scale * found.profile.sigma
        turned = [s * t @ f for t, f in zip(self.way_back.blocks, found.factors, strict=True)]
        return tuple(f @ f.T for f in turned), self.way_back.residual * found.profile.sigma

    def _value(self, at: Point, *, reml: bool) -> float:
        return penalised_least_squares.log_likelihood(self.products, at.factors, at.sigma, at.beta, reml=reml)

    def _fixed(self, beta: FloatArray) -> FloatArray:
        return self.way_back.shift + self.way_back.coefficients @ beta

    def _sds(self, *, reml: bool) -> list[FloatArray]:
        covariances, sigma = self.best_covariances(reml=reml)
        return [*(np.sqrt(np.diag(c)) for c in covariances), np.array([sigma])]

    def _frequentist(self, fit: FittedModel, at: Point, *, reml: bool) -> list[Check]:
        here = penalised_least_squares.profile(self.products, at.factors, reml=reml)
        best = self.best(reml=reml)
        scale = np.sqrt(np.diag(self._cov(here.sigma**2 * here.cov_unscaled)))
        return [
            self._same_model(fit, at, here, scale, reml=reml),
            self._optimum(fit, at, here, best, scale, reml=reml),
            self._effects(fit, at, here),
            *self._independent(fit, at, reml=reml),
            *self._inference(fit, at, here, reml=reml),
        ]

    def _independent(self, fit: FittedModel, at: Point, *, reml: bool) -> list[Check]:
        """Whether the engine fitted independent effects where the model has correlated ones."""
        value = self._value(at, reml=reml)
        lost = self.best(reml=reml).profile.value - value
        found = words.independent(fit) if lost > NOTICEABLE else []
        if not found:
            return []
        # In the user's columns: conditioned ones mix them.
        single: list[RandomBlock] = []
        for k, block in enumerate(self.design.blocks):
            columns = [[j] for j in range(block.q)] if k in found else [list(range(block.q))]
            single += [
                replace(
                    block, terms=tuple(block.terms[j] for j in own), z=block.z[:, own] / column_scale(block.z[:, own])
                )
                for own in columns
            ]
        design = replace(self.conditioned, blocks=tuple(single))
        units = [np.ones(b.q) for b in single]
        best = search(form(design), units, reml=reml).profile.value
        return [words.left_out(fit, found, lost)] if abs(best - value) < NOTICEABLE else []

    def _cov(self, matrix: FloatArray) -> FloatArray:
        m = self.way_back.coefficients
        return np.asarray(m @ matrix @ m.T)

    def _same_model(
        self, fit: FittedModel, at: Point, here: penalised_least_squares.Profile, scale: FloatArray, *, reml: bool
    ) -> Check:
        n, p = self.design.n, self.design.p
        ours = self._value(at, reml=reml) - self.lost(reml=reml)
        other = self._value(at, reml=not reml) - self.lost(reml=not reml)
        with np.errstate(all="ignore"):
            log_x = float(np.linalg.slogdet(self.design.x.T @ self.design.x)[1]) / 2
        known = {
            f"the log-likelihood of {'ML, not REML' if reml else 'REML, not ML'}": other - ours,
            "without the weights' constant sum(log w)/2": -self.log_weights,
            "with twice the weights' constant sum(log w)/2": self.log_weights,
            "without n log(2 pi)/2": n * words.HALF_LOG_2PI,
            "without (n - p) log(2 pi)/2": (n - p) * words.HALF_LOG_2PI,
            "with n instead of n - p in log(2 pi)/2": -p * words.HALF_LOG_2PI,
            "with log|X'X|/2 added": log_x,
            "with log|X'X|/2 taken off": -log_x,
        }
        off = float(np.max(np.abs(self._fixed(at.beta) - self._fixed(here.beta)) / scale, initial=0.0))
        return words.same_model(fit, ours, known, off)

    def _optimum(
        self,
        fit: FittedModel,
        at: Point,
        here: penalised_least_squares.Profile,
        best: Optimum,
        scale: FloatArray,
        *,
        reml: bool,
    ) -> Check:
        gap = best.profile.value - self._value(at, reml=reml)
        moved = float(np.max(np.abs(fit.fixed.estimate - self._fixed(best.profile.beta)) / scale, initial=0.0))
        _, hessian = curvature_at(self.products, at.factors, reml=reml)
        values = np.linalg.eigvalsh(-hessian)
        own = climb(self.products, at.factors, reml=reml)
        numbers = {
            "gap": gap,
            "gap to the maximum uphill of it": own.profile.value - self._value(at, reml=reml),
            "scaled gradient": scaled_gradient(self.products, here, at.factors, reml=reml),
            "least eigenvalue of -Hessian": float(values.min()),
            "largest eigenvalue of -Hessian": float(values.max()),
            "fixed effects move by (SE)": moved,
        }
        return words.optimum(fit, gap, moved, self._sds(reml=reml), numbers)

    def _effects(self, fit: FittedModel, at: Point, here: penalised_least_squares.Profile) -> Check:
        modes, covs = conditional_effects(self.products, here, at.factors)
        worst = [0.0]
        for block, turn, own, spread in zip(fit.random, self.way_back.blocks, modes, covs, strict=True):
            turned = self.way_back.scale * turn
            sd = np.maximum(np.asarray(block.sd), 1e-6 * fit.sigma / np.asarray(block.unit))
            worst.append(float((np.abs(np.asarray(block.modes) - own @ turned.T) / sd).max()))
            exact = np.sqrt(np.maximum(np.einsum("lii->li", turned @ spread @ turned.T), 0.0))
            worst.append(float((np.abs(np.asarray(block.mode_sd) - exact) / sd).max()))
        return words.group_effects(float(np.max(worst)))

    def _inference(
        self, fit: FittedModel, at: Point, here: penalised_least_squares.Profile, *, reml: bool
    ) -> list[Check]:
        m = self.way_back.coefficients
        made = satterthwaite(self.products, at.factors, at.sigma, reml=reml)
        observed = observed_covariance(self.products, at.factors, at.sigma, at.beta, reml=reml)
        kinds = {
            "generalised least squares": np.sqrt(np.diag(self._cov(at.sigma**2 * here.cov_unscaled))),
            "observed information": np.sqrt(np.maximum(np.diag(self._cov(observed)), 0.0)),
        }
        edge = words.boundary(fit, at.factors)
        dfs = {"satterthwaite": df_of_contrasts(made, m)}
        dfs["residual"] = np.full(self.design.p, float(self.design.n - self.design.p))
        if reml:
            kenward = kenward_roger(self.products, at.factors, at.sigma)
            kinds["Kenward-Roger"] = np.sqrt(np.diag(self._cov(kenward.adjusted)))  # type: ignore[arg-type]
            dfs["kenward-roger"] = df_of_contrasts(kenward, m)
        return [words.standard_errors(fit, kinds), words.degrees(fit, dfs, singular=bool(edge))]

    def _bayes(self, fit: FittedModel, at: Point) -> Check:
        best = self.best(reml=True)
        se = np.sqrt(np.diag(self._cov(best.profile.sigma**2 * best.profile.cov_unscaled)))
        pull = np.abs(fit.fixed.estimate - self._fixed(best.profile.beta)) / se
        lost = best.profile.value - penalised_least_squares.log_likelihood(
            self.products, at.factors, at.sigma, reml=True
        )
        return words.posterior(fit, pull, lost, "REML")

    def _without_groups(self, fit: FittedModel) -> Certificate:
        design = self.design
        root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
        y = design.y if design.offset is None else design.y - design.offset
        q, r = np.linalg.qr(root[:, None] * design.x)
        beta = np.linalg.solve(r, q.T @ (root * y)) if design.p else np.empty(0)
        rest = float(np.sum((root * (y - design.x @ beta)) ** 2))
        sigma = float(np.sqrt(rest / (design.n - design.p)))
        inverse = np.linalg.inv(r) if design.p else np.empty((0, 0))
        se = sigma * np.sqrt(np.sum(inverse**2, axis=1))
        ours = -0.5 * design.n * (1 + np.log(2 * np.pi * rest / design.n)) + self.log_weights
        off = float(np.max(np.abs(fit.fixed.estimate - beta) / se, initial=0.0))
        if fit.fixed.interval == "credible":
            checks = [words.posterior(fit, np.abs(fit.fixed.estimate - beta) / se, 0.5 * off**2, "least squares")]
        else:
            known = {"without the weights' constant sum(log w)/2": -self.log_weights}
            spread = Check(
                name="residual",
                passed=bool(abs(fit.sigma / sigma - 1) < 1e-6),
                said=f"residual standard deviation {fit.sigma:.6g}, ours {sigma:.6g}",
            )
            checks = [
                arithmetic(fit, design),
                spread,
                words.same_model(fit, ours, known, off),
                words.standard_errors(fit, {"least squares": se}),
                words.degrees(fit, {"residual": np.full(design.p, float(design.n - design.p))}),
            ]
        return words.conclude(
            fit,
            checks,
            gap=0.5 * off**2,
            best_value=ours,
            best_fixed=beta,
            best_sd=[np.array([sigma])],
            boundary="",
        )
