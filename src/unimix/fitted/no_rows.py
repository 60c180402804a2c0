"""The rows of a result that was fitted to reduced data: there are none, and whatever asks for them is refused."""

from __future__ import annotations

from typing import NoReturn

from unimix.errors import DataError

REFUSED = (
    "This model was fitted to rows that were reduced to cross-products, and the rows themselves were not kept: "
    "estimates, tests, degrees of freedom, intervals by Wald or profile, marginal means, R2 and the certificate need "
    "none. Whatever looks at single rows (fitted values, residuals, predictions without new data, simulation, "
    "bootstrap, checks, influence) needs the rows: fit.predict(newdata) takes some of them, fit.predict_to(source, "
    "'out.parquet') writes predictions for all, and um.fit(formula, rows) fits the model to a part that fits into "
    "memory."
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


__all__ = ["REFUSED", "NoRows"]
