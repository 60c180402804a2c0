"""Estimates that a backend returns: plain arrays in the order of the design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict

from unimix.errors import FitError

if TYPE_CHECKING:
    pass

FloatArray = npt.NDArray[np.float64]

EVIDENCE = "log_evidence"
"""Key of ``provenance`` under which the source of the log evidence is given, or the reason why there is none."""


@dataclass(frozen=True)
class Sampling:
    """Diagnostics of the draws from a posterior.

    Attributes:
        rhat: Largest rank-normalised split R-hat over all parameters.
        ess_bulk: Smallest bulk effective sample size over all parameters.
        ess_tail: Smallest tail effective sample size over all parameters.
        divergences: Number of divergent transitions after tuning.
        n_draws: Number of draws kept, all chains together.
        n_chains: Number of chains.
    """

    rhat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    n_draws: int
    n_chains: int


@dataclass(frozen=True)
class Evidence:
    """Log evidence: the logarithm of the density of the response with all parameters integrated over their priors.

    Attributes:
        value: Log evidence, with all constants.
        error: Monte Carlo standard error of the value.
        default_priors: Names of the parameters whose priors are unimix's defaults.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float
    error: float
    default_priors: tuple[str, ...]


class Deferred:
    """A value that is computed when it is first needed.

    Args:
        make: Function that computes the value.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._value: Any = None

    def get(self) -> Any:
        """Return the value; it is computed once."""
        if self._value is None:
            self._value = self._make()
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the function that computes the value, without the value."""
        return {"_make": self._make, "_value": None}


@dataclass(frozen=True)
class Absent:
    """Placeholder for an engine's own object that does not exist in this process.

    Attributes:
        why: Message of the error for code that uses the object.
    """

    why: str


class Generative(Protocol):
    """A model with its priors, from which responses can be drawn."""

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows)."""

    def log_prior(
        self, beta: FloatArray, sds: Sequence[FloatArray], correlations: Sequence[FloatArray], dispersion: FloatArray
    ) -> FloatArray:
        """Log density of the priors, with constants, at S points in the user's units, shape (S,)."""

    def with_priors(self, priors: Mapping[str, object] | None) -> Generative:
        """Return this model under priors that are given by name; all other parameters have their defaults."""

    @property
    def stated(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Text of every prior in force by name, and the names of the parameters that have default priors."""

    @property
    def native(self) -> Any:
        """The engine's own object, deferred, or :class:`Absent`."""

    def graph(self) -> Any:
        """The model's graph as a ``graphviz.Digraph``."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of an engine, in the order and the units of the design.

    Attributes:
        beta: Fixed effects, shape (p,).
        beta_cov: Covariance matrix of the fixed effects, shape (p, p).
        covariances: Covariance matrix of the effects of each block, shapes (q, q), in units of the linear predictor.
        sigma: Residual standard deviation; the square root of the dispersion for the gamma and the inverse Gaussian
            family, 1 for families without a scale.
        modes: Conditional modes (or posterior means) per block, shapes (L, q).
        mode_covs: Conditional (or posterior) covariances per block, shapes (L, q, q).
        log_likelihood: Maximum of the stated criterion, with all constants; None for a posterior.
        converged: Whether the engine reports convergence.
        unbounded: By part (``fixed``, ``zero``), directions d of its coefficients, shape (m, k), along which the
            likelihood has no maximum: functions c'beta with c'd != 0 have no finite estimate and no variance.
        parameters: Dispersion parameters by name, for families other than the Gaussian.
        parts: Coefficients, shape (k,), and their covariance matrix, shape (k, k), of the parts other than the mean:
            ``zero`` (logit of the probability of a structural zero), ``dispersion`` (log of the dispersion parameter)
            and ``thresholds`` (of an ordered response).
        residual: Covariance matrix of the residuals of one group at all times, shape (T, T), if they are correlated or
            have several variances; ``sigma`` is then the standard deviation at the first time.
        zero_cross: Covariances of the fixed effects with the coefficients of ``zero``, shape (p, k); None if unknown.
        threshold_cross: Covariances of the fixed effects with the thresholds, shape (p, K - 1), or None.
        criterion: Criterion of the log-likelihood if it is not the requested method, such as ``AGQ(25)``.
        std_error: Standard errors, shape (p,), if they are not the square roots of the diagonal of ``beta_cov``.
        std_error_kind: Source of the standard errors: ``generalised least squares`` at the estimated variances,
            ``observed information`` of all parameters, or ``Kenward-Roger``; empty if these do not differ.
        df: Denominator degrees of freedom, shape (p,); None if the engine computes none.
        df_method: Method of the degrees of freedom.
        interval: Lower and upper ends of intervals, shape (p, 2), if the engine has its own (quantiles of draws).
        direction: Probability of direction of the fixed effects, shape (p,), if they were sampled.
        identified: Whether the data determine all parameters; False if the likelihood is the same along a ridge.
        singular: Whether a covariance matrix is singular; None if unimix is to decide.
        messages: Messages of the engine about its convergence.
        gradient: Largest scaled gradient at the estimates, if known.
        sampling: Diagnostics of the draws, or None.
        engine_call: Text of the call to the engine.
        priors: Prior of each parameter, as text.
        provenance: Source and reason of each quantity that the engine did not compute itself, by name.
        expected: Posterior means of the rows' expected responses, with and without the group effects, shape (2, n);
            None where they follow from the estimates.
        posterior: ArviZ object with the draws, or None.
        evidence: Log evidence, if the sampler knows it.
        native: The engine's own object; a :class:`Deferred` if it is slow to make and the fit did not need it, and an
            :class:`Absent` if it exists in another process only.
        generative: Model from which responses can be drawn, if the engine has one.
    """

    beta: FloatArray
    beta_cov: FloatArray
    covariances: tuple[FloatArray, ...]
    sigma: float
    modes: tuple[FloatArray, ...]
    mode_covs: tuple[FloatArray, ...]
    log_likelihood: float | None
    converged: bool
    parameters: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    residual: FloatArray | None = None
    zero_cross: FloatArray | None = None
    threshold_cross: FloatArray | None = None
    unbounded: Mapping[str, FloatArray] = field(default_factory=dict)
    criterion: str = ""
    std_error: FloatArray | None = None
    std_error_kind: str = ""
    df: FloatArray | None = None
    df_method: str = "normal"
    interval: FloatArray | None = None
    direction: FloatArray | None = None
    identified: bool = True
    singular: bool | None = None
    messages: tuple[str, ...] = ()
    gradient: float | None = None
    sampling: Sampling | None = None
    engine_call: str = ""
    priors: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    expected: FloatArray | None = None
    posterior: Any = None
    evidence: Evidence | None = None
    native: Any = None
    generative: Generative | None = None

    @property
    def all_covariances(self) -> tuple[FloatArray, ...]:
        """Covariance matrices of the blocks, and of the residuals of one group if they are correlated."""
        return self.covariances if self.residual is None else (*self.covariances, self.residual)

    def check(self, p: int, shapes: list[tuple[int, int]], n_times: int | None = None) -> None:
        """Refuse estimates whose shapes do not fit or whose numbers are not finite (all faults at once).

        Args:
            p: Number of fixed effects.
            shapes: (levels, columns) per block.
            n_times: Number of times of correlated residuals; None for independent ones.

        Raises:
            FitError: If a shape is wrong or a number is not finite.
        """
        faults: list[str] = []

        def expect(name: str, value: FloatArray | None, shape: tuple[int, ...]) -> None:
            if value is None:
                return
            if np.shape(value) != shape:
                faults.append(f"{name} has shape {np.shape(value)}, not {shape}")
            elif not np.isfinite(value).all():
                faults.append(f"{name} is not finite")

        expect("beta", self.beta, (p,))
        expect("beta_cov", self.beta_cov, (p, p))
        expect("sigma", np.asarray(self.sigma), ())
        if (self.residual is None) != (n_times is None):
            faults.append("a covariance of the residuals belongs to a model with residual=, and to no other")
        elif n_times is not None:
            expect("residual", self.residual, (n_times, n_times))
        expect("interval", self.interval, (p, 2))
        expect("direction", self.direction, (p,))
        if "zero" in self.parts:
            expect("zero_cross", self.zero_cross, (p, len(self.parts["zero"][0])))
        if "thresholds" in self.parts:
            expect("threshold_cross", self.threshold_cross, (p, len(self.parts["thresholds"][0])))
        for name, (coefficients, covariance) in self.parts.items():
            expect(name, coefficients, (len(coefficients),))
            expect(f"covariance of {name}", covariance, (len(coefficients), len(coefficients)))
        for name, value in self.parameters.items():
            expect(name, np.asarray(value), ())
        for name, parts in (("covariances", self.covariances), ("modes", self.modes), ("mode_covs", self.mode_covs)):
            if len(parts) != len(shapes):
                faults.append(f"{name} has {len(parts)} blocks, not {len(shapes)}")
                continue
            for k, (part, (levels, q)) in enumerate(zip(parts, shapes, strict=True)):
                wanted = {"covariances": (q, q), "modes": (levels, q), "mode_covs": (levels, q, q)}[name]
                expect(f"{name}[{k}]", part, wanted)
        if self.log_likelihood is not None and not np.isfinite(self.log_likelihood):
            faults.append("log_likelihood is not finite")
        if faults:
            messages = f" It said: {' | '.join(self.messages)}" if self.messages else ""
            raise FitError(f"The engine's answer cannot be used: {'; '.join(faults)}.{messages}")
