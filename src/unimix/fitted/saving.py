"""What a result consists of, and how it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, field_validator

from unimix.design.design import Design
from unimix.design.estimates import Deferred, Generative, Refitter
from unimix.errors import DataError, UnimixError
from unimix.fitted.schema import (
    SCHEMA_VERSION,
    EngineInfo,
    FitInfo,
    FixedPartResult,
    ModelInfo,
    RandomPartResult,
    Rows,
    Status,
)
from unimix.foreign_names import attribute_hint


def written(text: str, path: str | Path | None) -> str | Path:
    """The text, or the path it was written to: a notebook then shows a line and not a page of text."""
    if path is None:
        return text
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


class SavedResult(BaseModel):
    """The parts of a fitted model, exact in JSON; :class:`unimix.FitResult` adds the tables and verbs."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: ModelInfo
    engine: EngineInfo
    fixed: FixedPartResult
    random: tuple[RandomPartResult, ...]
    fit: FitInfo
    status: Status
    rows: Rows
    parts: dict[str, FixedPartResult] = {}
    provenance: dict[str, str]
    notes: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @field_validator("schema_version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {version}; this unimix reads {SCHEMA_VERSION}. Update unimix")
        return version

    _native: Any = PrivateAttr(default=None)
    _posterior: Any = PrivateAttr(default=None)
    _design: Design | None = PrivateAttr(default=None)
    _generative: Generative | None = PrivateAttr(default=None)
    _refitter: Refitter | None = PrivateAttr(default=None)

    def attach(
        self,
        *,
        native: Any = None,
        posterior: Any = None,
        design: Design | None = None,
        generative: Generative | None = None,
        refitter: Refitter | None = None,
    ) -> Self:
        """Keep objects that are not part of the saved result; returns the result itself."""
        self._native, self._posterior, self._design, self._generative = native, posterior, design, generative
        self._refitter = refitter
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SavedResult) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.model.fingerprint, self.engine.backend, self.fixed.estimate.tobytes()))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = attribute_hint(name)
            if hint:
                raise AttributeError(hint)
            return super().__getattr__(name)

    def __dir__(self) -> list[str]:
        """Names of a result, without those of pydantic."""
        noise = {n for n in dir(BaseModel) if not n.startswith("__")}
        return [n for n in super().__dir__() if n not in noise]

    def interval_level(self, ci_level: float | None) -> float:
        """The probability of intervals: as given, else that of the fit."""
        return self.fixed.level if ci_level is None else ci_level

    @property
    def native(self) -> Any:
        """The engine's own object; None in a loaded result."""
        return self._native.get() if isinstance(self._native, Deferred) else self._native

    @property
    def posterior(self) -> Any:
        """Draws as an ArviZ object.

        Raises:
            UnimixError: If the engine does not sample, or the result was loaded from JSON.
        """
        if self._posterior is None:
            why = (
                "the result was loaded from JSON, which keeps no draws (fit.posterior.to_netcdf(...) saves them)"
                if self.status.n_draws
                else f"{self.engine.backend} does not sample; use backend='pymc'"
            )
            raise UnimixError(f"There are no posterior draws: {why}.")
        return self._posterior

    def __getstate__(self) -> dict[Any, Any]:
        """What is pickled: all but the engine's own object, which belongs to its process, and the design's arrays."""
        state = super().__getstate__()
        lost = dict.fromkeys(("_native", "_design", "_generative"))
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), **lost}}

    # -- saving ---------------------------------------------------------------------------------

    @overload
    def to_json(self, path: None = None, *, indent: int | None = None) -> str: ...
    @overload
    def to_json(self, path: str | Path, *, indent: int | None = None) -> Path: ...
    def to_json(self, path: str | Path | None = None, *, indent: int | None = None) -> str | Path:
        """Write the result as JSON; loading it gives the same bytes again.

        Args:
            path: Write it to this file.
            indent: Spaces of indentation, or None for one line.

        Returns:
            The text; with a path, the path.
        """
        return written(self.model_dump_json(indent=indent), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Self:
        """Read a result from JSON text or a file; no engine is needed.

        Raises:
            DataError: If it is not a result of this schema version.
        """
        content = source.strip() if isinstance(source, str) and source.lstrip().startswith("{") else None
        if content is None and not Path(source).is_file():
            raise DataError(f"There is no file {str(source)!r}, and it is not a saved FitResult as text either.")
        try:
            return cls.model_validate_json(Path(source).read_text(encoding="utf-8") if content is None else content)
        except (OSError, ValidationError) as error:
            raise DataError(f"This is not a saved FitResult (schema version {SCHEMA_VERSION}): {error}") from error
