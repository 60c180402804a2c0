"""Family sheets: for each family and link, whether an engine supports it with and without group effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unimix.backends.capabilities import Answer, Never, NotYet, Upstream, Yes
from unimix.distributions.family import FAMILIES, Family, NegativeBinomial


@dataclass(frozen=True)
class Cell:
    """One combination of family, link and group effects that an engine may or may not support.

    Attributes:
        family: Label of the distribution (``negative_binomial_1`` is NB1).
        link: Name of the link.
        mixed: Whether the model has group effects.
    """

    family: str
    link: str
    mixed: bool


def all_families() -> list[Family]:
    """Every family with every link that unimix supports."""
    families: list[Family] = []
    for cls in FAMILIES.values():
        for link in cls.links:
            families.append(cls(link))
            if cls is NegativeBinomial:
                families.append(NegativeBinomial(link, "linear"))
    return families


class FamilySheet(Mapping[Cell, Answer]):
    """Complete sheet of families.

    Args:
        mixed: Answers for models with group effects, by ``"family"`` or, for single links, by ``"family(link)"``, which
            takes precedence.
        plain: Answers for models without group effects, by the same keys.
        others: Answer for every family that the two do not name; None if they name all.

    Raises:
        TypeError: If a family has no answer.
    """

    def __init__(self, mixed: Mapping[str, Answer], plain: Mapping[str, Answer], others: Answer | None = None) -> None:
        self._answers: dict[Cell, Answer] = {}
        absent: list[str] = []
        for given, with_groups in ((mixed, True), (plain, False)):
            for family in all_families():
                full = f"{family.label}({family.link})"
                answer = given.get(full, given.get(family.label, others))
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
        """Answer for one family and link."""
        return self[Cell(family.label, family.link, mixed)]


def only_gaussian(reason: str) -> FamilySheet:
    """Sheet of an engine for linear models only.

    Args:
        reason: Reason why the engine fits no other models.
    """
    answers: dict[str, Answer] = {f.label: Never(reason) for f in all_families()}
    answers["gaussian(identity)"] = Yes()
    return FamilySheet(answers, answers)


__all__ = ["Cell", "FamilySheet", "Never", "NotYet", "Upstream", "Yes", "all_families", "only_gaussian"]
