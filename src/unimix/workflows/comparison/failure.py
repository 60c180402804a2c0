"""An engine that gave no result keeps its column."""

from __future__ import annotations

from dataclasses import dataclass

from unimix.errors import UnsupportedModelError
from unimix.workflows.comparison.verdicts import Verdict


@dataclass(frozen=True)
class Failure:
    """An engine that gave no result.

    Attributes:
        backend: Its name.
        error: Kind of error.
        message: Its text.
        asked: Whether it was asked for by name, not because it is installed.
    """

    backend: str
    error: str
    message: str
    asked: bool = True

    @property
    def refused(self) -> bool:
        """Whether the engine cannot express the model, and nobody said that it could."""
        return not self.asked and self.error == UnsupportedModelError.__name__

    def verdict(self) -> Verdict:
        """A refusal agrees with everything; what failed agrees with nothing."""
        if self.refused:
            return Verdict("refused", f"It does not fit this model: {self.message}")
        return Verdict("failed", f"{self.error}: {self.message}", ("it gave no result",))
