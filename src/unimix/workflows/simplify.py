"""Stepwise simplification of the random part of a model, with every step on the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.estimation.arguments import FitArguments, SharedOptions, takes_arguments_of
from unimix.estimation.run import fit_problem
from unimix.fitted.schema import RandomPartResult
from unimix.fitted.table_result import TableResult
from unimix.formula.smaller_random import Removal, VaryingEffects, formula_with, removals, varying_effects
from unimix.result import FitResult
from unimix.workflows.model_tests.nesting import likelihood_ratio, same_response

RULES = ("LRT", "boundary")


@dataclass(frozen=True, repr=False, eq=False)
class Simplification(TableResult):
    """The answer of :func:`simplify`.

    Attributes:
        table: One row per model, from the first to the last: columns removed, reason, n_parameters, log_likelihood,
            aic, chisq, df, p_value (against the row before), state, se_change (largest change of a fixed effect's
            standard error against the first model, as a ratio minus 1), se_term (the fixed effect it belongs to),
            formula.
        fits: The model of each row.
        tried: Number of models that were fitted.
        notes: What the steps mean for the tests of the fixed effects.
    """

    table: pd.DataFrame
    fits: tuple[FitResult, ...]
    tried: int
    notes: tuple[str, ...]

    @property
    def fit(self) -> FitResult:
        """The last model."""
        return self.fits[-1]

    @property
    def formula(self) -> str:
        """Formula of the last model."""
        return self.fit.formula

    @property
    def _heading(self) -> str:
        steps = len(self.fits) - 1
        return f"Random part in {steps} step{'' if steps == 1 else 's'} ({self.tried} models fitted)"

    def _shown(self) -> pd.DataFrame:
        return self.table.drop(columns=["formula", "log_likelihood", "reason"])

    def _below(self) -> Sequence[str]:
        reasons = [f"Step {k}: {reason}" for k, reason in enumerate(self.table["reason"]) if k]
        return (*reasons, *self.notes, f"Last model: {self.formula}")


@dataclass
class _Search:
    """The models of one simplification."""

    engine_fit: Callable[[str], FitResult]
    first: FitResult
    alpha: float
    keep: tuple[str, ...]
    tried: int = 1

    def refit(self, removal: Removal) -> FitResult:
        self.tried += 1
        smaller = self.engine_fit(formula_with(self.first.spec, removal.terms))
        same_response([self.first, smaller], families=False)
        return smaller

    def allowed(self, terms: tuple[VaryingEffects, ...]) -> list[Removal]:
        return [r for r in removals(terms) if r.effect is None or _plain(r.effect) not in map(_plain, self.keep)]

    def by_test(self, now: FitResult, terms: tuple[VaryingEffects, ...]) -> tuple[Removal, FitResult, str] | None:
        """The step with the largest p value, if that exceeds alpha."""
        best: tuple[float, Removal, FitResult] | None = None
        for removal in self.allowed(terms):
            smaller = self.refit(removal)
            p = likelihood_ratio(now, smaller, [])["p_value"]
            if best is None or p > best[0]:
                best = p, removal, smaller
        if best is None or best[0] <= self.alpha:
            return None
        p, removal, smaller = best
        return removal, smaller, f"likelihood-ratio test p = {p:.3g}, above {self.alpha:g}, the largest of all steps."

    def off_boundary(self, now: FitResult, terms: tuple[VaryingEffects, ...]) -> tuple[Removal, FitResult, str] | None:
        """A step away from a singular fit, or from one that did not converge: correlations before effects."""
        state = {"singular": "singular", "not_identified": "not identified"}.get(now.status.state, "not converged")
        choices = self.allowed(terms)
        correlated = [r for r in choices if r.effect is None]
        if now.status.state == "singular":
            correlated = [r for r in correlated if _is_singular(now, terms[r.position])]
        if correlated:
            removal = correlated[0]
            return removal, self.refit(removal), f"the fit is {state}; correlations go before effects."
        effects = [(size, r) for r in choices if r.effect is not None for size in [_size(now, terms[r.position], r)]]
        if not effects:
            return None
        size, removal = min(effects, key=lambda pair: pair[0])
        which = "its SD is the smallest of the effects that no other effect contains"
        how = f" ({size:.3g} in units of the response)" if np.isfinite(size) else ""
        return removal, self.refit(removal), f"the fit is {state}; {which}{how}."


def _plain(effect: str) -> str:
    """The name of an effect without the backticks of its columns."""
    return effect.replace("`", "")


def _blocks(now: FitResult, term: VaryingEffects) -> list[RandomPartResult]:
    return [b for b in now.random if b.group == term.group]


def _is_singular(now: FitResult, term: VaryingEffects) -> bool:
    """Whether a covariance matrix of the term's grouping factor is singular, in units of its columns."""
    for block in _blocks(now, term):
        unit = np.asarray(block.unit)
        values = np.linalg.eigvalsh(np.asarray(block.covariance) * np.outer(unit, unit))
        if values[0] <= 1e-8 * max(values[-1], 1e-300) or values[0] <= 1e-8 * now.sigma**2:
            return True
    return False


def _size(now: FitResult, term: VaryingEffects, removal: Removal) -> float:
    """Largest SD of the columns of an effect, in units of the response."""
    parts = {part.strip("`") for part in (removal.effect or "").split(":")}
    sizes = [
        float(sd * unit)
        for block in _blocks(now, term)
        for name, sd, unit in zip(block.terms, block.sd, block.unit, strict=True)
        if len(pieces := name.split(":")) == len(parts)
        and all(any(_is_column_of(piece, part) for part in parts) for piece in pieces)
    ]
    return max(sizes, default=float("inf"))


def _is_column_of(name: str, part: str) -> bool:
    """Whether a column's name, such as ``f[T.b]`` or ``poly(x, 2)1``, belongs to a column or call of the formula."""
    rest = name.removeprefix(part)
    return name.startswith(part) and (not rest or rest[0] == "[" or rest.isdigit())


@takes_arguments_of(fit, SharedOptions)
def simplify(
    formula: str,
    data: Any,
    backend: BackendLike = DEFAULT_BACKEND,
    *,
    rule: Literal["LRT", "boundary"] = "LRT",
    alpha: float = 0.2,
    keep: Sequence[str] = (),
    **arguments: Unpack[SharedOptions],
) -> Simplification:
    """Simplify the random part of a model step by step, and show every step with its reason and its cost.

    Nothing is simplified without being asked for: ``um.fit`` fits what its formula says. This function starts from the
    formula given, usually the maximal one, and takes correlations or effects out of its random terms. An effect stays
    while another one contains it (``a`` while ``a:b`` varies), and intercepts always stay, because rows of one level
    depend on each other by design.

    - ``rule="LRT"``: the step whose likelihood-ratio test has the largest p value is taken while that exceeds ``alpha``
      (Matuschek, Kliegl, Vasishth, Baayen & Bates 2017, J. Mem. Lang. 94:305-315, who recommend 0.2). It gains power if
      the variance that is left out is small.
    - ``rule="boundary"``: steps are taken only while the fit is singular or has not converged: first correlations, then
      the effect with the smallest SD (Barr, Levy, Scheepers & Tily 2013, J. Mem. Lang. 68:255-278, whose advice is to
      keep the random part as large as the design justifies and the data allow).

    Choosing by the data makes p values of the final model a little too small, and a fixed effect whose own slope was
    left out is tested as if it did not vary: the notes name these effects. ``keep`` holds the slopes of the effects
    under study.

    Args:
        formula: The model in lme4's language.
        data: A table or a dict of arrays, as in :func:`unimix.fit`.
        backend: An engine that maximises a likelihood.
        rule: LRT or boundary.
        alpha: Level above which a p value allows a step, with ``rule="LRT"``.
        keep: Names of effects that are never left out, such as ``"condition"``.
        arguments: Arguments of :func:`unimix.fit`, except ``options`` (give a configured backend) and ``restart``.

    Returns:
        ``.table`` with one row per step; ``.fit``, the last model; ``.formula``, its formula; ``.fits``, all of them.

    Raises:
        OptionError: If arguments are wrong, all faults at once; or if the engine samples.
        DataError: If the model has no random effects, or a smaller model would have other rows.
        UnsupportedModelError: If a random term has a structured covariance matrix.

    Example:
        >>> import unimix as um
        >>> found = um.simplify("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> found.table[["removed", "chisq", "p_value"]].round(2)
                             removed  chisq  p_value
        step
        0                                NaN      NaN
        1     correlations | Subject   0.04     0.84
        >>> found.formula
        'Reaction ~ 1 + Days + (1 + Days || Subject)'
    """
    engines, errors = registry.resolve_all(backend)
    faults = _faults(rule, alpha, keep)
    if engines and engines[0].info.samples:
        faults.append(
            f"backend={engines[0].info.name!r} samples a posterior, which has no likelihood-ratio test. Its priors "
            "keep variances from zero, so that the random part needs no simplification."
        )
    read = FitArguments.read(simplify, formula, data, arguments, faults=faults, errors=errors)
    engine = engines[0]

    def engine_fit(text: str) -> FitResult:
        return fit_problem(engine, read.problem(text, data).adapted(engine))

    first = engine_fit(formula)
    if not first.random:
        raise DataError(f"{first.model.reading} has no random effects to simplify.")
    if any(term.structure != "us" for term in first.spec.random):
        raise UnsupportedModelError(
            "simplify takes unstructured covariances only: compare structures by um.compare_ic."
        )
    terms = varying_effects(first.spec)
    known = sorted({":".join(p) for t in terms for p in t.products})
    unknown = [k for k in keep if _plain(k) not in map(_plain, known)]
    if unknown:
        raise OptionError(f"keep= names {listing(unknown)}, but the effects that vary are {listing(known) or 'none'}.")
    search = _Search(engine_fit, first, alpha, tuple(keep))
    fits, rows = [first], [_row(first, None, first, "", "")]
    while True:
        now = fits[-1]
        proper = now.status.state == "converged"
        step = search.off_boundary(now, terms) if not proper and (rule == "boundary" or not now.converged) else None
        if step is None and rule == "LRT" and now.converged:
            step = search.by_test(now, terms)
        if step is None:
            break
        removal, smaller, why = step
        what = "correlations" if removal.effect is None else removal.effect
        removed = f"{what} | {terms[removal.position].group}"
        rows.append(_row(smaller, now, first, removed, f"{removed} left out, because {why}"))
        fits.append(smaller)
        terms = removal.terms
    table = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="step"))
    return Simplification(table, tuple(fits), search.tried, tuple(_notes(fits, rule)))


def _faults(rule: object, alpha: object, keep: object) -> list[str]:
    faults = []
    if rule not in RULES:
        faults.append(f"rule={rule!r}: choose 'LRT' or 'boundary'.{did_you_mean(str(rule), RULES)}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        faults.append(f"alpha={alpha!r}: give a level between 0 and 1, such as 0.2.")
    if isinstance(keep, str) or not isinstance(keep, Sequence) or not all(isinstance(k, str) for k in keep):
        faults.append(f"keep={keep!r}: give a list of names, such as keep=['condition'].")
    return faults


def _row(now: FitResult, before: FitResult | None, first: FitResult, removed: str, reason: str) -> dict[str, Any]:
    test = {"chisq": np.nan, "df": np.nan, "p_value": np.nan} if before is None else likelihood_ratio(before, now, [])
    ratio = np.asarray(now.fixed.std_error) / np.asarray(first.fixed.std_error) - 1
    largest = int(np.nanargmax(np.abs(ratio))) if len(ratio) and np.isfinite(ratio).any() else None
    values: dict[str, Any] = {
        "removed": removed,
        "reason": reason,
        "n_parameters": now.criteria.n_parameters,
        "log_likelihood": now.log_likelihood,
        "aic": now.aic,
        **test,
        "state": now.status.state,
        "se_change": np.nan if largest is None else float(ratio[largest]),
        "se_term": "" if largest is None else now.fixed.terms[largest],
        "formula": now.formula,
    }
    return values


def _notes(fits: Sequence[FitResult], rule: str) -> list[str]:
    first, last = fits[0], fits[-1]
    notes = []
    fixed = set(first.fixed.terms)
    before = {(b.group, t) for b in first.random for t in b.terms if t in fixed}
    after = {(b.group, t) for b in last.random for t in b.terms}
    lost = [f"{t} among {g}" for g, t in sorted(before - after)]
    if lost:
        notes.append(
            f"Slopes left out: {listing(lost)}. Tests of these fixed effects are right only if the slopes do not vary; "
            "if they do, p values are too small (Barr and others 2013). keep= holds slopes in the model."
        )
    if len(fits) > 1 and rule == "LRT":
        notes.append("The random part was chosen by these data, which makes p values of the last model a little small.")
    if not last.converged:
        notes.append(f"The last model is still {last.status.state}: see its fit.status.messages.")
    elif last.singular:
        why = "no further step is allowed" if rule == "boundary" else "no step has a p value above alpha"
        notes.append(
            f"The last model is still singular ({why}). A variance of zero changes no estimate; see 'My model is "
            "singular'."
        )
    return notes


__all__ = ["Simplification", "simplify"]
