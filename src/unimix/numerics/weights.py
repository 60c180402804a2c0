"""Precision weights as a scaling of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unimix.model.design import Design


def scale_rows(design: Design) -> tuple[Design, float]:
    """Emulate precision weights exactly: Var(e_i) = sigma^2 / w_i becomes sigma^2 after scaling by sqrt(w_i).

    Args:
        design: With weights.

    Returns:
        The design with scaled rows and no weights, and what is to be added to its (restricted) log-likelihood,
        sum(log w) / 2 (the Jacobian of the scaling).
    """
    if design.weights is None:
        return design, 0.0
    root = np.sqrt(design.weights)
    blocks = tuple(replace(b, z=np.ascontiguousarray(root[:, None] * b.z)) for b in design.blocks)
    scaled = replace(design, y=root * design.y, x=root[:, None] * design.x, blocks=blocks, weights=None)
    return scaled, float(np.log(root).sum())
