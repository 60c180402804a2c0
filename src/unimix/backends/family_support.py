"""Every family and link answered by every engine, with and without group effects: yes, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unimix.backends.capabilities import Answer, Never, NotYet, Upstream, Yes
from unimix.distributions.family import FAMILIES, Family, NegativeBinomial


@dataclass(frozen=True)
class Cell:
    """One combination that an engine can or cannot fit.

    Attributes:
        family: Label of the distribution (``negative_binomial_1`` is NB1).
        link: Name of the link.
        mixed: With group effects.
    """

    family: str
    link: str
    mixed: bool


def all_families() -> list[Family]:
    """Every family with every link that unimix knows."""
    found: list[Family] = []
    for cls in FAMILIES.values():
        for link in cls.links:
            found.append(cls(link))
            if cls is NegativeBinomial:
                found.append(NegativeBinomial(link, "linear"))
    return found


class FamilySheet(Mapping[Cell, Answer]):
    """A complete sheet of families.

    Args:
        mixed: Answers with group effects, by ``"family"`` or, for single links, ``"family(link)"``; the latter wins.
        plain: The same without group effects.

    Raises:
        TypeError: If a family is unanswered.
    """

    def __init__(self, mixed: Mapping[str, Answer], plain: Mapping[str, Answer]) -> None:
        self._answers: dict[Cell, Answer] = {}
        absent: list[str] = []
        for given, with_groups in ((mixed, True), (plain, False)):
            for family in all_families():
                full = f"{family.label}({family.link})"
                answer = given.get(full, given.get(family.label))
                if answer is None:
                    absent.append(full)
                else:
                    self._answers[Cell(family.label, family.link, with_groups)] = answer
        if absent:
            raise TypeError(f"The family sheet does not answer: {', '.join(dict.fromkeys(absent))}.")

    def __getitem__(self, cell: Cell) -> Answer:
        return self._answers[cell]

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, family: Family, *, mixed: bool) -> Answer:
        """The answer for one family and link."""
        return self[Cell(family.label, family.link, mixed)]


def only_gaussian(reason: str) -> FamilySheet:
    """The sheet of an engine for linear models.

    Args:
        reason: Why it fits nothing else.
    """
    answers: dict[str, Answer] = {f.label: Never(reason) for f in all_families()}
    answers["gaussian(identity)"] = Yes()
    return FamilySheet(answers, answers)


__all__ = ["Cell", "FamilySheet", "Never", "NotYet", "Upstream", "Yes", "all_families", "only_gaussian"]
