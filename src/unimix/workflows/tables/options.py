"""The arguments of ``table`` and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.result import FitResult

SECTIONS = {
    "fixed": "Fixed effects",
    "zero_inflation": "Zero inflation",
    "dispersion": "Dispersion",
    "thresholds": "Thresholds",
    "random": "Random part",
    "fit": "Fit",
}
STARS = (0.05, 0.01, 0.001)
RATIOS = ("log", "logit", "cloglog")


@dataclass(frozen=True)
class Options:
    """Checked arguments of :func:`unimix.table`.

    Attributes:
        layout: Position of errors, intervals and p values: below the estimates or beside them.
        errors: Whether standard errors are shown.
        intervals: Whether intervals are shown.
        stars: Thresholds of p values in decreasing order; empty for no stars.
        p_values: Whether p values are shown.
        exponentiate: Whether coefficients are shown as ratios.
        digits: Number of decimals.
        labels: Labels of terms and grouping factors, by their names.
        hidden: Names of coefficients that are not shown.
        sections: Keys of the :data:`SECTIONS` that are shown.
    """

    layout: Any
    errors: bool
    intervals: bool
    stars: tuple[float, ...]
    p_values: bool
    exponentiate: bool
    digits: int
    labels: dict[str, str]
    hidden: frozenset[str]
    sections: tuple[str, ...]


def checked_fits(fits: Any) -> tuple[list[FitResult], list[str] | None]:
    """The results, and their names if they were given as a dict."""
    names = None
    if isinstance(fits, FitResult):
        fits = [fits]
    elif isinstance(fits, Mapping):
        names, fits = [str(k) for k in fits], list(fits.values())
    wrong = not isinstance(fits, Sequence) or isinstance(fits, str)
    if wrong or not fits or not all(isinstance(f, FitResult) for f in fits):
        raise OptionError(
            "um.table takes results of um.fit: um.table([fit_a, fit_b]), a dict of them by name, or "
            "um.table(comparison.results)."
        )
    return list(fits), names


def checked_options(
    fits: Sequence[FitResult],
    *,
    layout: Any,
    show: Any,
    stars: Any,
    p_values: Any,
    exponentiate: Any,
    digits: Any,
    coef_names: Any,
    keep: Any,
    drop: Any,
    sections: Any,
) -> Options:
    """Check all arguments.

    Raises:
        OptionError: If arguments are wrong, all faults at once.
    """
    faults = []
    for name, value, choices in (("layout", layout, ("below", "beside")), ("show", show, ("se", "ci", "both"))):
        if value not in choices:
            faults.append(f"{name}={value!r}: choose {listing(map(repr, choices))}.{did_you_mean(str(value), choices)}")
    for name, value in (("p_values", p_values), ("exponentiate", exponentiate)):
        if not isinstance(value, bool):
            faults.append(f"{name}={value!r}: choose True or False.")
    if isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= 8:
        faults.append(f"digits={digits!r}: give a whole number from 0 to 8.")
    thresholds = STARS if stars is True else () if stars is False else _thresholds(stars)
    if thresholds is None:
        faults.append(
            f"stars={stars!r}: give True (p < .05, .01, .001), False, or up to three thresholds, (0.1, 0.05, 0.01)."
        )
    terms = dict.fromkeys(t for f in fits for part in (f.fixed, *f.parts.values()) for t in part.terms)
    others = dict.fromkeys(n for f in fits for b in f.random for n in (b.group, *b.terms))
    hidden = _hidden(keep, drop, terms, faults)
    labels = _labels(coef_names, {**terms, **others}, faults)
    chosen = _sections(sections, faults)
    if exponentiate is True:
        lost = [
            f"{f.model.formula} has the {f.model.link} link"
            for f in fits
            if f.model.link not in RATIOS or (f.model.threshold is not None and f.model.link != "logit")
        ]
        if lost:
            faults.append(
                f"exponentiate=True has no meaning if exp of a coefficient is not a ratio: "
                f"{listing(dict.fromkeys(lost))}; it takes models with a {listing(RATIOS)} link."
            )
    if faults:
        raise OptionError("\n".join(faults))
    return Options(
        layout=layout,
        errors=show in ("se", "both"),
        intervals=show in ("ci", "both"),
        stars=thresholds or (),
        p_values=p_values,
        exponentiate=exponentiate,
        digits=digits,
        labels=labels,
        hidden=hidden,
        sections=chosen,
    )


def _thresholds(stars: Any) -> tuple[float, ...] | None:
    if not isinstance(stars, Sequence) or isinstance(stars, str):
        return None
    numbers = [s for s in stars if isinstance(s, int | float) and not isinstance(s, bool) and 0 < s < 1]
    if len(numbers) != len(stars) or not 1 <= len(set(numbers)) <= 3:
        return None
    return tuple(sorted({float(n) for n in numbers}, reverse=True))


def _names_among(name: str, value: Any, known: Mapping[str, Any], faults: list[str]) -> list[str]:
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else None
    if names is None:
        faults.append(f"{name}={value!r}: give a list of names.")
        return []
    wrong = [n for n in names if n not in known]
    if wrong:
        hints = "".join(did_you_mean(str(n), known) for n in wrong)
        faults.append(f"{name}= has {listing(map(repr, wrong))}, which no model has.{hints} Known: {listing(known)}.")
    return [n for n in names if n in known]


def _hidden(keep: Any, drop: Any, terms: Mapping[str, Any], faults: list[str]) -> frozenset[str]:
    if keep is not None and drop is not None:
        faults.append("keep= and drop= exclude each other: give one of them.")
    coefficients_of: dict[str, list[str]] = {}
    for coefficient in terms:
        coefficients_of.setdefault(term_name(coefficient), []).append(coefficient)
    known = {**coefficients_of, **{t: [t] for t in terms}}

    def coefficients(name: str, value: Any) -> set[str]:
        return {c for n in _names_among(name, value, known, faults) for c in known[n]}

    kept = set(terms) if keep is None else coefficients("keep", keep)
    lost = set() if drop is None else coefficients("drop", drop)
    return frozenset(t for t in terms if t not in kept or t in lost)


def term_name(coefficient: str) -> str:
    """The term that a coefficient belongs to: ``a:poly(x, 2)`` of ``a[T.b]:poly(x, 2)[1]``."""
    kept, calls, codings = "", 0, 0
    for character in coefficient:
        if not codings:
            calls += {"(": 1, ")": -1}.get(character, 0)
        codings += character == "[" and not calls
        kept += "" if codings else character
        codings -= character == "]" and codings > 0
    return kept


def _labels(coef_names: Any, known: Mapping[str, Any], faults: list[str]) -> dict[str, str]:
    if coef_names is None:
        return {}
    if not isinstance(coef_names, Mapping) or not all(isinstance(v, str) and v.strip() for v in coef_names.values()):
        faults.append("coef_names=: a dict from terms to what is printed, {'Days': 'Days of deprivation'}.")
        return {}
    asked = _names_among("coef_names", list(coef_names), known, faults)
    labels = {n: str(coef_names[n]) for n in asked}
    printed = [labels.get(n, n) for n in known]
    twice = sorted({p for p in printed if printed.count(p) > 1})
    if twice:
        faults.append(f"coef_names= would print {listing(map(repr, twice))} for several terms.")
    return labels


def _sections(sections: Any, faults: list[str]) -> tuple[str, ...]:
    if sections is None:
        return tuple(SECTIONS)
    asked = _names_among("sections", sections, SECTIONS, faults)
    if not asked and not faults:
        faults.append(f"sections={sections!r}: name at least one of {listing(SECTIONS)}.")
    return tuple(s for s in SECTIONS if s in asked)


def checked_names(names: Any, fits: Sequence[FitResult]) -> list[str]:
    """Check the names of the models.

    Raises:
        DataError: If the number of names differs from the number of results.
        OptionError: If two results of one engine have the same name.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise OptionError(f"names={names!r}: give a list with a name for each model.")
    if len(names) != len(fits):
        raise DataError(f"names= has {len(names)} names for {len(fits)} results.")
    if len({(f.engine.backend, n) for f, n in zip(fits, names, strict=True)}) < len(fits):
        raise OptionError("names= has a name twice for one engine, so that two columns would have the same head.")
    return list(names)


__all__ = ["RATIOS", "SECTIONS", "STARS", "Options", "checked_fits", "checked_names", "checked_options"]
