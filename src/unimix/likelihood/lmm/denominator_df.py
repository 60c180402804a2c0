"""Denominator degrees of freedom of a linear mixed model's fixed effects, from exact derivatives of its likelihood.

Satterthwaite's: the variance of an estimated variance l'Phi l by the delta method, from the observed information of the
covariance parameters (Giesbrecht & Burns 1985, Biometrics 41:477; Kuznetsova, Brockhoff & Christensen 2017, J. Stat.
Softw. 82(13)); for several contrasts together Fai & Cornelius (1996), J. Stat. Comput. Simul. 54:363. Kenward and
Roger's (1997, Biometrics 53:983): expected information, and a covariance matrix of the fixed effects that is adjusted
for small samples. Time and memory go by levels, not by the square of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.derivatives import Curvature, Moments, cell_jacobian, in_factors, traces_and_forms
from unimix.likelihood.lmm.penalised_least_squares import Profile, cells
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """What the covariance parameters' uncertainty does to the covariance matrix of the fixed effects.

    Attributes:
        cov: Phi = sigma^2 (X'V^-1 X)^-1, shape (p, p).
        slopes: Derivatives of Phi by each parameter, shape (d, p, p).
        information: Their information matrix, shape (d, d).
        adjusted: Kenward and Roger's covariance matrix, shape (p, p); None with Satterthwaite's method.
    """

    cov: FloatArray
    slopes: FloatArray
    information: FloatArray
    adjusted: FloatArray | None = None

    def variances(self) -> FloatArray:
        """Covariance matrix of the parameters (d, d), from the directions in which there is information."""
        scale = np.sqrt(np.maximum(np.abs(np.diag(self.information)), 1e-300))
        values, vectors = np.linalg.eigh(self.information / np.outer(scale, scale))
        kept = values > 1e-8 * max(float(values.max(initial=0.0)), 1e-300)
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        return np.asarray(inverse / np.outer(scale, scale))


def satterthwaite(
    products: Products, factors: Sequence[FloatArray], sigma: float, at: Profile, found: Moments, *, reml: bool
) -> Uncertainty:
    """Observed information of the relative factors and log sigma, and what they do to Phi.

    Args:
        products: The model.
        factors: Relative lower triangular factors at the estimates, shapes (q, q).
        sigma: Residual standard deviation.
        at: The criterion there.
        found: Its moments there.
        reml: Criterion.
    """
    gradient, hessian, mixed = _unprofiled(at, found, sigma, reml=reml)
    curve = Curvature(gradient, hessian)
    _, by_factor = in_factors(curve, products, factors)
    turn = cell_jacobian(products, factors)
    c, d, p = len(gradient), by_factor.shape[0], products.p
    full = np.zeros((d + 1, d + 1))
    full[:d, :d] = by_factor
    full[:d, d] = full[d, :d] = turn.T @ mixed
    full[d, d] = -2.0 * at.quadratic / sigma**2
    cov = sigma**2 * at.cov_unscaled
    by_cell = sigma**2 * np.einsum("rs,ast,tu->aru", at.cov_unscaled, found.a[:, :p, :p], at.cov_unscaled)
    slopes = np.empty((d + 1, p, p))
    slopes[:d] = np.tensordot(turn.T, by_cell.reshape(c, -1), axes=1).reshape(d, p, p)
    slopes[d] = 2.0 * cov
    return Uncertainty(cov, slopes, -full)


def _unprofiled(at: Profile, found: Moments, sigma: float, *, reml: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives with sigma held: gradient (c,), Hessian (c, c), and the mixed derivatives with log sigma (c,)."""
    t, tt, q, quad = traces_and_forms(at, found, reml=reml)
    return -0.5 * t + 0.5 * q / sigma**2, 0.5 * tt - quad / sigma**2, -q / sigma**2


def kenward_roger(
    products: Products, factors: Sequence[FloatArray], sigma: float, at: Profile, found: Moments
) -> Uncertainty:
    """Expected information of the covariances and sigma^2, in which V is linear, and the adjusted covariance matrix.

    Args:
        products: The model.
        factors: Relative factors at the REML estimates, shapes (q, q).
        sigma: Residual standard deviation.
        at: The restricted criterion there.
        found: Its moments there.
    """
    order = cells(products)
    p, cov = products.p, at.cov_unscaled
    d = np.array([(factors[k] @ factors[k].T)[i, j] for k, i, j in order])
    # V = sum D_a V_a + I: what belongs to I follows from the rest.
    a = found.a[:, :p, :p]
    gram = at.state.gram[:p, :p]
    a_full = np.concatenate([a, (gram - np.tensordot(d, a, axes=1))[None]])
    aa = found.aa[:, :, :p, :p]
    c = len(order)
    q_full = np.empty((c + 1, c + 1, p, p))
    q_full[:c, :c] = aa
    left = a - np.einsum("b,abrs->ars", d, aa)
    q_full[:c, c], q_full[c, :c] = left, left.transpose(0, 2, 1)
    q_full[c, c] = a_full[c] - np.einsum("a,ars->rs", d, left)
    tt = np.empty((c + 1, c + 1))
    _, tt[:c, :c], _, _ = traces_and_forms(at, found, reml=True)
    own = found.t - np.trace(a @ cov, axis1=1, axis2=2)  # tr P V_a
    tt[:c, c] = tt[c, :c] = own - tt[:c, :c] @ d
    tt[c, c] = products.n - p - d @ own - d @ tt[:c, c]
    slopes = np.einsum("rs,ast,tu->aru", cov, a_full, cov)
    result = Uncertainty(cov, slopes, 0.5 * (tt + tt.T) / 2)
    w = result.variances()
    inner = q_full - np.einsum("ars,st,btu->abru", a_full, cov, a_full)
    u = np.einsum("ab,abrs->rs", w, inner)
    adjusted = cov + 2.0 * cov @ ((u + u.T) / 2) @ cov
    return Uncertainty(sigma**2 * cov, sigma**2 * slopes, result.information, sigma**2 * adjusted)


def df_of_contrasts(found: Uncertainty, contrasts: FloatArray) -> FloatArray:
    """Degrees of freedom of single contrasts: 2 v^2 / var(v), v = l'Phi l.

    Args:
        found: From :func:`satterthwaite` or :func:`kenward_roger`, with which a single contrast's are of the same form.
        contrasts: Shape (m, p).

    Returns:
        Shape (m,).
    """
    w = found.variances()
    v = np.einsum("mp,pr,mr->m", contrasts, found.cov, contrasts)
    g = np.einsum("mp,apr,mr->ma", contrasts, found.slopes, contrasts)
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * v**2 / np.einsum("ma,ab,mb->m", g, w, g))


def f_test(found: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    """F test of contrasts (m, p) together: statistic, numerator and denominator degrees of freedom.

    Fai and Cornelius where ``found`` is Satterthwaite's; Kenward and Roger's scaled statistic where it is theirs.
    """
    return _kenward_roger_f(found, contrasts, beta) if found.adjusted is not None else _fai(found, contrasts, beta)


def _fai(found: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    values, vectors = np.linalg.eigh(contrasts @ found.cov @ contrasts.T)
    kept = values > 1e-8 * values.max()
    q = int(kept.sum())
    turned = vectors[:, kept].T @ contrasts
    statistic = float(np.sum((turned @ beta) ** 2 / values[kept]) / q)
    nu = df_of_contrasts(found, turned)
    if q == 1 or np.ptp(nu) < 1e-8:
        return statistic, float(q), float(nu.mean())
    if (nu <= 2).any():
        return statistic, float(q), 2.0
    e = float(np.sum(nu / (nu - 2)))
    return statistic, float(q), 2.0 * e / (e - q)


def _kenward_roger_f(found: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    """Kenward & Roger (1997), section 3, as in pbkrtest (Halekoh & Hojsgaard 2014, J. Stat. Softw. 59(9))."""
    assert found.adjusted is not None  # noqa: S101  the caller's condition
    q = int(np.linalg.matrix_rank(contrasts))
    theta = contrasts.T @ np.linalg.pinv(contrasts @ found.cov @ contrasts.T) @ contrasts
    w = found.variances()
    turned = theta @ found.slopes
    once = np.trace(turned, axis1=1, axis2=2)
    twice = np.einsum("ars,bsr->ab", turned, turned)
    a1, a2 = float(once @ w @ once), float(np.sum(w * twice))
    b = (a1 + 6 * a2) / (2 * q)
    g = ((q + 1) * a1 - (q + 4) * a2) / ((q + 2) * a2)
    below = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    e = 1.0 / (1.0 - a2 / q)
    rho = ((1.0 - a2 / q) / (1.0 - c2 * b)) ** 2 * (1.0 + c1 * b) / (1.0 - c3 * b) / q
    df = 4.0 + (q + 2.0) / (q * rho - 1.0)
    scale = 1.0 if abs(df - 2.0) < 1e-8 else df / (e * (df - 2.0))
    inverse = np.linalg.pinv(contrasts @ found.adjusted @ contrasts.T)
    at = contrasts @ beta
    return float(scale * at @ inverse @ at / q), float(q), float(df)


def observed_covariance(
    products: Products,
    factors: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    at: Profile,
    found: Moments,
    *,
    reml: bool,
) -> FloatArray:
    """Covariance matrix of the fixed effects from the observed information of all parameters together, shape (p, p).

    What statsmodels and glmmTMB report. It differs from (X'V^-1 X)^-1 by the cross-derivatives, whose expectation is
    zero: by J Var(theta) J' with J the derivatives of the estimated fixed effects by the variance parameters (Kass &
    Steffey 1989, J. Am. Stat. Assoc. 84:717-726, eq. 3.5).
    """
    made = satterthwaite(products, factors, sigma, at, found, reml=reml)
    p = products.p
    e = np.append(-beta, 1.0)
    gram = at.state.gram[:p, :p] / sigma**2
    cross = np.empty((p, len(made.information)))
    cross[:, :-1] = (cell_jacobian(products, factors).T @ (found.a @ e)[:, :p]).T / sigma**2
    cross[:, -1] = 2.0 * (at.state.gram @ e)[:p] / sigma**2
    # The information above has beta profiled out, or integrated; here it is held.
    information = made.information + cross.T @ np.linalg.solve(gram, cross)
    spread = Uncertainty(made.cov, made.slopes, information).variances()
    return np.asarray(np.linalg.inv(gram - cross @ spread @ cross.T))
