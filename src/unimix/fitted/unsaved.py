"""The part of a fit that is not saved: objects that belong to the process, and the engine that fits again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from unimix.design.arrays import Design
from unimix.design.estimates import Generative
from unimix.stats.cluster_robust import Sandwich

Fitted_co = TypeVar("Fitted_co", covariant=True)


class Refitter(Protocol[Fitted_co]):
    """An engine with the options of a fit, ready for other responses and rows; can be pickled."""

    def __call__(self, design: Design, method: str | None = None) -> Fitted_co:
        """Fit a design by the fit's own method, or by the method given."""

    def with_priors(self, priors: Mapping[str, object] | None) -> Refitter[Fitted_co]:
        """The same engine and options with other priors."""

    def for_one_fit(self) -> Refitter[Fitted_co]:
        """Return a refitter for a single fit, which also tries the further starts that are left out of many refits."""

    def batch_size(self, design: Design) -> int:
        """Number of responses of a design that are best prepared together."""

    def prepare(self, designs: Sequence[Design], like: Design) -> None:
        """Do what the fits of designs that differ in their responses can share, before each is fitted."""


@dataclass(frozen=True)
class Unsaved:
    """Objects of a fit that are not saved.

    Attributes:
        native: The engine's own result object.
        posterior: ArviZ object with the draws.
        design: The arrays that were fitted.
        generative: The model from whose prior responses can be drawn.
        refitter: The engine with the options of the fit.
        sandwich: The cluster-robust covariance matrix that replaced the fit's own one, if it did.
    """

    native: Any = None
    posterior: Any = None
    design: Design | None = None
    generative: Generative | None = None
    refitter: Refitter[Any] | None = None
    sandwich: Sandwich | None = None
