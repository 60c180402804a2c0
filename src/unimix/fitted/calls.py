"""The Python line that fits the model of a result again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unimix.distributions.family import as_family
from unimix.fitted.schema import PRIORS

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


def model_arguments(fit: FittedModel) -> dict[str, Any]:
    """Arguments of :func:`unimix.fit` that describe the model of a result, without formula, data and engine.

    Defaults are left out, and so are arrays that were given as weights or as an offset, which a result does not hold.
    """
    model, encoding = fit.model, fit.model.encoding
    arguments: dict[str, Any] = {}
    if (model.family, model.link) != ("gaussian", "identity"):
        default = as_family(model.family).link
        arguments["family"] = model.family if model.link == default else f"{model.family}({model.link})"
    if model.method in ("ML", "AGQ"):
        arguments["method"] = model.method
    columns = {"weights": encoding.weights_column, "offset": encoding.offset_column, "ziformula": encoding.ziformula}
    columns |= {
        "residual": encoding.residual,
        "dispformula": None if encoding.dispersion is None else encoding.dispersion.text,
    }
    arguments |= {name: value for name, value in columns.items() if value is not None}
    if model.sigma is not None:
        arguments["sigma"] = model.sigma
    if fit.fixed.df_method == "kenward-roger":
        arguments["df_method"] = fit.fixed.df_method
    if fit.fixed.level != 0.95:
        arguments["ci_level"] = fit.fixed.level
    return arguments


def fit_line(fit: FittedModel) -> str:
    """The line that fits the model of a result again; what a result does not hold is said in a comment.

    Example:
        >>> import unimix as um
        >>> from unimix.fitted.calls import fit_line
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), method="ML")
        >>> print(fit_line(fit))
        um.fit('Reaction ~ Days + (1 | Subject)', data, backend='pls', method='ML')
    """
    arguments = {"backend": fit.engine.backend, **model_arguments(fit)}
    if fit.engine.seed is not None:
        arguments["seed"] = fit.engine.seed
    return _line(f"um.fit({fit.model.formula!r}, data", arguments, fit)


def compare_line(fits: list[FittedModel]) -> str:
    """The line that compares the engines of several results of one model again."""
    backends = list(dict.fromkeys(fit.engine.backend for fit in fits))
    seeds = [fit.engine.seed for fit in fits if fit.engine.seed is not None]
    arguments = {"backends": backends, **model_arguments(fits[0])} | ({"seed": seeds[0]} if seeds else {})
    return _line(f"um.compare({fits[0].model.formula!r}, data", arguments, *fits)


def _line(start: str, arguments: dict[str, Any], *fits: FittedModel) -> str:
    notes = []
    if any(f.model.weighted and f.model.encoding.weights_column is None for f in fits):
        notes.append("weights= was an array")
    if any(f.model.encoding.offset_given and f.model.encoding.offset_column is None for f in fits):
        notes.append("offset= was an array")
    given = dict.fromkeys(f.provenance[PRIORS] for f in fits if PRIORS in f.provenance)
    notes += [f"priors= were given: {text}" for text in given]
    line = f"{', '.join([start, *(f'{k}={v!r}' for k, v in arguments.items())])})"
    return line + (f"    # {'; '.join(notes)}" if notes else "")


__all__ = ["compare_line", "fit_line", "model_arguments"]
