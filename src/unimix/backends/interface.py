"""Types that are passed to an engine's adapter and returned from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.limits import NO_LIMITS, Limits
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BackendInfo:
    """Description of a backend and its engine.

    Attributes:
        name: Name of the backend in ``backend=``.
        engine: Name of the engine that computes the numbers; two backends with the same engine are interfaces to it.
        title: Description in one line, for tables.
        packages: Python packages that must be importable.
        distributions: Packages whose versions are recorded in the result.
        url: Home page of the engine.
        reference: The publication that the engine's authors ask to cite, in APA style; empty if there is none.
        default_method: Default method for a Gaussian model, REML or posterior.
        modules: Modules to import in addition to the first package, if that alone imports too little.
        extra: Extra of ``distribution`` with the packages that the engine needs, from which the installation line is
            made.
        distribution: Python distribution that provides the backend.
        optional: Packages of the extra that the engine can run without.
        install: Line to type when a package is missing, for a backend without an extra.
        strengths: Strengths of the engine in words, which ``unimix.recommend`` shows.
        rank: Position among the engines that can fit a model, lowest first, by what they fit and certify, by what they
            need, and by their time (docs/conformance.md). unimix's own backends have the ranks 10, 20 and so on.
        quick_when_crossed: Whether the engine is among the fastest for large crossed factors with many connected
            effects.
        r_packages: R packages that the engine cannot fit without.
        r_optional: R packages that are used if they are installed, each with the feature that needs it, in words.
        r_trial: R code that fits the response ``y`` and the factor ``g`` of a data frame ``d`` with the first of
            ``r_packages``; ``unimix.doctor`` runs it to check that the installed packages work.
    """

    name: str
    engine: str
    title: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    url: str
    reference: str = ""
    default_method: str = "REML"
    modules: tuple[str, ...] = ()
    extra: str = ""
    distribution: str = "unimix"
    optional: tuple[str, ...] = ()
    install: str = ""
    strengths: str = ""
    rank: int = 1000
    quick_when_crossed: bool = False
    r_packages: tuple[str, ...] = ()
    r_optional: Mapping[str, str] = field(default_factory=dict)
    r_trial: str = ""

    @property
    def samples(self) -> bool:
        """Whether the engine draws from a posterior; all others maximise a likelihood."""
        return self.default_method == "posterior"


@dataclass(frozen=True)
class Start:
    """Start of a search for the covariance parameters of a linear mixed model, in the user's units.

    Attributes:
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        source: Source of the start, in words.
    """

    covariances: tuple[FloatArray, ...]
    sigma: float
    source: str


@dataclass(frozen=True)
class FitRequest:
    """Request to an engine, apart from the design.

    Attributes:
        method: Criterion: REML, ML, Laplace, AGQ, variational, MAP or posterior.
        df_method: Kind of degrees of freedom: satterthwaite, kenward-roger, residual or normal.
        ci_level: Probability of the intervals, between 0 and 1.
        priors: Prior of each parameter, by name.
        seed: Seed of the random numbers.
        progress: Whether to show a progress bar; None shows it on a terminal only.
        start: Start of the search, for backends with ``takes_start``; or None.
        limits: Limits of time and memory.
    """

    method: str
    df_method: str = "satterthwaite"
    ci_level: float = 0.95
    priors: Mapping[str, Any] | None = None
    seed: int | None = None
    progress: bool | None = None
    start: Start | None = None
    limits: Limits = NO_LIMITS

    @property
    def reml(self) -> bool:
        """Whether the criterion is the restricted likelihood."""
        return self.method == "REML"

    def nodes(self, design: Design, count: int) -> int:
        """Number of quadrature nodes of a fit: ``count`` for quadrature, 1 for Laplace's approximation."""
        return count if self.method == "AGQ" and design.blocks else 1

    def quadrature_faults(self, design: Design, otherwise: str = "use method='Laplace'") -> list[str]:
        """Reason to refuse quadrature over several effects at once; empty if there is none."""
        if self.method == "AGQ" and sum(b.q for b in design.blocks) > 1:
            return [f"method='AGQ' is for one scalar random term, (1 | g): {otherwise}"]
        return []


@dataclass(frozen=True)
class Problem:
    """Argument of :meth:`unimix.backends.Backend._fit`.

    Attributes:
        design: The model in the coordinates to be fitted.
        request: Method, degrees of freedom and other requests.
        coefficients: Matrix from fitted coordinates to the user's fixed effects, shape (p, p); its rows are the
            contrasts whose degrees of freedom are needed.
        original: The model in the user's coordinates.
        start: Relative lower triangular covariance factors at which the search starts, shapes (q, q); or None.
    """

    design: Design
    request: FitRequest
    coefficients: FloatArray
    original: Design
    start: tuple[FloatArray, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of :meth:`unimix.backends.Backend.fit`: estimates in the user's units, and how they were obtained."""

    estimates: Estimates
    notes: tuple[str, ...]
    versions: dict[str, str]
    seconds: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)
