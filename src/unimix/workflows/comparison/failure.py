"""An engine without a result, which keeps its column in a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from unimix.errors import UnsupportedModelError
from unimix.workflows.comparison.verdicts import Verdict


@dataclass(frozen=True)
class Failure:
    """An engine that gave no result.

    Attributes:
        backend: Name of the engine.
        error: Name of the class of the error.
        message: Text of the error.
        asked: Whether the user named the engine; False if it was included because it is installed.
    """

    backend: str
    error: str
    message: str
    asked: bool = True

    @property
    def refused(self) -> bool:
        """Whether the engine cannot express the model and was not named by the user."""
        return not self.asked and self.error == UnsupportedModelError.__name__

    def verdict(self) -> Verdict:
        """The verdict on the engine: a refusal does not count against the agreement, a failure does."""
        if self.refused:
            return Verdict("refused", f"It does not fit this model: {self.message}")
        return Verdict("failed", f"{self.error}: {self.message}", ("it gave no result",))
