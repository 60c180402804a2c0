"""The data behind the pictures of a result, as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy
from scipy import special

from unimix.analysis.plot_data.regression_lines import picked_levels, response_label
from unimix.analysis.prediction import prior
from unimix.analysis.prediction.draws import MOST_DRAWS, coefficient_draws, conditional_at, is_sampled, replicated
from unimix.analysis.summaries.partial_pooling import level_draws, level_estimates, the_group
from unimix.distributions.ordered import refuse_categories
from unimix.errors import DataError, OptionError, UnimixError, UnsupportedModelError, did_you_mean, listing
from unimix.fitted.correlated import refuse_correlated
from unimix.fitted.criterion import has_modelled_variances
from unimix.fitted.sampled import engine_draws
from unimix.stats.inference import checked_level
from unimix.stats.joint_error import leverage

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

POINTS = 200
"""Number of points at which a density is computed."""


def interval_words(fit: FittedModel, ci_level: float) -> str:
    """The kind of the intervals of group effects, in words."""
    kind = "credible" if is_sampled(fit) else "conditional"
    return f"{100 * ci_level:g}% {kind} intervals"


def caterpillar(fit: FittedModel, group: str | None, ci_level: float) -> pd.DataFrame:
    """Group effects with intervals; ``position`` ranks the estimates of a term, 0 for the smallest.

    Columns group, term, level, estimate, std_error, lower, upper, position.
    """
    checked_level(ci_level)
    group = the_group(fit, group)
    reach = float(special.ndtri(0.5 + ci_level / 2))
    parts = []
    for block in fit.random:
        if block.group != group:
            continue
        for j, term in enumerate(block.terms):
            estimate, sd = np.asarray(block.modes)[:, j], np.asarray(block.mode_sd)[:, j]
            frame = pd.DataFrame(
                {
                    "group": group,
                    "term": term,
                    "level": list(block.levels),
                    "estimate": estimate,
                    "std_error": sd,
                    "lower": estimate - reach * sd,
                    "upper": estimate + reach * sd,
                }
            ).sort_values("estimate", kind="stable", ignore_index=True)
            parts.append(frame.assign(position=np.arange(len(frame))))
    return pd.concat(parts, ignore_index=True)


def shrinkage(fit: FittedModel, group: str | None, terms: tuple[str, ...]) -> pd.DataFrame:
    """Estimates per level under each kind of pooling: index level; columns (kind, term).

    The kinds are no, partial, centre and complete.

    Raises:
        OptionError: If a coefficient does not exist per level, or more than two are named.
    """
    estimates = level_estimates(fit, group)
    known = [n for j, n in enumerate(estimates.columns.names) if estimates.no.own[:, j].any()]
    names = list(terms) or [estimates.columns.names[j] for j in estimates.varying][:2] or known[:1]
    if len(names) > 2:
        raise OptionError(f"shrinkage shows one or two coefficients, and {len(names)} were named.")
    for name in names:
        if name not in known:
            raise OptionError(
                f"{name!r} is not a coefficient of {estimates.group}'s levels.{did_you_mean(name, known)} Known: "
                f"{listing(known)}."
            )
    values = {
        "no": estimates.no.estimate,
        "partial": estimates.partial,
        "centre": estimates.centre,
        "complete": estimates.complete,
    }
    at = [estimates.columns.names.index(n) for n in names]
    columns = {(kind, n): v[:, j] for kind, v in values.items() for n, j in zip(names, at, strict=True)}
    return pd.DataFrame(columns, index=pd.Index(list(estimates.levels), name=estimates.group))


def ridge(
    fit: FittedModel, term: str | None, group: str | None, levels: Sequence[Any] | int, seed: int
) -> pd.DataFrame:
    """Density of each level's coefficient: columns level, x, density, mean; levels by increasing mean.

    Raises:
        OptionError: If the coefficient does not exist, or does not vary within levels.
    """
    estimates = level_estimates(fit, group)
    names = estimates.columns.names
    first = estimates.varying[0] if estimates.varying else int(np.flatnonzero(estimates.no.own.any(axis=0))[0])
    if term is not None and term not in names:
        raise OptionError(
            f"{term!r} is not a coefficient of this model.{did_you_mean(term, names)} Known: {listing(names)}."
        )
    at = first if term is None else names.index(term)
    present = estimates.no.own[:, at]
    if not present.any():
        raise OptionError(
            f"{names[at]!r} is constant within every level of {estimates.group}: choose another coefficient."
        )
    drawn = level_draws(coefficient_draws(fit, MOST_DRAWS, seed=seed), estimates.parts, estimates.no.turned)[:, :, at]
    parts = []
    shown = [i for i in picked_levels(estimates, levels) if present[i]]
    for level in sorted(shown, key=lambda i: float(drawn[:, i].mean())):
        values = drawn[:, level]
        if np.ptp(values) == 0:
            raise DataError(f"{names[at]} has no uncertainty in {estimates.group} {estimates.levels[level]}.")
        x, density = _density(values)
        parts.append(
            pd.DataFrame({"level": estimates.levels[level], "x": x, "density": density, "mean": float(values.mean())})
        )
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = {
        "term": names[at],
        "group": estimates.group,
        "centre": float(estimates.centre[present, at].mean()),
        "n_levels": len(estimates.levels),
    }
    return frame


def posterior_predictive(fit: FittedModel, n: int, seed: int) -> pd.DataFrame:
    """Densities of observed and replicated responses: columns draw (-1 for the observed), x, density."""
    return _predictive(fit, replicated(fit, n, seed=seed))


def prior_predictive(fit: FittedModel, n: int, seed: int) -> pd.DataFrame:
    """Densities of observed responses and of draws from the prior: columns draw (-1 for the observed), x, density."""
    return _predictive(fit, prior.prior_predictive(fit, n, seed=seed))


def _predictive(fit: FittedModel, drawn: FloatArray) -> pd.DataFrame:
    return predictive_densities(np.asarray(fit.rows.observed), drawn, fit.family.response, response_label(fit))


def predictive_densities(observed: FloatArray, drawn: FloatArray, kind: str, response: str) -> pd.DataFrame:
    """Densities of responses: columns draw (-1 for the observed), x, density (the share of rows if discrete).

    Args:
        observed: Observed responses, shape (n,).
        drawn: Drawn responses, shape (draws, n).
        kind: Kind of response of the family, such as ``count``.
        response: Name of the response.
    """
    discrete, positive = kind in ("count", "binomial"), kind in ("positive", "unit")
    finite = drawn[np.isfinite(drawn).all(axis=1)]
    if not len(finite):
        raise UnimixError("No draw gives finite responses: the prior or the link allows means that do not exist.")
    # The range is that of the observed and the central draws, so that extreme draws do not flatten the others.
    low = min(float(observed.min()), float(np.median(finite.min(axis=1))))
    high = max(float(observed.max()), float(np.median(finite.max(axis=1))))
    if discrete:
        values = np.unique(np.concatenate([observed, finite.ravel()]))
        ends = values[(values >= low) & (values <= high)]
        at = ends if len(ends) <= 60 else np.linspace(low, high, 41)
        parts = [_shares(-1, observed, at, exact=len(ends) <= 60)]
        parts += [_shares(i, row, at, exact=len(ends) <= 60) for i, row in enumerate(finite)]
    else:
        reach = 0.05 * (high - low)
        start = max(low - reach, 0.0) if positive else low - reach
        grid = np.linspace(start, high + reach, POINTS)
        parts = [_line(-1, observed, grid)] + [_line(i, row, grid) for i, row in enumerate(finite)]
    frame = pd.concat(parts, ignore_index=True)
    binned = discrete and len(ends) > 60
    frame.attrs = {"discrete": discrete, "response": response, "binned": binned}
    return frame


def _shares(draw: int, values: FloatArray, at: FloatArray, *, exact: bool) -> pd.DataFrame:
    if exact:
        share = np.array([(values == a).mean() for a in at])
        return pd.DataFrame({"draw": draw, "x": at, "density": share})
    counts, _ = np.histogram(values, at)
    return pd.DataFrame({"draw": draw, "x": (at[:-1] + at[1:]) / 2, "density": counts / len(values)})


def _line(draw: int, values: FloatArray, grid: FloatArray) -> pd.DataFrame:
    if np.ptp(values) == 0:
        return pd.DataFrame({"draw": [draw], "x": [values[0]], "density": [0.0]})
    return pd.DataFrame({"draw": draw, "x": grid, "density": scipy.stats.gaussian_kde(values)(grid)})


def _density(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    kernel = scipy.stats.gaussian_kde(values)
    reach = 3 * float(np.sqrt(kernel.covariance[0, 0]))
    grid = np.linspace(values.min() - reach, values.max() + reach, POINTS)
    return grid, np.asarray(kernel(grid))


def diagnostics(fit: FittedModel) -> pd.DataFrame:
    """Diagnostics of each row used: columns fitted, residual (standardized), residual_quantile, leverage.

    ``residual_quantile`` is the normal score of the residual.

    Raises:
        UnsupportedModelError: If the model has zero inflation or a dispersion formula.
    """
    refuse_correlated(fit, "A picture of the residuals", "Use fit.fitted and fit.residuals().")
    refuse_categories(fit.family, "This picture of residuals")
    if fit.parts and not has_modelled_variances(fit):
        raise UnsupportedModelError(
            f"Standardized residuals are not defined for a model with {listing(fit.parts)}: fit.residuals() gives "
            "plain ones."
        )
    design = fit.design()
    residual = fit.residuals("standardized")
    return pd.DataFrame(
        {
            "fitted": np.asarray(fit.fitted),
            "residual": residual,
            "residual_quantile": _normal_scores(residual),
            "leverage": leverage(conditional_at(fit, design), design),
        },
        index=pd.Index(np.asarray(fit.rows.index, dtype=np.int64), name="row"),
    )


def mode_quantiles(fit: FittedModel) -> pd.DataFrame:
    """Conditional modes with normal scores: columns label (term | group), level, mode, quantile."""
    parts = [
        pd.DataFrame(
            {
                "label": f"{term} | {block.group}",
                "level": list(block.levels),
                "mode": np.asarray(block.modes)[:, j],
                "quantile": _normal_scores(np.asarray(block.modes)[:, j]),
            }
        )
        for block in fit.random
        for j, term in enumerate(block.terms)
    ]
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["label", "level", "mode", "quantile"])
    )


def _normal_scores(values: FloatArray) -> FloatArray:
    """Normal quantiles of the ranks, (i - 1/2) / n."""
    return np.asarray(special.ndtri((scipy.stats.rankdata(values) - 0.5) / len(values)))


def sampled_names(fit: FittedModel, names: list[str] | None) -> list[str]:
    """Variables of the posterior to show; by default fixed effects, SDs, correlations and dispersion.

    Raises:
        OptionError: If a name is unknown.
    """
    known = [str(v) for v in engine_draws(fit).posterior.data_vars]
    if isinstance(names, str):
        raise OptionError(f"names={names!r}: give a list, [{names!r}].")
    if names is None:
        shown = {"fixed", *fit.family.parameters}
        return [n for n in known if n in shown or n.startswith(("sd(", "cor("))]
    strange = [n for n in names if n not in known]
    if strange:
        raise OptionError(
            f"{strange[0]!r} is not a variable of the posterior.{did_you_mean(strange[0], known)} Known: "
            f"{listing(known)}."
        )
    return names


def draws_frame(fit: FittedModel, names: list[str]) -> pd.DataFrame:
    """Posterior draws: columns chain, draw and one per parameter, with names such as ``sd(g)[x]``.

    ``.attrs["diverging"]`` is a mask of the rows whose transition diverged.
    """
    draws = engine_draws(fit).posterior
    columns: dict[str, Any] = {}
    shape = (draws.sizes["chain"], draws.sizes["draw"])
    for name in names:
        values = draws[name].transpose("chain", "draw", ...)
        inner = [values.coords[d].to_numpy() for d in values.dims[2:]]
        flat = np.asarray(values.values).reshape(shape[0] * shape[1], -1)
        for column, label in zip(flat.T, _labels(inner), strict=True):
            columns[f"{name}{label}"] = column
    chain, draw = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    frame = pd.DataFrame({"chain": chain, "draw": draw, **columns})
    diverging = engine_draws(fit).sample_stats["diverging"].transpose("chain", "draw").to_numpy()
    frame.attrs["diverging"] = [bool(d) for d in diverging.ravel()]
    return frame


def chain_densities(draws: pd.DataFrame) -> pd.DataFrame:
    """Kernel densities of the draws of each chain.

    Args:
        draws: Result of :func:`draws_frame`.

    Returns:
        Columns name, chain, x, density. Equal draws have no density.
    """
    parts = []
    for name in draws.columns[2:]:
        for chain, values in draws.groupby("chain")[name]:
            if np.ptp(values.to_numpy()) > 0:
                x, density = _density(values.to_numpy())
                parts.append(pd.DataFrame({"name": name, "chain": chain, "x": x, "density": density}))
    empty = pd.DataFrame({"name": [], "chain": [], "x": [], "density": []})
    return pd.concat(parts, ignore_index=True) if parts else empty


def _labels(coordinates: list[Any]) -> list[str]:
    if not coordinates:
        return [""]
    index = pd.MultiIndex.from_product(coordinates)
    return [f"[{', '.join(map(str, key))}]" for key in index]


def flat(others: Sequence[FittedModel | Sequence[FittedModel]]) -> list[FittedModel]:
    """Results in one list; a list of results counts as its members."""
    return [fit for other in others for fit in (other if isinstance(other, list | tuple) else [other])]  # type: ignore[misc]


def labelled(fits: list[FittedModel]) -> list[tuple[str, FittedModel]]:
    """Results labelled by their backends' names, with numbers if a name occurs twice."""
    named: list[tuple[str, FittedModel]] = []
    for fit in fits:
        count = sum(f.engine.backend == fit.engine.backend for _, f in named)
        named.append((fit.engine.backend if count == 0 else f"{fit.engine.backend} ({count + 1})", fit))
    return named
