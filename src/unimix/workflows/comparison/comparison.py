"""The results of several engines side by side, with a verdict on each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, model_validator

from unimix.analysis.certificate.certificate import Certificate
from unimix.analysis.certificate.certify import certify
from unimix.display import Block, Printed
from unimix.errors import DisagreementError, OptionError
from unimix.fitted.model import has_design, with_content
from unimix.fitted.saved_fit import SavedFit
from unimix.fitted.saving import load, written
from unimix.foreign_names import suggests_names
from unimix.result import FitResult
from unimix.workflows.comparison.causes import causes
from unimix.workflows.comparison.estimates import estimates_of, estimates_table
from unimix.workflows.comparison.failure import Failure
from unimix.workflows.comparison.verdicts import (
    Tolerances,
    Verdict,
    dispersion_parameters,
    judge,
    measure,
)


class SavedComparison(BaseModel):
    """A comparison as saved in JSON; :class:`Comparison` describes the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: tuple[str, ...]
    results: dict[str, SavedFit]
    failures: dict[str, Failure]
    reference: str | None
    tolerances: Tolerances
    certificates: dict[str, Certificate] | None = None

    @model_validator(mode="after")
    def _same_labels(self) -> Self:
        """Refuse labels of engines that are not those of the results, or results of different designs."""
        labels = [*self.results, *self.failures]
        if sorted(self.order) != sorted(labels):
            raise ValueError("its order does not name every result and every failure exactly once")
        if (self.reference is None) != (not self.results) or self.reference not in (None, *self.results):
            raise ValueError(f"its reference {self.reference!r:.40} is not one of its results")
        if self.certificates is not None and list(self.certificates) != list(self.results):
            raise ValueError("its certificates do not belong to its results")
        if len({_parameters(f) for f in self.results.values()}) > 1:
            raise ValueError("its results belong to different designs")
        return self


def _parameters(fit: SavedFit) -> tuple[object, ...]:
    """What is alike in all results of one design: its digest, and the parameters that are compared."""
    blocks = tuple((block.group, block.terms) for block in fit.random)
    parts = tuple((name, part.terms) for name, part in fit.parts.items())
    return fit.model.fingerprint, fit.model.family, fit.fixed.terms, blocks, parts, "sigma" in fit.criteria.parameters


@suggests_names(path=None)
@dataclass(frozen=True, repr=False)
class Comparison(Printed):
    """The answer of :func:`unimix.compare`: results of several engines for one design.

    Attributes:
        results: Results by label. The label is the name of the backend, with the method or a number if it occurs twice.
        failures: Engines without a result, by label.
        order: All labels in the order of the columns.
        reference: Label of the result that all others are compared with; None if there is no result.
        tolerances: Tolerances of the verdicts.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> same = um.compare("Reaction ~ Days + (1 | Subject)", sleep, backends=["pls", "statsmodels"])
        >>> same.agree
        True
        >>> same.estimates.loc["fixed"].round(2)
                      pls  statsmodels
        name
        Intercept  251.41       251.41
        Days        10.47        10.47
    """

    results: dict[str, FitResult]
    failures: dict[str, Failure]
    order: tuple[str, ...]
    reference: str | None
    tolerances: Tolerances = field(default_factory=Tolerances)

    def __getitem__(self, label: str) -> FitResult:
        if label in self.failures:
            raise DisagreementError(f"{label} has no result: {self.failures[label].message}")
        if label not in self.results:
            raise OptionError(f"{label!r} is not in this comparison: {', '.join(self.order)}.")
        return self.results[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def estimates(self) -> pd.DataFrame:
        """Estimates with the index (part, name): fixed effects, SDs, correlations, fit; one column per engine."""
        return self._table(estimates_of)

    @property
    def std_errors(self) -> pd.DataFrame:
        """Standard errors of the fixed effects (for samplers: posterior SDs), one column per engine."""
        return self._table(
            lambda f: {("fixed", t): float(v) for t, v in zip(f.fixed.terms, f.fixed.std_error, strict=True)}
        )

    @property
    def differences(self) -> pd.DataFrame:
        """Differences from the reference, one column per engine.

        Fixed effects are in standard errors of the reference, standard errors, SDs and dispersion parameters are
        ratios, correlations and the log-likelihood are differences.
        """
        return self._table(self._difference)

    def _table(self, rows: Callable[[FitResult], dict[tuple[str, str], float]]) -> pd.DataFrame:
        columns = {label: rows(fit) for label, fit in self.results.items()}
        index = list(dict.fromkeys(k for column in columns.values() for k in column))
        if not index:
            return pd.DataFrame(columns=list(self.order))
        return pd.DataFrame(
            {label: [columns.get(label, {}).get(k, np.nan) for k in index] for label in self.order},
            index=pd.MultiIndex.from_tuples(index, names=["part", "name"]),
        )

    def _difference(self, fit: FitResult) -> dict[tuple[str, str], float]:
        if self.reference is None:
            return {}
        reference = self.results[self.reference]
        d = measure(fit, reference)
        sds = [k for k in estimates_of(reference) if k[0] == "sd"]
        cors = [k for k in estimates_of(reference) if k[0] == "correlation"]
        rows = {("fixed (in SE)", t): float(v) for t, v in zip(fit.fixed.terms, d.fixed, strict=True)}
        rows |= {("std_error (ratio)", t): float(v) for t, v in zip(fit.fixed.terms, d.std_error, strict=True)}
        rows |= {("sd (ratio)", k[1]): float(v) for k, v in zip(sds, d.sd, strict=True)}
        shared = [k for k in dispersion_parameters(reference) if k in dispersion_parameters(fit)]
        rows |= {("dispersion (ratio)", k): float(v) for k, v in zip(shared, d.dispersion, strict=True)}
        rows |= {("correlation (difference)", k[1]): float(v) for k, v in zip(cors, d.correlation, strict=True)}
        return rows | {("fit", "log_likelihood (difference)"): d.log_likelihood}

    def verdicts_with(self, tolerances: Tolerances) -> dict[str, Verdict]:
        """The verdict on every engine, by label, with other tolerances than the comparison's own."""
        verdicts: dict[str, Verdict] = {}
        for label in self.order:
            if label in self.failures:
                verdicts[label] = self.failures[label].verdict()
            elif self.reference is not None:
                verdict = judge(self.results[label], self.results[self.reference], tolerances)
                verdicts[label] = self._through_another_interface(label, verdict)
        return verdicts

    def _through_another_interface(self, label: str, verdict: Verdict) -> Verdict:
        """The verdict, which is "identical engine" if an earlier column has the same engine through another backend."""
        engine = self.results[label].engine
        earlier = [k for k in self.order[: self.order.index(label)] if k in self.results]
        twin = next((k for k in earlier if self.results[k].engine.engine == engine.engine), None)
        if verdict.kind != "numerically equal" or twin is None or self.results[twin].engine.backend == engine.backend:
            return verdict
        return Verdict(
            "identical engine",
            f"{engine.engine} again, through another interface than backend {twin!r}: not a second opinion. "
            f"{verdict.reason}",
        )

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per engine, with the columns verdict and reason."""
        judged = self.verdicts_with(self.tolerances)
        return pd.DataFrame(
            {
                "verdict": [v.kind for v in judged.values()],
                "reason": [" ".join([v.reason, *(f"{f.capitalize()}." for f in v.faults)]) for v in judged.values()],
            },
            index=pd.Index(list(judged), name="backend"),
        )

    @cached_property
    def certificates(self) -> dict[str, Certificate]:
        """Certificates of all results by label; they are computed once, when they are first used.

        The search for the best optimum starts from all results.

        Raises:
            DataError: If the results were loaded: ``same.with_data(frame)`` takes the data.
        """
        if not self.results:
            return {}
        fits = list(self.results.values())
        fresh = next((f for f in fits if has_design(f)), fits[0])
        return dict(zip(self.results, certify(fits, fresh.design()), strict=True))

    def certify(self) -> Comparison:
        """Compute the certificates, so that printing and saving include them, and return the same comparison.

        Raises:
            DataError: If the results were loaded: ``same.with_data(frame)`` takes the data.
        """
        _ = self.certificates
        return self

    def with_data(self, data: Any) -> Comparison:
        """Return the comparison with the data that were fitted, which loaded results do not hold.

        Args:
            data: The data that were fitted, in any form that :func:`unimix.fit` takes.

        Raises:
            DataError: If the data differ from those that were fitted.
        """
        return replace(self, results={label: fit.with_data(data) for label, fit in self.results.items()})

    @property
    def _certified(self) -> bool:
        """Whether the certificates have been computed."""
        return "certificates" in self.__dict__

    @property
    def causes(self) -> pd.DataFrame:
        """All differences from the reference with their causes, in the columns engine, differs, size and cause."""
        if self.reference is None:
            return pd.DataFrame(columns=["engine", "differs", "size", "cause"])
        return causes(self.results, self.certificates, self.reference)

    @property
    def agree(self) -> bool:
        """Whether at least two engines gave a result, no named engine failed, and no result is suspicious."""
        return len(self.results) > 1 and all(v.agrees for v in self.verdicts_with(self.tolerances).values())

    def assert_agree(self, tolerances: Tolerances | None = None, **changed: float) -> None:
        """Raise an error unless all engines agree, for use in tests.

        Args:
            tolerances: Tolerances to use instead of the comparison's own.
            changed: Single tolerances by name, such as ``fixed=0.05``.

        Raises:
            DisagreementError: If engines disagree, or fewer than two gave a result; the message shows the comparison.
            OptionError: If there is no tolerance of a name.
        """
        used = tolerances or self.tolerances
        if changed:
            unknown = [k for k in changed if k not in Tolerances.model_fields]
            if unknown:
                raise OptionError(
                    f"{unknown[0]!r} is not a tolerance. Tolerances: {', '.join(Tolerances.model_fields)}."
                )
            used = Tolerances(**{**used.model_dump(), **changed})
        bad = {label: v for label, v in self.verdicts_with(used).items() if not v.agrees}
        if bad:
            reasons = "\n".join(
                f"{label}: {v.kind}. {v.reason} {'; '.join(v.faults)}".rstrip() for label, v in bad.items()
            )
            raise DisagreementError(f"The engines do not agree.\n{reasons}\n\n{self}")
        if len(self.results) < 2:
            raise DisagreementError(f"Fewer than two engines gave a result: nothing is compared.\n\n{self}")

    def _view(self) -> Iterable[Block]:
        if not self.results:
            return ["No engine gave a result.", *(f"  {k}: {f.error}: {f.message}" for k, f in self.failures.items())]
        first = next(iter(self.results.values()))
        verdicts = [f"{label}: {row['verdict']}. {row['reason']}" for label, row in self.verdicts.iterrows()]
        certificates = [
            "No certificates yet: .certify() compares every result with the best optimum that unimix finds itself."
        ]
        if self._certified:
            certificates = [f"{label}: {c.verdict}. {c.sentence}" for label, c in self.certificates.items()]
        head = f"{first.model.formula}, {first.model.n_obs} rows"
        return [head, "", estimates_table(self.estimates, self.results), "", *verdicts, "", *certificates]

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> Path: ...
    def to_html(self, path: str | Path | None = None) -> str | Path:
        """The comparison as one HTML page that can be sent: it needs no network and fits a telephone.

        It begins with a sentence and a light for each engine. A picture shows the differences beside the tolerances.
        The causes, tables of estimates and intervals that can be sorted, the certificates, and the lines that
        reproduce all of it follow. Certificates are computed if that has not been done and the results hold their data.

        Args:
            path: File to write the page to.

        Returns:
            The text of the page, or the path if one was given.
        """
        from unimix.workflows.comparison.page import Content, page

        certifiable = self._certified or any(has_design(fit) for fit in self.results.values())
        content = Content(
            results=self.results,
            reference=self.reference,
            verdicts=self.verdicts_with(self.tolerances),
            tolerances=self.tolerances,
            estimates=self.estimates,
            differences=self.differences,
            certificates=self.certificates if certifiable else {},
            causes=self.causes if certifiable else pd.DataFrame(),
        )
        return written(page(content), path)

    @overload
    def to_json(self, path: None = None) -> str: ...
    @overload
    def to_json(self, path: str | Path) -> Path: ...
    def to_json(self, path: str | Path | None = None) -> str | Path:
        """Write all results and failures as JSON.

        Args:
            path: File to write the text to.

        Returns:
            The text, or the path if one was given.
        """
        content = {
            "order": self.order,
            "results": {k: json.loads(f.to_json()) for k, f in self.results.items()},
            "failures": {k: asdict(f) for k, f in self.failures.items()},
            "reference": self.reference,
            "tolerances": self.tolerances.model_dump(),
        }
        if self._certified:
            content["certificates"] = {k: json.loads(c.model_dump_json()) for k, c in self.certificates.items()}
        return written(json.dumps(content), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Comparison:
        """Read a comparison that :meth:`to_json` wrote. No engine is needed.

        Args:
            source: The text, or the path of the file.

        Raises:
            DataError: If the text or file is not a saved comparison.
        """
        saved = load(SavedComparison, source, "saved Comparison")
        results = {label: with_content(FitResult, fit) for label, fit in saved.results.items()}
        comparison = cls(results, saved.failures, saved.order, saved.reference, saved.tolerances)
        if saved.certificates is not None:
            comparison.__dict__["certificates"] = saved.certificates
        return comparison

    def plot(self, *, columns: int = 3, title: str | None = None, draw: bool = True) -> Any:
        """Draw a forest plot with one panel per quantity and one colour per engine.

        Args:
            columns: Number of panels per row.
            title: Title of the figure; the formula, if left out.
            draw: Whether to draw; False returns the numbers of the plot instead.

        Returns:
            The matplotlib Axes, shape (panels,). With ``draw=False`` a table with the columns part, name, engine,
            estimate, lower, upper, interval.

        Raises:
            DisagreementError: If no engine gave a result.
        """
        from unimix.plots.forest import draw_forest, forest_data

        if not self.results:
            raise DisagreementError("No engine gave a result: there is nothing to draw.")
        data = forest_data(list(self.results.items()))
        formula = next(iter(self.results.values())).formula
        return draw_forest(data, columns=columns, title=title or formula) if draw else data
