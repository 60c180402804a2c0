"""The only words a backend may say back: plain arrays in the design's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from unimix.errors import FitError

if TYPE_CHECKING:
    pass

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """How well a posterior was sampled.

    Attributes:
        rhat: Largest rank-normalised split R-hat of all parameters.
        ess_bulk: Smallest bulk effective sample size.
        ess_tail: Smallest tail effective sample size.
        divergences: Number of divergent transitions after tuning.
        n_draws: Draws kept, all chains together.
        n_chains: Chains.
    """

    rhat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    n_draws: int
    n_chains: int


class Deferred:
    """Something that is made when it is first asked for.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def get(self) -> Any:
        """The thing itself, the same each time."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: how it is made, not the thing."""
        return {"_make": self._make, "_made": None}


@dataclass(frozen=True)
class Absent:
    """In the place of an engine's own object that is not here.

    Attributes:
        why: Said to whoever asks for it.
    """

    why: str


class Generative(Protocol):
    """A model that can say what it would generate before it sees a response."""

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows)."""

    def graph(self) -> Any:
        """The model's graph as a ``graphviz.Digraph``."""


@dataclass(frozen=True)
class Estimates:
    """What an engine found, in the order and the units of the design it was given.

    Attributes:
        beta: Fixed effects, shape (p,).
        beta_cov: Their covariance matrix, shape (p, p).
        covariances: Covariance of each block's effects, shapes (q, q); response units.
        sigma: Residual standard deviation; the root of the dispersion for the gamma and the inverse Gaussian family, 1
            for families without a scale.
        modes: Conditional modes (or posterior means) per block, shapes (L, q).
        mode_covs: Conditional (or posterior) covariances per block, shapes (L, q, q).
        log_likelihood: Of the stated criterion, with all constants; None for a posterior.
        converged: Whether the engine finished its search.
        parameters: Dispersion parameters by name, where the family is not the Gaussian.
        parts: Coefficients and their covariance matrices of what is modelled beside the mean: ``zero`` (logit of the
            probability of a structural zero) and ``dispersion`` (log of the dispersion parameter), shapes (k,), (k, k).
        criterion: What the log-likelihood is of, where it is not the method that was asked for (``AGQ(25)``).
        std_error: Standard errors where they are not the root of ``beta_cov``'s diagonal, shape (p,).
        std_error_kind: What the standard errors are made from: ``generalised least squares`` at the estimated
            variances, ``observed information`` of all parameters, ``Kenward-Roger``; empty if that does not matter.
        df: Denominator degrees of freedom, shape (p,); None where the engine has none.
        df_method: Whose degrees of freedom they are.
        interval: Lower and upper ends, shape (p, 2), where the engine has its own (quantiles of draws).
        singular: Whether a covariance matrix is on its boundary; None to let unimix decide.
        messages: What the engine says about its convergence.
        gradient: Largest scaled gradient at the end, if known.
        sampling: Diagnostics of a sampler.
        engine_call: The call as the engine saw it.
        priors: Prior per parameter, as text.
        provenance: For each quantity that is not the engine's own word: whose it is, and why.
        posterior: ArviZ object with the draws, or None.
        native: The engine's own object; :class:`Deferred` where it takes time to make and the fit did not need it,
            :class:`Absent` where another process had it.
        generative: The model as something to draw from, where the engine has one.
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
    criterion: str = ""
    std_error: FloatArray | None = None
    std_error_kind: str = ""
    df: FloatArray | None = None
    df_method: str = "normal"
    interval: FloatArray | None = None
    singular: bool | None = None
    messages: tuple[str, ...] = ()
    gradient: float | None = None
    sampling: Sampling | None = None
    engine_call: str = ""
    priors: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    posterior: Any = None
    native: Any = None
    generative: Generative | None = None

    def check(self, p: int, shapes: list[tuple[int, int]]) -> None:
        """Refuse estimates whose shapes do not fit or whose numbers are not finite (all faults at once).

        Args:
            p: Number of fixed effects.
            shapes: (levels, columns) per block.

        Raises:
            FitError: The adapter or the engine went wrong.
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
        expect("interval", self.interval, (p, 2))
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
            said = f" It said: {' | '.join(self.messages)}" if self.messages else ""
            raise FitError(f"The engine's answer cannot be used: {'; '.join(faults)}.{said}")
