"""Satterthwaite's degrees of freedom by differences of a likelihood that a test has written itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def df_by_differences(at: Callable[[FloatArray], tuple[float, FloatArray]], centre: FloatArray) -> FloatArray:
    """2 v^2 / (g' H^-1 g) of every coefficient, shape (p,), from central differences, whose error is about 1e-5.

    Args:
        at: The log-likelihood and the variances v (p,) of the coefficients at two variance parameters.
        centre: The estimates of the variance parameters, shape (2,).
    """
    steps = 1e-3 * np.diag(centre)
    gradient = np.array([(at(centre + s)[1] - at(centre - s)[1]) / (2 * s.max()) for s in steps])
    hessian = np.empty((2, 2))
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            up, down = at(centre + a + b)[0] + at(centre - a - b)[0], at(centre + a - b)[0] + at(centre - a + b)[0]
            hessian[i, j] = (up - down) / (4 * a.max() * b.max())
    variance = np.einsum("ak,ab,bk->k", gradient, np.linalg.inv(-hessian), gradient)
    return np.asarray(2 * at(centre)[1] ** 2 / variance)
