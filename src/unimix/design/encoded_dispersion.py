"""What an encoding holds of the formula of the dispersion."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EncodedDispersion(BaseModel):
    """Formula of the dispersion.

    Attributes:
        text: The formula as it was given, ``"~ arm"``.
        kept: Indices of its columns that were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    kept: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...]


__all__ = ["EncodedDispersion"]
