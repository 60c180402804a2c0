"""Maximum-likelihood estimate of the dispersion parameter, given the coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from unimix.design.arrays import Design
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]


def profile_dispersion(design: Design, eta: FloatArray) -> tuple[float, float]:
    """Maximise the log likelihood over the dispersion parameter.

    Args:
        design: Design whose family has one dispersion parameter.
        eta: Linear predictor with offset, shape (n,).

    Returns:
        The estimate of the parameter, and the log likelihood at it.
    """

    def loss(log_value: float) -> float:
        return -float(row_log_likelihood(design, np.array([np.exp(log_value)]), eta).value.sum())

    optimum = scipy.optimize.minimize_scalar(loss, bracket=(-1.0, 0.0), method="brent", options={"xtol": 1e-10})
    return float(np.exp(optimum.x)), -float(optimum.fun)
