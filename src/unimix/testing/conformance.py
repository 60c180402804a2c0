"""What every engine does with every kind of model: certified, flagged, refused, or wrong without a word.

Each model is fitted by each engine through its adapter, and each result is put before the same judge: the certificate,
which evaluates the likelihood itself. ``python -m unimix.testing --all`` makes the table. It is part of the installed
package because the author of a backend in another package holds it against the certificate by it before a release.
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
    "wrong": "not certified, although the result is called converged: only the certificate knows",
    "not checkable": "unimix has no criterion of its own for this model",
    "refused": "the adapter's sheet says no, with the reason",
    "failed": "the engine raised an error, or ran out of time",
}


@dataclass(frozen=True)
class Model:
    """Something to fit.

    Attributes:
        kind: feature, reference or random.
        name: Row of the table.
        formula: lme4's notation.
        data: Makes the data frame.
        arguments: Of :func:`unimix.fit`, beside formula, data and backend.
    """

    kind: str
    name: str
    formula: str
    data: Callable[[], Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Row of the table: random designs share one."""
        return "random designs" if self.kind == "random" else self.name


class Entry(BaseModel):
    """One engine's answer to one model.

    Attributes:
        engine: Name of the backend.
        kind: Of the model.
        model: Its name.
        row: Row of the table.
        formula: What was fitted.
        verdict: As :data:`VERDICTS` says.
        said: The certificate's sentence, the refusal's reason or the error.
        gap: Log-likelihood below the best known; NaN where there is none.
        seconds: Of the whole call.
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
    """All answers.

    Attributes:
        unimix: Version of the judge.
        versions: Versions of each engine's packages.
        entries: One per engine and model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    unimix: str
    versions: dict[str, dict[str, str]]
    entries: tuple[Entry, ...]

    @property
    def table(self) -> pd.DataFrame:
        """Rows: models; columns: engines; cells: verdicts, counted where a row has several models."""
        frame = pd.DataFrame([e.model_dump() for e in self.entries])
        order = list(dict.fromkeys(zip(frame["kind"], frame["row"], strict=True)))
        cells = frame.pivot_table(index=["kind", "row"], columns="engine", values="verdict", aggfunc=_counted)
        return cells.reindex(order)[list(dict.fromkeys(frame["engine"]))].fillna("-")

    @property
    def silent(self) -> tuple[Entry, ...]:
        """Wrong results that were called converged."""
        return tuple(e for e in self.entries if e.verdict == "wrong")


def _counted(verdicts: pd.Series[str]) -> str:
    if len(verdicts) == 1:
        return str(verdicts.iloc[0])
    return ", ".join(f"{n} {v}" for v, n in verdicts.value_counts().items())


def feature_models() -> Iterator[Model]:
    """One model per feature, on :func:`unimix.testing.simulate_rich`'s data."""
    for feature, (formula, arguments) in EXAMPLES.items():
        if arguments.get("priors"):
            continue  # a prior is no model of its own
        yield Model("feature", feature.value, formula, simulate_rich, arguments)


def reference_models() -> Iterator[Model]:
    """The bundled reference cases."""
    for case in reference_cases():
        data = functools.partial(um.load_dataset, case.dataset)
        yield Model("reference", case.id, case.formula, data, {"method": case.method})


def random_models(count: int, seed: int = 0) -> Iterator[Model]:
    """Linear models with one or two factors, of which a third has columns far from unit scale.

    Variances are drawn from large to none, so that many optima lie on the boundary.

    Args:
        count: How many.
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
    """Fit one model by one engine and put it before the certificate.

    Args:
        engine: A backend.
        model: What to fit.
        time_limit: Seconds per fit.
    """
    started = time.perf_counter()
    verdict: Verdict
    gap = float("nan")
    try:
        arguments: dict[str, Any] = {"seed": 1, "progress": False, "time_limit": time_limit, **model.arguments}
        if engine.info.samples and model.kind != "feature":
            arguments["method"] = "posterior"  # a reference's criterion is not what a sampler is asked for
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
    told: Callable[[Entry], None] | None = None,
) -> Conformance:
    """Put every model before every engine. Random designs are left to engines that maximise a likelihood.

    Args:
        engines: Names, or configured backends.
        models: What to fit.
        time_limit: Seconds per fit.
        told: Is given every answer as it comes.

    Raises:
        EngineNotInstalledError: If an engine is not there.
    """
    entries, versions = [], {}
    for engine in (resolve(e) for e in engines):
        for model in models:
            if model.kind == "random" and engine.info.samples:
                continue
            entries.append(judge(engine, model, time_limit=time_limit))
            if told is not None:
                told(entries[-1])
        versions[engine.info.name] = engine.versions()
    return Conformance(unimix=um.__version__, versions=versions, entries=tuple(entries))


def together(parts: Sequence[Conformance]) -> Conformance:
    """Tables of several engines as one."""
    versions = {name: v for part in parts for name, v in part.versions.items()}
    return Conformance(
        unimix=um.__version__, versions=versions, entries=tuple(e for part in parts for e in part.entries)
    )
