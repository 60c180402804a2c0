"""The certificate: whether an engine's numbers are those of the model, at its optimum, and of the kind it claims."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pandas as pd
from pydantic import Field

from unimix.display import Block, Printed, TextTable
from unimix.fitted.arrays import Real
from unimix.fitted.schema import Part

Word = Literal[
    "certified",
    "certified at the boundary",
    "wrong inference",
    "not identified",
    "not at the optimum",
    "a different model",
    "not checkable",
]


class Check(Part):
    """One check of a certificate.

    Attributes:
        name: Name of the check: rows, arithmetic, same model, optimum, boundary, identification, independent terms,
            residual, standard errors, degrees of freedom, group effects, covariance structure, curves; for a posterior
            also draws, priors, posterior, sampling and prior.
        passed: Whether the check passed; None if it is neither for nor against the result.
        said: The finding in words.
        numbers: The numbers behind the finding, by name.
    """

    name: str
    passed: bool | None
    said: str
    numbers: dict[str, Real] = Field(default_factory=dict)


class Certificate(Printed, Part):
    """The certificate of a result, as :meth:`unimix.FitResult.certificate` returns it.

    Attributes:
        backend: Name of the backend that fitted the model.
        formula: Formula as the user wrote it.
        criterion: Criterion that was maximised: REML, ML, Laplace ...
        verdict: certified; certified at the boundary; wrong inference (right estimates, but standard errors or degrees
            of freedom that are not what they are called); not identified (the data do not determine all parameters);
            not at the optimum; a different model; or not checkable.
        sentence: The verdict in one or two sentences.
        checks: The checks that the verdict rests on.
        gap: Difference in log-likelihood between the best known parameters and the engine's; NaN if it is unknown.
        best_log_likelihood: Log-likelihood at the best known parameters, by unimix's own criterion.
        best_fixed: Fixed effects at the best known parameters, by term.
        best_sd: Standard deviations at the best known parameters: those of the group effects by ``term | group``, and
            that of the residual.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> certificate = fit.certificate()
        >>> certificate.verdict
        'certified'
        >>> certificate.certified
        True
    """

    backend: str
    formula: str
    criterion: str
    verdict: Word
    sentence: str
    checks: tuple[Check, ...]
    gap: Real = float("nan")
    best_log_likelihood: Real = float("nan")
    best_fixed: dict[str, Real] = Field(default_factory=dict)
    best_sd: dict[str, Real] = Field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether the verdict is ``certified`` or ``certified at the boundary``."""
        return self.verdict in ("certified", "certified at the boundary")

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(c for c in self.checks if c.passed is False)

    def check(self, name: str) -> Check:
        """One check by its name.

        Args:
            name: Name of the check, such as ``"optimum"``.

        Raises:
            KeyError: If the certificate has no such check.
        """
        by_name = {c.name: c for c in self.checks}
        return by_name[name]

    @property
    def table(self) -> pd.DataFrame:
        """One row per check: passed, said."""
        return pd.DataFrame(
            {"passed": [c.passed for c in self.checks], "said": [c.said for c in self.checks]},
            index=pd.Index([c.name for c in self.checks], name="check"),
        )

    def _view(self) -> Iterable[Block]:
        return [
            f"{self.backend}: {self.verdict}. {self.sentence}",
            f"  {self.formula}, {self.criterion}",
            "",
            checks_table(self),
        ]


def checks_table(certificate: Certificate) -> TextTable:
    """The checks of a certificate as a table of text: mark, name, finding."""
    marks = {True: "ok", False: "FAULT", None: "-"}
    rows = tuple((marks[c.passed], c.name, c.said) for c in certificate.checks)
    return TextTable(("", "", ""), rows, "lll", indent=2)
