"""All parameters of a result by name: fixed effects, standard deviations, correlations, scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.grouping_factors import block_labels
from unimix.design.smooths import CURVE
from unimix.errors import OptionError, did_you_mean, listing
from unimix.fitted.sampled import variable_draws
from unimix.fitted.schema import is_curve
from unimix.fitted.smooth_parts import mixed_form
from unimix.likelihood.profile.constrained_parameters import Target
from unimix.stats.correlation_pairs import correlation_matrices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: Name such as ``Days``, ``sd(Days | Subject)``, ``cor(Intercept, Days | Subject)``, ``sigma``, ``zero(x)``.
        target: Position of the parameter in the model; None for coefficients of zero inflation or dispersion.
        part: zero, dispersion or thresholds for such a coefficient, or residual for a standard deviation or a parameter
            of the correlations of residuals that have a covariance matrix; else empty.
        index: Position of such a coefficient within its part; standard deviations come first.
    """

    name: str
    target: Target | None
    part: str = ""
    index: int = 0


def parameters_of(fit: FittedModel) -> list[Parameter]:
    """All parameters: fixed effects, SDs and correlations by block, dispersion parameters, then the other parts.

    The thresholds of an ordered response stand for the parameters from which they follow. Those of a result with
    smooths are the parameters of its mixed model, in which a curve has one standard deviation.
    """
    fit = mixed_form(fit)
    parameters = [Parameter(t, Target("fixed", j)) for j, t in enumerate(fit.fixed.terms)]
    labels = block_labels(fit.random)
    names = [(b.group, t) for b in fit.random for t in b.terms]
    for k, (block, label) in enumerate(zip(fit.random, labels, strict=True)):
        # An SD is named by its grouping factor, unless two blocks of the factor have an effect of the same name.
        doubled = any(names.count((block.group, t)) > 1 for t in block.terms)
        group = label if doubled else block.group
        if is_curve(block):
            parameters.append(Parameter(f"sd({CURVE} | {block.group})", Target("sd", k)))
            continue
        parameters += [Parameter(f"sd({t} | {group})", Target("sd", k, i)) for i, t in enumerate(block.terms)]
        parameters += [
            Parameter(f"cor({block.terms[i]}, {block.terms[j]} | {group})", Target("cor", k, i, j))
            for i in range(len(block.terms))
            for j in range(i + 1, len(block.terms))
        ]
    if not {"dispersion", "thresholds"} & set(fit.parts) and fit.model.sigma is None:
        parameters += [
            Parameter(name, Target("scale", k))
            for k, name in enumerate(fit.family.parameters)
            if name in fit.criteria.parameters
        ]
    if (residual := fit.residual_part) is not None:
        names_of_sd = [f"{residual.sd_word}({t} | residual)" for t in residual.times] if len(residual.sd) > 1 else []
        named = [*names_of_sd, *(f"{p} | residual" for p in residual.parameters)]
        parameters += [Parameter(name, None, "residual", j) for j, name in enumerate(named)]
    for part, coefficients in fit.parts.items():
        parameters += [Parameter(f"{part}({t})", None, part, j) for j, t in enumerate(coefficients.terms)]
    return parameters


def values_of(fit: FittedModel, parameters: Sequence[Parameter]) -> FloatArray:
    """Estimates of the parameters, shape (k,)."""
    fit = mixed_form(fit)

    def value(parameter: Parameter) -> float:
        target = parameter.target
        if target is None and (residual := fit.residual_part) is not None and parameter.part == "residual":
            sds = np.asarray(residual.sd) if len(residual.sd) > 1 else np.empty(0)
            return float(np.append(sds, residual.estimates)[parameter.index])
        if target is None:
            return float(fit.parts[parameter.part].estimate[parameter.index])
        if target.kind == "fixed":
            return float(fit.fixed.estimate[target.index])
        if target.kind == "scale":
            return float(fit.dispersion_parameters[target.index])
        block = fit.random[target.index]
        return float(block.sd[target.first] if target.kind == "sd" else block.correlation[target.first, target.second])

    return np.array([value(p) for p in parameters])


def parameter_draws(fit: FittedModel, parameters: Sequence[Parameter]) -> FloatArray:
    """Posterior draws of parameters of the mean and its scales, shape (S, k).

    Raises:
        UnimixError: If the draws are not there.
    """
    labels = block_labels(fit.random)
    columns = []
    for parameter in parameters:
        target = parameter.target
        assert target is not None  # noqa: S101  samplers have no parts
        match target.kind:
            case "fixed":
                columns.append(variable_draws(fit, "fixed")[:, target.index])
            case "scale":
                columns.append(variable_draws(fit, fit.family.parameters[target.index]))
            case "sd":
                columns.append(variable_draws(fit, f"sd({labels[target.index]})")[:, target.first])
            case _:
                pairs, q = variable_draws(fit, f"cor({labels[target.index]})"), len(fit.random[target.index].terms)
                columns.append(correlation_matrices(pairs, q)[:, target.first, target.second])
    return np.stack(columns, axis=1)


def chosen(parameters: list[Parameter], asked: str | Sequence[str] | None) -> list[Parameter]:
    """Select parameters by name or kind.

    Args:
        parameters: All parameters of the result.
        asked: fixed, random (SDs, correlations and scales), a name, or a list of names; None for all.

    Raises:
        OptionError: If names are unknown; the message lists all of them.
    """
    if asked is None:
        return parameters
    kinds = {p.name: (p.target.kind if p.target else p.part) for p in parameters}
    wanted = [asked] if isinstance(asked, str) else list(asked)
    strange = [w for w in wanted if w not in kinds and w not in ("fixed", "random")]
    if strange or not wanted:
        unknown = "; ".join(f"{w!r}{did_you_mean(str(w), kinds)}" for w in strange) or "none"
        raise OptionError(
            f"parameters= has unknown names: {unknown} Choose 'fixed', 'random' or names of {listing(kinds)}."
        )

    def is_asked(p: Parameter) -> bool:
        kind = kinds[p.name]
        return (
            p.name in wanted
            or ("fixed" in wanted and kind == "fixed")
            or ("random" in wanted and kind in ("sd", "cor", "scale", "residual"))
        )

    return [p for p in parameters if is_asked(p)]


__all__ = ["Parameter", "chosen", "parameter_draws", "parameters_of", "values_of"]
