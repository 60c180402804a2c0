"""The hierarchical model in PyMC as a teacher would write it, in the user's columns and units.

The fixed effects have a variable each, with its prior. Group effects are multiples of standard normal variables
(non-centred), or a level's coefficients are drawn around the fixed effects (centred). Correlated effects have an LKJ
prior (Lewandowski, Kurowicka & Joe 2009). The data are containers of type ``pymc.Data``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.draws import coordinates
from unimix.backends.sampling.priors import PriorTable, constant_in_span
from unimix.backends.sampling.pymc_response import write_response
from unimix.design.arrays import Design, RandomBlock
from unimix.design.grouping_factors import block_labels
from unimix.distributions.priors import LKJ, Prior, Uniform

FloatArray = npt.NDArray[np.float64]

DATA = ("X", "offset", "weights", "trials", "observed")
"""Names of the containers of the data, beside those of the blocks."""
_TAKEN = frozenset({"fixed", "y", "term", "row", *DATA})
CENTRE = " (centred)"
FAR = 10.0
"""Inflation of the variance of an intercept, 1 + mean^2 / variance of x for one predictor, above which it is sampled at
the mean of the predictors."""


@dataclass(frozen=True)
class Recipe:
    """A model that :func:`build_model` writes.

    Attributes:
        design: Design in the user's columns, with its offset.
        table: Priors of all parameters.
        centered: For each block, whether a level's coefficients are drawn from N(fixed effects, Cov), instead of
            standard normal variables that are scaled.
        as_data: Whether the constants of the priors are containers of data, too, so that a compiled model can be used
            for other priors of the same classes.
    """

    design: Design
    table: PriorTable
    centered: tuple[bool, ...]
    as_data: bool = False

    @cached_property
    def labels(self) -> list[str]:
        """Label of each block."""
        return block_labels(self.design.blocks)

    @cached_property
    def functionals(self) -> FloatArray:
        """Functionals of the fixed effects that are sampled, as rows, shape (p, p).

        These are the fixed effects themselves, except for an intercept that is sampled at the mean of the predictors:
        because its default prior applies there, or because the predictors are far from zero (:data:`FAR`).
        """
        x, chosen = self.design.x, self.table.functionals.copy()
        if not self.design.p:
            return chosen
        constant = constant_in_span(x)
        slopes = constant == 0
        scale = np.sqrt(np.mean(x**2, axis=0))
        gram = (x / scale).T @ (x / scale) / len(x)
        for j in map(int, np.flatnonzero(constant)):
            if slopes.any() and not self._is_shifted(j) and np.linalg.inv(gram)[j, j] > FAR:
                chosen[j, slopes] = constant[j] * x[:, slopes].mean(axis=0)
        return chosen

    def _is_shifted(self, j: int) -> bool:
        return bool((self.table.functionals[j] != np.eye(self.design.p)[j]).any())

    @cached_property
    def around(self) -> list[list[int | None]]:
        """For each block's terms, the fixed effect around which a centred level's coefficients vary.

        None if there is no fixed effect of the same column, or another block varies around it already.
        """
        found: list[list[int | None]] = [[None] * b.q for b in self.design.blocks]
        free = list(self.design.fixed_names)
        # The mean of few levels is least certain, and so is the fixed effect that their block carries (Gelfand, Sahu &
        # Carlin 1995, Biometrika 82:479-488).
        for b in sorted(range(len(found)), key=lambda k: self.design.blocks[k].n_levels):
            block = self.design.blocks[b]
            for j, term in enumerate(block.terms if self.centered[b] else ()):
                k = free.index(term) if term in free else None
                if k is not None and np.array_equal(block.z[:, j], self.design.x[:, k]):
                    found[b][j], free[k] = k, ""
        return found

    @property
    def structure(self) -> tuple[Any, ...]:
        """What a compiled model of this recipe depends on, apart from the numbers in its containers of data.

        Which columns are shifted and carried is part of it: that may follow from the numbers of the data.
        """
        d, t = self.design, self.table
        blocks = tuple(
            (label, b.terms, b.n_levels, tuple(type(p).__name__ for p in sds), lkj and lkj.eta, centered, _ones(b))
            for b, label, sds, lkj, centered in zip(
                d.blocks, self.labels, t.sds, t.correlations, self.centered, strict=True
            )
        )
        parts = (d.weights is None, d.offset is None, d.trials is None)
        centred = tuple((self.functionals != np.eye(d.p)).any(axis=1))
        shifted = tuple(map(tuple, (self.functionals != t.functionals).tolist()))
        carried = tuple(map(tuple, self.around))
        priors = tuple(type(p).__name__ for p in (*t.fixed, *t.dispersion))
        return (d.family.label, d.family.link, d.n, d.fixed_names, priors, centred, shifted, carried, blocks, parts)


def fixed_variables(recipe: Recipe) -> list[str]:
    """Names of the variables of the fixed effects that are sampled, in order."""
    taken = {*_TAKEN, *recipe.design.family.parameters}
    shifted = (recipe.functionals != np.eye(recipe.design.p)).any(axis=1)
    names = [f"{n} (fixed)" if n in taken else n for n in recipe.design.fixed_names]
    return [f"{n}{CENTRE}" if moved else n for n, moved in zip(names, shifted, strict=True)]


def dispersion_variables(design: Design) -> list[str]:
    """Names of the variables of the dispersion parameters."""
    return list(design.family.parameters)


def block_data(label: str) -> tuple[str, str]:
    """Names of the containers of a block's columns and of its level indices."""
    return f"Z({label})", f"index({label})"


def build_model(recipe: Recipe) -> Any:
    """Build the PyMC model.

    Returns:
        A ``pymc.Model`` with named coordinates. Its variables are the fixed effects by name, ``fixed`` (term),
        ``sd(g)`` (g term), ``cor(g)`` (g pair), ``effects(g)`` (g level, g term), the family's dispersion parameters,
        and the response ``y`` (row).
    """
    import pymc as pm

    design, table, labels = recipe.design, recipe.table, recipe.labels
    constant = _as_data if recipe.as_data else _as_number
    with pm.Model(coords=coordinates(design)) as model:
        eta, beta = _fixed_part(recipe, constant) if design.p else (0.0, ())
        for k, (block, label) in enumerate(zip(design.blocks, labels, strict=True)):
            factor = _covariance_factor(block, label, table.sds[k], table.correlations[k], constant)
            around = [beta[i] if i is not None else 0.0 for i in recipe.around[k]]
            effects = _effects(block, label, factor, around if recipe.centered[k] else None)
            columns, index = block_data(label)
            codes = pm.Data(index, block.codes, dims="row")
            z = None if _ones(block) else pm.Data(columns, block.z, dims=("row", f"{label} term"))
            for j in range(block.q):
                eta = eta + (effects[codes, j] if z is None else effects[codes, j] * z[:, j])
        if design.offset is not None:
            eta = eta + pm.Data("offset", design.offset, dims="row")
        names = dispersion_variables(design)
        parameters = [_variable(p, n, constant) for p, n in zip(table.dispersion, names, strict=True)]
        write_response(design, eta, parameters)
    return model


Constant = Callable[[str, Any], Any]


def _as_number(name: str, value: Any) -> Any:
    del name
    return value


def _as_data(name: str, value: Any) -> Any:
    import pymc as pm

    return pm.Data(name, np.asarray(value, dtype=np.float64))


def _fixed_part(recipe: Recipe, constant: Constant) -> tuple[Any, Any]:
    """Linear predictor of the fixed effects, shape (n,), and the fixed effects, shape (p,).

    With the sampled functionals c'beta and priors on a'beta, where both differ by multiples of slopes only, the prior
    of c'beta given the slopes is that of a'beta, shifted by (c - a)'beta.
    """
    import pymc as pm
    import pytensor.tensor as pt

    design, table, rows = recipe.design, recipe.table, recipe.functionals
    p, names = design.p, fixed_variables(recipe)
    moved = (rows != table.functionals).any(axis=1)
    variables: list[Any] = [None] * p
    for j in np.flatnonzero(~moved):
        variables[j] = _variable(table.fixed[j], names[j], constant)
    for j in np.flatnonzero(moved):
        slopes = np.flatnonzero(rows[j] - table.functionals[j])
        shift = (rows[j] - table.functionals[j])[slopes]
        by = constant(f"{names[j]}: means", shift)
        variables[j] = _variable(
            table.fixed[j], names[j], constant, pt.dot(by, pt.stack([variables[k] for k in slopes]))
        )
    sampled = pt.stack(variables)
    back = np.linalg.inv(rows)
    beta = sampled if (rows == np.eye(p)).all() else pt.dot(constant("fixed: from the sampled", back), sampled)
    fixed = pm.Deterministic("fixed", beta, dims="term")
    # columns about their means, where the intercept is sampled there: no digits are lost far from zero
    return pt.dot(pm.Data("X", design.x @ back, dims=("row", "term")), sampled), fixed


def _variable(prior: Prior, name: str, constant: Constant, shift: Any = None, **more: Any) -> Any:
    """A variable with its prior, whose location is shifted on demand."""
    import pymc as pm

    values = {k: constant(f"{name}: {k}", v) for k, v in asdict(prior).items()}
    if shift is not None:
        location = "alpha" if type(prior).__name__ == "Cauchy" else "mu"
        values[location] = values[location] + shift
    return getattr(pm, type(prior).__name__)(name, **values, **more)


def _ones(block: RandomBlock) -> bool:
    return block.q == 1 and bool((block.z == 1).all())


def _effects(block: RandomBlock, label: str, factor: Any, around: list[Any] | None) -> Any:
    """Group effects of one block, as a tensor of shape (L, q).

    Args:
        block: The block.
        label: Its label.
        factor: Cholesky factor of the covariance matrix, shape (q, q), or the standard deviation, shape (1,).
        around: Means of a level's coefficients if these are sampled (centred), else None.
    """
    import pymc as pm
    import pytensor.tensor as pt

    dims, name = (f"{label} level", f"{label} term"), f"effects({label})"
    scalar = block.q == 1
    if around is None:
        standardised = pm.Normal(f"standardised({label})", 0, 1, dims=dims)
        return pm.Deterministic(name, standardised * factor if scalar else pt.dot(standardised, factor.T), dims=dims)
    mean = pt.stack([pt.as_tensor(m, dtype="float64") for m in around])
    plain = all(isinstance(m, float) for m in around)
    own = name if plain else f"coefficients({label})"
    found = pm.Normal(own, mean, factor, dims=dims) if scalar else pm.MvNormal(own, mean, chol=factor, dims=dims)
    return found if plain else pm.Deterministic(name, found - mean, dims=dims)


def is_joint(sds: Sequence[Prior]) -> bool:
    """Whether standard deviations and correlations are one variable, ``LKJCholeskyCov``, for priors of one class.

    A uniform prior has ends, which the transformation of a covariance factor does not know.
    """
    return len({type(p) for p in sds}) == 1 and not isinstance(sds[0], Uniform)


def _covariance_factor(
    block: RandomBlock, label: str, sds: tuple[Prior, ...], correlation: LKJ | None, constant: Constant
) -> Any:
    """Cholesky factor of the covariance matrix, shape (q, q), or the only standard deviation, shape (1,)."""
    import pymc as pm
    import pytensor.tensor as pt

    if correlation is None:
        return _variable(sds[0], f"sd({label})", constant, dims=f"{label} term")
    dim, eta = f"{label} term", correlation.eta  # a constant: PyMC has no density for another
    if is_joint(sds):
        name = f"covariance({label})"
        values = {k: constant(f"sd({label}): {k}", [asdict(p)[k] for p in sds]) for k in asdict(sds[0])}
        own = getattr(pm, type(sds[0]).__name__).dist(**values, shape=block.q)
        factor, matrix, sd = pm.LKJCholeskyCov(name, n=block.q, eta=eta, sd_dist=own, store_in_trace=False)
        pm.Deterministic(f"sd({label})", sd, dims=dim)
    else:
        names = [f"sd({label}: {t})" for t in block.terms]
        sd = pt.stack([_variable(p, n, constant) for p, n in zip(sds, names, strict=True)])
        pm.Deterministic(f"sd({label})", sd, dims=dim)
        if pm.__version__.startswith("5."):
            matrix = pm.LKJCorr(f"correlations({label})", n=block.q, eta=eta, return_matrix=True)
            root = pt.linalg.cholesky(matrix)
        else:  # PyMC 6 gives the Cholesky factor of the correlation matrix
            root = pm.LKJCorr(f"correlations({label})", n=block.q, eta=eta)
            matrix = root @ root.T
        factor = sd[:, None] * root
    below = np.tril_indices(block.q, -1)
    pm.Deterministic(f"cor({label})", matrix[below], dims=f"{label} pair")
    return factor
