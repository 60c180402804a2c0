"""How to make the columns of a fitted model again from new data, without the engine and without the old data."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr

JsonLevel = StrictBool | StrictInt | StrictFloat | StrictStr


class RecipeBlock(BaseModel):
    """Which columns of which random term a block holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    term: int
    columns: tuple[int, ...]


class DesignRecipe(BaseModel):
    """Everything that was learnt from the data while the design was built.

    Attributes:
        formula: The formula as given.
        dot_columns: What ``.`` stood for.
        numeric: Numeric columns in use.
        levels: Levels of categorical columns, in order.
        contrasts: Coding per factor column.
        states: What ``poly``, ``scale`` and splines learnt, by call.
        kept: Fixed-effects columns that were kept (full rank).
        aliases: The columns that were left out as combinations of those kept: one tuple of weights per column left out.
        blocks: Columns of every random block.
        offset_column: Column named by ``offset=``, if any.
        offset_given: Whether ``offset=`` was an array.
        weights_column: Column named by ``weights=``, if any.
        ziformula: Of the probability of a structural zero, if any.
        zero_kept: Its columns that were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str
    dot_columns: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    levels: dict[str, tuple[JsonLevel, ...]] = {}
    contrasts: dict[str, dict[str, Any]] = {}
    states: dict[str, Any] = {}
    kept: tuple[int, ...] = ()
    aliases: tuple[tuple[float, ...], ...] = ()
    blocks: tuple[RecipeBlock, ...] = ()
    offset_column: str | None = None
    offset_given: bool = False
    weights_column: str | None = None
    ziformula: str | None = None
    zero_kept: tuple[int, ...] = ()
