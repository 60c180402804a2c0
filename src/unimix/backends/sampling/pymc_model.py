"""The hierarchical model in PyMC as a user would write it, in the user's columns and units."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import Posterior, RawDraws
from unimix.backends.sampling.priors import PriorTable, sd_names
from unimix.backends.sampling.pymc_response import write_response
from unimix.backends.sampling.pymc_sample import read_draws
from unimix.design.arrays import Design, RandomBlock
from unimix.design.estimates import Deferred
from unimix.design.grouping_factors import block_labels
from unimix.distributions.priors import LKJ, Prior
from unimix.errors import EngineNotInstalledError, UnimixError, UnsupportedModelError

FloatArray = npt.NDArray[np.float64]

_TAKEN = frozenset({"fixed", "y", "term", "row"})


def fixed_variables(design: Design) -> list[str]:
    """Names of the variables with the priors of the fixed effects."""
    taken = {*_TAKEN, *design.family.parameters}
    return [f"{n} (fixed)" if n in taken else n for n in design.fixed_names]


def build_model(design: Design, table: PriorTable, *, centered: bool) -> Any:
    """Build the PyMC model, with group effects.

    Args:
        design: Design in the user's columns, with the offset of a linear model subtracted from the response.
        table: Priors of all parameters.
        centered: Whether effects are drawn from N(0, Cov) instead of scaling standard normal ones.

    Returns:
        A ``pymc.Model`` with named coordinates, whose variables have the names of the priors.
    """
    import pymc as pm
    import pytensor.tensor as pt

    labels = block_labels(design.blocks)
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
        if design.offset is not None:
            mean = mean + design.offset
        parameters = [_variable(p, n) for p, n in zip(table.dispersion, dispersion_variables(design), strict=True)]
        write_response(design, mean, parameters)
    return model


@dataclass(frozen=True)
class WrittenModel:
    """Model from which responses can be drawn.

    Attributes:
        model: Deferred result of :func:`build_model`.
        offset: Offset that was subtracted from the response of a linear model, shape (n,), or None.
        trials: Numbers of trials of a binomial response, whose draws are counts, shape (n,), or None.
    """

    model: Deferred
    offset: FloatArray | None
    trials: FloatArray | None

    def prior_predictive(self, n: int, seed: int | None) -> FloatArray:
        """Responses drawn from the prior, shape (n, rows).

        Raises:
            UnsupportedModelError: If rows count several times, because the density is not that of a response then.
        """
        import pymc as pm

        if "y" not in {v.name for v in self.model.get().observed_RVs}:
            raise UnsupportedModelError(
                "Weights let rows count several times, so that the model has no distribution of a response to draw "
                "from. Fit it without weights= to look at its prior."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = pm.sample_prior_predictive(n, model=self.model.get(), var_names=["y"], random_seed=seed)
            except ValueError as error:
                said = str(error).splitlines()[0]
                raise UnimixError(
                    f"The prior allows responses that cannot be drawn ({said}): means of all magnitudes. Give "
                    "narrower priors, priors={'Intercept': unimix.priors.Normal(0, 2), ...}."
                ) from error
        drawn = np.asarray(found.prior_predictive["y"].values, dtype=np.float64).reshape(n, -1)
        if self.trials is not None:
            drawn = drawn / self.trials
        return drawn if self.offset is None else drawn + self.offset

    def graph(self) -> Any:
        """Graph of the model, drawn by PyMC.

        Raises:
            EngineNotInstalledError: If graphviz's Python package is missing.
        """
        import pymc as pm

        try:
            return pm.model_to_graphviz(self.model.get())
        except ImportError as error:
            raise EngineNotInstalledError(
                "The graph of a PyMC model needs graphviz. Type:\n    pip install graphviz\nand install its program "
                "`dot` (sudo apt-get install graphviz; conda install graphviz)."
            ) from error


def dispersion_variables(design: Design) -> list[str]:
    """Names of the variables of the dispersion parameters."""
    return list(design.family.parameters)


def _variable(prior: Prior, name: str) -> Any:
    import pymc as pm

    return getattr(pm, type(prior).__name__)(name, **asdict(prior))


def _effects(block: RandomBlock, label: str, sds: tuple[Prior, ...], correlation: LKJ | None, *, centered: bool) -> Any:
    """Group effects of one block, as a tensor of shape (L, q)."""
    import pymc as pm
    import pytensor.tensor as pt

    dims = (f"{label} level", f"{label} term")
    shape = (block.n_levels, block.q)
    sd, root = _factor(block, label, sds, correlation)
    pm.Deterministic(f"sds({label})", sd, dims=dims[1])
    if root is None:
        if centered:
            return pm.Normal(f"effects({label})", 0, sd, shape=shape, dims=dims)
        factor = sd[:, None]
    else:
        pm.Deterministic(f"correlation({label})", pt.dot(root, root.T))
        factor = sd[:, None] * root
        if centered:
            return pm.MvNormal(f"effects({label})", mu=np.zeros(block.q), chol=factor, shape=shape, dims=dims)
    raw = pm.Normal(f"standardised({label})", 0, 1, shape=shape, dims=dims)
    return pm.Deterministic(f"effects({label})", pt.dot(raw, factor.T), dims=dims)


def _factor(block: RandomBlock, label: str, sds: tuple[Prior, ...], correlation: LKJ | None) -> tuple[Any, Any]:
    """Standard deviations (q,) and the Cholesky factor of the correlation matrix (q, q), or None."""
    import pymc as pm
    import pytensor.tensor as pt

    if correlation is not None and block.q > 2 and len({type(p) for p in sds}) == 1:
        columns = {k: np.array([asdict(p)[k] for p in sds]) for k in asdict(sds[0])}
        base = getattr(pm, type(sds[0]).__name__).dist(**columns, shape=block.q)
        factor, _, sd = pm.LKJCholeskyCov(
            f"covariance({label})", n=block.q, eta=correlation.eta, sd_dist=base, store_in_trace=False
        )
        return sd, factor / sd[:, None]
    sd = pt.stack([_variable(p, n) for p, n in zip(sds, variables_of_sds(block, label), strict=True)])
    if correlation is None:
        return sd, None
    matrix = pm.LKJCorr(f"cor({label})", n=block.q, eta=correlation.eta, return_matrix=True)
    return sd, pt.linalg.cholesky(matrix)


def variables_of_sds(block: RandomBlock, label: str) -> list[str]:
    """Names of the variables of a block's standard deviations, which are unique, unlike the names of priors."""
    return sd_names(block.group, block.terms, alone=label == block.group)


def read_model_draws(design: Design, trace: Any) -> tuple[Posterior, RawDraws]:
    """Read the draws of a model as written, in the user's units.

    Args:
        design: Design of the model.
        trace: ArviZ object with the draws.
    """
    found = trace.posterior
    n = found.sizes["chain"] * found.sizes["draw"]

    def flat(name: str) -> FloatArray:
        values = np.asarray(found[name].transpose("chain", "draw", ...).values, dtype=np.float64)
        return values.reshape(n, *values.shape[2:])

    labels = block_labels(design.blocks)
    names = dispersion_variables(design)
    posterior = Posterior.of_effects(
        flat("fixed") if design.p else np.empty((n, 0)),
        tuple(flat(f"sds({label})") for label in labels),
        tuple(
            flat(f"correlation({label})") if b.q > 1 else np.ones((n, 1, 1))
            for b, label in zip(design.blocks, labels, strict=True)
        ),
        np.stack([flat(name) for name in names], axis=1) if names else np.empty((n, 0)),
        tuple(flat(f"effects({label})") for label in labels),
    )
    return posterior, read_draws(trace, names or ["fixed"])
