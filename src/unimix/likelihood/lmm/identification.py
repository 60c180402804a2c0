"""Directions of the covariance parameters along which the likelihood of a mixed model does not change at all.

The (restricted) likelihood depends on the covariances through K'VK alone, where the columns of K span all contrasts
without fixed effects (all rows under ML). V is linear in the covariances and in sigma^2, so that a combination of them
is without effect if and only if its expected information tr(P dV P dV) / 2 is zero; that holds at all values of the
parameters or at none (Rothenberg 1971, Econometrica 39:577-591).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design, RandomBlock
from unimix.design.modelled_variances import ModelledVariances
from unimix.likelihood.lmm.conditioning import Conditioning, column_scale, well_scaled
from unimix.likelihood.lmm.denominator_df import expected_information
from unimix.likelihood.lmm.derivatives import Moments
from unimix.likelihood.lmm.derivatives import moments as moments_along
from unimix.likelihood.lmm.parameters import directions_at, inside, is_plain
from unimix.likelihood.lmm.penalised_least_squares import Profile, profile
from unimix.likelihood.lmm.reduced_data import Products, form

FloatArray = npt.NDArray[np.float64]

FLAT = 1e-9
"""Information of a direction, relative to what all rows would give without fixed effects, that is a rounding error:
directions without information come out at 1e-13 and below, the least informative designs that determine all parameters
at 1e-5 and above."""
UNCHANGED = 1e-6
"""Relative change below which a coefficient or a quantity does not depend on a direction."""


@dataclass(frozen=True)
class FlatDirections:
    """Directions along which the likelihood does not change, in well-scaled coordinates.

    Attributes:
        covariances: Changes of the covariances, block by block (cells of the lower triangles row by row, or the
            parameters of a structure), and of sigma^2, shape (r, c + 1); empty if all parameters are determined.
        cov: Covariance matrix C of the fixed effects, shape (p, p).
        cov_changes: Changes of C, shape (r, p, p).
        fixed_changes: Changes of the estimated fixed effects, shape (r, p).
    """

    covariances: FloatArray
    cov: FloatArray
    cov_changes: FloatArray
    fixed_changes: FloatArray


def flat_directions(
    products: Products, factors: Sequence[FloatArray], at: Profile, moments: Moments, *, reml: bool
) -> FlatDirections:
    """Find the directions without information.

    Args:
        products: Reduced data.
        factors: Relative lower triangular factors, shapes (q, q).
        at: Profiled criterion there.
        moments: Moments there.
        reml: Whether the criterion is the restricted likelihood.
    """
    if not is_plain(products):
        # On the edge of a structure, directions have no effect that have one elsewhere: a generic point decides.
        factors = inside(products, factors)
        at = profile(products, factors, reml=reml)
        moments = moments_along(products, at.state, directions_at(products, factors))
    information = expected_information(products, at, moments, reml=reml)
    size = np.append(np.diag(moments.tt), products.n)
    if products.sigma is None:
        null = _null(information, size)
    else:
        null = _null(information[:-1, :-1], size[:-1])
        null = np.column_stack([null, np.zeros(len(null))])
    p, cov, d = products.p, at.cov_unscaled, moments.weights
    gram = np.asarray(at.state.gram)
    a = np.concatenate([moments.a, (gram - np.tensordot(d, moments.a, axes=1))[None]])  # R'V^-1 V_a V^-1 R, and for I
    turned = np.tensordot(null, a, axes=1)
    # dC = C X'V^-1 dV V^-1 X C and d beta = -C X'V^-1 dV V^-1 (y - X beta), with C = (X'V^-1 X)^-1
    changes = np.einsum("rs,kst,tu->kru", cov, turned[:, :p, :p], cov)
    moved = -np.einsum("rs,ks->kr", cov, (turned @ np.append(-at.beta, 1.0))[:, :p])
    return FlatDirections(null, cov, changes, moved)


def undetermined_covariances(design: Design) -> Undetermined | None:
    """Describe changes of the covariances that leave Z Cov Z', and with it any likelihood, as it is; None without any.

    Args:
        design: Design with blocks of group effects.
    """
    return design.keep("undetermined covariances", lambda: _undetermined_covariances(design))


def _undetermined_covariances(design: Design) -> Undetermined | None:
    scaled = well_scaled(design)
    products = form(scaled.rows)
    factors = inside(products, [np.eye(q) for q, _ in products.sizes])
    at = profile(products, factors, reml=False)
    sums = moments_along(products, at.state, directions_at(products, factors))
    null = _null(0.5 * sums.tt, np.diag(sums.tt))
    p, r = design.p, len(null)
    directions = FlatDirections(np.column_stack([null, np.zeros(r)]), np.eye(p), np.zeros((r, p, p)), np.zeros((r, p)))
    return undetermined(directions, design, scaled.way_back)


def _null(information: FloatArray, size: FloatArray) -> FloatArray:
    """Null directions (r, c) of an information matrix (c, c), relative to the information in all rows, shape (c,)."""
    scale = np.sqrt(np.where(size > 0, size, 2.0) / 2)
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    return np.asarray(vectors[:, values <= FLAT].T / scale)


# -- in words -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undetermined:
    """What the data leave open, in the design's coordinates.

    Attributes:
        parameters: Names of the covariance parameters that are not determined.
        determined: The combination of them that is determined, or how many there are.
        fixed: Names of the fixed effects that are not determined either.
        fitted: Whether the fitted values are determined.
    """

    parameters: tuple[str, ...]
    determined: str
    fixed: tuple[str, ...] = ()
    fitted: bool = True

    def __str__(self) -> str:
        known = [self.determined, "the log-likelihood", *(["the fitted values"] if self.fitted else [])]
        open_ = [*self.parameters, *(f"the coefficient of {t}" for t in self.fixed)]
        return (
            f"the likelihood is the same along a ridge: the data do not determine {_series(open_, 'or')}. "
            f"They determine {_series([k for k in known if k], 'and')}"
        )


def _series(words: Sequence[str], last: str) -> str:
    """Words in a row, as in "a, b or c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def undetermined(
    directions: FlatDirections, design: Design, way_back: Conditioning, modelled: ModelledVariances | None = None
) -> Undetermined | None:
    """Describe flat directions by the names of the parameters; None if there are none.

    Args:
        directions: The directions in well-scaled coordinates.
        design: The model.
        way_back: Transformation from well-scaled coordinates to those of the design.
        modelled: Structure of the residuals in well-scaled coordinates, if their standard deviations have a formula.
    """
    if not len(directions.covariances):
        return None
    names = [name for b in design.blocks for name in _names(b)]
    units = [_units(b) for b in design.blocks]
    turns = [way_back.scale * t for t in way_back.blocks[: len(design.blocks)]]
    turned = [_turned(directions.covariances, design.blocks, turns)]
    if design.residual is not None:
        # The parameters of correlated residuals are relative to sigma, and have no unit.
        structure = design.residual.structure
        names += structure.relative.names(structure.labels, "residual")
        units.append(np.ones(structure.n_parameters))
        turned.append(directions.covariances[:, -1 - structure.n_parameters : -1])
    if modelled is None:
        names.append("the residual variance")
        units.append(np.ones(1))  # sd * unit has the response's unit
        turned.append(way_back.residual**2 * directions.covariances[:, -1:])
    elif design.dispersion is not None:
        # (log sigma, gamma) at sigma = 1, and the coefficients of the formula that follow from them
        first = directions.covariances.shape[1] - 1 - modelled.n_parameters
        own = directions.covariances[:, first : first + modelled.n_modelled]
        whole = np.column_stack([0.5 * directions.covariances[:, -1], own])
        names += [f"the coefficient of {t} in dispformula" for t in design.dispersion.names]
        units.append(np.full(len(design.dispersion.names), way_back.residual**2))
        turned.append(whole @ (way_back.parts["dispersion"] @ modelled.coefficients).T)
    of_residual = turned[-1].shape[1]
    size = np.concatenate(units)
    relative = np.column_stack(turned) * size
    involved = np.abs(relative).max(axis=0) > UNCHANGED * np.abs(relative).max()
    used = np.flatnonzero(involved)
    # Combinations that do not change along any direction: the orthogonal complement
    _, _, rows = np.linalg.svd(relative[:, used])
    kept = rows[len(relative) :] * size[used]
    m = way_back.coefficients
    variances = np.einsum("ap,pr,ar->a", m, directions.cov, m)
    spread = np.einsum("ap,kpr,ar->ka", m, directions.cov_changes, m) / variances
    moved = directions.fixed_changes @ m.T / np.sqrt(variances)
    changed = np.maximum(np.abs(spread), np.abs(moved)).max(axis=0) > UNCHANGED
    return Undetermined(
        tuple(names[i] for i in used),
        _combination(kept, [names[i] for i in used]),
        tuple(t for t, c in zip(design.fixed_names, changed, strict=True) if c),
        fitted=bool(np.abs(relative[:, -of_residual:]).max() <= UNCHANGED * np.abs(relative).max()),
    )


def _combination(rows: FloatArray, names: Sequence[str]) -> str:
    """The determined combination of parameters in words; the number of combinations if there are several."""
    if len(rows) != 1:
        return f"{len(rows)} combinations of these variances and covariances" if len(rows) else ""
    row = rows[0] / rows[0][np.argmax(np.abs(rows[0]) > UNCHANGED * np.abs(rows[0]).max())]
    parts = [(c, n) for c, n in zip(row, names, strict=True) if abs(c) > UNCHANGED * np.abs(row).max()]
    text = "".join(
        f" {'-' if c < 0 else '+'} {'' if abs(abs(c) - 1) < UNCHANGED else f'{abs(c):.4g} times '}{n}" for c, n in parts
    )
    return text.removeprefix(" + ")


def _names(block: RandomBlock) -> list[str]:
    """Names of the covariance parameters of a block."""
    if block.covariance_structure is not None:
        return block.covariance_structure.names(block.terms, block.group)
    return [
        f"the variance of {block.terms[i]} | {block.group}"
        if i == j
        else f"the covariance of {block.terms[j]} and {block.terms[i]} | {block.group}"
        for i in range(block.q)
        for j in range(i + 1)
    ]


def _units(block: RandomBlock) -> FloatArray:
    """Factors that give the covariance parameters of a block the unit of the response."""
    unit = column_scale(block.z)
    if (structure := block.covariance_structure) is not None:
        return np.append(unit[: structure.n_sd], np.ones(structure.n_correlations))
    return np.asarray(np.outer(unit, unit)[np.tril_indices(block.q)])


def _turned(directions: FloatArray, blocks: Sequence[RandomBlock], turns: Sequence[FloatArray]) -> FloatArray:
    """Changes of the covariance parameters in the design's coordinates, shape (r, c): T dCov T'."""
    turned, at = [directions[:, :0]], 0
    for block, t in zip(blocks, turns, strict=True):
        own = directions[:, at : at + block.n_parameters]
        at += block.n_parameters
        if (structure := block.covariance_structure) is not None:
            turned.append(own * np.append(np.diag(t)[: structure.n_sd], np.ones(structure.n_correlations)))
            continue
        lower = np.tril_indices(len(t))
        full = np.zeros((len(directions), len(t), len(t)))
        full[:, lower[0], lower[1]] = full[:, lower[1], lower[0]] = own
        turned.append((t @ full @ t.T)[:, lower[0], lower[1]])
    return np.concatenate(turned, axis=1)


__all__ = ["FlatDirections", "Undetermined", "flat_directions", "undetermined", "undetermined_covariances"]
