"""Every feature answered by every engine: yes, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unimix.design.features import Feature


@dataclass(frozen=True)
class Yes:
    """The engine does it.

    Attributes:
        how: Where unimix lends a hand (an exact emulation, say), in words.
    """

    how: str = ""
    mark: str = "yes"


@dataclass(frozen=True)
class Never:
    """The engine cannot do it by its nature."""

    reason: str
    mark: str = "no"


@dataclass(frozen=True)
class Upstream:
    """The engine's authors have not done it, or it has a fault there."""

    reason: str
    mark: str = "no"


@dataclass(frozen=True)
class NotYet:
    """The engine can; the adapter cannot yet."""

    reason: str
    mark: str = "not yet"


Answer = Yes | Never | Upstream | NotYet


class Capabilities(Mapping[Feature, Answer]):
    """A complete sheet: one answer per feature.

    Raises:
        TypeError: If a feature is unanswered.
    """

    def __init__(self, answers: Mapping[Feature, Answer]) -> None:
        absent = [f.name for f in Feature if f not in answers]
        if absent:
            raise TypeError(f"The capability sheet does not answer: {', '.join(absent)}.")
        self._answers = dict(answers)

    def __getitem__(self, feature: Feature) -> Answer:
        return self._answers[feature]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def can(self, feature: Feature) -> bool:
        """Whether the engine does it."""
        return isinstance(self._answers[feature], Yes)

    def gaps(self, needs: frozenset[Feature]) -> list[tuple[Feature, str]]:
        """What of ``needs`` the engine cannot do, with the reasons."""
        found: list[tuple[Feature, str]] = []
        for feature in sorted(needs, key=lambda f: f.name):
            answer = self._answers[feature]
            if not isinstance(answer, Yes):
                found.append((feature, answer.reason))
        return found
