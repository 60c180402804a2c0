"""Principal components of the random effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.errors import DataError
from unimix.fitted.table_result import TableResult
from unimix.likelihood.lmm.batched_linalg import matrix_root

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

NOTHING = 1e-4
"""Standard deviation, relative to the residual's, below which a component counts as without variance (as lme4)."""


@dataclass(frozen=True, repr=False, eq=False)
class RandomPca(TableResult):
    """Principal components of the covariance matrix of each grouping factor's effects.

    Attributes:
        table: One row per component: index (group, component); columns sd (relative to the residual SD; of the link
            scale in models without one), share (of the sum of variances), cumulative.
        rotations: Directions of the components by grouping factor: effects x components.
        notes: Number of components that have a variance, and what the shares depend on.
    """

    table: pd.DataFrame
    rotations: dict[str, pd.DataFrame]
    notes: tuple[str, ...]

    @property
    def _heading(self) -> str:
        return "Principal components of the random effects"


def principal_components(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Standard deviations of the components, in falling order, shape (q,), and their directions, shape (q, q).

    Args:
        covariance: Covariance matrix of the effects, shape (q, q).
    """
    # S = L L' and L = U D V', so that S = U D^2 U'; singular values of L keep the digits that eigenvalues of S lose
    directions, sd, _ = np.linalg.svd(matrix_root(covariance))
    return np.asarray(sd), np.asarray(directions)


def random_pca(fit: FittedModel) -> RandomPca:
    """Principal components of the random effects, which tell how many directions of variation the data support.

    A covariance matrix of q effects that is singular has fewer than q components with a variance: that many effects can
    be left out, or correlations (Bates, Kliegl, Vasishth & Baayen 2015, arXiv:1506.04967). All terms of one grouping
    factor are taken together, as lme4's ``rePCA`` does, of which these are the numbers.

    Returns:
        ``.table`` with columns sd, share, cumulative; ``.rotations[group]``, the directions.

    Raises:
        DataError: If the model has no random effects.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.random_pca().table.round(3)
                              sd  share  cumulative
        group   component
        Subject 1          0.967  0.946       0.946
                2          0.231  0.054       1.000
    """
    if not fit.random:
        raise DataError(f"{fit.model.reading} has no random effects.")
    # with several residual variances there is no one unit, and standard deviations are those of the effects
    unit = fit.sigma if np.isfinite(fit.sigma) else 1.0
    rows, rotations, notes = {}, {}, []
    for group in dict.fromkeys(b.group for b in fit.random):
        blocks = [b for b in fit.random if b.group == group]
        terms = [t for b in blocks for t in b.terms]
        whole = np.zeros((len(terms), len(terms)))
        start = 0
        for block in blocks:
            stop = start + len(block.terms)
            whole[start:stop, start:stop] = block.covariance
            start = stop
        sd, directions = principal_components(whole / unit**2)
        total = float((sd**2).sum())
        share = sd**2 / total if total > 0 else np.full(len(sd), np.nan)
        for k, values in enumerate(zip(sd, share, np.cumsum(share), strict=True), 1):
            rows[group, k] = values
        rotations[group] = pd.DataFrame(directions, index=terms, columns=range(1, len(terms) + 1))
        count = int((sd > NOTHING).sum())
        notes.append(
            f"{group}: {count} of {len(terms)} components have a variance{'' if count == len(sd) else ': singular'}."
        )
    notes.append("Shares depend on the units of the predictors whose effects vary.")
    index = pd.MultiIndex.from_tuples(list(rows), names=["group", "component"])
    return RandomPca(pd.DataFrame(list(rows.values()), index, ["sd", "share", "cumulative"]), rotations, tuple(notes))


__all__ = ["RandomPca", "principal_components", "random_pca"]
