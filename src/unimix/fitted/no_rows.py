"""The rows of a result that was fitted to reduced data: there are none, and whatever asks for them is refused."""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from unimix.errors import DataError

REFUSED = (
    "This model was fitted to rows that were reduced to cross-products, and the rows themselves were not kept. "
    "Estimates, tests, degrees of freedom, intervals by Wald or profile, marginal means, the R2 of a mixed model and "
    "the certificate need none. Fitted values, residuals, simulation, bootstrap, influence and whatever else looks at "
    "single rows need them: fit.predict(newdata) takes some rows, fit.predict_to(source, 'out.parquet') writes "
    "predictions and residuals of all, and um.fit(formula, frame) fits the model to rows in memory."
)


class NoRows:
    """Stands for the rows of a result that has none; every attribute of rows raises a DataError."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoRows)

    def __hash__(self) -> int:
        return 0

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(REFUSED)


class HasRows(Protocol):
    """What is read here of a result."""

    @property
    def rows(self) -> Any:
        """The rows that were fitted."""


def has_no_rows(fit: HasRows) -> bool:
    """Whether a result was fitted to reduced data, so that nothing is known of single rows."""
    return isinstance(fit.rows, NoRows)


__all__ = ["REFUSED", "NoRows", "has_no_rows"]
