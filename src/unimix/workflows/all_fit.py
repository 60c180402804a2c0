"""Every engine with every optimizer, ranked by one criterion (lme4's ``allFit``, across engines)."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from unimix.analysis.certificate.certificate import Certificate
from unimix.analysis.certificate.certify import certify
from unimix.api import fit
from unimix.backends.base import Backend
from unimix.backends.registry import BackendLike
from unimix.display import Block
from unimix.errors import OptionError, UnimixError
from unimix.estimation.arguments import FitArguments, SharedOptions, takes_arguments_of
from unimix.estimation.run import fit_problem
from unimix.fitted.formatting import text_table
from unimix.fitted.table_result import TableResult
from unimix.result import FitResult
from unimix.workflows.comparison.compare import engines_of


@dataclass(frozen=True, repr=False, eq=False)
class AllFit(TableResult):
    """What :func:`all_fit` found.

    Attributes:
        results: By label, ``lme4 (bobyqa)``.
        certificates: By the same labels; the search for the best optimum started from all results.
        failures: Errors by label.
    """

    results: dict[str, FitResult]
    certificates: dict[str, Certificate]
    failures: dict[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """Best first: log_likelihood and gap (by unimix's criterion), state, verdict, moved (SE), seconds."""
        rows = []
        for label, fit_ in self.results.items():
            certificate = self.certificates[label]
            numbers = {k: v for c in certificate.checks for k, v in c.numbers.items()}
            spent = {k: v for k, v in fit_.engine.seconds.items() if k != "load"}
            rows.append(
                {
                    "log_likelihood": certificate.best_log_likelihood - certificate.gap,
                    "gap": certificate.gap,
                    "moved": numbers.get("fixed effects move by (SE)", np.nan),
                    "state": fit_.status.state,
                    "verdict": certificate.verdict,
                    "seconds": sum(spent.values()),
                }
            )
        frame = pd.DataFrame(rows, index=pd.Index(list(self.results), name="engine (optimizer)"))
        return frame.sort_values("gap", kind="stable") if rows else frame

    @property
    def best(self) -> FitResult:
        """The result with the highest log-likelihood by unimix's criterion."""
        return self.results[str(self.table.index[0])]

    @property
    def spread(self) -> pd.DataFrame:
        """Least and largest value of every fixed effect and SD among all results."""
        columns = {
            label: {
                **dict(zip(f.fixed.terms, map(float, f.fixed.estimate), strict=True)),
                **{f"sd({t} | {b.group})": float(s) for b in f.random for t, s in zip(b.terms, b.sd, strict=True)},
                "sigma": f.sigma,
            }
            for label, f in self.results.items()
        }
        values = pd.DataFrame(columns)
        return pd.DataFrame({"least": values.min(axis=1), "largest": values.max(axis=1)})

    @property
    def notes(self) -> tuple[str, ...]:
        """Engines without a result, and why."""
        return tuple(f"{label}: {message}" for label, message in self.failures.items())

    def _view(self) -> Iterable[Block]:
        return [text_table(self.table), "", text_table(self.spread), *self.notes]


@takes_arguments_of(fit, SharedOptions)
def all_fit(
    formula: str,
    data: Any,
    *,
    backends: Sequence[BackendLike] | None = None,
    conditioning: bool = True,
    **arguments: Unpack[SharedOptions],
) -> AllFit:
    """Fit one model by every engine with every optimizer it offers, and rank them by unimix's own criterion.

    Args:
        formula: As for :func:`unimix.fit`.
        data: As for :func:`unimix.fit`.
        backends: Engines; all that are installed and maximise a likelihood, if left out.
        conditioning: False hands every engine the bare columns, as a plain call of it would.
        arguments: Arguments of :func:`unimix.fit`, but for ``options`` (give configured backends) and ``restart``;
            limits are those of each fit.

    Raises:
        OptionError: For wrong arguments, all of them at once; or if no engine is left.
    """
    engines, errors = engines_of(backends, least=1)
    problem = FitArguments.read(all_fit, formula, data, arguments, errors=errors).problem(formula, data)
    results: dict[str, FitResult] = {}
    failures: dict[str, str] = {}
    for engine in engines:
        if engine.info.samples:
            continue
        for optimizer, own in _variants(engine, conditioning=conditioning):
            label = f"{engine.info.name} ({optimizer})" if optimizer else engine.info.name
            try:
                results[label] = fit_problem(own, problem)
            except UnimixError as error:
                failures[label] = f"{type(error).__name__}: {error}"
    if not results:
        told = "\n".join(f"{k}: {v}" for k, v in failures.items()) or "no engine that maximises a likelihood was named"
        raise OptionError(f"all_fit has no result:\n{told}")
    made = certify(list(results.values()), next(iter(results.values())).design())
    return AllFit(results, dict(zip(results, made, strict=True)), failures)


def _variants(engine: Backend, *, conditioning: bool) -> list[tuple[str, Backend]]:
    """The engine with each of its optimizers."""
    field = type(engine).model_fields.get("optimizer")
    plain = {"conditioning": conditioning}
    if field is None:
        return [("", engine.model_copy(update=plain))]
    choices = [c for c in typing.get_args(field.annotation) if c != "auto"]
    return [(c, engine.model_copy(update={**plain, "optimizer": c})) for c in choices]
