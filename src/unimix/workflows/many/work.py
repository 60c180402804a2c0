"""One data set in one process, which is loaded once and fitted many times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unimix.backends.base import Backend
from unimix.errors import DataError, UnimixError, UnsupportedModelError, brief
from unimix.estimation.arguments import FitArguments, FitProblem
from unimix.estimation.run import fit_problem
from unimix.formula.allowed import REGISTERED
from unimix.result import FitResult
from unimix.workflows.many.digests import digest_data
from unimix.workflows.many.plan import Fit


@dataclass(frozen=True)
class Fitted:
    """The answer of one fit.

    Attributes:
        summary: Columns of the table, from state to error, by name.
        result: The result; None if the fit failed, or the JSON of the result is given instead.
        text: JSON of the result, if it is wanted.
    """

    summary: dict[str, Any]
    result: FitResult | None = None
    text: bytes | None = None


@dataclass
class DataSet:
    """A data set with the arguments that all its fits share.

    Attributes:
        name: Name of the data set, for messages.
        source: The data, or a function that loads them.
        arguments: Arguments of every fit.
        as_text: Whether results are returned as JSON.
        formulas: Texts of all formulas.
        engines: All engines with their options.
        functions: Registered functions that the formulas call, by name.
    """

    name: str
    source: Any
    arguments: FitArguments
    as_text: bool = False
    formulas: Sequence[str] = ()
    engines: Sequence[Backend] = ()
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._loaded: Any = None
        self._last: tuple[str, FitProblem] | None = None

    def data(self) -> Any:
        """The data, which are loaded when they are first used.

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

    def prepare(self) -> None:
        """Prepare a worker process before its first fit.

        All engines are loaded at once, because joblib restarts a process that has grown by 300 MB since its first job.
        """
        REGISTERED.update(self.functions)
        for engine in self.engines:
            with contextlib.suppress(UnimixError):  # its fits will report the error
                engine.load()

    def identities(self) -> dict[str, str]:
        """Texts that identify the data in the keys of fits, by formula: a digest of the content of the data.

        If a formula calls a registered function, which may have changed, a digest of the resulting design is added.
        """
        REGISTERED.update(self.functions)
        parts = f"{self.arguments.ziformula} {self.arguments.dispformula} {self.arguments.residual}"
        called = {f: any(f"{name}(" in f"{f} {parts}" for name in self.functions) for f in self.formulas}
        try:
            content = digest_data(self.data())
            return {f: f"{content} {self._problem(f).design.fingerprint() if called[f] else ''}" for f in self.formulas}
        except Exception as error:  # noqa: BLE001  its fits will report the error
            return dict.fromkeys(self.formulas, f"unread: {_words(error)}")

    def __call__(self, fit: Fit) -> Fitted:
        """Run one fit. Any error is part of the answer."""
        started = time.perf_counter()
        try:
            problem = self._problem(fit.formula).adapted(fit.engine)
            result = fit_problem(fit.engine, replace(problem, arguments=replace(problem.arguments, seed=fit.seed)))
            summary = _summary(result, time.perf_counter() - started)
            return Fitted(summary, text=result.to_json().encode()) if self.as_text else Fitted(summary, result)
        except Exception as error:  # noqa: BLE001  one fit does not end the others
            return Fitted(failure(type(error).__name__, brief(error), time.perf_counter() - started))

    def _problem(self, formula: str) -> FitProblem:
        """The model of a formula. Engines that fit the same formula one after another share its design."""
        if self._last is None or self._last[0] != formula:
            self._last = formula, self.arguments.problem(formula, self.data())
        return self._last[1]


def identify(dataset: DataSet) -> dict[str, str]:
    """The identities of a data set; data that are loaded for them are not kept."""
    return replace(dataset).identities()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def failure(kind: str, message: str, seconds: float | None) -> dict[str, Any]:
    """The columns of the table for a fit that failed."""
    numbers = dict.fromkeys(("n_obs", "log_likelihood", "aic", "bic"))
    state = "refused" if kind == UnsupportedModelError.__name__ else "failed"
    return {"state": state, **numbers, "seconds": seconds, "error_type": kind, "error": message}


def _summary(fit: FitResult, seconds: float) -> dict[str, Any]:
    numbers = {"log_likelihood": fit.log_likelihood, "aic": fit.aic, "bic": fit.bic}
    return {
        "state": fit.status.state,
        "n_obs": fit.n_obs,
        **{k: None if v != v else float(v) for k, v in numbers.items()},  # noqa: PLR0124  JSON has no NaN
        "seconds": seconds,
        "error_type": "",
        "error": "",
    }


__all__ = ["DataSet", "Fitted", "failure", "identify"]
