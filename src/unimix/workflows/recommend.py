"""The engine to use for a model and its data. The answer does not depend on which engines are installed."""

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
"""Number of levels of a grouping factor below which its variance is so uncertain that a posterior is better."""
POOR = 5.0
"""Number of binary or count rows per level below which Laplace's approximation deserves a check by quadrature."""
MANY = 1000
"""Number of effects of crossed factors above which sparse matrices are faster than unimix's dense ones."""


@dataclass(frozen=True, repr=False)
class Recommendation(Printed):
    """The answer of :func:`unimix.recommend`.

    Attributes:
        backend: Name of the recommended engine.
        why: Strengths of the engine, in words.
        check: Name of an engine by other authors that can also fit the model, for :func:`unimix.compare`; empty if
            there is none.
        posterior: Name of the engine that gives a posterior of the model; empty if there is none.
        able: Names of all engines that can fit the model, best first.
        install: The line that installs ``backend``; empty if it is installed.
        notes: Advice on these data, such as grouping factors with few levels.
        call: The call of ``um.fit`` to type.

    Example:
        >>> import unimix as um
        >>> um.recommend("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), method="posterior").call
        "um.fit('Reaction ~ Days + (Days | Subject)', data, backend='bayes', method='posterior')"
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
    """Recommend an engine for a model, from its features and the size of the data.

    The answer is the same on every machine. If the engine is not installed, the answer holds the line that installs it.
    Engines of third parties are treated like unimix's own: by what they can fit, and by the rank in their
    :class:`unimix.backends.BackendInfo`.

    Args:
        formula: The model in lme4's language, as in :func:`unimix.fit`.
        data: A table or a dict of arrays, as in :func:`unimix.fit`.
        arguments: Arguments of :func:`unimix.fit` that determine the model, its criterion and its limits.
            ``method="posterior"`` and ``priors`` ask for a sampler.

    Returns:
        The recommendation; print it, or look at ``.backend`` and ``.call``.

    Raises:
        FormulaError: If the formula cannot be read.
        DataError: If the data do not allow the model.
        OptionError: If arguments are wrong; the message lists every fault.
        UnsupportedModelError: If no engine can fit the model.

    Example:
        >>> import unimix as um
        >>> um.recommend("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy")).backend
        'pls'
    """
    fit_arguments = FitArguments.read(recommend, formula, data, arguments)
    problem = fit_arguments.problem(formula, data).mixed
    crossed = n_dense_effects(problem.design) > MANY
    able = {e.info.name: e for e in _by_rank(registry.others().values(), crossed=crossed) if _can(e, problem)}
    sampled = fit_arguments.method == "posterior" or bool(fit_arguments.priors)
    suitable = [n for n, engine in able.items() if engine.info.samples == sampled] or list(able)
    if not suitable:
        raise UnsupportedModelError(f"No engine can fit {problem.design.spec.text()}; unimix.explain() says why not.")
    best = able[suitable[0]]
    name = best.info.name
    check = next((n for n in suitable if able[n].info.engine != best.info.engine), "")
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
    """Engines, best first: likelihood engines before samplers, and those for large crossed factors first if needed."""

    def place(engine: Backend) -> tuple[bool, bool, int, str]:
        info = engine.info
        return engine.info.samples, crossed and not info.quick_when_crossed, info.rank, info.name

    return sorted(engines, key=place)


def _can(engine: Backend, problem: FitProblem) -> bool:
    requested, adapted = problem.arguments, problem.arguments.adapted(engine)
    if (requested.priors and adapted.priors is None) or requested.df_method != adapted.df_method:
        return False
    if requested.method == "posterior" and not engine.info.samples:
        return False
    request = engine.adapted(problem.adapted(engine).request(engine), problem.design)
    approximate = METHOD_FEATURES[request.method] is Feature.APPROXIMATE_POSTERIOR and requested.method is None
    return not approximate and not engine.refusals(problem.design, request)


def _written(arguments: Mapping[str, Any]) -> str:
    """Arguments as the user types them: texts and numbers as they are, anything else as ``name=name``."""
    plain = FitArguments()
    given = {
        k: v for k, v in arguments.items() if v is not None and not (isinstance(v, str) and v == getattr(plain, k))
    }
    return "".join(f", {k}={v!r}" if isinstance(v, str | int | float) else f", {k}={k}" for k, v in given.items())


def _notes(problem: FitProblem, posterior: str, able: Mapping[str, Backend]) -> list[str]:
    design, requested = problem.design, problem.arguments
    notes = []
    few = sorted({f"{b.group} ({b.n_levels})" for b in design.blocks if b.n_levels < FEW and not b.is_smooth})
    if few:
        warning = f"Few levels: {', '.join(few)}. Their variances are very uncertain"
        way = f"; backend={posterior!r} shows how uncertain" if posterior else ""
        linear = design.family.is_linear and requested.method != "posterior" and not requested.priors
        kr = "; df_method='kenward-roger' for tests of fixed effects" if linear else ""
        notes.append(f"{warning}{way}{kr}.")
    discrete = design.family.response in ("binomial", "count") and design.blocks
    scalar = len(design.blocks) == 1 and design.blocks[0].q == 1
    if discrete and scalar and any(_can_quadrature(engine, problem) for engine in able.values()):
        block = design.blocks[0]
        each = (float(design.trials.sum()) if design.trials is not None else float(design.n)) / block.n_levels
        if each < POOR and requested.method in (None, "Laplace"):
            notes.append(
                f"{each:.1f} observations per level of {block.group}: Laplace's approximation may be poor. "
                "Compare with method='AGQ'."
            )
    return notes


def _can_quadrature(engine: Backend, problem: FitProblem) -> bool:
    request = replace(problem.adapted(engine).request(engine), method="AGQ")
    return not engine.refusals(problem.design, request)


__all__ = ["Recommendation", "recommend"]
