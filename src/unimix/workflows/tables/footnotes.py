"""The notes below a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unimix._version import __version__
from unimix.fitted import describe
from unimix.result import FitResult
from unimix.workflows.tables.cells import Note
from unimix.workflows.tables.column_heads import Model
from unimix.workflows.tables.options import Options

COUNTS = ("poisson", "negative_binomial", "negative_binomial_1")


def notes_of(models: Sequence[Model], options: Options, more: Sequence[str] = ()) -> tuple[Note, ...]:
    """All notes: convergence, meaning of the numbers, further notes on them, models and software."""
    notes = [
        Note(f"{m.column.label}: {describe.status_words(m.fit)}", mark=m.column.mark) for m in models if m.column.mark
    ]
    coefficients = {"fixed", "zero_inflation", "dispersion"} & set(options.sections)
    if coefficients:
        notes += _shared(models, lambda f: _numbers(f, options))
        if options.exponentiate:
            notes += _shared(models, lambda f: _ratios(f, options))
        if options.stars and not all(describe.is_posterior(m.fit) for m in models):
            starred = ", ".join(
                f"{'*' * (i + 1)} p < {describe.without_zero(t, len(f'{t:.10f}'.rstrip('0')) - 2)}"
                for i, t in enumerate(options.stars)
            )
            notes.append(Note(f"{starred}."))
        if options.hidden:
            notes.append(Note(f"Coefficients not shown: {', '.join(sorted(options.hidden))}."))
        notes += _shared(models, describe.success_words)
        notes += _shared(models, _aliased)
    if "random" in options.sections:
        notes += _shared(models, _random)
    if "fit" in options.sections:
        notes += [*_criteria(models), *map(Note, more)]
    formulas = {(m.name if len({n.name for n in models}) > 1 else "", _model(m.fit)): None for m in models}
    if len({formula for _, formula in formulas}) == 1:
        formulas = {("", formula): None for _, formula in formulas}
    notes += [Note(f"{name or 'Model'}{kind}:", code=code) for name, (kind, code) in formulas]
    engines = dict.fromkeys(describe.engine_words(m.fit) for m in models)
    return (*notes, Note(f"Software: unimix {__version__}; {'; '.join(engines)}."))


def _model(fit: FitResult) -> tuple[str, str]:
    return "" if describe.is_linear(fit) else f" ({describe.family_words(fit)})", describe.model_text(fit)


def _shared(models: Sequence[Model], sentence: Callable[[FitResult], str]) -> list[Note]:
    """A sentence about every model; models with the same sentence share one note."""
    by_text: dict[str, list[str]] = {}
    for m in models:
        by_text.setdefault(sentence(m.fit), []).append(m.column.label)
    if len(by_text) == 1:
        return [Note(_capital(t)) for t in by_text if t]
    return [Note(f"{', '.join(labels)}: {t}") for t, labels in by_text.items() if t]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _numbers(fit: FitResult, options: Options) -> str:
    """Estimates, with standard errors in parentheses and 95% confidence intervals (...) in brackets."""
    below = options.layout == "below"
    shown = []
    if options.errors:
        shown.append(f"{describe.spread_words(fit)} {'in parentheses' if below else '(SE)'}")
    if options.intervals:
        shown.append(
            f"{describe.percent(fit.fixed.level)} {fit.fixed.interval} intervals {'in brackets' if below else '(CI)'}"
        )
    text = f"{describe.centre_words(fit)} with {' and '.join(shown)}"
    tests = options.p_values or bool(options.stars)
    if not describe.is_posterior(fit) and (options.intervals or tests):
        uses = (["intervals"] if options.intervals else []) + (["p values"] if tests else [])
        text += f"; {' and '.join(uses)} by {describe.degrees_words(fit)}"
    elif options.p_values:
        text += "; a posterior has no p values: pd is the probability of direction, the larger one of the two signs'"
    elif tests:
        text += "; a posterior has no p values"
    return f"{text}."


def _ratios(fit: FitResult, options: Options) -> str:
    if fit.model.link == "log":
        what = "rate ratios" if fit.model.family in COUNTS else "ratios of means"
    else:
        what = {"logit": "odds ratios"}.get(fit.model.link, "exp of coefficients of the complementary log-log")
    if "zero" in fit.parts:
        what += " (of the zero inflation odds ratios)"
    kept = (
        "; coefficients of the dispersion stay logarithms" if "dispersion" in {*fit.parts} & {*options.sections} else ""
    )
    if describe.is_posterior(fit):
        return f"coefficients are {what}, posterior means of the exponentiated coefficients{kept}."
    errors = ", with standard errors by the delta method" if options.errors else ""
    tests = "; p values are of the tests of their logarithms" if options.p_values or options.stars else ""
    return f"coefficients are {what}{errors}{tests}{kept}."


def _aliased(fit: FitResult) -> str:
    return f"left out because they depend on others: {', '.join(fit.model.aliased)}." if fit.model.aliased else ""


def _random(fit: FitResult) -> str:
    posterior = describe.is_posterior(fit) and (fit.random or fit.criteria.parameters)
    return "standard deviations and correlations are posterior estimates." if posterior else ""


def _criteria(models: Sequence[Model]) -> list[Note]:
    fits = [m.fit for m in models if not describe.is_posterior(m.fit)]
    kinds = sorted({f.criteria.criterion for f in fits})
    notes = []
    if len(kinds) > 1:
        notes.append(Note(f"AIC and BIC of different criteria ({', '.join(kinds)}) cannot be compared."))
    if len({(f.model.response, f.model.n_obs) for f in fits}) > 1:
        notes.append(Note("AIC and BIC of different rows or responses cannot be compared."))
    if kinds == ["REML"] and len({f.fixed.terms for f in fits}) > 1:
        notes.append(Note("AIC and BIC by REML cannot be compared between models with different fixed effects."))
    return notes


__all__ = ["notes_of"]
