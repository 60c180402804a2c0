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
    """The answer of :func:`all_fit`.

    Attributes:
        results: Results by label, such as ``lme4 (bobyqa)``.
        certificates: Certificates by label; the search for the best optimum started from all results.
        failures: Error messages of fits without a result, by label.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> um.all_fit("Reaction ~ Days + (1 | Subject)", sleep, backends=["pls", "statsmodels"]).spread.round(1)
                                 least  largest
        Intercept                251.4    251.4
        Days                      10.5     10.5
        sd(Intercept | Subject)   37.1     37.1
        sigma                     31.0     31.0
    """

    results: dict[str, FitResult]
    certificates: dict[str, Certificate]
    failures: dict[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """One row per engine and optimizer, best first.

        Columns log_likelihood and gap (to the best known optimum), both by unimix's criterion; moved (largest distance
        of a fixed effect from the best optimum, in standard errors); state; verdict of the certificate; seconds.
        """
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
        """The result with the highest log-likelihood, evaluated by unimix."""
        return self.results[str(self.table.index[0])]

    @property
    def spread(self) -> pd.DataFrame:
        """Least and largest value of every fixed effect and standard deviation among all results."""
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
        """Engines without a result, with their errors."""
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
    """Fit one model by every engine with each of its optimizers, and rank the results by unimix's own criterion.

    This is lme4's ``allFit``, across engines.

    Args:
        formula: The model in lme4's language, as in :func:`unimix.fit`.
        data: A table or a dict of arrays, as in :func:`unimix.fit`.
        backends: The engines: names, classes or instances. If left out, all installed engines that maximise a
            likelihood.
        conditioning: Whether to centre and scale the columns before they are given to an engine; False gives it the
            bare columns, as a plain call of the engine would.
        arguments: Arguments of :func:`unimix.fit`, except ``options`` (give configured backends) and ``restart``.
            Limits of time and memory apply to each fit.

    Returns:
        ``.table`` ranks the results; ``.spread`` shows how much the estimates differ; ``.best`` is the best result.

    Raises:
        OptionError: If arguments are wrong, all faults at once; or if no engine gave a result.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> fits = um.all_fit("Reaction ~ Days + (1 | Subject)", sleep, backends=["statsmodels"])
        >>> fits.table["verdict"]
        engine (optimizer)
        statsmodels (bfgs)      certified
        statsmodels (cobyqa)    certified
        Name: verdict, dtype: ...
    """
    engines, errors = engines_of(backends, least=1)
    problem = FitArguments.read(all_fit, formula, data, arguments, errors=errors).problem(formula, data)
    results: dict[str, FitResult] = {}
    failures: dict[str, str] = {}
    for engine in engines:
        if engine.info.samples:
            continue
        for optimizer, variant in _variants(engine, conditioning=conditioning):
            label = f"{engine.info.name} ({optimizer})" if optimizer else engine.info.name
            try:
                results[label] = fit_problem(variant, problem)
            except UnimixError as error:
                failures[label] = f"{type(error).__name__}: {error}"
    if not results:
        why = "\n".join(f"{k}: {v}" for k, v in failures.items()) or "no engine that maximises a likelihood was named"
        raise OptionError(f"all_fit has no result:\n{why}")
    certificates = certify(list(results.values()), next(iter(results.values())).design())
    return AllFit(results, dict(zip(results, certificates, strict=True)), failures)


def _variants(engine: Backend, *, conditioning: bool) -> list[tuple[str, Backend]]:
    """The engine with each of its optimizers, by name of the optimizer; the empty name where there is no choice."""
    field = type(engine).model_fields.get("optimizer")
    plain = {"conditioning": conditioning}
    if field is None:
        return [("", engine.model_copy(update=plain))]
    choices = [c for c in typing.get_args(field.annotation) if c != "auto"]
    return [(c, engine.model_copy(update={**plain, "optimizer": c})) for c in choices]
