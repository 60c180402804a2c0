"""One data set in one process: loaded once, fitted as often as asked."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from unimix.backends.base import Backend
from unimix.errors import DataError, UnsupportedModelError, brief
from unimix.estimation.arguments import FitArguments, FitProblem
from unimix.estimation.run import fit_problem
from unimix.result import FitResult
from unimix.workflows.many import fingerprint


@dataclass(frozen=True)
class Job:
    """One fit of a data set.

    Attributes:
        formula: Its text.
        engine: With its options.
        seed: Seed of the random numbers.
    """

    formula: str
    engine: Backend
    seed: int | None


@dataclass(frozen=True)
class Fitted:
    """What a job gives back.

    Attributes:
        summary: Columns of the table, from state on.
        result: The result, its JSON, or None where the fit failed.
    """

    summary: dict[str, Any]
    result: FitResult | str | None


@dataclass
class DataSet:
    """A data set with the arguments that all its fits share.

    Attributes:
        name: For messages.
        source: The data, or a function that loads them.
        arguments: What is asked of every fit.
        as_text: Whether results are given as JSON.
    """

    name: str
    source: Any
    arguments: FitArguments
    as_text: bool = False

    def __post_init__(self) -> None:
        self._loaded: Any = None
        self._last: tuple[str, FitProblem] | None = None

    def data(self) -> Any:
        """The data, loaded when they are first asked for.

        Raises:
            DataError: If loading fails.
        """
        if not callable(self.source):
            return self.source
        if self._loaded is None:
            try:
                self._loaded = self.source()
            except Exception as error:
                raise DataError(f"The data set {self.name!r} cannot be loaded: {_words(error)}") from error
        return self._loaded

    def fingerprint(self) -> str:
        """Digest of the content."""
        return fingerprint.of_data(self.data())

    def __call__(self, job: Job) -> Fitted:
        """Fit; whatever goes wrong is part of the answer."""
        started = time.perf_counter()
        try:
            problem = self._problem(job.formula).adapted(job.engine)
            seeded = replace(problem, arguments=replace(problem.arguments, seed=job.seed))
            found = fit_problem(job.engine, seeded)
            result = found.to_json() if self.as_text else found
        except Exception as error:  # noqa: BLE001  one fit does not end the others
            return Fitted(failure(type(error).__name__, brief(error), time.perf_counter() - started), None)
        return Fitted(_summary(found, time.perf_counter() - started), result)

    def _problem(self, formula: str) -> FitProblem:
        """The model of a formula; engines that fit one formula in a row share its design."""
        if self._last is None or self._last[0] != formula:
            self._last = formula, self.arguments.problem(formula, self.data())
        return self._last[1]


def read(dataset: DataSet) -> tuple[str, str]:
    """The fingerprint of a data set, and why there is none."""
    try:
        return replace(dataset).fingerprint(), ""  # what is loaded here is not kept
    except Exception as error:  # noqa: BLE001  its fits will say so
        return "", _words(error)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def failure(kind: str, message: str, seconds: float | None) -> dict[str, Any]:
    """The table's columns of a fit that failed."""
    numbers = dict.fromkeys(("n_obs", "log_likelihood", "aic", "bic"))
    state = "refused" if kind == UnsupportedModelError.__name__ else "failed"
    return {"state": state, **numbers, "seconds": seconds, "error_type": kind, "error": message}


def _summary(found: FitResult, seconds: float) -> dict[str, Any]:
    numbers = {"log_likelihood": found.log_likelihood, "aic": found.aic, "bic": found.bic}
    return {
        "state": found.status.state,
        "n_obs": found.n_obs,
        **{k: None if v != v else float(v) for k, v in numbers.items()},  # noqa: PLR0124  JSON has no NaN
        "seconds": seconds,
        "error_type": "",
        "error": "",
    }


__all__ = ["DataSet", "Fitted", "Job", "failure", "read"]
