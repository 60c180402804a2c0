"""Prior of each parameter: the user's by name, or a default scaled by the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.defaults import WIDE, dispersion_priors, predictor_scale
from unimix.design.arrays import Design
from unimix.distributions.prior_draws import draw_correlations, draw_prior
from unimix.distributions.priors import LKJ, HalfStudentT, Normal, Prior, Uniform
from unimix.errors import OptionError, UnimixError, UnsupportedModelError, did_you_mean, listing
from unimix.stats.simulation import Simulator

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
        texts: Text of each prior, by name.
    """

    fixed: tuple[Prior, ...]
    functionals: FloatArray
    sds: tuple[tuple[Prior, ...], ...]
    correlations: tuple[LKJ | None, ...]
    dispersion: tuple[Prior, ...]
    texts: dict[str, str]

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
    priors = _checked(design, given)
    fixed, functionals = _fixed(design, priors)
    sds, correlations = [], []
    texts = {
        name: f"{prior} {_CENTRED}" if row.any() else str(prior)
        for name, prior, row in zip(design.fixed_names, fixed, functionals - np.eye(design.p), strict=True)
    }
    scales = _sd_scales(design)
    for block, scale in zip(design.blocks, scales, strict=True):
        alone = sum(b.group == block.group for b in design.blocks) == 1
        names = sd_names(block.group, block.terms, alone=alone)
        own = [
            priors.get(specific, priors.get(f"sd({block.group})", HalfStudentT(4, s)))
            for specific, s in zip((f"sd({block.group}: {t})" for t in block.terms), scale, strict=True)
        ]
        sds.append(tuple(own))
        texts |= dict(zip(names, map(str, own), strict=True))
        cor = priors.get(f"cor({block.group})", LKJ(DEFAULT_ETA)) if block.q > 1 else None
        correlations.append(cor if isinstance(cor, LKJ) else None)
        if cor is not None:
            texts[f"cor({block.group})"] = str(cor)
    dispersion = []
    for name, default in zip(dispersion_names(design), dispersion_priors(design), strict=True):
        dispersion.append(priors.get(name, default))
        texts[name] = str(dispersion[-1])
    return PriorTable(tuple(fixed), functionals, tuple(sds), tuple(correlations), tuple(dispersion), texts)


def sd_names(group: str, terms: tuple[str, ...], *, alone: bool) -> list[str]:
    """Names of the standard deviations of a block; ``alone`` is true if its factor has no other block."""
    return [f"sd({group})"] if len(terms) == 1 and alone else [f"sd({group}: {t})" for t in terms]


def dispersion_names(design: Design) -> list[str]:
    """Names of the dispersion parameters, which are those of the family unless a fixed effect has the same name."""
    taken = set(design.fixed_names)
    return [
        n if n not in taken else f"{n} ({'residual' if n == 'sigma' else 'dispersion'})"
        for n in design.family.parameters
    ]


def _checked(design: Design, given: Mapping[str, object] | None) -> dict[str, Prior]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"priors= maps names to priors, such as {{'sigma': HalfNormal(5)}}, not {given!r}.")
    fixed = set(design.fixed_names)
    sds = [n for b in design.blocks for n in (f"sd({b.group})", *(f"sd({b.group}: {t})" for t in b.terms))]
    cors = [f"cor({b.group})" for b in design.blocks if b.q > 1]
    known = dict.fromkeys([*design.fixed_names, *sds, *cors, *dispersion_names(design)])
    ends = dict(zip(dispersion_names(design), design.family.ranges, strict=True))
    faults, found = [], {}
    for name, prior in given.items():
        if name not in known:
            faults.append(f"priors names {name!r}, which is no parameter of this model.{did_you_mean(name, known)}")
            continue
        fault = _misfit(name, prior, "real" if name in fixed else "correlation" if name in cors else "positive")
        fault = "" if np.isfinite(ends.get(name, (0.0, np.inf))[1]) and isinstance(prior, Prior) else fault
        fault = fault or _outside(name, prior, ends.get(name))
        if fault:
            faults.append(fault)
        elif isinstance(prior, Prior):
            found[name] = prior
    if any("no parameter" in f for f in faults):
        faults.append(f"Parameters: {listing(known, 30)}.")
    if faults:
        raise OptionError("\n".join(faults))
    return found


def _outside(name: str, prior: object, ends: tuple[float, float] | None) -> str:
    """Fault of the prior of a dispersion parameter that has two ends; empty if there is none."""
    if ends is None or not np.isfinite(ends[1]):
        return ""
    if isinstance(prior, Uniform) and prior.lower >= ends[0] and prior.upper <= ends[1]:
        return ""
    return f"The prior of {name} is {prior}, but it lies between {ends[0]:g} and {ends[1]:g}: use Uniform there."


def _misfit(name: str, prior: object, kind: str) -> str:
    if not isinstance(prior, Prior):
        return f"The prior of {name} is {prior!r}: give a distribution, such as unimix.priors.Normal(0, 10)."
    if kind == "correlation" and not isinstance(prior, LKJ):
        return f"The prior of {name} is {prior}, but a correlation matrix needs LKJ(eta)."
    if kind == "positive" and prior.support != "positive":
        what = "a standard deviation" if name.startswith(("sd(", "sigma")) else "this parameter"
        return (
            f"The prior of {name} is {prior}, but {what} is positive: "
            "use HalfNormal, HalfStudentT, HalfCauchy, Exponential, Gamma, InverseGamma, LogNormal or Uniform(0, b)."
        )
    if kind == "real" and (prior.support != "real" or isinstance(prior, Uniform)):
        return (
            f"The prior of {name} is {prior}, but a fixed effect may be any number: use Normal, StudentT or Cauchy "
            "(their width says what you believe)."
        )
    return ""


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


@dataclass(frozen=True)
class PriorSimulator:
    """Responses of a linear or generalised model, drawn from its priors.

    Attributes:
        design: Design in the user's columns, with its offset.
        table: The priors.
    """

    design: Design
    table: PriorTable

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows); proportions for a binomial family.

        Raises:
            UnsupportedModelError: If rows count several times, because the density is not that of a response then.
        """
        rng, table, design = np.random.default_rng(seed), self.table, self.design
        if design.weights is not None and design.family.name != "gaussian":
            raise UnsupportedModelError(
                "Weights let rows count several times, so that the model has no distribution of a response to draw "
                "from. Fit it without weights= to look at its prior."
            )
        drawn = [draw_prior(p, n, rng) for p in table.fixed]
        # priors are those of the functionals A beta
        beta = np.linalg.solve(table.functionals, np.array(drawn).reshape(design.p, n)).T
        dispersion = np.array([draw_prior(p, n, rng) for p in table.dispersion]).reshape(-1, n).T
        covariances = []
        for priors, lkj in zip(table.sds, table.correlations, strict=True):
            sds = np.stack([draw_prior(p, n, rng) for p in priors], axis=1)
            alone = np.ones((n, 1, 1)) if lkj is None else draw_correlations(lkj.eta, len(priors), n, rng)
            covariances.append(sds[:, :, None] * sds[:, None, :] * alone)
        return np.stack(
            [Simulator(design, beta[i], tuple(c[i] for c in covariances), dispersion[i]).draw(rng) for i in range(n)]
        )

    def graph(self) -> Any:
        """Refuse the graph of the model.

        Raises:
            UnimixError: Always.
        """
        raise UnimixError("bayes writes no graph of its model: backend='pymc' draws the same model with its priors.")
