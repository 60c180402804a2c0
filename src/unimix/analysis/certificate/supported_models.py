"""The models for which unimix can compute a criterion of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design, RandomBlock
from unimix.design.modelled_variances import faults

FloatArray = npt.NDArray[np.float64]
DIGITS = 1e-3
"""Largest relative error that rounding a covariance may cause in the variance of its least variable combination."""


def out_of_reach(design: Design) -> str:
    """The reason why unimix has no criterion for a design; empty if it has one."""
    if design.has_modelled_variances and (reasons := faults(design)):
        return f"unimix has no criterion of its own for this model of the residual variances: {reasons[0]}"
    if design.dispersion is not None and len(design.family.parameters) > 1:
        names = " and ".join(design.family.parameters)
        return f"unimix has no criterion of its own for a model of the dispersion beside {names}"
    structures = sorted({b.structure for b in design.blocks if not b.is_smooth} - {"us"})
    if structures and not design.family.is_linear:
        return f"unimix has no criterion of its own for {' and '.join(structures)} covariances of a generalised model"
    return next((reason for b in design.blocks if (reason := _rounded_away(b))), "")


def without_profiles(design: Design) -> str:
    """The reason why unimix has no profile likelihoods for a design; empty if it has them."""
    if design.is_structured:
        return "unimix profiles the likelihood of unstructured covariances only"
    return out_of_reach(design)


def collinearity(z: FloatArray) -> float:
    """Factor by which rounding is magnified in a covariance of effects: 1 / (smallest singular value)^2.

    Args:
        z: Columns of the effects, shape (n, q); they are scaled to length one here.
    """
    if z.shape[1] < 2:
        return 1.0
    length = np.sqrt((z**2).sum(axis=0))
    smallest = np.linalg.svd(z / np.where(length > 0, length, 1.0), compute_uv=False)[-1]
    return float(1 / max(smallest, np.finfo(np.float64).eps) ** 2)


def _rounded_away(block: RandomBlock) -> str:
    if collinearity(block.z) * np.finfo(np.float64).eps < DIGITS:
        return ""
    spread = np.ptp(block.z, axis=0)
    far = int(np.argmax(np.where(spread > 0, np.abs(block.z).mean(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)))
    name, center = block.terms[far], float(block.z[:, far].mean())
    way = f"Write I({name} - {center:.6g}) for {name}" if name.isidentifier() else "Center its variables"
    return (
        f"{name} varies by {spread[far]:.2g} around {center:.6g}, so that the covariance of {block.text} at "
        f"{name} = 0 cannot be written down in double precision. {way}"
    )


__all__ = ["collinearity", "out_of_reach", "without_profiles"]
