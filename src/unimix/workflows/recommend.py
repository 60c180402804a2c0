"""Which engine for this model and these data, and why; the answer does not depend on what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.design.features import METHOD_FEATURES, Feature
from unimix.display import Block, Code, Printed
from unimix.errors import UnsupportedModelError, to_type
from unimix.estimation.arguments import FitArguments, FitProblem, ModelOptions, takes_arguments_of
from unimix.likelihood.lmm.reduced_data import n_dense_effects

FEW = 10
"""Levels of a grouping factor below which its variance is known so badly that a posterior says more."""
POOR = 5.0
"""Binary or count rows per level below which Laplace's approximation is worth a check by quadrature."""
MANY = 1000
"""Effects tied together by crossed factors from which sparse factors are quicker than unimix's dense ones."""


@dataclass(frozen=True, repr=False)
class Recommendation(Printed):
    """What :func:`unimix.recommend` says.

    Attributes:
        backend: The engine.
        why: In words.
        check: An engine of other authors that can fit it too, for :func:`unimix.compare`; empty if there is none.
        posterior: The engine for a posterior of the model; empty if there is none.
        able: Every engine that can fit it, best first.
        install: The line to type for ``backend``; empty where it is installed.
        notes: What else these data ask for.
        call: The line to type.
    """

    backend: str
    why: str
    check: str
    posterior: str
    able: tuple[str, ...]
    install: str
    notes: tuple[str, ...]
    call: str

    def _view(self) -> Iterable[Block]:
        lines: list[Block] = [f"{self.backend}: {self.why}.", Code(self.call, indent=4)]
        lines += [f"Install it first. {to_type(self.install)}"] if self.install else []
        lines += [f"Check it against {self.check}, an engine of other authors."] if self.check else []
        lines += [f"For a posterior: backend={self.posterior!r}."] if self.posterior not in ("", self.backend) else []
        lines += list(self.notes)
        return [*lines, f"Engines that can fit it: {', '.join(self.able)}."]


@takes_arguments_of(fit, ModelOptions)
def recommend(formula: str, data: Any, **arguments: Unpack[ModelOptions]) -> Recommendation:
    """Say which engine to take for a model, from what it asks for and the sizes of the data.

    The answer is the same on every machine; where the engine is not installed, it says what to type. Engines of third
    parties are weighed like unimix's own: by what they can fit and by the rank in their
    :class:`unimix.backends.BackendInfo`.

    Args:
        formula: As for :func:`unimix.fit`.
        data: As for :func:`unimix.fit`.
        arguments: Arguments of :func:`unimix.fit` that say which model is fitted and what it may cost.
            ``method="posterior"`` and ``priors`` ask for a sampler.

    Raises:
        FormulaError, DataError, OptionError: As for :func:`unimix.fit`.
        UnsupportedModelError: If no engine can fit it.
    """
    asked = FitArguments.read(recommend, formula, data, arguments)
    problem = asked.problem(formula, data)
    crossed = n_dense_effects(problem.design) > MANY
    able = {e.info.name: e for e in _by_rank(registry.others().values(), crossed=crossed) if _can(e, problem)}
    sampled = asked.method == "posterior" or bool(asked.priors)
    wanted = [n for n, engine in able.items() if engine.info.samples == sampled] or list(able)
    if not wanted:
        raise UnsupportedModelError(f"No engine can fit {problem.design.spec.text()}; unimix.explain() says why not.")
    best = able[wanted[0]]
    name = best.info.name
    check = next((n for n in wanted if able[n].info.engine != best.info.engine), "")
    posterior = next((n for n, engine in able.items() if engine.info.samples), "")
    return Recommendation(
        backend=name,
        why=best.info.strengths or best.info.title,
        check=check,
        posterior=posterior,
        able=(name, *(n for n in able if n != name)),
        install="" if best.available() else best.install_lines(),
        notes=tuple(_notes(problem, "" if sampled else posterior, able)),
        call=f"um.fit({formula!r}, data, backend={name!r}{_written(arguments)})",
    )


def _by_rank(engines: Iterable[Backend], *, crossed: bool) -> list[Backend]:
    """Engines, best first: those of likelihoods before samplers, and for large crossed factors those made for them."""

    def place(engine: Backend) -> tuple[bool, bool, int, str]:
        info = engine.info
        return engine.info.samples, crossed and not info.quick_when_crossed, info.rank, info.name

    return sorted(engines, key=place)


def _can(engine: Backend, problem: FitProblem) -> bool:
    asked, own = problem.arguments, problem.arguments.adapted(engine)
    if (asked.priors and own.priors is None) or asked.df_method != own.df_method:
        return False
    if asked.method == "posterior" and not engine.info.samples:
        return False
    request = engine.adapted(problem.adapted(engine).request(engine), problem.design)
    approximate = METHOD_FEATURES[request.method] is Feature.APPROXIMATE_POSTERIOR and asked.method is None
    return not approximate and not engine.refusals(problem.design, request)


def _written(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are typed: texts and numbers as they are, everything else by the name of the argument."""
    plain = FitArguments()
    given = {
        k: v for k, v in arguments.items() if v is not None and not (isinstance(v, str) and v == getattr(plain, k))
    }
    return "".join(f", {k}={v!r}" if isinstance(v, str | int | float) else f", {k}={k}" for k, v in given.items())


def _notes(problem: FitProblem, posterior: str, able: Mapping[str, Backend]) -> list[str]:
    design, asked = problem.design, problem.arguments
    notes = []
    few = sorted({f"{b.group} ({b.n_levels})" for b in design.blocks if b.n_levels < FEW})
    if few:
        told = f"Few levels: {', '.join(few)}. Their variances are hardly known"
        way = f"; backend={posterior!r} shows how little" if posterior else ""
        linear = design.family.is_linear and asked.method != "posterior" and not asked.priors
        kr = "; df_method='kenward-roger' for tests of fixed effects" if linear else ""
        notes.append(f"{told}{way}{kr}.")
    discrete = design.family.response in ("binomial", "count") and design.blocks
    scalar = len(design.blocks) == 1 and design.blocks[0].q == 1
    if discrete and scalar and any(_can_quadrature(engine, problem) for engine in able.values()):
        block = design.blocks[0]
        each = (float(design.trials.sum()) if design.trials is not None else float(design.n)) / block.n_levels
        if each < POOR and asked.method in (None, "Laplace"):
            notes.append(
                f"{each:.1f} observations per level of {block.group}: Laplace's approximation may be poor. "
                "Compare with method='AGQ'."
            )
    return notes


def _can_quadrature(engine: Backend, problem: FitProblem) -> bool:
    request = replace(problem.adapted(engine).request(engine), method="AGQ")
    return not engine.refusals(problem.design, request)


__all__ = ["Recommendation", "recommend"]
