"""Build a comparison from results of one design."""

from __future__ import annotations

from collections.abc import Sequence

from unimix.errors import DataError, OptionError
from unimix.result import FitResult
from unimix.workflows.comparison.comparison import Comparison
from unimix.workflows.comparison.failure import Failure
from unimix.workflows.comparison.verdicts import choose_reference


def _labels_by_method(name: str, alike: Sequence[FitResult], failures: Sequence[Failure]) -> list[str]:
    """Labels for several results of one backend, such as ``lme4 (ML)``; empty if methods are not all different."""
    labels = [f"{name} ({f.model.method})" for f in alike]
    distinct = len(alike) > 1 and len(set(labels)) == len(labels) and all(f.backend != name for f in failures)
    return labels if distinct else []


def build_comparison(
    fits: Sequence[FitResult], failures: Sequence[Failure], order: Sequence[str] | None = None
) -> Comparison:
    """Make the comparison of several results.

    Args:
        fits: Results of one design.
        failures: Engines without a result.
        order: Names of the backends in the order of the columns; results before failures, if left out.

    Raises:
        DataError: If the results belong to different designs.
        OptionError: If there are fewer than two results and failures, or an argument is not a result.
    """
    if len(fits) + len(failures) < 2:
        raise OptionError("A comparison needs at least two results: compare(fit_a, fit_b).")
    if any(not isinstance(f, FitResult) for f in fits):
        raise OptionError("compare takes FitResult objects, or a formula and data.")
    prints = {f.model.fingerprint for f in fits}
    if len(prints) > 1:
        designs = "\n".join(
            f"  {f.engine.backend}: {f.model.reading}, {f.model.family}({f.model.link}), {f.model.n_obs} rows, design "
            f"{f.model.fingerprint}"
            for f in fits
        )
        raise DataError(
            "These results were fitted to different designs (other rows, columns, coding, order or family), so their "
            f"numbers cannot be compared:\n{designs}\nFit them to the same data with the same formula, family and "
            "contrasts."
        )
    waiting = {f.engine.backend: [g for g in fits if g.engine.backend == f.engine.backend] for f in fits}
    by_method = {name: _labels_by_method(name, alike, failures) for name, alike in waiting.items()}
    lost = {f.backend: [g for g in failures if g.backend == f.backend] for f in failures}
    results: dict[str, FitResult] = {}
    failed: dict[str, Failure] = {}
    labels: list[str] = []
    for name in order or [*(f.engine.backend for f in fits), *(f.backend for f in failures)]:
        count = sum(label.split(" (")[0] == name for label in labels)
        label = name if count == 0 else f"{name} ({count + 1})"
        if by_method.get(name):
            label = by_method[name].pop(0)
        labels.append(label)
        if waiting.get(name):
            results[label] = waiting[name].pop(0)
        else:
            failed[label] = lost[name].pop(0)
    reference = list(results)[choose_reference(list(results.values()))] if results else None
    return Comparison(results, failed, tuple(labels), reference)
