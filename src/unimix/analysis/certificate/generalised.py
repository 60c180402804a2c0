"""Certificates of generalised models: Laplace's approximation, quadrature, and models without group effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate import messages, verdicts
from unimix.analysis.certificate.certificate import Certificate, Check
from unimix.analysis.certificate.consistency import arithmetic
from unimix.analysis.certificate.posterior import posterior_checks
from unimix.design.arrays import Design
from unimix.distributions.parameter_scales import inside
from unimix.errors import listing
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.glmm.laplace import LaplaceSolution, adaptive_quadrature, fixed_predictor, laplace_at
from unimix.likelihood.glmm.optimise import (
    JointCovariance,
    LaplaceOptimum,
    Point,
    covariance_of,
    joint_covariance_of,
    thresholds_of,
)
from unimix.likelihood.glmm.row_model import RowModel
from unimix.likelihood.glmm.separation import separated_terms, undecided_separation
from unimix.likelihood.lmm.identification import undetermined_covariances
from unimix.likelihood.lmm.newton_decrement import Curvature, curvature_of_laplace
from unimix.likelihood.lmm.weights import counted_rows
from unimix.likelihood.response import rounding, row_log_likelihood

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
NODES = 25
EXPECTED = "Laplace (expected information)"
ROUGH = 1e-2
"""Largest relative difference of standard errors from those of a numerical Hessian."""


def _refused(reason: str) -> str:
    return f"This result cannot be certified: {reason}."


def _rows(design: Design, at: Point) -> RowModel:
    return RowModel.of(design, at.parameters, at.parts)


def _offset(design: Design) -> FloatArray:
    return np.zeros(design.n) if design.offset is None else design.offset


class GeneralisedGround:
    """A design with its optima under each criterion, shared by all results of the design."""

    def __init__(self, design: Design, fits: Sequence[FittedModel]) -> None:
        self.design, self.fits, self.criterion = design, fits, LaplaceCriterion.of(design)
        self.conditioned, self.way_back = self.criterion.rows, self.criterion.way_back

    def best(self, nodes: int) -> LaplaceOptimum:
        """The highest maximum reached from every result and every likely starting value."""
        return self.criterion.optimum(nodes, [p for p in map(self.point, self.fits) if p is not None])

    def point(self, fit: FittedModel) -> Point | None:
        """A result's parameters in the coordinates of the well-scaled design; None if the result lacks some of them."""
        names = self.design.parameters
        values = np.array([fit.criteria.parameters.get(name, np.nan) for name in names])
        if names and not inside(self.design.family, values):
            return None
        parts = {name: np.asarray(part.estimate) for name, part in fit.parts.items() if name != "thresholds"}
        if set(parts) != set(self.design.parts):
            return None
        return self.criterion.point([np.asarray(b.covariance) for b in fit.random], fit.fixed.estimate, values, parts)

    def certify(self, fit: FittedModel) -> Certificate:
        """The certificate of one result."""
        at = self.point(fit)
        if at is None:
            check = Check(name="same model", passed=None, said="its dispersion parameters are not known")
            return verdicts.not_checkable(fit, check, _refused("its dispersion parameters are not known"))
        if fit.fixed.interval == "credible":
            return self._bayes(fit, at)
        criterion = fit.criteria.criterion
        nodes = self._nodes(criterion)
        if nodes is None:
            message = f"{criterion} is not a criterion of this model"
            return verdicts.not_checkable(fit, Check(name="same model", passed=None, said=message), _refused(message))
        if message := undecided_separation(self.design):
            return verdicts.not_checkable(fit, Check(name="separation", passed=None, said=message), _refused(message))
        value = self._value(at, nodes, expected=criterion == EXPECTED)
        if not np.isfinite(value):
            message = "unimix's criterion has no value at its estimates"
            return verdicts.not_checkable(fit, Check(name="same model", passed=None, said=message), _refused(message))
        best = self.best(nodes)
        joint = joint_covariance_of(best, self.conditioned)
        at_best = self._cov(joint.covariance[joint.of["fixed"], joint.of["fixed"]])
        scale = np.sqrt(np.diag(at_best))
        checks = [
            messages.rows_check(fit, self.design),
            arithmetic(fit, self.design),
            messages.identification(fit, self._ridge()),
            self._same_model(fit, at, value),
            self._optimum(fit, at, value, best, scale, nodes),
        ]
        if fit.random:
            checks.append(self._effects(fit, at))
        checks += self._inference(fit, at, at_best)
        checks += self._parts(fit, best, joint)
        gap = self._gap(value, best, at, criterion)
        return verdicts.conclude(
            fit,
            checks,
            gap=gap,
            best_value=best.value,
            best_fixed=self.way_back.inverse @ best.point.beta,
            best_sd=self._sds(best),
            boundary=messages.boundary(fit, at.factors, best.point.factors),
        )

    def _ridge(self) -> str:
        """What the data leave open; empty if nothing."""
        endless = separated_terms(self.design)
        if endless:
            return (
                f"separation: some combination of {listing(endless)} predicts part of the responses perfectly, and has "
                "no finite estimate and no standard error. The data determine the limit of the log-likelihood and of "
                "the fitted values"
            )
        ridge = undetermined_covariances(self.design) if self.design.blocks else None
        return "" if ridge is None else str(ridge)

    def _nodes(self, criterion: str) -> int | None:
        """Number of nodes of a criterion; None if the model has no such criterion."""
        if not self.design.blocks:
            return 1 if criterion == "ML" else None
        if criterion in ("Laplace", EXPECTED):
            return 1
        scalar = len(self.design.blocks) == 1 and self.design.blocks[0].q == 1
        digits = criterion.removeprefix("AGQ(").removesuffix(")")
        return int(digits) if scalar and digits.isdecimal() and f"AGQ({digits})" == criterion else None

    def _inference(self, fit: FittedModel, at: Point, at_best: FloatArray) -> list[Check]:
        """Checks of the fixed effects' covariance matrix and degrees of freedom."""
        covariance = at_best
        if fit.criteria.criterion == EXPECTED:
            expected = self._expected(at).beta_cov
            covariance = np.full_like(at_best, np.nan) if expected is None else self._cov(expected)
        if separated_terms(self.design):
            message = "the likelihood has no curvature where data are separated, and no standard errors"
            return [Check(name="standard errors", passed=None, said=message)]
        kinds, dfs = {"observed information": covariance}, {}
        if not fit.random and self.design.family.parameters and not self.design.parts:
            kinds["Pearson dispersion"], df_residual = self._pearson(fit, at)
            dfs["residual"] = np.full(self.design.p, df_residual)
        return [messages.standard_errors(fit, kinds, ROUGH), messages.degrees(fit, dfs)]

    def _parts(self, fit: FittedModel, best: LaplaceOptimum, joint: JointCovariance) -> list[Check]:
        """Checks of the covariance matrices of the other parts' coefficients, and of thresholds."""
        fixed, checks = joint.of["fixed"], []
        exact = {}
        for name, turn in self.way_back.parts.items():
            if name in joint.of and not len(joint.lost_of(name)):
                own = joint.of[name]
                exact[name] = turn @ joint.covariance[own, own] @ turn.T, joint.covariance[fixed, own] @ turn.T
        thresholds = thresholds_of(best, self.conditioned, joint)
        if thresholds is not None:
            exact["thresholds"] = thresholds[1:]
        for name, (covariance, cross) in exact.items():
            if name not in fit.parts or fit.parts[name].unbounded.size:
                continue  # an estimate that tends to infinity has no standard error to compare
            beside = None
            if not len(joint.lost_of("fixed")):
                beside = self._cov(joint.covariance[fixed, fixed]), self.way_back.inverse @ cross
            checks.append(messages.standard_errors_of_part(fit, name, covariance, beside, ROUGH))
        return checks

    def _expected(self, at: Point) -> Curvature:
        """Derivatives of Laplace's approximation with the expected information, the criterion of lme4."""
        covariances = [f @ f.T for f in at.factors]
        key = f"expected information at {at.pack().tobytes().hex()}"
        return self.conditioned.keep(
            key,
            lambda: curvature_of_laplace(self.conditioned, at.beta, covariances, at.parameters, expected=True),
        )

    def _gap(self, value: float, best: LaplaceOptimum, at: Point, criterion: str) -> float:
        if criterion != EXPECTED:
            return best.value - value
        return float(self._expected(at).gain)

    def _cov(self, matrix: FloatArray) -> FloatArray:
        m = self.way_back.inverse
        return np.asarray(m @ matrix @ m.T)

    def _sds(self, best: LaplaceOptimum) -> list[FloatArray]:
        turned = [t @ f for t, f in zip(self.way_back.blocks, best.point.factors, strict=True)]
        return [np.sqrt(np.diag(f @ f.T)) for f in turned]

    def _value(self, at: Point, nodes: int, *, expected: bool = False) -> float:
        design = self.conditioned
        if nodes > 1:
            variance = float(at.factors[0][0, 0] ** 2)
            fixed = fixed_predictor(design, at.beta)
            return adaptive_quadrature(_rows(design, at).at, fixed, design.blocks[0], variance, nodes)
        return self._laplace(at, expected=expected).log_likelihood

    def _laplace(self, at: Point, *, expected: bool) -> LaplaceSolution:
        rows = _rows(self.conditioned, at)
        covariances = [f @ f.T for f in at.factors]
        zero = rows.predictors.get("zero")
        return laplace_at(self.conditioned, at.beta, covariances, rows.dispersion, expected=expected, zero=zero)

    def _same_model(self, fit: FittedModel, at: Point, value: float) -> Check:
        known: dict[str, float] = {}
        if fit.criteria.criterion == EXPECTED:
            known["Laplace's approximation with the observed information"] = self._value(at, 1) - value
        return messages.same_model(fit, value, known, 0.0, rounding(self.design))

    def _optimum(
        self, fit: FittedModel, at: Point, value: float, best: LaplaceOptimum, scale: FloatArray, nodes: int
    ) -> Check:
        gap = self._gap(value, best, at, fit.criteria.criterion)
        best_beta = self.way_back.inverse @ best.point.beta
        moved = float(np.max(np.abs(fit.fixed.estimate - best_beta) / scale, initial=0.0))
        eigenvalues = np.linalg.eigvalsh(-best.hessian)
        numbers = {
            "gap": gap,
            "fixed effects move by (SE)": moved,
            "least eigenvalue of -Hessian": float(eigenvalues.min(initial=np.inf)),
            "largest eigenvalue of -Hessian": float(eigenvalues.max(initial=-np.inf)),
            "nodes": float(nodes),
        }
        return messages.optimum(fit, gap, moved, self._sds(best), numbers, rounding(self.design))

    def _pearson(self, fit: FittedModel, at: Point) -> tuple[FloatArray, float]:
        """Covariance (p, p) by the expected information and the Pearson dispersion, and residual degrees of freedom."""
        design = self.design
        rows = row_log_likelihood(design, at.parameters, design.x @ fit.fixed.estimate + _offset(design))
        information = design.x.T @ (rows.expected[:, None] * design.x)
        scale = {"dispersion": float(at.parameters[0]), "sigma": float(at.parameters[0] ** 2)}
        share, df_residual = 1.0, counted_rows(design.family, design.n, design.weights) - design.p
        if design.family.parameters[0] in scale:
            squares = np.sum(fit.residuals("pearson") ** 2)
            share = float(squares / df_residual / scale[design.family.parameters[0]])
        return np.asarray(share * np.linalg.inv(information)), df_residual

    def _effects(self, fit: FittedModel, at: Point) -> Check:
        evaluation = self._laplace(at, expected=fit.criteria.criterion == EXPECTED)
        worst, spread = [0.0], [0.0]
        for block, turn, modes, covs in zip(
            fit.random, self.way_back.blocks, evaluation.modes, evaluation.mode_covs, strict=True
        ):
            least = 1e-6 / np.asarray(block.unit)
            sd = np.maximum(np.asarray(block.sd), least)
            worst.append(float((np.abs(np.asarray(block.modes) - modes @ turn.T) / sd).max()))
            exact = turn @ covs @ turn.T
            spread.append(messages.largest_difference(np.asarray(block.mode_covariance), exact, least))
        return messages.group_effects(max(worst), max(spread))

    def _bayes(self, fit: FittedModel, at: Point) -> Certificate:
        scalar = len(self.design.blocks) == 1 and self.design.blocks[0].q == 1
        nodes = NODES if scalar else 1
        best = self.best(nodes)
        scale = np.sqrt(np.diag(self._cov(covariance_of(best, self.conditioned)[0])))
        best_beta = self.way_back.inverse @ best.point.beta
        pull = np.abs(fit.fixed.estimate - best_beta) / scale
        value = self._value(at, nodes)
        name = f"AGQ({nodes})" if scalar else "Laplace" if self.design.blocks else "ML"
        if fit.model.method in ("variational", "MAP"):
            ratio = fit.fixed.std_error / scale
            message = (
                f"an approximate posterior ({fit.model.method}): fixed effects up to {pull.max(initial=0.0):.2g} "
                f"standard errors from the {name} optimum, standard errors {ratio.min(initial=np.inf):.2g} to "
                f"{ratio.max(initial=0.0):.2g} times those of the likelihood"
            )
            numbers = {"pull (SE)": float(pull.max(initial=0.0)), "gap": best.value - value}
            check = Check(name="approximation", passed=None, said=message, numbers=numbers)
            return verdicts.not_checkable(fit, check, _refused(f"it is {message}"))
        return verdicts.conclude(
            fit,
            [
                messages.rows_check(fit, self.design),
                arithmetic(fit, self.design),
                messages.posterior(fit, pull, best.value - value, name),
                *posterior_checks(fit, self.design),
            ],
            gap=best.value - value,
            best_value=best.value,
            best_fixed=best_beta,
            best_sd=self._sds(best),
            boundary="",
        )
