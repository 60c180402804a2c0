"""A backend for unimix in one file: penalised least squares (Bates et al. 2015) with dense NumPy matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.linalg import block_diag, solve_triangular

from unimix.backends import (
    Backend,
    BackendInfo,
    Capabilities,
    Design,
    Estimates,
    FitRequest,
    Never,
    NotYet,
    Problem,
    RandomBlock,
    Yes,
)

if TYPE_CHECKING:
    from types import ModuleType

FloatArray = npt.NDArray[np.float64]
LARGEST = 600


# --8<-- [start:adapter]
class DensePLS(Backend):
    """Minimises the profiled deviance by SciPy's L-BFGS-B; meant for small data.

    Attributes:
        max_iterations: Of the search over the covariance parameters.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="densepls",
        engine="densepls",
        title="Penalised least squares, dense, in NumPy",
        packages=("scipy.optimize",),
        distributions=("unimix-densepls", "scipy"),
        install="pip install unimix-densepls",
        url="https://arxiv.org/abs/1406.5823",
        strengths="a whole engine in two hundred lines, for small data",
        rank=100,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        default=Never("it is for linear mixed models with unstructured covariances"),
        no_random_part=Yes(),
        group_effects=Yes(),
        weights=Yes("rows scaled by sqrt(w)"),
        offset=Yes("subtracted from the response and added back"),
        reml=Yes(),
        ml=Yes(),
        posterior=Never("it maximises a likelihood; it has no posterior"),
        priors=Never("it maximises a likelihood; it has no priors"),
        degrees_of_freedom=NotYet("nobody has written the derivatives of the covariance matrix"),
    )

    max_iterations: Annotated[int, Field(ge=1)] = 500

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Refuse what dense matrices would make slow."""
        size = sum(b.n_levels * b.q for b in design.blocks)
        return [f"{size} random effects: dense matrices are meant for at most {LARGEST}"] if size > LARGEST else []

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        design, reml = problem.design, problem.request.reml
        products = cross_products(design)
        shapes = [(b.n_levels, b.q) for b in design.blocks]
        start = np.concatenate([np.eye(q)[np.tril_indices(q)] for _, q in shapes] or [np.empty(0)])
        if not len(start):
            return estimates(profile(start, shapes, products, reml=True), shapes, converged=True)
        found: Any = engine.minimize(
            lambda theta: profile(theta, shapes, products, reml=reml).deviance / design.n,
            start,
            method="L-BFGS-B",
            jac="3-point",
            bounds=[(0 if one else None, None) for one in start],  # the diagonals, which start at 1, stay positive
            options={"maxiter": self.max_iterations, "ftol": 1e-13, "gtol": 1e-6},
        )
        best = profile(found.x, shapes, products, reml=reml)
        return estimates(best, shapes, converged=bool(found.success), message=str(found.message), native=found)


# --8<-- [end:adapter]
# --8<-- [start:mathematics]


class Products(NamedTuple):
    """Z'Z, Z'[X y], [X y]'[X y], and the number of rows."""

    zz: FloatArray
    zr: FloatArray
    rr: FloatArray
    n: int


class Profile(NamedTuple):
    """The solution for given covariance parameters."""

    deviance: float
    log_likelihood: float
    beta: FloatArray
    beta_cov: FloatArray
    sigma: float
    effects: FloatArray
    effects_cov: FloatArray
    factors: list[FloatArray]


def cross_products(design: Design) -> Products:
    """All that the criterion needs of the data."""

    def indicator(block: RandomBlock) -> FloatArray:
        z = np.zeros((design.n, block.n_levels, block.q))
        z[np.arange(design.n), block.codes] = block.z
        return z.reshape(design.n, -1)

    z = np.hstack([np.empty((design.n, 0)), *map(indicator, design.blocks)])
    right = np.column_stack([design.x, design.y])
    return Products(z.T @ z, z.T @ right, right.T @ right, design.n)


def profile(theta: FloatArray, shapes: list[tuple[int, int]], data: Products, *, reml: bool) -> Profile:
    """Solve the penalised least-squares problem; Cov(effects) = sigma^2 F F' with F filled from theta."""
    factors, used = [], 0
    for _, q in shapes:
        factor = np.zeros((q, q))
        factor[np.tril_indices(q)] = theta[used : (used := used + q * (q + 1) // 2)]
        factors.append(factor)
    lam = block_diag(*[np.kron(np.eye(n), f) for (n, _), f in zip(shapes, factors, strict=True)], np.empty((0, 0)))
    root = np.linalg.cholesky(lam.T @ data.zz @ lam + np.eye(len(lam)))
    half = solve_triangular(root, lam.T @ data.zr, lower=True)
    rest = np.linalg.cholesky(data.rr - half.T @ half)  # of [X y] after the random effects
    p = len(rest) - 1
    inverse = solve_triangular(rest[:p, :p], np.eye(p), lower=True)
    beta = inverse.T @ rest[p, :p]
    free = data.n - p if reml else data.n
    sigma = float(rest[p, p]) / np.sqrt(free)
    deviance = 2 * np.log(np.diag(root)).sum() + free * (1 + np.log(2 * np.pi * sigma**2))
    deviance += 2 * np.log(np.diag(rest)[:p]).sum() if reml else 0.0
    spread = solve_triangular(root, lam.T, lower=True)
    return Profile(
        float(deviance),
        float(-deviance / 2),
        beta,
        sigma**2 * inverse.T @ inverse,
        sigma,
        spread.T @ (half[:, p] - half[:, :p] @ beta),
        sigma**2 * spread.T @ spread,
        factors,
    )


def estimates(
    found: Profile, shapes: list[tuple[int, int]], *, converged: bool, message: str = "", native: Any = None
) -> Estimates:
    """Cut the long vectors into blocks of levels x columns."""
    modes, covs, used = [], [], 0
    for levels, q in shapes:
        part = slice(used, used := used + levels * q)
        modes.append(found.effects[part].reshape(levels, q))
        whole = found.effects_cov[part, part].reshape(levels, q, levels, q)
        covs.append(np.einsum("iaib->iab", whole))
    return Estimates(
        beta=found.beta,
        beta_cov=found.beta_cov,
        covariances=tuple(found.sigma**2 * f @ f.T for f in found.factors),
        sigma=found.sigma,
        modes=tuple(modes),
        mode_covs=tuple(covs),
        log_likelihood=found.log_likelihood,
        converged=converged,
        messages=() if converged else (message,),
        provenance={"df": "none: this backend has no degrees of freedom; z is reported"},
        engine_call="scipy.optimize.minimize(deviance, theta, method='L-BFGS-B')",
        native=native or found,
    )


# --8<-- [end:mathematics]
