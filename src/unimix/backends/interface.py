"""What goes to an engine's adapter and what comes back."""

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
    """An engine's passport.

    Attributes:
        name: What ``backend=`` calls it.
        engine: Whose numbers they are; two backends with one engine are one engine through two interfaces.
        title: One line for tables.
        packages: Python packages that must be importable.
        distributions: Packages whose versions go into the result.
        url: Home page of the engine.
        default_method: REML, or posterior; of a Gaussian model.
        modules: What to import beside the first of the packages, where that alone imports too little.
        extra: Extra of ``distribution`` whose packages the engine needs; the line to type is made from it.
        distribution: Python distribution that provides the backend.
        optional: Packages of that extra without which the engine runs, too.
        install: The line to type when a package is missing, where no extra says it.
        strengths: What speaks for it, in words: what ``unimix.recommend`` says of it.
        rank: Its place among the engines that can fit a model, lowest first: what they fit and certify, what they need,
            then their time (docs/conformance.md). unimix's own have 10, 20 and so on.
        quick_when_crossed: Whether it is among the quickest where large crossed factors tie many effects together.
        r_packages: R packages that it cannot fit without.
        r_optional: R packages that it uses where they are installed, each with what misses it, in words.
        r_trial: R code that fits the response ``y`` and the factor ``g`` of a data frame ``d`` with the first of
            ``r_packages``; ``unimix.doctor`` runs it to see whether what is installed works.
    """

    name: str
    engine: str
    title: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    url: str
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
    """Where a search for a linear mixed model's covariance parameters is to begin, in the user's units.

    Attributes:
        covariances: Covariance of each block's effects, shapes (q, q).
        sigma: Residual standard deviation.
        source: Whose they are, in words.
    """

    covariances: tuple[FloatArray, ...]
    sigma: float
    source: str


@dataclass(frozen=True)
class FitRequest:
    """What is asked of an engine beside the design.

    Attributes:
        method: REML, ML, Laplace, AGQ, variational, MAP or posterior.
        df_method: satterthwaite, kenward-roger, residual or normal.
        ci_level: Probability of the intervals.
        priors: Prior per parameter name.
        seed: Seed of the random numbers.
        progress: Show a progress bar; None means on a terminal.
        start: Where the search is to begin; only for backends with ``takes_start``.
        limits: Of time and memory.
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


@dataclass(frozen=True)
class Problem:
    """What :meth:`unimix.backends.Backend._fit` is given.

    Attributes:
        design: The model in the coordinates to be fitted.
        request: What is asked.
        coefficients: Matrix from fitted coordinates to the user's fixed effects, shape (p, p); its rows are the
            contrasts whose degrees of freedom are wanted.
        original: The model in the user's coordinates.
        start: Relative covariance factors, lower triangular, shapes (q, q), at which the search is to begin; or None.
    """

    design: Design
    request: FitRequest
    coefficients: FloatArray
    original: Design
    start: tuple[FloatArray, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What :meth:`unimix.backends.Backend.fit` returns: estimates in the user's units and how they came about."""

    estimates: Estimates
    notes: tuple[str, ...]
    versions: dict[str, str]
    seconds: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)
