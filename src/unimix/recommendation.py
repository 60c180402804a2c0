"""Which engine for this model and these data, and why; the answer does not depend on what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.calls import Call, make_request, prepare, suited
from unimix.errors import UnsupportedModelError, to_type
from unimix.foreign import refuse_swapped
from unimix.model.features import METHOD_FEATURES, Feature
from unimix.numerics.products import n_dense_effects

if TYPE_CHECKING:
    from unimix.model.design import ColumnOrArray
    from unimix.model.family import FamilyLike

FEW = 10
"""Levels of a grouping factor below which its variance is known so badly that a posterior says more."""
POOR = 5.0
"""Binary or count rows per level below which Laplace's approximation is worth a check by quadrature."""

ORDER = ("pls", "mixedlm", "lme4", "glmmtmb", "statsmodels", "pymer4", "mixedlm_rs")
"""Engines of likelihoods, best first: what they can fit, certify and need, then their time (docs/conformance.md)."""
LARGE = ("mixedlm", "lme4", "pls", "glmmtmb", "statsmodels", "pymer4")
"""The same where crossed factors tie many effects together: sparse factors are quicker than unimix's dense ones."""
MANY = 1000
POSTERIORS = ("bayes", "pymc", "bambi")
WHY = {
    "pls": "pip only, fits most models, exact derivatives, and among the quickest",
    "mixedlm": "pip only, and the quickest with large crossed factors",
    "lme4": "the field's standard; large crossed factors; needs R",
    "glmmtmb": "zero inflation, dispersion, cs and ar1; needs R",
    "statsmodels": "pip only, with a likelihood that is nobody else's",
    "pymer4": "lme4 by another road; needs R",
    "mixedlm_rs": "pip only, the quickest with one grouping factor",
    "bayes": "pip only, an exact posterior in tenths of a second",
    "pymc": "every family, compiled and sampled",
    "bambi": "bambi's own priors, independent effects only",
}


@dataclass(frozen=True)
class Recommendation:
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

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.why}.", f"    {self.call}"]
        lines += [f"Install it first. {to_type(self.install)}"] if self.install else []
        lines += [f"Check it against {self.check}, an engine of other authors."] if self.check else []
        lines += [f"For a posterior: backend={self.posterior!r}."] if self.posterior not in ("", self.backend) else []
        lines += list(self.notes)
        return "\n".join([*lines, f"Engines that can fit it: {', '.join(self.able)}."])


def recommend(
    formula: str,
    data: Any,
    *,
    family: FamilyLike = "gaussian",
    method: str | None = None,
    weights: ColumnOrArray = None,
    offset: ColumnOrArray = None,
    contrasts: Mapping[str, object] | None = None,
    ziformula: str | None = None,
    dispformula: str | None = None,
    priors: Mapping[str, Any] | None = None,
) -> Recommendation:
    """Say which engine to take for a model, from what it asks for and the sizes of the data.

    The answer is the same on every machine; where the engine is not installed, it says what to type.

    Args:
        formula: As for :func:`unimix.fit`.
        data: As for :func:`unimix.fit`.
        family: As for :func:`unimix.fit`.
        method: As for :func:`unimix.fit`; ``"posterior"`` asks for a sampler.
        weights: As for :func:`unimix.fit`.
        offset: As for :func:`unimix.fit`.
        contrasts: As for :func:`unimix.fit`.
        ziformula: As for :func:`unimix.fit`.
        dispformula: As for :func:`unimix.fit`.
        priors: As for :func:`unimix.fit`; they ask for a sampler.

    Raises:
        FormulaError, DataError, OptionError: As for :func:`unimix.fit`.
        UnsupportedModelError: If no engine can fit it.
    """
    refuse_swapped("unimix.recommend", formula, data)
    asked = {
        "family": None if family == "gaussian" else family,
        "method": method,
        "weights": weights,
        "offset": offset,
        "contrasts": contrasts,
        "ziformula": ziformula,
        "dispformula": dispformula,
        "priors": priors,
    }
    more = (weights, offset, contrasts, ziformula, dispformula, "satterthwaite", 0.95, "drop", priors)
    call = prepare(formula, data, family, method, *more, None, None, None, None)
    sampled = method == "posterior" or bool(priors)
    engines = registry.others()
    order = LARGE if n_dense_effects(call.design) > MANY else ORDER
    able = [n for n in (*order, *POSTERIORS) if n in engines and _can(engines[n], call)]
    wanted = [n for n in able if (n in POSTERIORS) == sampled] or able
    if not wanted:
        raise UnsupportedModelError(f"No engine can fit {call.design.spec.text()}; unimix.explain() says why not.")
    best = wanted[0]
    kin = engines[best].info.engine
    check = next((n for n in wanted if engines[n].info.engine != kin), "")
    posterior = next((n for n in able if n in POSTERIORS), "")
    return Recommendation(
        backend=best,
        why=WHY[best],
        check=check,
        posterior=posterior,
        able=(best, *(n for n in able if n != best)),
        install="" if engines[best].available() else engines[best].install_lines(),
        notes=tuple(_notes(call, "" if sampled else posterior, able)),
        call=f"um.fit({formula!r}, data, backend={best!r}{_written(asked)})",
    )


def _can(engine: Backend, call: Call) -> bool:
    own = suited(call, engine, call.priors)
    if call.priors and own.priors is None:
        return False
    if call.method == "posterior" and engine.info.default_method != "posterior":
        return False
    request = engine.adapted(make_request(engine, own), call.design)
    approximate = METHOD_FEATURES[request.method] is Feature.APPROXIMATE_POSTERIOR and call.method is None
    return not approximate and not engine.refusals(call.design, request)


def _written(asked: Mapping[str, Any]) -> str:
    """Arguments as they are typed: texts as they are, everything else by the name of the argument."""
    given = {k: v for k, v in asked.items() if v is not None}
    return "".join(f", {k}={v!r}" if isinstance(v, str) else f", {k}={k}" for k, v in given.items())


def _notes(call: Call, posterior: str, able: list[str]) -> list[str]:
    design = call.design
    notes = []
    few = sorted({f"{b.group} ({b.n_levels})" for b in design.blocks if b.n_levels < FEW})
    if few:
        told = f"Few levels: {', '.join(few)}. Their variances are hardly known"
        way = f"; backend={posterior!r} shows how little" if posterior else ""
        linear = design.family.is_linear and call.method != "posterior" and not call.priors
        kr = "; df_method='kenward-roger' for tests of fixed effects" if linear else ""
        notes.append(f"{told}{way}{kr}.")
    discrete = design.family.response in ("binomial", "count") and design.blocks
    scalar = len(design.blocks) == 1 and design.blocks[0].q == 1
    if discrete and scalar and "pls" in able:
        block = design.blocks[0]
        each = (float(design.trials.sum()) if design.trials is not None else float(design.n)) / block.n_levels
        if each < POOR and call.method in (None, "Laplace"):
            notes.append(
                f"{each:.1f} observations per level of {block.group}: Laplace's approximation may be poor. "
                "Compare with method='AGQ'."
            )
    return notes


__all__ = ["Recommendation", "recommend"]
