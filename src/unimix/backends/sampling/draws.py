"""Conversion of draws to summaries, diagnostics and an ArviZ object with named coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.sampling.priors import PriorTable
from unimix.design.arrays import Design
from unimix.design.estimates import Estimates, Sampling
from unimix.design.grouping_factors import block_labels
from unimix.errors import FitError
from unimix.stats.correlation_pairs import below_diagonal, pair_names
from unimix.stats.direction import direction
from unimix.stats.draw_diagnostics import effective_size, rhat, with_names
from unimix.stats.predictor import PredictorRows, mean_over_draws

FloatArray = npt.NDArray[np.float64]

RHAT_LIMIT, ESS_LIMIT = 1.01, 400.0
MOST_KEPT = 20_000_000
"""Largest size of the draws of group effects, in numbers, that is kept (160 MB)."""


def fits_in_memory(design: Design, draws: int) -> bool:
    """Whether the draws of all group effects are small enough to be kept."""
    return draws * sum(b.n_levels * b.q for b in design.blocks) <= MOST_KEPT


@dataclass(frozen=True)
class RawDraws:
    """Draws and statistics as a sampler returns them.

    Attributes:
        points: Draws of the unconstrained vector, shape (chains, draws, size).
        diverging: Mask of divergent transitions, shape (chains, draws).
        stats: Further statistics by name, shapes (chains, draws).
        seconds: Time of sampling and tuning in seconds, without building, compiling and processing of the draws.
    """

    points: FloatArray
    diverging: npt.NDArray[np.bool_]
    stats: dict[str, npt.NDArray[Any]]
    seconds: float


@dataclass(frozen=True)
class Posterior:
    """Draws in the user's units, chain after chain (S = chains * draws).

    Attributes:
        beta: Fixed effects, shape (S, p).
        sds: Standard deviations of each block's effects, shapes (S, q).
        correlations: Correlation matrices of each block's effects, shapes (S, q, q).
        dispersion: Dispersion parameters of the family (sigma for a Gaussian response), shape (S, k).
        effects: Draws of each block's effects, shapes (S, L, q); None if there were too many to keep.
        means: Posterior means of each block's effects, shapes (L, q).
        covariances: Posterior covariances of each block's effects, shapes (L, q, q).
        expected: Posterior means of the rows' expected responses, with and without the group effects, shape (2, n), if
            they were computed before the draws of the group effects were dropped; else None.
    """

    beta: FloatArray
    sds: tuple[FloatArray, ...]
    correlations: tuple[FloatArray, ...]
    dispersion: FloatArray
    effects: tuple[FloatArray, ...] | None
    means: tuple[FloatArray, ...]
    covariances: tuple[FloatArray, ...]
    expected: FloatArray | None = None

    @classmethod
    def of_effects(
        cls,
        beta: FloatArray,
        sds: tuple[FloatArray, ...],
        correlations: tuple[FloatArray, ...],
        dispersion: FloatArray,
        effects: tuple[FloatArray, ...],
    ) -> Posterior:
        """Make the posterior from draws of the effects, shapes (S, L, q)."""
        means = tuple(e.mean(axis=0) for e in effects)
        covariances = tuple(
            np.einsum("sla,slb->lab", e - m, e - m) / (len(e) - 1) for e, m in zip(effects, means, strict=True)
        )
        return cls(beta, sds, correlations, dispersion, effects, means, covariances)

    def without_effects(self, design: Design) -> Posterior:
        """Return a copy without the draws of the group effects, and with the expected responses that need them."""
        return replace(self, effects=None, expected=expected_responses(design, self))

    def covariance_summaries(self) -> tuple[FloatArray, ...]:
        """Covariance matrices (q, q) from posterior mean SDs and posterior mean correlations."""
        return tuple(
            np.outer(sd.mean(axis=0), sd.mean(axis=0)) * r.mean(axis=0)
            for sd, r in zip(self.sds, self.correlations, strict=True)
        )

    def parameters(self) -> FloatArray:
        """Fixed effects, SDs, correlations below the diagonal and dispersion parameters side by side, shape (S, k)."""
        parts = [self.beta]
        for sd, r in zip(self.sds, self.correlations, strict=True):
            parts += [sd, below_diagonal(r)]
        return np.concatenate([*parts, self.dispersion], axis=1)


@dataclass(frozen=True)
class ModelDraws:
    """What an engine's own model adds to the ArviZ object.

    Attributes:
        values: Draws of all of the model's variables by name, shapes (chains, draws, ...).
        dims: Names of the dimensions of variables and data, without chain and draw.
        constant: The data on which the model depends, by name.
    """

    values: Mapping[str, FloatArray]
    dims: Mapping[str, Sequence[str]]
    constant: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Sampled:
    """Draws of an engine.

    Attributes:
        posterior: Draws in the user's units.
        raw: Draws and statistics as the sampler returned them.
        kept: Whether the draws of the group effects are kept.
        model: Draws of the engine's own model, if it has one.
    """

    posterior: Posterior
    raw: RawDraws
    kept: bool
    model: ModelDraws | None = None


def expected_responses(design: Design, posterior: Posterior) -> FloatArray | None:
    """Posterior means of the rows' expected responses, with and without the group effects, shape (2, n).

    None under an identity link, where they are the posterior means of the linear predictors.

    Raises:
        FitError: If they cannot be computed, because the draws of the group effects are gone.
    """
    if design.family.link == "identity":
        return None
    if posterior.expected is not None:
        return posterior.expected
    if posterior.effects is None:
        raise FitError(
            "The expected responses are means over draws of the group effects, which this posterior does not hold: "
            "drop them by Posterior.without_effects(design), which computes the expected responses first."
        )
    family, beta, dispersion = design.family, posterior.beta, posterior.dispersion
    alone = mean_over_draws(family, PredictorRows.of(design, groups=False), beta, dispersion=dispersion)
    if not design.blocks:
        return np.stack([alone, alone])
    whole = mean_over_draws(family, PredictorRows.of(design), beta, posterior.effects, dispersion=dispersion)
    return np.stack([whole, alone])


def parameter_names(design: Design) -> list[str]:
    """Names of the columns of :meth:`Posterior.parameters`."""
    names = list(design.fixed_names)
    for block in design.blocks:
        names += [f"sd({block.group}: {t})" for t in block.terms]
        names += [f"cor({block.group}: {pair})" for pair in pair_names(block.terms)]
    return [*names, *design.family.parameters]


def diagnose(design: Design, posterior: Posterior, raw: RawDraws) -> tuple[Sampling, tuple[str, ...]]:
    """The diagnostics of :func:`diagnose_draws` for draws as a sampler returns them."""
    return diagnose_draws(design, posterior, raw.diverging)


def diagnose_draws(
    design: Design, posterior: Posterior, diverging: npt.NDArray[np.bool_]
) -> tuple[Sampling, tuple[str, ...]]:
    """R-hat, effective sample sizes and divergences, with messages about those out of bounds.

    ArviZ computes rank-normalised split R-hat and bulk and tail effective sample sizes as in Vehtari, Gelman, Simpson,
    Carpenter & Buerkner (2021), Bayesian Analysis 16:667-718.

    Args:
        design: Design that gives the names of the parameters.
        posterior: All draws in the user's units.
        diverging: Mask of divergent transitions, shape (chains, draws).
    """
    chains, draws = diverging.shape
    values = posterior.parameters()
    table = values.reshape(chains, draws, -1)
    worst: dict[str, tuple[float, str]] = {}
    for j, name in enumerate(parameter_names(design)):
        column = table[:, :, j]
        found = {
            "rhat": rhat(column) if chains > 1 else 1.0,
            "bulk": -effective_size(column, "bulk"),
            "tail": -effective_size(column, "tail"),
        }
        for kind, value in found.items():
            size = value if np.isfinite(value) else np.inf
            if kind not in worst or size > worst[kind][0]:
                worst[kind] = (size, name)
    divergences = int(diverging.sum())
    sampling = Sampling(
        rhat=worst["rhat"][0],
        ess_bulk=max(-worst["bulk"][0], 0.0),
        ess_tail=max(-worst["tail"][0], 0.0),
        divergences=divergences,
        n_draws=chains * draws,
        n_chains=chains,
    )
    messages = []
    if chains == 1:
        messages.append("One chain: R-hat between chains cannot be computed. Use chains=4.")
    if sampling.rhat >= RHAT_LIMIT:
        messages.append(
            f"R-hat of {worst['rhat'][1]} is {sampling.rhat:.3f} (1.01 at most): the chains do not agree yet. "
            f"Try tune={2 * max(draws, 500)} and draws={2 * draws}."
        )
    for kind, size in (("bulk", sampling.ess_bulk), ("tail", sampling.ess_tail)):
        if size < ESS_LIMIT:
            messages.append(
                f"The {kind} effective sample size of {worst[kind][1]} is {size:.0f} ({ESS_LIMIT:.0f} at least). "
                f"Try draws={_rounded(draws * 1.5 * ESS_LIMIT / max(size, 20.0))}."
            )
    if divergences:
        messages.append(
            f"{divergences} of {chains * draws} transitions diverged: part of the posterior may be missed. "
            "Try target_accept=0.99, or priors that rule out what cannot be."
        )
    return sampling, tuple(messages)


def _rounded(draws: float) -> int:
    return int(np.ceil(draws / 500) * 500)


def is_long_enough(sampling: Sampling) -> bool:
    """Whether R-hat and the effective sample sizes are within their limits."""
    return sampling.rhat < RHAT_LIMIT and min(sampling.ess_bulk, sampling.ess_tail) >= ESS_LIMIT


def is_sampled_well(sampling: Sampling) -> bool:
    """Whether all diagnostics are within their limits."""
    return is_long_enough(sampling) and sampling.divergences == 0


def inference_data(design: Design, sampled: Sampled, attributes: dict[str, Any]) -> Any:
    """Make an ArviZ object whose variables have the names of the priors.

    The variables are ``fixed`` (term), ``sd(g)`` (g term), ``cor(g)`` (g pair), ``effects(g)`` (g level, g term), and
    the family's dispersion parameters (``sigma``, for instance). An engine's own model adds its other variables, and
    the data on which it depends. The response is ``y`` (row), in numbers of successes for a binomial family.

    Args:
        design: Design that gives the names of the parameters.
        sampled: Draws of the engine.
        attributes: Attributes that are stored with the object.
    """
    raw, model = sampled.raw, sampled.model
    values, dims = _variables(design, sampled)
    constant: dict[str, Any] = {}
    if model is not None:
        values = {**model.values, **values}
        dims |= {name: list(own) for name, own in model.dims.items() if name not in dims}
        constant = {n: v for n, v in model.constant.items() if n != "observed"}
    return with_names(
        {
            "posterior": values,
            "sample_stats": {"diverging": raw.diverging, **raw.stats},
            "observed_data": {"y": observed_response(design)},
            "constant_data": constant,
        },
        coords=coordinates(design),
        dims=dims,
        attributes={"/": attributes, "posterior": {"sampling_time": raw.seconds}},
    )


def coordinates(design: Design) -> dict[str, Any]:
    """Coordinates of the variables of a posterior, by name of the dimension."""
    found: dict[str, Any] = {"term": list(design.fixed_names), "row": design.rows}
    for block, label in zip(design.blocks, block_labels(design.blocks), strict=True):
        found[f"{label} level"] = [str(v) for v in block.levels]
        found[f"{label} term"] = list(block.terms)
        if block.q > 1:
            found[f"{label} pair"] = pair_names(block.terms)
    return found


def observed_response(design: Design) -> npt.NDArray[Any]:
    """The response, shape (n,), as whole numbers where it is a count; numbers of successes for a binomial family."""
    if design.trials is not None:
        return np.asarray(np.round(design.y * design.trials).astype(np.int64))
    whole = design.family.response in ("count", "positive_count")
    return design.y.astype(np.int64) if whole else design.y


def _variables(design: Design, sampled: Sampled) -> tuple[dict[str, FloatArray], dict[str, list[str]]]:
    """Draws of the parameters by name, shapes (chains, draws, ...), and the names of their dimensions."""
    posterior, shape = sampled.posterior, sampled.raw.diverging.shape

    def chained(values: FloatArray) -> FloatArray:
        return values.reshape(*shape, *values.shape[1:])

    values: dict[str, FloatArray] = {"fixed": chained(posterior.beta)} if design.p else {}
    dims: dict[str, list[str]] = {"fixed": ["term"], "y": ["row"]}
    for k, (block, label) in enumerate(zip(design.blocks, block_labels(design.blocks), strict=True)):
        values[f"sd({label})"] = chained(posterior.sds[k])
        dims[f"sd({label})"] = [f"{label} term"]
        if block.q > 1:
            values[f"cor({label})"] = chained(below_diagonal(posterior.correlations[k]))
            dims[f"cor({label})"] = [f"{label} pair"]
        if posterior.effects is not None:
            values[f"effects({label})"] = chained(posterior.effects[k])
            dims[f"effects({label})"] = [f"{label} level", f"{label} term"]
    for j, name in enumerate(design.family.parameters):
        values[name] = chained(posterior.dispersion[:, j])
    return values, dims


def estimates_of_draws(
    design: Design,
    sampled: Sampled,
    priors: Mapping[str, str],
    *,
    ci_level: float,
    call: str,
    library: str,
    diagnosis: tuple[Sampling, tuple[str, ...]] | None = None,
    observed: Design | None = None,
) -> Estimates:
    """Convert draws to the estimates that every backend returns.

    Args:
        design: Fitted design.
        sampled: Draws of the engine.
        priors: Text of every prior in force, by name.
        ci_level: Probability of the intervals, between 0 and 1.
        call: Text of the model and the sampler.
        library: Name of the library that sampled.
        diagnosis: Result of :func:`diagnose`, if it is already known.
        observed: Design with the user's response; None if that of the fitted design is the user's.
    """
    posterior = sampled.posterior
    sampling, messages = diagnosis or diagnose(design, posterior, sampled.raw)
    provenance = {
        "interval": f"{100 * ci_level:g} % equal-tailed credible interval, quantiles of the draws",
        "estimates": "posterior means; covariances: of the posterior mean SDs and correlations",
    }
    if not sampled.kept:
        provenance["posterior"] = "without draws of the group effects: too many to keep"
    return Estimates(
        **summaries(design, posterior, ci_level),
        modes=posterior.means,
        mode_covs=posterior.covariances,
        log_likelihood=None,
        converged=is_sampled_well(sampling),
        df=None,
        df_method="posterior",
        singular=False,
        messages=messages,
        sampling=sampling,
        engine_call=call,
        priors=dict(priors),
        provenance=provenance,
        expected=expected_responses(observed or design, posterior),
        posterior=inference_data(
            observed or design, sampled, {"inference_library": library, "formula": design.spec.text()}
        ),
    )


def summaries(design: Design, posterior: Posterior, ci_level: float) -> dict[str, Any]:
    """Estimates of the parameters from their draws, by name of the field of :class:`Estimates`.

    Args:
        design: Fitted design.
        posterior: Draws in the user's units.
        ci_level: Probability of the intervals, between 0 and 1.
    """
    tail = 50 * (1 - ci_level)
    return {
        "beta": posterior.beta.mean(axis=0),
        "beta_cov": _covariance(posterior.beta),
        "covariances": posterior.covariance_summaries(),
        "sigma": _sigma(design, posterior.dispersion),
        "parameters": {} if design.is_linear else _means(design, posterior.dispersion),
        "interval": np.percentile(posterior.beta, [tail, 100 - tail], axis=0).T,
        "direction": direction(posterior.beta),
    }


def written_model(design: Design, table: PriorTable, how: str) -> str:
    """Text of a model in statistical notation.

    Args:
        design: Design of the model.
        table: Priors of the model.
        how: Text about the sampler.
    """
    bars = [f"Z{k} b{k}[{b.group}]" for k, b in enumerate(design.blocks)]
    mean = " + ".join([*(["X beta"] if design.p else []), *bars]) or "0"
    lines = [_response_text(design, mean)]
    lines += [f"b{k}[{b.group}] ~ Normal(0, Cov({', '.join(b.terms)}))" for k, b in enumerate(design.blocks)]
    lines += [f"{name} ~ {text}" for name, text in table.texts.items()]
    return "\n".join([*lines, how])


def _covariance(draws: FloatArray) -> FloatArray:
    """Covariance matrix (p, p) of draws (S, p)."""
    off = draws - draws.mean(axis=0)
    covariance: FloatArray = off.T @ off / (len(draws) - 1)
    return covariance


def _means(design: Design, dispersion: FloatArray) -> dict[str, float]:
    """Posterior means of the dispersion parameters, shape (S, k), by name."""
    return {name: float(m) for name, m in zip(design.family.parameters, dispersion.mean(axis=0), strict=True)}


def _sigma(design: Design, dispersion: FloatArray) -> float:
    """Posterior mean of the residual standard deviation or of the square root of the dispersion; 1 without a scale."""
    names = design.family.parameters
    if "sigma" in names:
        return float(dispersion[:, names.index("sigma")].mean())
    return float(np.sqrt(dispersion[:, 0]).mean()) if "dispersion" in names else 1.0


def _response_text(design: Design, mean: str) -> str:
    """Text of the distribution of the response in statistical notation."""
    family, weighted = design.family, design.weights is not None
    if design.is_linear:
        return f"y ~ Normal({mean}, sigma{' / sqrt(w)' if weighted else ''})"
    eta = f"{mean} + offset" if design.offset is not None else mean
    mu = f"mu = g^-1({eta}), {family.link} link" if family.link != "identity" else f"mu = {eta}"
    given = ["trials"] if design.trials is not None else []
    title = family.label.replace("_", " ").title().replace(" ", "")
    many = ", each row's log density times w" if weighted and family.name != "gaussian" else ""
    scaled = [f"{n} / sqrt(w)" if weighted and family.name == "gaussian" else n for n in family.parameters]
    return f"y ~ {title}({', '.join([*given, 'mu', *scaled])}){many}; {mu}"
