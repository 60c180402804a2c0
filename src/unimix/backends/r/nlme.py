"""Adapter for nlme through rpy2: ``lme``, and ``gls`` without group effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import BackendInfo, FitRequest, Problem
from unimix.backends.boundary import is_boundary, is_vanishing
from unimix.backends.capabilities import Capabilities
from unimix.backends.cost import Cost, Pace
from unimix.backends.r.backend import RBackend
from unimix.backends.r.nlme_capabilities import CAPABILITIES
from unimix.backends.r.nlme_layout import Layout, NlmeCall, layout_of, structure_faults
from unimix.backends.r.packages import REQUIRED
from unimix.backends.residual_limits import residual_limits
from unimix.design.estimates import Estimates
from unimix.errors import FitError
from unimix.likelihood.lmm.criterion import LinearCriterion
from unimix.likelihood.lmm.evaluation import Evaluation
from unimix.likelihood.lmm.newton_decrement import WORTHWHILE, is_at_optimum

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]
Setting = Literal[
    "maxIter", "msMaxIter", "msMaxEval", "niterEM", "msTol", "tolerance", "rel.tol", "abs.tol", "x.tol", "sing.tol"
]
"""Settings of ``lmeControl`` that change the search and not the model, as its ``sigma`` would."""
OFF_ZERO, NEAR_ZERO = 1e-2, 1e-8
"""Relative variances that are added to a start from another fit, because a search over logarithms of variances does not
leave zero, and to the best known optimum, because it does not reach zero either."""


class Nlme(RBackend):
    """nlme (R): linear mixed models by ``lme``, and correlated residuals without group effects by ``gls``.

    Attributes:
        optimizer: Optimizer of the likelihood: ``nlminb``, or ``optim`` (BFGS).
        control: Settings of the search, with the names of ``lmeControl``, in addition to the tight tolerances that are
            the default.
        restarts: Largest number of further searches after one that stopped short of the optimum or failed: from the
            best optimum that unimix knows, or by the other optimizer.
        max_crossed: Largest number of effects of crossed factors, which nlme takes as columns of a dense matrix.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="nlme",
        engine="nlme",
        title="nlme (R) through rpy2",
        packages=("rpy2",),
        distributions=("rpy2",),
        extra="nlme",
        url="https://svn.r-project.org/R-packages/trunk/nlme",
        reference="Pinheiro, J. C., & Bates, D. M. (2000). Mixed-effects models in S and S-PLUS. Springer. "
        "https://doi.org/10.1007/b98882",
        strengths="correlated residuals; comes with R; needs R",
        rank=55,
        r_packages=REQUIRED["nlme"],
        r_trial="nlme::lme(y ~ 1, d, random = ~ 1 | g)",
    )
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    r_engine: ClassVar[tuple[str, ...]] = ("nlme",)
    takes_start: ClassVar[bool] = True
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}
    per_row: ClassVar[float] = 19.0
    per_dense: ClassVar[float] = 0.0
    pace: ClassVar[Pace] = Pace()

    optimizer: Literal["nlminb", "optim"] = "nlminb"
    control: dict[Setting, float] = Field(default_factory=dict)
    restarts: Annotated[int, Field(ge=0, le=2)] = 2
    max_crossed: Annotated[int, Field(ge=0)] = 500

    def limits(self, design: Design, request: FitRequest) -> list[str]:  # noqa: ARG002  the hook's signature
        """Reasons to refuse what nlme's nested effects cannot express, or what unimix could not check."""
        if not design.is_linear:
            return []
        reasons = [*residual_limits(design), *structure_faults(design, self.max_crossed)]
        if design.p == 0 and not design.blocks:
            reasons.append("a model without fixed and group effects: gls estimates coefficients. Use backend='pls'")
        return reasons

    def cost(self, design: Design, request: FitRequest) -> Cost:
        """Estimate the memory of the rows, with a column for each crossed effect; the time has not been measured."""
        general = super().cost(design, request)
        columns = sum(design.blocks[k].n_levels for k in layout_of(design).crossed)
        return replace(general, bytes=(general.bytes or 0.0) + self.per_row * 8.0 * design.n * columns, seconds=None)

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in R."""
        return self._call(design, request).text

    def _call(self, design: Design, request: FitRequest, *, started: bool = False) -> NlmeCall:
        # least squares have one log-likelihood, that of ML
        method = request.method if design.has_covariances else "ML"
        return NlmeCall(design, layout_of(design), method, started)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        design = problem.design
        if not design.has_covariances:
            return _least_squares(self._search(engine, problem, self.optimizer, None), problem)
        layout = layout_of(design)
        plain = _is_plain(design, layout)
        searches: list[_Answer] = []
        failure: FitError | None = None
        start = _off_zero(problem.start, OFF_ZERO) if plain and problem.start is not None else None
        optimizer = self.optimizer
        for k in range(1 + self.restarts):
            higher = None
            try:
                found = _Answer(self._search(engine, problem, optimizer, start), problem, layout)
                higher = found.higher() if self.restarts and plain else None
                if found.gain <= WORTHWHILE and higher is None:
                    return found.estimates(k + 1)
                searches.append(found)
            except FitError as error:
                failure = failure or error
            start = None if higher is None else _off_zero(higher, NEAR_ZERO)
            optimizer = self.optimizer if higher is not None and k == 0 else self._other
        if searches:
            return max(searches, key=lambda s: s.log_likelihood).estimates(1 + self.restarts)
        raise failure or FitError("nlme gave no answer.")

    @property
    def _other(self) -> Literal["nlminb", "optim"]:
        return "optim" if self.optimizer == "nlminb" else "nlminb"

    def _search(
        self, engine: Any, problem: Problem, optimizer: str, start: Sequence[FloatArray] | None
    ) -> dict[str, Any]:
        design = problem.design
        call = self._call(design, problem.request, started=start is not None)
        columns, factors = call.columns()
        starts = {} if start is None else {f"s{k}": c for k, c in enumerate(start)}
        levels = [call.factor(level) for level in call.layout.levels]
        settings, search = self._settings(optimizer, 100.0 if _is_plain(design, call.layout) else 500.0)
        answer: dict[str, Any] = engine.call("fit_nlme", call.text, columns, factors, starts, levels, settings, search)
        return {**answer, "text": call.text}

    def _settings(self, optimizer: str, steps: float) -> tuple[dict[str, Any], dict[str, float]]:
        """Settings for ``lmeControl``, and those of the optimizer itself, which gls does not pass on.

        Beside the boundary a search ends after all its steps: there are few where another one starts from the optimum.
        """
        ample = {"maxIter": 200.0, "msMaxIter": steps, "msMaxEval": 3 * steps, "msTol": 1e-14, "tolerance": 1e-10}
        # nlminb's sing.tol, by default rel.tol, ends flat searches early and warns at every second optimum
        tight = {"rel.tol": 1e-10, "sing.tol": 1e-20} if optimizer == "nlminb" else {}
        own = {**ample, **tight, **{str(name): value for name, value in self.control.items()}}
        settings = {**own, "opt": optimizer, "returnObject": True, "apVar": False, "allow.n.lt.q": True}
        if optimizer == "nlminb":
            search = {"iter.max": own["msMaxIter"], "eval.max": own["msMaxEval"], **{n: own[n] for n in tight}}
        else:
            search = {"maxit": own["msMaxIter"], "reltol": own["msTol"]}
        return settings, search


def _is_plain(design: Design, layout: Layout) -> bool:
    """Whether nlme takes starts for all parameters from here: nested effects and independent residuals."""
    return design.residual is None and not layout.crossed


def _off_zero(factors: Sequence[FloatArray], variance: float) -> list[FloatArray]:
    """Relative covariance matrices (q, q) of factors (q, q), with a variance in every direction."""
    return [f @ f.T + variance * np.eye(len(f)) for f in factors]


@dataclass(frozen=True)
class _Answer:
    """Values of ``nlme.R``, and unimix's likelihood at them."""

    values: dict[str, Any]
    problem: Problem
    layout: Layout

    @property
    def log_likelihood(self) -> float:
        return float(self.values["log_likelihood"][0])

    @property
    def gain(self) -> float:
        """Remaining improvement of the log likelihood; beside a flat ridge, what a climb from here reaches."""
        gain, at = self.evaluation.remaining_gain, self.evaluation
        return gain if np.isfinite(gain) else max(at.uphill.profile.value - at.profile.value, 0.0)

    @cached_property
    def singular(self) -> bool:
        """Whether the estimates lie on the boundary, or beside it at the same log likelihood."""
        blocks, covariances = self.problem.design.blocks, self.covariances
        return is_boundary(blocks, covariances, self.sigma, lambda c: self._profiled(c, self.residual)) or is_vanishing(
            self.residual, lambda r: self._profiled(covariances, r)
        )

    def higher(self) -> tuple[FloatArray, ...] | None:
        """Relative factors (q, q) of the best known optimum, if it is higher; see :func:`.better_start`."""
        if not self.singular and self.gain <= WORTHWHILE:
            return None
        best = self._criterion.optimum([self.evaluation], reml=self.problem.request.reml)
        if best.profile.value - self.evaluation.profile.value <= WORTHWHILE:
            return None
        return self._criterion.relative(best.factors)

    @cached_property
    def covariances(self) -> tuple[FloatArray, ...]:
        """Covariance matrices of the blocks in the design's order, shapes (q, q)."""
        design, found = self.problem.design, {}
        variance = float(self.values["sigma"][0]) ** 2
        for level, flat in zip(self.layout.levels, self.values["relative"], strict=True):
            whole = flat.reshape((round(len(flat) ** 0.5),) * 2) * variance
            for k, columns in self._columns(level):
                q = design.blocks[k].q
                found[k] = whole[columns, columns][:q, :q]
        return tuple(found[k] for k in range(len(design.blocks)))

    def _columns(self, level: tuple[int, ...]) -> list[tuple[int, slice]]:
        """Columns of each block at a level of ``random``: one for each of its levels if it is crossed."""
        first, found = 0, []
        for k in level:
            block = self.problem.design.blocks[k]
            width = block.n_levels if level == self.layout.crossed else block.q
            found.append((k, slice(first, first + width)))
            first += width
        return found

    @property
    def modes(self) -> tuple[FloatArray, ...]:
        """Conditional modes of each block, shapes (L, q)."""
        blocks, found = self.problem.design.blocks, {}
        for level, flat, names in zip(self.layout.levels, self.values["effects"], self.values["levels"], strict=True):
            effects = flat.reshape((len(names), -1), order="F")
            for k, columns in self._columns(level):
                block = blocks[k]
                if level == self.layout.crossed:
                    found[k] = effects[0, columns][:, None]
                    continue
                # levels are named by the codes of the first block; those of another name may have another order
                own = np.empty(block.n_levels, dtype=np.int64)
                own[blocks[level[0]].codes] = block.codes
                found[k] = np.empty((block.n_levels, block.q))
                found[k][own[names.astype(np.int64)]] = effects[:, columns]
        return tuple(found[k] for k in range(len(blocks)))

    @cached_property
    def residual(self) -> FloatArray | None:
        """Covariance matrix of the residuals, shape (T, T)."""
        block = self.problem.design.residual
        if block is None:
            return None
        structure, sigma = block.structure, float(self.values["sigma"][0])
        sds = np.full(structure.n_times, sigma)
        # relative to the first time that nlme met
        sds[self.values["sd_groups"].astype(np.int64)] *= self.values["sds"]
        values = self.values["correlation"]
        if structure.form == "car1":
            values = values ** (1.0 / structure.step)
        elif structure.form in ("exp", "gau"):
            values = values * structure.step
        elif structure.form == "us":
            # nlme's pairs are (1, 2), (1, 3), ..., (2, 3): by the columns of the lower triangle
            table = np.zeros((structure.n_times,) * 2)
            table[np.triu_indices(structure.n_times, 1)] = values
            values = table.T[np.tril_indices(structure.n_times, -1)]
        covariance = structure.covariance(sds, values)
        if np.linalg.eigvalsh(covariance)[0] <= 0:
            raise FitError(
                f"nlme's residuals have no covariance matrix over all {structure.n_times} times: it estimates "
                f"correlations {np.array2string(values, precision=4)} that no group with all times could have."
            )
        return covariance

    @property
    def sigma(self) -> float:
        """Residual standard deviation; that at the first time where there are several."""
        return float(self.values["sigma"][0]) if self.residual is None else float(np.sqrt(self.residual[0, 0]))

    @cached_property
    def _criterion(self) -> LinearCriterion:
        return LinearCriterion.of(self.problem.design)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Likelihood at nlme's estimates, by unimix."""
        covariances = self.covariances if self.residual is None else (*self.covariances, self.residual)
        return self._criterion.at(covariances, self.sigma, reml=self.problem.request.reml)

    def _profiled(self, covariances: tuple[FloatArray, ...], residual: FloatArray | None) -> float:
        variance = self.sigma**2 if residual is None else float(residual[0, 0])
        both = covariances if residual is None else (*covariances, residual)
        return self._criterion.profiled([c / variance for c in both], reml=self.problem.request.reml)[0]

    def estimates(self, tries: int) -> Estimates:
        """Estimates, and whether they are a maximum.

        Args:
            tries: Number of searches.
        """
        design, request, values = self.problem.design, self.problem.request, self.values
        provenance = {"optimum": f"best of {tries} searches by nlme"} if tries > 1 else {}
        beta_cov = values["beta_cov"].reshape(design.p, design.p)
        if not design.blocks and not request.reml:
            # gls divides by n - p here, while its sigma divides by n (its source, 3.1-162)
            beta_cov = beta_cov * (1.0 - design.p / design.n)
            provenance["std_error"] = "gls's, with the residual variance of ML: its own divides by n - p"
        at_optimum, faults = is_at_optimum(self.gain, 0.0, singular=self.singular)
        modes: tuple[FloatArray, ...] = ()
        if design.blocks:
            modes = self.modes
            provenance["group_effects"] = "conditional modes by nlme; their covariances by unimix at nlme's estimates"
        if self.singular:
            provenance["singular"] = (
                "nlme searches logarithms of standard deviations, which are never zero: at zero the log-likelihood is "
                "no lower"
            )
        notes = [" ".join(str(n).split()) for n in values["notes"]]
        if at_optimum:
            bound = f"but a Newton step would raise the log-likelihood by no more than {max(self.gain, 0.0):.0e}"
            notes = [f"{n} ({bound})" if "convergence" in n else n for n in notes]
        elif int(values["code"][0]) != 0:
            notes.append(f"the optimizer says: {values['message'][0]}")
        return Estimates(
            beta=values["beta"],
            beta_cov=beta_cov,
            std_error_kind="generalised least squares",
            covariances=self.covariances,
            residual=self.residual,
            sigma=self.sigma,
            modes=modes,
            mode_covs=self._criterion.effects(self.evaluation)[1],
            log_likelihood=self.log_likelihood,
            converged=at_optimum,
            singular=self.singular,
            messages=(*faults, *notes),
            gradient=self.evaluation.scaled_gradient,
            engine_call=values["text"],
            provenance=provenance,
            native=values.get("model"),
        )


def _least_squares(values: dict[str, Any], problem: Problem) -> Estimates:
    """Estimates of a model without covariances, from gls by ML: the variance is unbiased, as in R's ``lm``."""
    design = problem.design
    z = problem.request.df_method == "normal"
    left = float(design.n - design.p)
    return Estimates(
        beta=values["beta"],
        beta_cov=values["beta_cov"].reshape(design.p, design.p),
        covariances=(),
        sigma=float(values["sigma"][0]) * float(np.sqrt(design.n / left)),
        modes=(),
        mode_covs=(),
        log_likelihood=float(values["log_likelihood"][0]),
        converged=True,
        df=None if z else np.full(design.p, left),
        df_method="normal" if z else "residual",
        singular=False,
        messages=tuple(str(n) for n in values["notes"]),
        engine_call=values["text"],
        provenance={"sigma": "of nlme's ML fit, divided by n - p as its standard errors are"},
        native=values.get("model"),
    )
