"""Common parts of all engines in R: packages, the transfer of a design, and the reading of effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from packaging.requirements import Requirement

from unimix.backends.base import Backend, FitRequest
from unimix.backends.cost import Cost, Pace, most, sizes_of
from unimix.backends.r.bridge import RBridge, connect
from unimix.installation import fault, install_line, requirements
from unimix.r_installation import find_r, install_lines, rpy2_requirements

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.distributions.family import Family

FloatArray = npt.NDArray[np.float64]
_SECOND_LOOK = "python -m unimix.doctor    # afterwards: it names the version of rpy2 for this R"
_FAMILIES = {"gamma": "Gamma", "inverse_gaussian": "inverse.gaussian"}


class RBackend(Backend):
    """An engine that is called in R through rpy2."""

    r_engine: ClassVar[tuple[str, ...]]
    """R packages that fit, which are loaded in advance; their versions are recorded in the result."""
    r_beneath: ClassVar[str]
    """Further R package whose version matters because the engine depends on it."""

    per_row: ClassVar[float]
    """Bytes of memory of the engine per byte of the design's columns."""
    per_dense: ClassVar[float]
    """Bytes of memory of the engine per byte of a dense matrix of crossed effects."""
    pace: ClassVar[Pace]
    """Seconds per unit of work."""

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the rows, and of the Cholesky factor, which crossed factors fill in."""
        size = sizes_of(design)
        filled = self.per_dense * size.dense + 4.5 * size.between
        parts = {"the data": 1e7 + self.per_row * size.rows, size.crossed: filled}
        return most(parts, self.pace.seconds(design))

    def load(self) -> Any:
        """Start R and check its packages."""
        bridge = self.checked_bridge()
        bridge.prepare(self.r_needed())
        return bridge

    def checked_bridge(self) -> RBridge:
        """Start R and check the packages that these options need.

        Raises:
            EngineNotInstalledError: If a package is missing.
        """
        bridge = connect(self.info.name, self.install_lines)
        bridge.require(list(dict.fromkeys([*self.info.r_packages, *self.r_needed()])), self.info.name)
        return bridge

    @classmethod
    def install_lines(cls) -> str:
        """Lines to type to install the missing parts among R, the R packages and the Python packages of the engine.

        The version of rpy2 depends on the installed R, so that its line comes last; without R, ``unimix.doctor`` gives
        it afterwards.
        """
        if cls.info.install:
            return cls.info.install
        installation = find_r()
        if installation.version is None:
            lines = installation.fix or install_lines(["R", *cls.info.r_packages])
            return f"{lines}\n{_SECOND_LOOK}"
        others = [r for r in requirements(cls.info.extra, cls.info.distribution) if not r.name.startswith("rpy2")]
        absent = [r for r in others if fault(r)]
        return install_line([*absent, *map(Requirement, rpy2_requirements(installation.version))])

    def r_needed(self) -> tuple[str, ...]:
        """R packages that fit with these options, which are loaded in advance."""
        return self.r_engine

    def versions(self) -> dict[str, str]:
        """Versions of the Python packages, R and the R packages."""
        bridge = connect(self.info.name, self.install_lines)
        return {**super().versions(), **bridge.versions([*self.r_needed(), self.r_beneath])}


def r_family(family: Family) -> tuple[str, str]:
    """Names of a family and its link in R."""
    link = "1/mu^2" if family.link == "inverse_squared" else family.link
    return _FAMILIES.get(family.name, family.name), link


def prior_weights(design: Design) -> FloatArray:
    """Trials, weights or an empty array, as R's ``weights`` argument takes them."""
    given = design.trials if design.trials is not None else design.weights
    return np.empty(0) if given is None or (design.trials is not None and (given == 1).all()) else given


def r_arguments(design: Design) -> list[Any]:
    """Response, columns, codes (from 1), levels and weights, as the ``*.R`` files of unimix take them."""
    return [
        design.y,
        design.x,
        [b.z for b in design.blocks],
        [b.codes + 1 for b in design.blocks],
        np.array([b.n_levels for b in design.blocks], dtype=np.int64),
        prior_weights(design),
    ]


def r_offset(design: Design) -> FloatArray:
    """Offset, or an empty array."""
    return np.empty(0) if design.offset is None else design.offset


def read_covariances(answer: dict[str, Any], design: Design) -> tuple[FloatArray, ...]:
    """Read the covariance matrix of each block's effects, shapes (q, q)."""
    return tuple(c.reshape(b.q, b.q) for c, b in zip(answer["covariances"], design.blocks, strict=True))


def read_modes(answer: dict[str, Any], design: Design) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Read conditional modes (L, q) and covariances (L, q, q; none if R did not compute them) of each block."""
    modes, covs = [], []
    for mode, cov, block in zip(answer["modes"], answer["mode_covs"], design.blocks, strict=True):
        levels, q = block.n_levels, block.q
        modes.append(mode.reshape(levels, q, order="F"))
        if len(cov):
            covs.append(np.moveaxis(cov.reshape(q, q, levels, order="F"), 2, 0))
    return tuple(modes), tuple(covs)
