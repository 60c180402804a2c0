"""Every feature answered by every engine: yes, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unimix.design.features import FEATURE_GROUPS, Feature
from unimix.errors import did_you_mean


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

    Args:
        default: Answer to every feature that is not named.
        answers: Answers by the name of a feature in small letters (``offset``, ``kenward_roger``), or of a group of
            :data:`~unimix.design.features.FEATURE_GROUPS` (``group_effects``, ``bayesian``); that of the feature wins.

    Raises:
        TypeError: If a feature is unanswered, or a name is none.

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
            answer = answers.get(feature.name.lower(), answers.get(groups.get(feature, ""), default))
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
