"""Profile likelihoods: the maximum of the likelihood over all parameters but one, which is held at a value.

The signed root zeta = sign * sqrt(2 (l_max - l_held)) is compared with a normal quantile (Venzon & Moolgavkar 1988,
Appl. Stat. 37:87; Bates, Maechler, Bolker & Walker 2015, J. Stat. Softw. 67(1), section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
from scipy import special

from unimix.design.arrays import Design
from unimix.likelihood.glmm.optimise import hessian_of
from unimix.likelihood.lmm.newton import ascend
from unimix.likelihood.profile.constrained_parameters import Coordinates, Target
from unimix.likelihood.profile.likelihoods import Model, State, rest_of

FloatArray = npt.NDArray[np.float64]

PRECISION = 1e-6
"""Tolerance of zeta at the ends of an interval."""
FLAT = 1e-5
"""Gradient, in units of the curvature, below which a point is a maximum; its square is the remaining error."""
FARTHEST = 1000.0
"""Number of first steps (about standard errors) beyond which a likelihood that has not fallen enough is flat."""
HIGHER = 1e-4
"""Excess of a profile over the maximum beyond which the maximum counts as wrong."""


def coordinates_of(model: Model, target: Target) -> tuple[Coordinates, FloatArray | None]:
    """Coordinates in which a target is held, and the contrast of a fixed effect in the model's coordinates."""
    row = model.way_back.coefficients[target.index] if target.kind == "fixed" else None
    orders, units, turns = [], [], []
    for k, (q, root) in enumerate(zip(model.sizes, model.best.roots, strict=True)):
        order = target.order(k, q)
        # An effect with zero variance takes one conditioned unit as its unit.
        turn = model.way_back.scale * model.way_back.blocks[k]
        sd, whole = np.sqrt(np.sum(root**2, axis=1)), np.sqrt(np.sum(turn**2, axis=1))
        unit = np.maximum(sd, 0.1 * whole)[order]
        orders.append(order)
        units.append(unit)
        turns.append(np.linalg.inv(turn)[:, order] * unit)
    n_rest = len(rest_of(model.best, row, model.log_unit))
    held = n_rest - len(model.best.scales) + target.index if target.kind == "scale" else -1
    return Coordinates(target, tuple(orders), tuple(units), tuple(turns), n_rest, held), row


def target_value(state: State, target: Target, beta: FloatArray) -> float:
    """Value of a target at a state: a fixed effect, an SD, a correlation, or a scale as in :class:`State`."""
    if target.kind == "fixed":
        return float(beta[target.index])
    if target.kind == "scale":
        return float(state.scales[target.index])
    root = state.roots[target.index]
    sd = np.sqrt(np.sum(root**2, axis=1))
    if target.kind == "sd":
        return float(sd[target.first])
    return float(root[target.first] @ root[target.second] / (sd[target.first] * sd[target.second]))


class HigherMaximumError(ArithmeticError):
    """Error for a profile that reaches a higher likelihood than the search for the maximum did."""


@dataclass
class Profiler:
    """Profile likelihood of one parameter.

    Attributes:
        model: Likelihood of the model.
        target: Parameter that is held.
        centre: Value of the parameter at the maximum.
        known: Known points of the profile: value of the parameter, absolute zeta, and coordinates z.
    """

    model: Model
    target: Target

    def __post_init__(self) -> None:
        self.centre = target_value(self.model.best, self.target, self.model.beta)
        self.shift = float(self.model.way_back.shift[self.target.index]) if self.target.kind == "fixed" else 0.0
        self.coordinates, self.row = coordinates_of(self.model, self.target)
        self._unit: FloatArray | None = None
        rest = rest_of(self.model.best, self.row, self.model.log_unit)
        self.known = [(self.centre, 0.0, self.coordinates.place(self.model.best.roots, rest))]

    def zeta(self, value: float) -> float:
        """Absolute zeta at a value: sqrt(2 (l_max - l_held)).

        Raises:
            HigherMaximumError: If the held likelihood exceeds the maximum.
        """
        held = value - self.shift - (self.model.log_unit if self.target.kind == "scale" else 0.0)
        criterion = self.model.criterion(self.row, held)
        coordinates = self.coordinates

        @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a trial step may be very long
        def slopes(z: FloatArray) -> tuple[float, FloatArray]:
            roots, rest = coordinates.roots(z, held)
            try:
                likelihood, by_roots, by_rest = criterion(roots, rest)
            except np.linalg.LinAlgError:
                return -np.inf, np.full(len(z), np.nan)
            return (likelihood if np.isfinite(likelihood) else -np.inf), coordinates.gradient(by_roots, by_rest, held)

        near = min(self.known, key=lambda k: abs(k[0] - value))[2]
        best, at = -np.inf, near
        for start in (near, coordinates.off_boundary(near)):
            if start is None:
                continue
            highest, where = self._highest(slopes, start)
            if highest > best:
                best, at = highest, where
        if best > self.model.value + HIGHER:
            raise HigherMaximumError(f"{best - self.model.value:.3g} higher at {value:.6g}")
        lost = float(np.sqrt(2.0 * max(self.model.value - best, 0.0)))
        self.known.append((value, lost, at))
        return lost

    def _highest(
        self, slopes: Callable[[FloatArray], tuple[float, FloatArray]], start: FloatArray
    ) -> tuple[float, FloatArray]:
        """Maximum near a start, by quasi-Newton steps in units of the first curvature, or by Newton's if they fail."""
        if not len(start):  # the held parameter is the only one
            return slopes(start)[0], start
        if self._unit is None:
            self._unit = _inverse_root(hessian_of(lambda z: slopes(z)[1], start, self.model.step))
        unit = self._unit

        def loss(t: FloatArray) -> tuple[float, FloatArray]:
            value, slope = slopes(start + unit @ t)
            return (-value, -unit.T @ slope) if np.isfinite(value) else (1e300, np.zeros_like(t))

        optimum = scipy.optimize.minimize(loss, np.zeros(len(start)), jac=True, method="BFGS", options={"gtol": FLAT})
        if np.abs(optimum.jac).max(initial=0.0) <= FLAT:
            return -float(optimum.fun), start + unit @ optimum.x
        climbed = ascend(
            start + unit @ optimum.x,
            lambda z: slopes(z)[0],
            lambda z: (slopes(z)[1], hessian_of(lambda v: slopes(v)[1], z, self.model.step)),
            np.ones_like,
            50,
        )
        return climbed.value, climbed.at

    def end(self, side: int, cut: float, step: float, bound: float) -> float:
        """Value at which zeta reaches a cut on one side; the bound if it stays below, infinity if there is no bound.

        Args:
            side: Side of the estimate, -1 or 1.
            cut: Normal quantile.
            step: Size of the first step, positive.
            bound: Bound of the parameter on this side.
        """
        inside, low, first = self.centre, 0.0, step
        outside, high = np.nan, np.nan
        for _ in range(40):
            trial = inside + side * step
            if not np.isfinite(bound) and abs(trial - self.centre) > FARTHEST * first:
                return side * np.inf
            if np.isfinite(bound) and side * (trial - bound) >= 0:
                trial = bound
            reached = self.zeta(trial)
            if reached >= cut:
                outside, high = trial, reached
                break
            if trial == bound:
                return float(bound)
            rate = (reached - low) / step
            inside, low = trial, reached
            step = step * float(np.clip((cut - reached) / max(rate * step, 1e-300) * 1.05, 0.2, 3.0))
        else:
            return side * np.inf
        return self._between(inside, low - cut, outside, high - cut, cut)

    def _between(self, a: float, fa: float, b: float, fb: float, cut: float) -> float:
        """Value between a and b at which zeta equals the cut, by the Illinois variant of regula falsi."""
        for _ in range(60):
            c = b - fb * (b - a) / (fb - fa)
            fc = self.zeta(c) - cut
            if abs(fc) < PRECISION:
                return c
            if np.sign(fc) == np.sign(fb):
                b, fb, fa = c, fc, fa / 2
            else:
                a, fa, b, fb = b, fb, c, fc
            if abs(b - a) <= 1e-12 * max(abs(a), abs(b)):
                break
        return b


def _inverse_root(hessian: FloatArray) -> FloatArray:
    """Matrix R with R R' close to (-H)^-1, shape (d, d); directions without curvature keep unit length."""
    if not np.isfinite(hessian).all():
        return np.eye(len(hessian))
    values, vectors = np.linalg.eigh(-hessian)
    return np.asarray(vectors / np.sqrt(np.where(values > 1e-4, values, 1.0)))


BOUNDS = {"sd": (0.0, np.inf), "cor": (-1.0, 1.0)}


def profile_interval(model: Model, target: Target, level: float, std_error: float) -> tuple[float, float]:
    """Profile-likelihood interval of one parameter, in the user's units.

    Args:
        model: Likelihood of the model.
        target: Parameter of the interval.
        level: Probability of the interval, between 0 and 1.
        std_error: Approximate standard error of a fixed effect, which is the first step.

    Raises:
        HigherMaximumError: If the likelihood has a higher maximum than the fit.
    """
    profiler, cut = Profiler(model, target), float(special.ndtri(0.5 + level / 2))
    if target.kind == "cor" and not np.isfinite(profiler.centre):
        return np.nan, np.nan
    unit = profiler.coordinates.units[target.index][0] if target.kind == "sd" else 0.0
    step = {"fixed": cut * std_error, "sd": 0.3 * unit, "cor": 0.2, "scale": 0.1}[target.kind]
    low, high = BOUNDS.get(target.kind, (-np.inf, np.inf))
    ends = profiler.end(-1, cut, step, low), profiler.end(1, cut, step, high)
    return (model.scale(target.index, ends[0]), model.scale(target.index, ends[1])) if target.kind == "scale" else ends


def least_squares_profile(design: Design, level: float) -> tuple[FloatArray, FloatArray]:
    """Profile-likelihood intervals of a linear model without group effects: fixed effects (p, 2) and sigma (2,).

    A known sigma is both ends of its own. The deviance is n log(rss / n), with the residual sum of squares under a held
    coefficient. The intervals of fixed effects have a closed form; that of sigma needs a search.
    """
    y = design.y if design.offset is None else design.y - design.offset
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
    x, y = root[:, None] * design.x, root * y
    q, r = np.linalg.qr(x)
    beta = np.linalg.solve(r, q.T @ y)
    rest, inverse = float(np.sum((y - x @ beta) ** 2)), np.linalg.inv(r)
    cut = float(special.ndtri(0.5 + level / 2)) ** 2
    if design.sigma is not None:  # the deviance is rss / sigma^2
        reach = np.sqrt(np.sum(inverse**2, axis=1) * cut) * design.sigma
        return np.column_stack([beta - reach, beta + reach]), np.full(2, design.sigma)
    reach = np.sqrt(np.sum(inverse**2, axis=1) * rest * np.expm1(cut / design.n_obs))

    def zeta2(t: float) -> float:  # t = log(sigma / its estimate)
        return float(design.n_obs * (2 * t + np.exp(-2 * t) - 1)) - cut

    sigma = np.sqrt(rest / design.n_obs)
    ends = [scipy.optimize.brentq(zeta2, a, b, xtol=1e-14) for a, b in ((-20.0, 0.0), (0.0, cut / design.n_obs + 10.0))]
    return np.column_stack([beta - reach, beta + reach]), sigma * np.exp(np.array(ends))


def joint_spread(model: Model) -> tuple[list[tuple[Target, float]], FloatArray]:
    """Covariance parameters and scales on unbounded scales, and the covariance matrix of them and the p fixed effects.

    It is the inverse of the observed information about all parameters. Of a linear model, whose fixed effects are
    profiled out, the part of the fixed effects is zero: their expected information is block diagonal.

    Returns:
        The k targets in order with their values (log SD, atanh correlation, free scale), and the covariance matrix,
        shape (p + k, p + k), which is NaN on the boundary.
    """
    coordinates, _ = coordinates_of(model, Target("none"))
    criterion = model.criterion(None, 0.0)

    def slope(z: FloatArray) -> FloatArray:
        _, by_roots, by_rest = criterion(*coordinates.roots(z, 0.0))
        return coordinates.gradient(by_roots, by_rest, 0.0)

    targets = [Target("sd", k, i) for k, q in enumerate(model.sizes) for i in range(q)]
    targets += [Target("cor", k, i, j) for k, q in enumerate(model.sizes) for i in range(q) for j in range(i)]
    targets += [Target("scale", k) for k in range(len(model.best.scales))]
    fixed, profiled = len(model.best.beta), np.zeros(len(model.beta))

    def natural(z: FloatArray) -> FloatArray:
        roots, rest = coordinates.in_user_units(z, 0.0)
        scales = rest[len(rest) - len(model.best.scales) :] + model.log_unit
        at = State(tuple(roots), np.empty(0), scales)
        others = np.array([unbounded(t, target_value(at, t, model.beta)) for t in targets])
        return np.concatenate([model.way_back.inverse @ rest[:fixed] if fixed else profiled, others])

    z = coordinates.place(model.best.roots, rest_of(model.best, None, model.log_unit))
    here = natural(z)
    values = list(zip(targets, map(float, here[len(model.beta) :]), strict=True))
    if coordinates.off_boundary(z) is not None or not np.isfinite(here).all():
        return values, np.full((len(here), len(here)), np.nan)
    information = -hessian_of(slope, z, model.step)
    jacobian = np.array([(natural(z + d) - natural(z - d)) / 2e-6 for d in 1e-6 * np.eye(len(z))]).T
    return values, np.asarray(jacobian @ np.linalg.solve(information, jacobian.T))


def unbounded(target: Target, value: float) -> float:
    """Unbounded scale: the logarithm of an SD, or atanh of a correlation; NaN at the bounds."""
    if target.kind == "sd":
        return float(np.log(value)) if value > 0 else np.nan
    if target.kind == "cor":
        return float(np.arctanh(value)) if abs(value) < 1 else np.nan
    return value


__all__ = [
    "HigherMaximumError",
    "Profiler",
    "joint_spread",
    "least_squares_profile",
    "profile_interval",
    "target_value",
    "unbounded",
]
