"""Denominator degrees of freedom for fixed effects of linear mixed models, from exact derivatives of the likelihood.

Satterthwaite's method computes the variance of an estimated variance l'Phi l by the delta method, from the observed
information of the covariance parameters (Giesbrecht & Burns 1985, Biometrics 41:477; Kuznetsova, Brockhoff &
Christensen 2017, J. Stat. Softw. 82(13)); several contrasts together follow Fai & Cornelius (1996), J. Stat. Comput.
Simul. 54:363. Kenward and Roger's method (1997, Biometrics 53:983) has the expected information, and adjusts the
covariance matrix of the fixed effects for small samples. Time and memory depend on the number of levels, not on the
square of the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unimix.likelihood.lmm.derivatives import Moments, gradient, traces_and_forms
from unimix.likelihood.lmm.parameters import held, in_parameters, is_plain, jacobian
from unimix.likelihood.lmm.penalised_least_squares import Profile
from unimix.likelihood.lmm.reduced_data import Products

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """Effect of the uncertainty of the covariance parameters on the covariance matrix of the fixed effects.

    Attributes:
        cov: Covariance matrix Phi = sigma^2 (X'V^-1 X)^-1, shape (p, p).
        slopes: Derivatives of Phi with respect to each covariance parameter, shape (d, p, p).
        information: Information matrix of the covariance parameters, shape (d, d).
        adjusted: Kenward and Roger's covariance matrix, shape (p, p); None with Satterthwaite's method.
    """

    cov: FloatArray
    slopes: FloatArray
    information: FloatArray
    adjusted: FloatArray | None = None

    def variances(self) -> FloatArray:
        """Covariance matrix of the parameters (d, d), from the directions with positive information."""
        scale = np.sqrt(np.maximum(np.abs(np.diag(self.information)), 1e-300))
        values, vectors = np.linalg.eigh(self.information / np.outer(scale, scale))
        kept = values > 1e-8 * max(float(values.max(initial=0.0)), 1e-300)
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        return np.asarray(inverse / np.outer(scale, scale))


def satterthwaite(
    products: Products, factors: Sequence[FloatArray], sigma: float, at: Profile, moments: Moments, *, reml: bool
) -> Uncertainty:
    """Observed information of the covariance parameters and log sigma, and the derivatives of Phi.

    Args:
        products: Reduced data.
        factors: Relative lower triangular factors at the estimates, shapes (q, q).
        sigma: Residual standard deviation.
        at: Profiled criterion at the estimates.
        moments: Moments at the estimates.
        reml: Whether the criterion is the restricted likelihood.
    """
    along, twice, mixed = _unprofiled(at, moments, sigma, reml=reml)
    here = replace(at, sigma=sigma)
    slopes_of_d = [] if is_plain(products) else gradient(products, here, reml=reml)
    _, by_parameters = in_parameters(along, twice, products, factors, slopes_of_d)
    turn = jacobian(products, factors)
    c, d, p = len(along), len(by_parameters), products.p
    full = np.zeros((d + 1, d + 1))
    full[:d, :d] = by_parameters
    full[:d, d] = full[d, :d] = turn.T @ mixed
    full[d, d] = -2.0 * at.quadratic / sigma**2
    cov = sigma**2 * at.cov_unscaled
    by_cell = sigma**2 * (at.cov_unscaled @ moments.a[:, :p, :p] @ at.cov_unscaled)
    slopes = np.empty((d + 1, p, p))
    slopes[:d] = np.tensordot(turn.T, by_cell.reshape(c, -1), axes=1).reshape(d, p, p)
    slopes[d] = 2.0 * cov
    free = free_parameters(products, factors)
    return Uncertainty(cov, slopes[free], -full[np.ix_(free, free)])


def free_parameters(products: Products, factors: Sequence[FloatArray]) -> npt.NDArray[np.int64]:
    """Indices of the parameters and of log sigma, without those held on an edge and without a sigma that is known."""
    unknown = products.sigma is None
    if is_plain(products):
        return np.arange(products.n_cells + unknown)
    return np.flatnonzero(np.append(~held(products, factors, -1.0), unknown))


def _unprofiled(
    at: Profile, moments: Moments, sigma: float, *, reml: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives at fixed sigma: gradient (c,), Hessian (c, c), and mixed derivatives with log sigma (c,)."""
    t, tt, q, quad = traces_and_forms(at, moments, reml=reml)
    return -0.5 * t + 0.5 * q / sigma**2, 0.5 * tt - quad / sigma**2, -q / sigma**2


def expected_information(products: Products, at: Profile, moments: Moments, *, reml: bool) -> FloatArray:
    """Expected information tr(P V_a P V_b) / 2 along the directions of D and of sigma^2, shape (c + 1, c + 1).

    Under ML it has V^-1 instead of P. The unit is sigma = 1.

    Args:
        products: Reduced data.
        at: Profiled criterion at a point.
        moments: Moments there.
        reml: Whether the criterion is the restricted likelihood.
    """
    d = moments.weights
    c = len(d)
    t, tt, _, _ = traces_and_forms(at, moments, reml=reml)
    full = np.empty((c + 1, c + 1))
    full[:c, :c] = tt
    # I = V - sum_a D_a V_a, and P V P = P
    full[:c, c] = full[c, :c] = t - tt @ d
    full[c, c] = products.n - (products.p if reml else 0) - d @ t - d @ full[:c, c]
    return np.asarray((full + full.T) / 4)


def kenward_roger(
    products: Products, factors: Sequence[FloatArray], sigma: float, at: Profile, moments: Moments
) -> Uncertainty:
    """Expected information of covariances and sigma^2, and the adjusted covariance matrix.

    V is linear in unstructured covariances. In the parameters of a structure it is not, and the terms with its second
    derivatives are left out, as by SAS's DDFM=KR(FIRSTORDER): they depend on how the structure is parametrised.

    Args:
        products: Reduced data.
        factors: Relative factors at the REML estimates, shapes (q, q).
        sigma: Residual standard deviation.
        at: Profiled restricted criterion at the estimates.
        moments: Moments at the estimates.
    """
    free = free_parameters(products, factors)
    moments = moments.only(free[:-1] if products.sigma is None else free)
    p, cov, d = products.p, at.cov_unscaled, moments.weights
    # V = sum_a D_a V_a + I: the terms for I follow from those of the V_a.
    a = moments.a[:, :p, :p]
    gram = at.state.gram[:p, :p]
    a_full = np.concatenate([a, (gram - np.tensordot(d, a, axes=1))[None]])
    aa = moments.aa[:, :, :p, :p]
    c = len(d)
    q_full = np.empty((c + 1, c + 1, p, p))
    q_full[:c, :c] = aa
    centred = a - np.einsum("b,abrs->ars", d, aa)
    q_full[:c, c], q_full[c, :c] = centred, centred.transpose(0, 2, 1)
    q_full[c, c] = a_full[c] - np.einsum("a,ars->rs", d, centred)
    information = expected_information(products, at, moments, reml=True)
    if products.sigma is not None:  # I is not multiplied by a parameter
        information, a_full, q_full = information[:c, :c], a_full[:c], q_full[:c, :c]
    slopes = cov @ a_full @ cov
    result = Uncertainty(cov, slopes, information)
    w = result.variances()
    inner = q_full - (a_full @ cov)[:, None] @ a_full[None]
    u = np.einsum("ab,abrs->rs", w, inner)
    adjusted = cov + 2.0 * cov @ ((u + u.T) / 2) @ cov
    return Uncertainty(sigma**2 * cov, sigma**2 * slopes, result.information, sigma**2 * adjusted)


def df_of_contrasts(uncertainty: Uncertainty, contrasts: FloatArray) -> FloatArray:
    """Degrees of freedom of single contrasts: 2 v^2 / var(v), v = l'Phi l.

    Args:
        uncertainty: Result of :func:`satterthwaite` or :func:`kenward_roger`; both have the same form for a single
            contrast.
        contrasts: Contrasts, one per row, shape (m, p).

    Returns:
        Degrees of freedom, shape (m,).
    """
    w = uncertainty.variances()
    # products of two matrices at a time: sums over three at once take the time of a fourth power of p
    v = ((contrasts @ uncertainty.cov) * contrasts).sum(axis=1)
    g = np.stack([((contrasts @ slope) * contrasts).sum(axis=1) for slope in uncertainty.slopes], axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * v**2 / ((g @ w) * g).sum(axis=1))


def f_test(uncertainty: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    """Joint F test of contrasts (m, p): statistic, numerator and denominator degrees of freedom.

    The method is that of Fai and Cornelius for Satterthwaite's uncertainty, and Kenward and Roger's scaled statistic
    for theirs.
    """
    return (
        _kenward_roger_f(uncertainty, contrasts, beta)
        if uncertainty.adjusted is not None
        else _fai(uncertainty, contrasts, beta)
    )


def _fai(uncertainty: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    values, vectors = np.linalg.eigh(contrasts @ uncertainty.cov @ contrasts.T)
    kept = values > 1e-8 * values.max()
    q = int(kept.sum())
    turned = vectors[:, kept].T @ contrasts
    statistic = float(np.sum((turned @ beta) ** 2 / values[kept]) / q)
    nu = df_of_contrasts(uncertainty, turned)
    if q == 1 or np.ptp(nu) < 1e-8:
        return statistic, float(q), float(nu.mean())
    if (nu <= 2).any():
        return statistic, float(q), 2.0
    e = float(np.sum(nu / (nu - 2)))
    return statistic, float(q), 2.0 * e / (e - q)


def _kenward_roger_f(uncertainty: Uncertainty, contrasts: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    """F test of Kenward & Roger (1997), section 3, as in pbkrtest (Halekoh & Hojsgaard 2014, J. Stat. Softw. 59(9))."""
    assert uncertainty.adjusted is not None  # noqa: S101  the caller's condition
    q = int(np.linalg.matrix_rank(contrasts))
    theta = contrasts.T @ np.linalg.pinv(contrasts @ uncertainty.cov @ contrasts.T) @ contrasts
    w = uncertainty.variances()
    turned = theta @ uncertainty.slopes
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
    inverse = np.linalg.pinv(contrasts @ uncertainty.adjusted @ contrasts.T)
    at = contrasts @ beta
    return float(scale * at @ inverse @ at / q), float(q), float(df)


def observed_covariance(
    products: Products,
    factors: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    at: Profile,
    moments: Moments,
    *,
    reml: bool,
) -> FloatArray:
    """Covariance matrix of the fixed effects from the observed information of all parameters together, shape (p, p).

    statsmodels and glmmTMB report this matrix. It exceeds (X'V^-1 X)^-1 by J Var(theta) J', where J holds the
    derivatives of the estimated fixed effects with respect to the variance parameters (Kass & Steffey 1989, J. Am.
    Stat. Assoc. 84:717-726, eq. 3.5); the cross-derivatives that cause the difference have expectation zero.
    """
    uncertainty = satterthwaite(products, factors, sigma, at, moments, reml=reml)
    p = products.p
    e = np.append(-beta, 1.0)
    gram = at.state.gram[:p, :p] / sigma**2
    by_parameter = jacobian(products, factors).T @ (moments.a @ e)[:, :p]
    cross = np.vstack([by_parameter, 2.0 * (at.state.gram @ e)[:p]])[free_parameters(products, factors)].T / sigma**2
    # The information above has beta profiled out (ML) or integrated out (REML); here beta is fixed.
    information = uncertainty.information + cross.T @ np.linalg.solve(gram, cross)
    spread = Uncertainty(uncertainty.cov, uncertainty.slopes, information).variances()
    return np.asarray(np.linalg.inv(gram - cross @ spread @ cross.T))
