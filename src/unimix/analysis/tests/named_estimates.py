"""The estimates that hypotheses may name: fixed effects, and of a posterior SDs, correlations, scales and levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.analysis.intervals.parameters import Parameter, parameter_draws, parameters_of, values_of
from unimix.analysis.means.linear_functions import FixedInference, fixed_inference
from unimix.analysis.prediction.draws import effect_draws
from unimix.design.grouping_factors import block_labels
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.model import is_sampled
from unimix.fitted.smooth_parts import mixed_form

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Named:
    """k estimates that hypotheses can refer to.

    Attributes:
        names: Names of the estimates; empty if they have only positions.
        estimate: Values of the estimates, shape (k,).
        gradient: Derivatives with respect to the fixed effects, shape (k, p).
        draws: Posterior draws of the estimates, shape (S, k); None if there are none.
        inference: The fixed effects, prepared for inference.
        placed: Number of the estimates, the first ones, that are also called b0, b1, ...; None for all. These are the
            fixed effects, of which there is inference.
        undrawn: Whether there is none of the other estimates, because there are no draws of them.
        curved: Places of the coefficients of smooths' curves.
    """

    names: tuple[str, ...]
    estimate: FloatArray
    gradient: FloatArray
    draws: FloatArray | None
    inference: FixedInference
    placed: int | None = None
    undrawn: bool = False
    curved: frozenset[int] = frozenset()

    @property
    def positions(self) -> int:
        """Number of estimates that are also called by their positions."""
        return len(self.estimate) if self.placed is None else self.placed

    def check_testable(self, places: Sequence[int]) -> None:
        """Refuse hypotheses about curves' coefficients, and about other estimates than fixed effects without draws.

        Raises:
            UnsupportedModelError: If one is.
        """
        if penalised := [self.names[k] for k in places if k in self.curved]:
            raise UnsupportedModelError(
                f"{penalised[0]} is a coefficient of a penalised curve and has no test by itself. Ask for slopes and "
                "means of the curve: fit.slopes(...).hypotheses(...), fit.emmeans(...).hypotheses(...)."
            )
        used = [self.names[k] for k in dict.fromkeys(places) if k >= self.positions] if self.undrawn else []
        if not used:
            return
        levels = [name for name in used if name.startswith("effects(")]
        if levels:
            raise UnsupportedModelError(
                f"There is no test of {listing(levels)}: the effects of levels are predictions, which have no "
                "hypotheses without a posterior. fit.predict(interval='confidence') and fit.group_effects_sd give "
                "their errors; backend='bayes' gives draws."
            )
        shown = used[0] if len(used) == 1 else used
        raise UnsupportedModelError(
            f"There is no Wald test of {listing(used)}: the error of a standard deviation or a correlation is far from "
            f"normal, and a variance of zero is on the boundary. fit.confint('profile', parameters={shown!r}) and "
            "fit.bootstrap() give intervals, um.anova(smaller, fit) and um.bootstrap_test likelihood-ratio tests; "
            "backend='bayes' gives draws."
        )


def named_estimates(fit: FittedModel, tests: Any) -> Named:
    """The fixed effects of a result, and the other parameters and levels that hypotheses mention.

    SDs, correlations and scales are called as by ``fit.confint()``, or as by ``fit.tidy("ran_pars")`` where that is
    unique; levels as in pictures of the draws, ``effects(Subject)[308, Days]``.

    Args:
        fit: The result.
        tests: Texts of the hypotheses.

    Raises:
        OptionError: If a level is unknown.
    """
    inference = fixed_inference(fit)
    p, curves = len(inference.beta), {name for smooth in fit.smooths for name in smooth.curve.terms}
    curved = frozenset(i for i, name in enumerate(fit.fixed.terms) if name in curves)
    text = re.sub(r"\s", "", tests if isinstance(tests, str) else " ".join(map(str, _texts(tests))))
    # those of a posterior are always known by their names in confint, so that messages can list them
    sampled = is_sampled(fit)
    others = [(n, one) for n, one in _parameters(fit).items() if _squeezed(n) in text or (sampled and n == one.name)]
    levels = _levels(fit, text)
    if not others and not levels:
        return Named(fit.fixed.terms, inference.beta, np.eye(p), inference.posterior, inference, curved=curved)
    names = (*fit.fixed.terms, *(n for n, _ in others), *levels)
    estimate = np.array(
        [*inference.beta, *values_of(fit, [one for _, one in others]), *(_mode(fit, *at) for at in levels.values())]
    )
    drawn = inference.posterior
    if sampled:
        fixed = np.empty((fit.status.n_draws or 0, 0)) if drawn is None else drawn
        parts = [parameter_draws(fit, [one for _, one in others])] if others else []
        parts += [effect_draws(fit, k)[:, level, term][:, None] for k, level, term in levels.values()]
        drawn = np.concatenate([fixed, *parts], axis=1)
    elif drawn is not None:
        drawn = np.pad(drawn, ((0, 0), (0, len(names) - p)), constant_values=np.nan)
    gradient = np.vstack([np.eye(p), np.zeros((len(names) - p, p))])
    return Named(names, estimate, gradient, drawn, inference, p, not sampled, curved)


def _texts(tests: Any) -> list[str]:
    return [t for t in tests if isinstance(t, str)] if isinstance(tests, Sequence) else []


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def _parameters(fit: FittedModel) -> dict[str, Parameter]:
    """Parameters other than fixed effects, by the names of ``confint`` and, where unique, of ``tidy``."""
    found = {p.name: p for p in parameters_of(fit) if p.target is not None and p.target.kind != "fixed"}
    short: dict[str, list[Parameter]] = {}
    random = mixed_form(fit).random
    for one in found.values():
        target = one.target
        if target is None or target.kind == "scale":
            continue
        terms = random[target.index].terms
        name = (
            f"sd__{terms[target.first]}"
            if target.kind == "sd"
            else f"cor__{terms[target.first]}.{terms[target.second]}"
        )
        short.setdefault(name, []).append(one)
    if "sigma" in found:
        short["sd__Observation"] = [found["sigma"]]
    found |= {name: ones[0] for name, ones in short.items() if len(ones) == 1}
    return {name: one for name, one in found.items() if name not in fit.fixed.terms}


def _levels(fit: FittedModel, text: str) -> dict[str, tuple[int, int, int]]:
    """Levels that a text without blanks mentions: their block, level and term by name.

    Raises:
        OptionError: If a level or a term is unknown, or a text stands for several.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for k, (block, label) in enumerate(zip(fit.random, block_labels(fit.random), strict=True)):
        start = _squeezed(f"effects({label})[")
        if start not in text:
            continue
        known: dict[str, list[tuple[str, int, int]]] = {}
        for i, level in enumerate(block.levels):
            for j, term in enumerate(block.terms):
                known.setdefault(_squeezed(f"{level}, {term}]"), []).append((f"{level}, {term}", i, j))
        for part in text.split(start)[1:]:
            inside = next((n for n in _ends(part) if n in known), "")
            if not inside:
                shown = [name for same in known.values() for name, _, _ in same]
                asked = part.partition("]")[0]
                raise OptionError(
                    f"effects({label})[{asked}] is not a level and a term of {block.group}."
                    f"{did_you_mean(asked.replace(',', ', '), shown)} They are written effects({label})[{shown[0]}]."
                )
            if len(known[inside]) > 1:
                raise OptionError(
                    f"effects({label})[{inside} stands for several levels: {listing(n for n, _, _ in known[inside])}."
                )
            name, i, j = known[inside][0]
            found[f"effects({label})[{name}]"] = (k, i, j)
    return found


def _ends(part: str) -> list[str]:
    """Beginnings of a text that end in a bracket, the longest first."""
    return [part[: m.end()] for m in re.finditer(r"\]", part)][::-1]


def _mode(fit: FittedModel, block: int, level: int, term: int) -> float:
    return float(np.asarray(fit.random[block].modes)[level, term])


__all__ = ["Named", "named_estimates"]
