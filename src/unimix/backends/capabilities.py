"""Capability sheets: for each feature, whether an engine supports it, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unimix.design.features import FEATURE_GROUPS, Feature
from unimix.errors import did_you_mean


@dataclass(frozen=True)
class Yes:
    """The engine supports the feature.

    Attributes:
        how: Explanation of how unimix contributes, for instance by an exact emulation.
    """

    how: str = ""
    mark: str = "yes"


@dataclass(frozen=True)
class Never:
    """The engine cannot support the feature by its nature."""

    reason: str
    mark: str = "no"


@dataclass(frozen=True)
class Upstream:
    """The engine's authors have not implemented the feature, or their implementation has a fault."""

    reason: str
    mark: str = "no"


@dataclass(frozen=True)
class NotYet:
    """The engine supports the feature, but the adapter does not yet."""

    reason: str
    mark: str = "not yet"


Answer = Yes | Never | Upstream | NotYet

UNASKED = NotYet("unimix does not ask this of the engine.")
"""Answer of sheets that say nothing about a feature of :data:`REFUSED`."""
REFUSED = ("known", "smooths")
"""Groups of features that are refused unless they are claimed."""


class Capabilities(Mapping[Feature, Answer]):
    """Complete capability sheet, with one answer per feature.

    Args:
        default: Answer for every feature that is not named, but those of :data:`REFUSED`, which are refused then.
        answers: Answers by the name of a feature in small letters (``offset``, ``kenward_roger``), or of a group of
            :data:`~unimix.design.features.FEATURE_GROUPS` (``group_effects``, ``bayesian``); the answer for a feature
            takes precedence over that for its group.

    Raises:
        TypeError: If a feature has no answer, or a name is not a feature or a group.

    Example:
        >>> sheet = Capabilities(default=Yes(), bayesian=Never("it maximises a likelihood"))
        >>> sheet.can(Feature.REML), sheet.can(Feature.PRIORS)
        (True, False)
    """

    def __init__(self, *, default: Answer | None = None, **answers: Answer) -> None:
        groups = {feature: name for name, members in FEATURE_GROUPS.items() for feature in members}
        known = [*FEATURE_GROUPS, *(f.name.lower() for f in Feature)]
        strange = [name for name in answers if name not in known]
        if strange:
            raise TypeError(
                f"{strange[0]!r} is neither a feature nor a group of them.{did_you_mean(strange[0], known)}"
            )
        self._answers: dict[Feature, Answer] = {}
        for feature in Feature:
            group = groups.get(feature, "")
            answer = answers.get(feature.name.lower(), answers.get(group, UNASKED if group in REFUSED else default))
            if answer is not None:
                self._answers[feature] = answer
        absent = [f.name.lower() for f in Feature if f not in self._answers]
        if absent:
            raise TypeError(f"The capability sheet does not answer: {', '.join(absent)}.")

    def __getitem__(self, feature: Feature) -> Answer:
        return self._answers[feature]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def can(self, feature: Feature) -> bool:
        """Whether the engine supports a feature."""
        return isinstance(self._answers[feature], Yes)

    def gaps(self, needs: frozenset[Feature]) -> list[tuple[Feature, str]]:
        """Features among ``needs`` that the engine does not support, with the reasons."""
        missing: list[tuple[Feature, str]] = []
        for feature in sorted(needs, key=lambda f: f.name):
            answer = self._answers[feature]
            if not isinstance(answer, Yes):
                missing.append((feature, answer.reason))
        return missing
