"""The hierarchical model as a PyMC user would write it, in the user's columns and units."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends._pymc_priors import PriorTable, sd_names
from unimix.model.design import Design, RandomBlock
from unimix.model.priors import LKJ, Prior

FloatArray = npt.NDArray[np.float64]

_TAKEN = frozenset({"fixed", "sigma", "y", "term", "row"})


def fixed_variables(design: Design) -> list[str]:
    """Names of the variables that carry the fixed effects' priors."""
    return [f"{n} (fixed)" if n in _TAKEN else n for n in design.fixed_names]


def block_labels(design: Design) -> list[str]:
    """A name per block: its factor, and its terms where the factor has several blocks."""
    groups = [b.group for b in design.blocks]
    return [b.group if groups.count(b.group) == 1 else f"{b.group}: {', '.join(b.terms)}" for b in design.blocks]


def build_model(design: Design, table: PriorTable, *, centered: bool) -> Any:
    """Write the model down; group effects and all.

    Args:
        design: In the user's columns; the response without offset.
        table: Every prior.
        centered: Draw effects from N(0, Cov) instead of scaling standard normal ones.

    Returns:
        A ``pymc.Model`` whose variables are called as the priors are, with named coordinates.
    """
    import pymc as pm
    import pytensor.tensor as pt

    labels = block_labels(design)
    coords: dict[str, Any] = {"term": list(design.fixed_names), "row": design.rows}
    for block, label in zip(design.blocks, labels, strict=True):
        coords[f"{label} level"] = [str(v) for v in block.levels]
        coords[f"{label} term"] = list(block.terms)
    with pm.Model(coords=coords) as model:
        mean: Any = 0.0
        if design.p:
            stated = pt.stack([_variable(p, n) for p, n in zip(table.fixed, fixed_variables(design), strict=True)])
            back = np.linalg.inv(table.functionals)
            pm.Deterministic("fixed", pt.dot(back, stated), dims="term")
            mean = pt.dot(design.x @ back, stated)
        for block, label, sds, correlation in zip(design.blocks, labels, table.sds, table.correlations, strict=True):
            effects = _effects(block, label, sds, correlation, centered=centered)
            mean = mean + (block.z * effects[block.codes]).sum(axis=1)
        sigma = _variable(table.sigma, "sigma")
        scale = sigma if design.weights is None else sigma / np.sqrt(design.weights)
        pm.Normal("y", mean, scale, observed=design.y, dims="row")
    return model


def _variable(prior: Prior, name: str) -> Any:
    import pymc as pm

    return getattr(pm, type(prior).__name__)(name, **asdict(prior))


def _effects(
    block: RandomBlock, label: str, sds: tuple[Prior, ...], correlation: LKJ | None, *, centered: bool
) -> Any:
    """Group effects of one block, a tensor of shape (L, q)."""
    import pymc as pm
    import pytensor.tensor as pt

    dims = (f"{label} level", f"{label} term")
    shape = (block.n_levels, block.q)
    sd = pt.stack([_variable(p, n) for p, n in zip(sds, variables_of_sds(block, label), strict=True)])
    if correlation is None:
        factor = sd[:, None]
    else:
        matrix = pm.LKJCorr(f"cor({label})", n=block.q, eta=correlation.eta, return_matrix=True)
        factor = sd[:, None] * pt.linalg.cholesky(matrix)
    if centered:
        return pm.MvNormal(f"effects({label})", mu=np.zeros(block.q), chol=factor, shape=shape, dims=dims)
    raw = pm.Normal(f"standardised({label})", 0, 1, shape=shape, dims=dims)
    return pm.Deterministic(f"effects({label})", pt.dot(raw, factor.T), dims=dims)


def variables_of_sds(block: RandomBlock, label: str) -> list[str]:
    """Names of the variables of a block's standard deviations; unlike prior names, unique."""
    names = sd_names(block.group, block.terms)
    return [f"sd({label})"] if block.q == 1 and label != block.group else names
