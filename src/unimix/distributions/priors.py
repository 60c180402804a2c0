"""Prior distributions in the user's units, independent of any engine.

Densities and normalising constants follow Gelman et al., Bayesian Data Analysis (3rd ed.), appendix A; LKJ follows
Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100:1989-2001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from unimix.distributions.prior_base import FloatArray, Parameter, Prior, Support

__all__ = [
    "LKJ",
    "Cauchy",
    "Exponential",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "InverseGamma",
    "LogNormal",
    "Normal",
    "Prior",
    "StudentT",
    "Uniform",
]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Normal(Prior):
    """Normal distribution.

    Attributes:
        mu: Mean.
        sigma: Standard deviation.
    """

    mu: float = 0.0
    sigma: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"sigma"})

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -z^2 / 2 and its derivative, with z = (x - mu) / sigma; mu is 0 for a half-normal prior."""
        mu, sigma = parameters
        z = (x - mu) / sigma
        return -0.5 * z * z, -z / sigma

    def constant(self) -> float:
        """Log of the normalising constant of the normal density."""
        return -_HALF_LOG_2PI - math.log(self.sigma)


@dataclass(frozen=True)
class StudentT(Prior):
    """Student's t distribution.

    Attributes:
        nu: Degrees of freedom.
        mu: Location.
        sigma: Scale.
    """

    nu: float
    mu: float = 0.0
    sigma: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"nu", "sigma"})

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -(nu + 1) / 2 log(1 + z^2 / nu) and its derivative, z = (x - mu) / sigma; mu is 0 for a half t."""
        nu, mu, sigma = parameters
        z = (x - mu) / sigma
        return -0.5 * (nu + 1) * np.log1p(z * z / nu), -(nu + 1) * z / (sigma * (nu + z * z))

    def constant(self) -> float:
        """Log of the normalising constant of the t density."""
        return _t_constant(self.nu, self.sigma)


@dataclass(frozen=True)
class Cauchy(Prior):
    """Cauchy distribution.

    Attributes:
        alpha: Location.
        beta: Scale.
    """

    alpha: float = 0.0
    beta: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"beta"})

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -log(1 + z^2) and its derivative, with z = (x - alpha) / beta; alpha is 0 for a half-Cauchy prior."""
        alpha, beta = parameters
        return StudentT.kernel(x, 1.0, alpha, beta)

    def constant(self) -> float:
        """Log of the normalising constant of the Cauchy density."""
        return -math.log(math.pi * self.beta)


@dataclass(frozen=True)
class HalfNormal(Prior):
    """Normal distribution around zero, truncated to the positive half line.

    Attributes:
        sigma: Standard deviation before truncation.
    """

    sigma: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"sigma"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -z^2 / 2 and its derivative, with z = (x - mu) / sigma; mu is 0 for a half-normal prior."""
        return Normal.kernel(x, 0.0, *parameters)

    def constant(self) -> float:
        """Log of twice the normalising constant of the normal density."""
        return math.log(2) - _HALF_LOG_2PI - math.log(self.sigma)


@dataclass(frozen=True)
class HalfStudentT(Prior):
    """Student's t distribution around zero, truncated to the positive half line.

    Attributes:
        nu: Degrees of freedom.
        sigma: Scale.
    """

    nu: float
    sigma: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"nu", "sigma"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -(nu + 1) / 2 log(1 + z^2 / nu) and its derivative, z = (x - mu) / sigma; mu is 0 for a half t."""
        nu, sigma = parameters
        return StudentT.kernel(x, nu, 0.0, sigma)

    def constant(self) -> float:
        """Log of twice the normalising constant of the t density."""
        return math.log(2) + _t_constant(self.nu, self.sigma)


@dataclass(frozen=True)
class HalfCauchy(Prior):
    """Cauchy distribution around zero, truncated to the positive half line.

    Attributes:
        beta: Scale.
    """

    beta: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"beta"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -log(1 + z^2) and its derivative, with z = (x - alpha) / beta; alpha is 0 for a half-Cauchy prior."""
        return StudentT.kernel(x, 1.0, 0.0, *parameters)

    def constant(self) -> float:
        """Log of twice the normalising constant of the Cauchy density."""
        return math.log(2) - math.log(math.pi * self.beta)


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential distribution.

    Attributes:
        lam: Rate; the mean is 1 / lam.
    """

    lam: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"lam"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -lam x and its derivative."""
        (lam,) = parameters
        return -lam * x, -lam * np.ones_like(x)

    def constant(self) -> float:
        """Log of the rate."""
        return math.log(self.lam)


@dataclass(frozen=True)
class Gamma(Prior):
    """Gamma distribution; the mean is alpha / beta.

    Attributes:
        alpha: Shape.
        beta: Rate.
    """

    alpha: float
    beta: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"alpha", "beta"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel (alpha - 1) log x - beta x and its derivative."""
        alpha, beta = parameters
        return _power(x, alpha - 1) - beta * x, (alpha - 1) / x - beta

    def constant(self) -> float:
        """Log of the normalising constant of the gamma density."""
        return self.alpha * math.log(self.beta) - math.lgamma(self.alpha)


@dataclass(frozen=True)
class InverseGamma(Prior):
    """Distribution of 1 / x for a gamma variable x.

    Attributes:
        alpha: Shape.
        beta: Scale.
    """

    alpha: float
    beta: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"alpha", "beta"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -(alpha + 1) log x - beta / x and its derivative."""
        alpha, beta = parameters
        return -(alpha + 1) * np.log(x) - beta / x, (beta / x - alpha - 1) / x

    def constant(self) -> float:
        """Log of the normalising constant of the inverse gamma density."""
        return self.alpha * math.log(self.beta) - math.lgamma(self.alpha)


@dataclass(frozen=True)
class LogNormal(Prior):
    """Distribution of exp(x) for a normal variable x.

    Attributes:
        mu: Mean of the logarithm.
        sigma: Standard deviation of the logarithm.
    """

    mu: float = 0.0
    sigma: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"sigma"})
    line: ClassVar[Support] = "positive"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel -z^2 / 2 - log x and its derivative, with z = (log x - mu) / sigma."""
        log_x = np.log(x)
        value, slope = Normal.kernel(log_x, *parameters)
        return value - log_x, (slope - 1) / x

    def constant(self) -> float:
        """Log of the normalising constant of the normal density of log x."""
        return -_HALF_LOG_2PI - math.log(self.sigma)


@dataclass(frozen=True)
class Uniform(Prior):
    """Uniform distribution.

    Attributes:
        lower: Lower end.
        upper: Upper end.
    """

    lower: float = 0.0
    upper: float = 1.0

    def _faults(self) -> list[str]:
        return [] if self.lower < self.upper else [f"lower={self.lower:g} must be below upper={self.upper:g}"]

    @property
    def support(self) -> Support:
        """Support: the positive half line if ``lower`` is not negative, otherwise the real line."""
        return "positive" if self.lower >= 0 else "real"

    def inside(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Mask of the values between ``lower`` and ``upper``, same shape as ``x``."""
        return (x >= self.lower) & (x <= self.upper)

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Constant kernel, 0, and its derivative, 0."""
        del parameters
        return np.zeros_like(x), np.zeros_like(x)

    def constant(self) -> float:
        """Negative log of the length of the interval."""
        return -math.log(self.upper - self.lower)


@dataclass(frozen=True)
class LKJ(Prior):
    """Distribution of a correlation matrix R with density proportional to det(R)^(eta - 1).

    Attributes:
        eta: Shape; 1 is uniform over correlation matrices, and larger values favour correlations near zero.
    """

    eta: float = 1.0
    positive: ClassVar[frozenset[str]] = frozenset({"eta"})
    line: ClassVar[Support] = "correlation"

    @staticmethod
    def kernel(x: FloatArray, *parameters: Parameter) -> tuple[FloatArray, FloatArray]:
        """Kernel (eta - 1) log det R, shape (...), and its derivative (eta - 1) R^-1, shape (..., q, q)."""
        eta = np.asarray(parameters[0])
        value: FloatArray = (eta - 1) * np.linalg.slogdet(x)[1]
        return value, (eta[..., None, None] - 1) * np.linalg.inv(x)

    def constant(self) -> float:
        """Zero; :meth:`log_density` adds :meth:`log_constant`, which depends on the size of the matrix."""
        return 0.0

    def exponents(self, q: int) -> FloatArray:
        """Exponents a_k: with partial correlations z_ik = tanh(y_ik), the density of y is prod (1 - z_ik^2)^a_k.

        Args:
            q: Size of the matrix.

        Returns:
            One exponent per column k of the lower triangle, shape (q - 1,).
        """
        return self.eta - 1.0 + 0.5 * np.arange(q, 1, -1, dtype=np.float64)

    def log_constant(self, q: int) -> float:
        """Log of the normalising constant for q x q matrices."""
        total = 0.0
        for k, a in enumerate(self.exponents(q)):
            total -= (q - 1 - k) * (math.lgamma(0.5) + math.lgamma(a) - math.lgamma(a + 0.5))
        return total

    def log_density(self, x: npt.ArrayLike) -> FloatArray:
        """Log density of correlation matrices, shape (...); minus infinity for a matrix that is not positive definite.

        Args:
            x: Matrices, shape (..., q, q).
        """
        matrix = np.asarray(x, dtype=np.float64)
        definite = np.linalg.eigvalsh(matrix)[..., 0] > 0
        safe = np.where(definite[..., None, None], matrix, np.eye(matrix.shape[-1]))
        value = self.kernel(safe, self.eta)[0] + self.log_constant(matrix.shape[-1])
        return np.asarray(np.where(definite, value, -np.inf), dtype=np.float64)

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        """Derivative with respect to each entry, all treated as free: (eta - 1) R^-1, shape (..., q, q)."""
        return self.kernel(np.asarray(x, dtype=np.float64), self.eta)[1]


def _t_constant(nu: float, sigma: float) -> float:
    return math.lgamma(0.5 * (nu + 1)) - math.lgamma(0.5 * nu) - 0.5 * math.log(nu * math.pi) - math.log(sigma)


def _power(x: FloatArray, exponent: Parameter) -> FloatArray:
    """Compute exponent * log x; the result is zero for a zero exponent."""
    return np.where(np.equal(exponent, 0), 0.0, exponent * np.log(x))
