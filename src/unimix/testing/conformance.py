"""The conformance table: how every engine answers every kind of model.

Each model is fitted by each engine through its backend, and every result is checked by the certificate, which evaluates
the likelihood itself. ``python -m unimix.testing --all`` makes the table. It is part of the installed package, so that
authors of backends in other packages can check them before a release.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

import unimix as um
from unimix.backends.base import Backend
from unimix.backends.registry import resolve
from unimix.errors import EngineNotInstalledError, UnimixError, UnsupportedModelError
from unimix.testing.examples import EXAMPLES
from unimix.testing.references import reference_cases
from unimix.testing.simulated import simulate_rich

Verdict = Literal["certified", "flagged", "wrong", "not checkable", "refused", "failed"]
VERDICTS: dict[Verdict, str] = {
    "certified": "the certificate finds nothing wrong",
    "flagged": "not certified, and the result says itself that it did not converge",
    "wrong": "not certified, although the result is called converged: only the certificate shows it",
    "not checkable": "unimix has no criterion of its own for this model",
    "refused": "the capability sheet of the backend says no, with the reason",
    "failed": "the engine raised an error, or ran out of time",
}


@dataclass(frozen=True)
class Model:
    """A model of the conformance table.

    Attributes:
        kind: ``"feature"``, ``"reference"`` or ``"random"``.
        name: Name of the model.
        formula: The formula in lme4's language.
        data: Function that makes the data frame.
        arguments: Further arguments of :func:`unimix.fit`.
    """

    kind: str
    name: str
    formula: str
    data: Callable[[], Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Name of the row of the table. All random designs share one row."""
        return "random designs" if self.kind == "random" else self.name


class Entry(BaseModel):
    """The answer of one engine to one model.

    Attributes:
        engine: Name of the backend.
        kind: Kind of the model.
        model: Name of the model.
        row: Name of the row of the table.
        formula: The formula of the model.
        verdict: One of :data:`VERDICTS`.
        said: The sentence of the certificate, the reason of the refusal, or the error.
        gap: Difference from the best known log-likelihood; NaN if there is none.
        seconds: Duration of the whole call in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    engine: str
    kind: str
    model: str
    row: str
    formula: str
    verdict: Verdict
    said: str
    gap: float
    seconds: float


class Conformance(BaseModel):
    """The answers of all engines to all models.

    Attributes:
        unimix: Version of unimix, whose certificates judge the results.
        versions: Versions of packages by name of the package, by engine.
        entries: One answer per engine and model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    unimix: str
    versions: dict[str, dict[str, str]]
    entries: tuple[Entry, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per model, one column per engine; cells are verdicts, or counts of verdicts of several models."""
        frame = pd.DataFrame([e.model_dump() for e in self.entries])
        order = list(dict.fromkeys(zip(frame["kind"], frame["row"], strict=True)))
        cells = frame.pivot_table(index=["kind", "row"], columns="engine", values="verdict", aggfunc=_counted)
        return cells.reindex(order)[list(dict.fromkeys(frame["engine"]))].fillna("-")

    @property
    def silent(self) -> tuple[Entry, ...]:
        """Wrong results that the engine called converged."""
        return tuple(e for e in self.entries if e.verdict == "wrong")


def _counted(verdicts: pd.Series[str]) -> str:
    if len(verdicts) == 1:
        return str(verdicts.iloc[0])
    return ", ".join(f"{n} {v}" for v, n in verdicts.value_counts().items())


def feature_models() -> Iterator[Model]:
    """One model per feature, with the data of :func:`unimix.testing.simulate_rich`."""
    for feature, (formula, arguments) in EXAMPLES.items():
        if arguments.get("priors"):
            continue  # a prior does not change the model
        yield Model("feature", feature.value, formula, simulate_rich, arguments)


def reference_models() -> Iterator[Model]:
    """The bundled reference cases."""
    for case in reference_cases():
        data = functools.partial(um.load_dataset, case.dataset)
        yield Model("reference", case.id, case.formula, data, {"method": case.method})


def random_models(count: int, seed: int = 0) -> Iterator[Model]:
    """Random linear models with one or two grouping factors; a third of them have columns far from unit scale.

    Standard deviations are drawn between zero and large, so that many optima lie on the boundary.

    Args:
        count: Number of models.
        seed: Seed of NumPy's default generator.
    """
    shapes = ("y ~ x + (1 | g)", "y ~ x + (1 + x | g)", "y ~ x + z + (1 + x + z | g)", "y ~ x + (1 | g) + (1 | h)")
    for k in range(count):
        yield Model("random", f"random {seed}-{k}", shapes[k % 4], functools.partial(_random_frame, (seed, k)))


def _random_frame(seed: tuple[int, int]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    levels = int(rng.integers(5, 40))
    rows = levels * int(rng.integers(4, 13))
    g, h = rng.integers(0, levels, size=rows), rng.integers(0, max(levels // 2, 4), size=rows)
    x, z = rng.normal(size=(2, rows))
    sd = rng.choice([0.0, 0.05, 0.5, 2.0, 10.0], size=4)
    b = rng.normal(size=(3, levels)) * sd[:3, None]
    y = 1 + x + b[0, g] + b[1, g] * x + b[2, g] * z + sd[3] * rng.normal(size=h.max() + 1)[h] + rng.normal(size=rows)
    if rng.uniform() < 1 / 3:
        x, y = 10.0 ** rng.integers(-6, 7) * (x + 10.0 ** rng.integers(0, 4)), y * 10.0 ** rng.integers(-4, 5)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h]})


def judge(engine: Backend, model: Model, *, time_limit: float | None = 300.0) -> Entry:
    """Fit one model by one engine and check the result by the certificate.

    Args:
        engine: The engine with its options.
        model: The model to fit.
        time_limit: Time limit of the fit in seconds; None for no limit.
    """
    started = time.perf_counter()
    verdict: Verdict
    gap = float("nan")
    try:
        arguments: dict[str, Any] = {"seed": 1, "progress": False, "time_limit": time_limit, **model.arguments}
        if engine.info.samples and model.kind != "feature":
            arguments["method"] = "posterior"  # samplers do not take the criterion of a reference
        fit = um.fit(model.formula, model.data(), backend=engine, **arguments)
        certificate = fit.certificate()
        gap, said = float(certificate.gap), certificate.sentence
        if certificate.certified:
            verdict = "certified" if fit.converged else "flagged"
        elif certificate.verdict == "not checkable":
            verdict = "not checkable" if fit.converged else "flagged"
        else:
            verdict = "wrong" if fit.converged else "flagged"
        if verdict == "flagged":
            said = " ".join(fit.status.messages) or said
    except UnsupportedModelError as refusal:
        verdict, said = "refused", _reason(str(refusal))
    except EngineNotInstalledError:
        raise
    except UnimixError as error:
        verdict, said = "failed", str(error).split("\n")[0]
    return Entry(
        engine=engine.info.name,
        kind=model.kind,
        model=model.name,
        row=model.row,
        formula=model.formula,
        verdict=verdict,
        said=said,
        gap=gap,
        seconds=round(time.perf_counter() - started, 3),
    )


def _reason(refusal: str) -> str:
    reasons = [line.removeprefix("  - ") for line in refusal.split("\n") if line.startswith("  - ")]
    return " ".join(reasons) or refusal


def conform(
    engines: Sequence[str | Backend],
    models: Sequence[Model],
    *,
    time_limit: float | None = 300.0,
    report: Callable[[Entry], None] | None = None,
) -> Conformance:
    """Judge every engine on every model. Random designs are only fitted by engines that maximise a likelihood.

    Args:
        engines: Names of backends, or configured backends.
        models: The models to fit.
        time_limit: Time limit of each fit in seconds; None for no limit.
        report: Function that is called with each answer as soon as it is known.

    Raises:
        EngineNotInstalledError: If an engine is not installed.
    """
    entries, versions = [], {}
    for engine in (resolve(e) for e in engines):
        for model in models:
            if model.kind == "random" and engine.info.samples:
                continue
            entries.append(judge(engine, model, time_limit=time_limit))
            if report is not None:
                report(entries[-1])
        versions[engine.info.name] = engine.versions()
    return Conformance(unimix=um.__version__, versions=versions, entries=tuple(entries))


def renewed(stored: Conformance, fresh: Conformance, backends: Sequence[str]) -> Conformance:
    """Replace the answers of some engines in a table, or add them.

    Args:
        stored: The table.
        fresh: New answers of some engines.
        backends: Names of backends in the order of their columns; other engines follow.
    """
    versions = {**stored.versions, **fresh.versions}
    entries = [*(e for e in stored.entries if e.engine not in fresh.versions), *fresh.entries]
    order = {name: k for k, name in enumerate(dict.fromkeys([*backends, *versions]))}
    return Conformance(
        unimix=fresh.unimix,
        versions={name: versions[name] for name in sorted(versions, key=lambda n: order[n])},
        entries=tuple(sorted(entries, key=lambda e: order[e.engine])),
    )


def together(parts: Sequence[Conformance]) -> Conformance:
    """Join the tables of several engines to one."""
    versions = {name: v for part in parts for name, v in part.versions.items()}
    return Conformance(
        unimix=um.__version__, versions=versions, entries=tuple(e for part in parts for e in part.entries)
    )
