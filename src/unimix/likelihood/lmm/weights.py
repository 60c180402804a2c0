"""Meaning of weights: precisions of a Gaussian response, and numbers of copies of a row in other families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.family import Family
from unimix.errors import FitError

_WEIGHTED = "rows with weights"


def scale_rows(design: Design) -> tuple[Design, float]:
    """Replace precision weights by scaled rows: Var(e_i) = sigma^2 / w_i becomes sigma^2 after scaling by sqrt(w_i).

    Args:
        design: Design with weights.

    Returns:
        The design with scaled rows and no weights, and the Jacobian term sum(log w) / 2, which must be added to its
        (restricted) log likelihood.
    """
    if design.weights is None:
        return design, 0.0
    root = np.sqrt(design.weights)
    blocks = tuple(replace(b, z=np.ascontiguousarray(root[:, None] * b.z)) for b in design.blocks)
    scaled = replace(design, y=root * design.y, x=root[:, None] * design.x, blocks=blocks, weights=None)
    scaled.keep(_WEIGHTED, lambda: design)
    return scaled, float(np.log(root).sum())


def weighted_rows(design: Design) -> Design | None:
    """Return the design whose rows were scaled to make this one; None for a design without scaled rows."""
    nothing: Design | None = None
    return design.keep(_WEIGHTED, lambda: nothing)


def counted_rows(family: Family, n: int, weights: npt.NDArray[np.float64] | None) -> float:
    """Number of observations that the weighted rows represent.

    Args:
        family: Family of the model.
        n: Number of rows.
        weights: Weights, shape (n,), or None for ones.

    Returns:
        The sum of the weights if they count copies of rows; n if they are precisions (Gaussian) or trials (binomial).
    """
    copies = row_copies(family, weights)
    return float(n) if copies is None else float(copies.sum())


def row_copies(family: Family, weights: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Number of copies that each row stands for, shape (n,); None if weights are absent, precisions or trials."""
    return None if family.name == "gaussian" or family.response == "binomial" else weights


def as_copies(design: Design) -> tuple[float, float, str]:
    """Convert from weights as precisions, as in R's and statsmodels' GLM, to weights as copies of rows.

    Both meanings give the same coefficients. The Pearson estimate of the dispersion divides the same sum by n - p or by
    sum(w) - p, so that the covariances of the coefficients differ by the ratio of these.

    Args:
        design: Design without blocks, whose family has a dispersion.

    Returns:
        Factor of the covariance matrix, residual degrees of freedom, and text for the provenance.

    Raises:
        FitError: If the weights represent no more rows than there are coefficients.
    """
    counted = counted_rows(design.family, design.n, design.weights)
    df_residual = counted - design.p
    if df_residual <= 0:
        raise FitError(
            f"The weights stand for {counted:g} rows in all, too few for {design.p} coefficients and a dispersion: "
            f"with the {design.family.name} family a row's log-likelihood counts w times. Scale the weights to sum to "
            "the number of observations."
        )
    note = "" if counted == design.n else "; weights count copies of rows, the engine's are precisions: rescaled"
    return (design.n - design.p) / df_residual, df_residual, note
