"""Prior of each parameter: the user's by name, or a default scaled by the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.defaults import WIDE, dispersion_priors, predictor_scale
from unimix.backends.sampling.prior_names import dispersion_names, read_priors, sd_names
from unimix.design.arrays import Design
from unimix.distributions import priors as distributions
from unimix.distributions.priors import LKJ, HalfStudentT, Normal, Prior

FloatArray = npt.NDArray[np.float64]

DEFAULT_ETA = 2.0
_CENTRED = "at the mean of the predictors"


@dataclass(frozen=True)
class PriorTable:
    """All priors in force, in the user's units.

    Attributes:
        fixed: Priors of linear functionals of the fixed effects, p in number.
        functionals: Rows a of the functionals a'beta, shape (p, p). The matrix is the identity except for the row of a
            default intercept, whose prior applies to the expected response at the mean of the predictors.
        sds: Priors of the standard deviations, by block and term.
        correlations: Prior of the correlation matrix of each block; None for a block with one column.
        dispersion: Priors of the family's dispersion parameters (sigma alone for a Gaussian response).
        named: All priors by name of the parameter.
        defaults: Names of the parameters whose priors are defaults.
    """

    fixed: tuple[Prior, ...]
    functionals: FloatArray
    sds: tuple[tuple[Prior, ...], ...]
    correlations: tuple[LKJ | None, ...]
    dispersion: tuple[Prior, ...]
    named: dict[str, Prior]
    defaults: tuple[str, ...]

    @property
    def texts(self) -> dict[str, str]:
        """Text of each prior, by name."""
        centred = np.abs(self.functionals - np.eye(len(self.fixed))).sum(axis=1)
        fixed = list(self.named)[: len(self.fixed)]
        where = {name: f" {_CENTRED}" for name, moved in zip(fixed, centred, strict=True) if moved}
        return {name: f"{prior}{where.get(name, '')}" for name, prior in self.named.items()}

    def unknown_priors(self) -> list[str]:
        """Names of the parameters whose priors are not of :mod:`unimix.priors`, all of which are proper."""
        return [name for name, prior in self.named.items() if type(prior).__module__ != distributions.__name__]

    def log_density(
        self,
        beta: FloatArray,
        sds: Sequence[FloatArray],
        correlations: Sequence[FloatArray],
        dispersion: FloatArray,
    ) -> FloatArray:
        """Log density of all priors at S points in the user's units, with constants, shape (S,).

        Args:
            beta: Fixed effects, shape (S, p).
            sds: Standard deviations of each block's effects, shapes (S, q).
            correlations: Correlation matrices of each block's effects, shapes (S, q, q).
            dispersion: Dispersion parameters, shape (S, k).
        """
        # the Jacobian of the functionals A beta is constant
        total = np.full(len(beta), np.linalg.slogdet(self.functionals)[1])
        for j, prior in enumerate(self.fixed):
            total += prior.log_density(beta @ self.functionals[j])
        for own, priors_of, r, lkj in zip(sds, self.sds, correlations, self.correlations, strict=True):
            for j, prior in enumerate(priors_of):
                total += prior.log_density(own[:, j])
            total += 0.0 if lkj is None else lkj.log_density(r)
        for j, prior in enumerate(self.dispersion):
            total += prior.log_density(dispersion[:, j])
        return total

    @property
    def sigma(self) -> Prior:
        """Prior of the residual standard deviation, for families with a sigma."""
        return self.dispersion[0]


def resolve_priors(design: Design, given: Mapping[str, object] | None) -> PriorTable:
    """Assign a prior to every parameter.

    Args:
        design: Design in the user's columns, with the offset of a linear model subtracted from the response.
        given: Priors given by the user, by name.

    Raises:
        OptionError: If names do not exist or priors do not suit their parameters; the message lists all of them.
    """
    users = read_priors(design, given)
    own: dict[str, Prior] = {}
    defaults: list[str] = []

    def chosen(parameter: str, default: Prior, shown: str) -> Prior:
        """The prior of a parameter, which the table shows under another name if that is shorter."""
        if parameter not in users:
            defaults.append(shown)
        own[shown] = users.get(parameter, default)
        return own[shown]

    fixed, functionals = _fixed(design, users)
    fixed = [chosen(name, prior, name) for name, prior in zip(design.fixed_names, fixed, strict=True)]
    sds: list[tuple[Prior, ...]] = []
    correlations: list[LKJ | None] = []
    for block, scale in zip(design.blocks, _sd_scales(design), strict=True):
        alone = sum(b.group == block.group for b in design.blocks) == 1
        names = sd_names(block.group, block.terms, alone=alone)
        sds.append(
            tuple(
                chosen(f"sd({block.group}: {term})", HalfStudentT(4, s), name)
                for term, s, name in zip(block.terms, scale, names, strict=True)
            )
        )
        name = f"cor({block.group})"
        cor = chosen(name, LKJ(DEFAULT_ETA), name) if block.q > 1 else None
        correlations.append(cor if isinstance(cor, LKJ) else None)
    dispersion = [
        chosen(name, default, name)
        for name, default in zip(dispersion_names(design), dispersion_priors(design), strict=True)
    ]
    return PriorTable(
        tuple(fixed),
        functionals,
        tuple(sds),
        tuple(correlations),
        tuple(dispersion),
        own,
        tuple(dict.fromkeys(defaults)),
    )


def _fixed(design: Design, priors: Mapping[str, Prior]) -> tuple[list[Prior], FloatArray]:
    x, p, predictor = design.x, design.p, predictor_scale(design)
    constant = constant_in_span(x)
    functionals = np.eye(p)
    chosen: list[Prior] = []
    has_constant = bool(constant.any())
    for j, name in enumerate(design.fixed_names):
        if name in priors:
            chosen.append(priors[name])
            continue
        deviation = float(np.std(x[:, j], ddof=1)) if design.n > 1 else 0.0
        rms = float(np.sqrt(np.mean(x[:, j] ** 2)))
        if not has_constant:
            chosen.append(Normal(0.0, WIDE * predictor.size / rms))
            continue
        width = deviation if deviation > 1e-10 * rms else rms
        chosen.append(Normal(float(constant[j] * predictor.centre), WIDE * predictor.unit / width))
        if constant[j]:
            slopes = constant == 0
            functionals[j, slopes] = constant[j] * x[:, slopes].mean(axis=0)
    return chosen, functionals


def constant_in_span(x: FloatArray) -> FloatArray:
    """Coefficients a with X a = 1, shape (p,); zeros if X does not span the constant."""
    n, p = x.shape
    if not p:
        return np.zeros(0)
    scale = np.sqrt(np.mean(x**2, axis=0))
    a = np.linalg.lstsq(x / scale, np.ones(n))[0]
    if np.abs(x / scale @ a - 1).max() > 1e-8:
        return np.zeros(p)
    return np.where(np.abs(a) > 1e-6, a / scale, 0.0)


def _sd_scales(design: Design) -> list[FloatArray]:
    """Scale of the default prior of each standard deviation: the effect that changes the predictor by its own scale.

    Each column is adjusted for the other random columns of its factor, so that a slope is measured per standard
    deviation of x, and an intercept far outside the data may vary accordingly.
    """
    effect = predictor_scale(design).effect
    scales: list[FloatArray] = []
    for block in design.blocks:
        columns = np.concatenate(
            [block.z, *(b.z for b in design.blocks if b.group == block.group and b is not block)], 1
        )
        rms = np.sqrt(np.mean(columns**2, axis=0))
        gram = (columns / rms).T @ (columns / rms) / design.n
        regular = np.linalg.cond(gram) < 1e12
        factor = np.sqrt(np.diag(np.linalg.inv(gram))) if regular else np.ones(len(rms))
        scales.append((effect * factor / rms)[: block.q])
    return scales
