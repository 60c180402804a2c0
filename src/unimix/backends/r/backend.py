"""What every engine in R shares: its packages, how a design goes over, how effects come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from packaging.requirements import Requirement

from unimix.backends.base import Backend, FitRequest
from unimix.backends.cost import Cost, most, pace, sizes_of
from unimix.backends.r.bridge import RBridge, connect
from unimix.r_installation import find_r, install_lines, rpy2_requirements
from unimix.versions import fault, install_line, requirements

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.distributions.family import Family

FloatArray = npt.NDArray[np.float64]
_SECOND_LOOK = "python -m unimix.doctor    # afterwards: it names the rpy2 that fits this R"
_FAMILIES = {"gamma": "Gamma", "inverse_gaussian": "inverse.gaussian"}


class RBackend(Backend):
    """An engine that is called in R through rpy2."""

    r_engine: ClassVar[tuple[str, ...]]
    """The R packages that fit, loaded ahead of time; their versions go into the result."""
    r_beneath: ClassVar[str]
    """The R package under the engine whose version matters too."""

    per_row: ClassVar[float]
    """Bytes that the engine takes for a byte of the design's columns."""
    per_dense: ClassVar[float]
    """The same for a dense matrix of crossed effects."""
    per_million: ClassVar[float]
    """Seconds per million cells of the design's columns."""
    per_cube: ClassVar[float]
    """Seconds for a thousand crossed effects."""

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """What goes by rows, and the Cholesky factor, which crossed factors fill in."""
        size = sizes_of(design)
        filled = self.per_dense * size.dense + 4.5 * size.between
        parts = {"the data": 1e7 + self.per_row * size.rows, size.crossed: filled}
        return most(parts, pace(design, size, self.per_million, self.per_cube))

    def load(self) -> Any:
        """Start R and check its packages."""
        bridge = self.checked_bridge()
        bridge.prepare(self.r_needed())
        return bridge

    def checked_bridge(self) -> RBridge:
        """R, with all packages that these options need.

        Raises:
            EngineNotInstalledError: If one is missing.
        """
        bridge = connect(self.info.name, self.install_lines)
        bridge.require(list(dict.fromkeys([*self.info.r_packages, *self.r_needed()])), self.info.name)
        return bridge

    @classmethod
    def install_lines(cls) -> str:
        """What to type to install R, the R packages and the Python packages that the engine needs and that are missing.

        Which rpy2 fits depends on the R that is there, so its line comes last and, without R, is left to a second look.
        """
        if cls.info.install:
            return cls.info.install
        found = find_r()
        if found.version is None:
            lines = found.fix or install_lines(["R", *cls.info.r_packages])
            return f"{lines}\n{_SECOND_LOOK}"
        others = [r for r in requirements(cls.info.extra, cls.info.distribution) if not r.name.startswith("rpy2")]
        absent = [r for r in others if fault(r)]
        return install_line([*absent, *map(Requirement, rpy2_requirements(found.version))])

    def r_needed(self) -> tuple[str, ...]:
        """The R packages that fit with these options: loaded ahead of time."""
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
    """Trials, or weights, or nothing, as R takes them."""
    given = design.trials if design.trials is not None else design.weights
    return np.empty(0) if given is None or (design.trials is not None and (given == 1).all()) else given


def r_arguments(design: Design) -> list[Any]:
    """Response, columns, codes (from 1), levels and weights, as our ``*.R`` files take them."""
    return [
        design.y,
        design.x,
        [b.z for b in design.blocks],
        [b.codes + 1 for b in design.blocks],
        np.array([b.n_levels for b in design.blocks], dtype=np.int64),
        prior_weights(design),
    ]


def r_offset(design: Design) -> FloatArray:
    """The offset, or nothing."""
    return np.empty(0) if design.offset is None else design.offset


def read_covariances(answer: dict[str, Any], design: Design) -> tuple[FloatArray, ...]:
    """Covariance of each block's effects, shapes (q, q)."""
    return tuple(c.reshape(b.q, b.q) for c, b in zip(answer["covariances"], design.blocks, strict=True))


def read_modes(answer: dict[str, Any], design: Design) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Conditional modes (L, q) and covariances (L, q, q; none where R was not asked) per block, column-major in R."""
    modes, covs = [], []
    for mode, cov, block in zip(answer["modes"], answer["mode_covs"], design.blocks, strict=True):
        levels, q = block.n_levels, block.q
        modes.append(mode.reshape(levels, q, order="F"))
        if len(cov):
            covs.append(np.moveaxis(cov.reshape(q, q, levels, order="F"), 2, 0))
    return tuple(modes), tuple(covs)
