"""The posterior under other priors, from the draws of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from unimix.analysis.certificate.posterior import read_draws
from unimix.analysis.prediction.prior import generative_model
from unimix.backends import registry
from unimix.backends.sampling.draws import ModelDraws, Posterior, RawDraws, Sampled, estimates_of_draws
from unimix.design.estimates import EVIDENCE, Evidence, Generative
from unimix.design.features import Feature
from unimix.distributions.prior_text import write_given
from unimix.errors import DataError, UnimixError, UnsupportedModelError
from unimix.fitted.derived_parts import assembled
from unimix.fitted.model import Model, has_design
from unimix.fitted.sampled import engine_draws
from unimix.fitted.schema import PRIORS
from unimix.stats.draw_diagnostics import effective_size, smoothed_weights

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
K_LIMIT = 0.7
"""Pareto k above which importance weights cannot be trusted (Vehtari et al. 2024)."""
SOURCE = "draws"
"""Key of ``provenance`` under which the reweighting is described."""


def reweighted(fit: Model, priors: Mapping[str, object] | None = None) -> Model:
    """The posterior under other priors, without sampling again.

    The draws are resampled with Pareto-smoothed importance weights, the ratios of the new prior density to the old one
    (Vehtari, Simpson, Gelman, Yao & Gabry 2024, J. Mach. Learn. Res. 25(72)). The likelihood cancels, so that this
    takes as long for a large model as for a small one. The resampling is systematic: the number of copies of a draw
    differs from what its weight implies by less than one. Copies stand side by side, so that the effective sample sizes
    of the result count them as one draw.

    Args:
        priors: All priors of the new model, by the names that ``um.fit`` takes; parameters that are left out have
            default priors. None gives defaults to all.

    Returns:
        A result like ``fit``, with as many draws. ``provenance["draws"]`` gives Pareto k, and ``log_evidence`` is that
        under the new priors.

    Raises:
        UnimixError: If Pareto k is above 0.7 or a new prior excludes all draws, because the draws then tell too little
            of the new posterior; or if the engine has no priors of unimix.
        OptionError: If the priors do not suit the model; the message lists all faults.
        DataError: If the result was loaded and has not been given its data.

    Example:
        >>> import unimix as um
        >>> formula, sleep = "Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy")
        >>> fit = um.fit(formula, sleep, backend="bayes", seed=1)
        >>> other = fit.reweighted({"Days": um.priors.Normal(8, 1)})
        >>> [float(f.fixed_effects.loc["Days", "estimate"].round(1)) for f in (fit, other)]
        [10.5, 9.5]
        >>> other.provenance["draws"][:26]
        'reweighted to other priors'
    """
    model = priors_of(fit)
    design = fit.design()
    draws, shape, diverging = read_draws(fit, design)
    if draws.effects is None:
        raise UnsupportedModelError(
            "The draws of the group effects were too many to keep, and without them their means under other priors "
            "are unknown. Fit with fewer, options={'draws': 250}."
        )
    new = model.with_priors(priors)
    ratio = log_prior_of(new, draws) - log_prior_of(model, draws)
    if not np.isfinite(ratio).any():
        raise UnimixError(f"The new priors exclude all draws of this posterior. {_again(fit)}")
    weights, k = smoothed_weights(np.where(np.isnan(ratio), -np.inf, ratio))
    if not k <= K_LIMIT:
        raise UnimixError(
            f"Pareto k of the importance weights is {k:.2f}, above {K_LIMIT}: the posterior under the new priors is "
            f"too far from these draws. {_again(fit)}"
        )
    efficiency = 1.0 / (len(weights) * float(weights @ weights))
    chosen = _resampled(weights)
    sampled = Sampled(_taken(draws, chosen), _raw(fit, shape, diverging), kept=True, model=_own(fit, chosen, shape))
    texts, defaults = new.stated
    said = (
        f"reweighted to other priors, Pareto k {k:.2f}: the weights are worth {efficiency:.0%} of the draws under the "
        "fit's own priors"
    )
    estimates = estimates_of_draws(
        design,
        sampled,
        texts,
        ci_level=fit.fixed.level,
        call=f"{fit.engine.call}\n{said}; the priors are\n" + "\n".join(f"{n} ~ {t}" for n, t in texts.items()),
        library=fit.backend,
    )
    evidence = _evidence(fit, ratio, shape, defaults)
    parts: dict[str, Any] = assembled(
        design,
        replace(estimates, evidence=evidence),
        method=fit.model.method,
        ci_level=fit.fixed.level,
    )
    given = {} if not priors else {PRIORS: write_given(priors)}
    kept = {n: text for n, text in fit.provenance.items() if n not in (PRIORS, SOURCE)}
    about = {EVIDENCE: f"{kept[EVIDENCE]}, and of the ratios of the priors"} if evidence else {}
    refitter = fit._unsaved.refitter
    return replace(
        fit,
        **parts,
        engine=fit.engine.model_copy(update={"priors": texts, "call": estimates.engine_call}),
        provenance={**kept, SOURCE: said, **about, **given},
        _unsaved=replace(
            fit._unsaved,
            native=new.native,
            posterior=estimates.posterior,
            generative=new,
            refitter=None if refitter is None else refitter.with_priors(priors),
        ),
    )


def priors_of(fit: FittedModel) -> Generative:
    """The model of a posterior with its priors.

    Raises:
        UnimixError: If the engine does not sample, or has priors of its own.
        DataError: If the result was loaded or unpickled.
    """
    engine_draws(fit)
    if not has_design(fit) or fit._unsaved.generative is None:
        if registry.resolve(fit.backend).capabilities.can(Feature.PRIORS):
            raise DataError(
                "A result that was loaded or unpickled does not keep its priors as distributions. Fit the model again: "
                "um.refit(fit, data)."
            )
        raise UnimixError(
            f"The priors of backend={fit.backend!r} are its own, and unimix does not know their density. Use "
            "backend='bayes' or backend='pymc'."
        )
    return generative_model(fit)


def log_prior_of(model: Generative, draws: Posterior) -> FloatArray:
    """Log density of the priors at each draw, shape (S,)."""
    return model.log_prior(draws.beta, draws.sds, draws.correlations, draws.dispersion)


def _again(fit: FittedModel) -> str:
    return f"Sample again:\n    um.fit({fit.formula!r}, data, backend={fit.backend!r}, priors=priors)"


def _resampled(weights: FloatArray) -> npt.NDArray[np.int64]:
    """Indices of draws by systematic resampling, shape (S,).

    The order of the draws is kept, so that copies of a draw are neighbours and count as such in autocorrelations.
    """
    count, ends = len(weights), np.cumsum(weights)
    at = (np.arange(count) + 0.5) / count * ends[-1]
    return np.asarray(np.minimum(np.searchsorted(ends, at), count - 1), dtype=np.int64)


def _taken(draws: Posterior, chosen: npt.NDArray[np.int64]) -> Posterior:
    return Posterior.of_effects(
        draws.beta[chosen],
        tuple(s[chosen] for s in draws.sds),
        tuple(r[chosen] for r in draws.correlations),
        draws.dispersion[chosen],
        tuple(e[chosen] for e in draws.effects or ()),
    )


def _raw(fit: FittedModel, shape: tuple[int, int], diverging: npt.NDArray[np.bool_]) -> RawDraws:
    seconds = float(engine_draws(fit).posterior.attrs.get("sampling_time", 0.0))
    return RawDraws(np.empty((*shape, 0)), diverging, {}, seconds)


def _own(fit: FittedModel, chosen: npt.NDArray[np.int64], shape: tuple[int, int]) -> ModelDraws:
    """The resampled draws of all variables, among them those of an engine's own model, and its data."""
    found = engine_draws(fit)
    values, dims = {}, {}
    for name, variable in found.posterior.data_vars.items():
        ordered = variable.transpose("chain", "draw", ...)
        flat = np.asarray(ordered.values)
        flat = flat.reshape(-1, *flat.shape[2:])[chosen]
        values[str(name)], dims[str(name)] = flat.reshape(*shape, *flat.shape[1:]), [str(d) for d in ordered.dims[2:]]
    constant = getattr(found, "constant_data", None)
    held = {} if constant is None else {str(n): np.asarray(v.values) for n, v in constant.data_vars.items()}
    return ModelDraws(values, dims, held)


def _evidence(
    fit: FittedModel, ratio: FloatArray, shape: tuple[int, int], defaults: tuple[str, ...]
) -> Evidence | None:
    """Log evidence under the new priors: that of the fit, times the posterior mean of the ratio of the priors."""
    known = fit.criteria.evidence
    if known is None:
        return None
    log_mean = float(special.logsumexp(ratio) - np.log(len(ratio)))
    relative = np.exp(ratio - log_mean).reshape(shape)
    size = max(effective_size(relative, "mean"), 1.0)
    error = float(np.hypot(known.error, relative.std() / np.sqrt(size)))
    return Evidence(known.value + log_mean, error, defaults)


__all__ = ["log_prior_of", "priors_of", "reweighted"]
