"""The clusters of a robust covariance matrix: which rows belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.design.arrays import Design, RandomBlock
from unimix.design.typed_columns import as_factor
from unimix.errors import OptionError, did_you_mean, listing

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

IntArray = npt.NDArray[np.int64]

USAGE = "Type cluster='g' for a grouping factor or column of the formula, or give one label per row of the data."


@dataclass(frozen=True)
class Clusters:
    """The cluster of every fitted row.

    Attributes:
        name: Name of the clusters.
        codes: Cluster of each row, from 0 to ``count`` - 1, shape (n,).
        count: Number of clusters.
    """

    name: str
    codes: IntArray
    count: int

    @classmethod
    def of(cls, fit: FittedModel, cluster: Any) -> Clusters:
        """Read the argument ``cluster`` of a fit.

        Args:
            fit: A result that holds its data.
            cluster: Name of a grouping factor or column of the formula; labels, one per row of the data; or None for
                the one grouping factor in which all others are nested.

        Raises:
            OptionError: If the clusters are unknown, are fewer than two, or cut a level of a grouping factor in two.
        """
        design = fit.design()
        name, codes = _read(design, cluster)
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
        found = cls(name, codes, int(codes.max(initial=-1)) + 1)
        if found.count < 2:
            raise OptionError(f"cluster={name!r}: all rows are in one cluster, and at least two are needed.")
        cut = [b.group for b in design.blocks if not found.contains(b)]
        if cut:
            raise OptionError(
                f"cluster={name!r}: rows of one level of {listing(dict.fromkeys(cut))} are in several clusters, but "
                "clusters must be independent of each other. Choose a factor in which every grouping factor of the "
                "model is nested; crossed factors have none, and no cluster-robust standard errors."
            )
        return found

    def contains(self, block: RandomBlock) -> bool:
        """Whether each level of a block lies in one cluster."""
        return bool(len(np.unique(np.column_stack([block.codes, self.codes]), axis=0)) == len(np.unique(block.codes)))

    def rows(self) -> list[IntArray]:
        """Indices of the rows of each cluster."""
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.codes, minlength=self.count))[:-1])

    @property
    def text(self) -> str:
        """The clusters in words."""
        return f"{self.count} clusters of {self.name}"


def _read(design: Design, cluster: Any) -> tuple[str, IntArray]:
    groups = {b.group: b.codes for b in design.blocks}
    if cluster is None:
        return _outermost(design, groups)
    if isinstance(cluster, str):
        if cluster in groups:
            return cluster, groups[cluster]
        if cluster in design.columns:
            codes = as_factor(design.columns[cluster], cluster).codes
            return cluster, np.asarray(codes, dtype=np.int64)
        known = [*groups, *(c for c in design.columns if c not in groups)]
        raise OptionError(
            f"cluster={cluster!r} is not a grouping factor or column of the formula.{did_you_mean(cluster, known)} "
            f"Known: {listing(known) or 'none'}. Any other column is given as cluster=data[{cluster!r}]."
        )
    if not isinstance(cluster, Sequence | np.ndarray | pd.Series | pd.Index | pd.Categorical):
        raise OptionError(f"cluster={type(cluster).__name__}: {USAGE}")
    labels = pd.Series(cluster, copy=True).reset_index(drop=True)
    if len(labels) == design.n_rows:
        labels = labels.iloc[design.rows]
    elif len(labels) != design.n:
        rows = f"{design.n_rows}" if design.n == design.n_rows else f"{design.n_rows} (or {design.n} that were used)"
        raise OptionError(f"cluster= has {len(labels)} labels, and the data have {rows} rows. {USAGE}")
    if labels.isna().any():
        raise OptionError(f"cluster= is missing in {int(labels.isna().sum())} of the rows that were fitted.")
    name = getattr(cluster, "name", None)
    return str(name or "cluster"), pd.factorize(labels)[0].astype(np.int64)


def _outermost(design: Design, groups: dict[str, IntArray]) -> tuple[str, IntArray]:
    """The one grouping factor in which all others are nested."""
    outer = [name for name, codes in groups.items() if all(Clusters(name, codes, 0).contains(b) for b in design.blocks)]
    if len(outer) != 1:
        why = "has no grouping factor" if not groups else f"has {listing(groups)}, of which none is outermost"
        raise OptionError(f"The model {why}: say by cluster= which rows belong together. {USAGE}")
    return outer[0], groups[outer[0]]


__all__ = ["Clusters"]
