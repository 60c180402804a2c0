"""What unimix asks of ArviZ: draws with names, R-hat, effective sample sizes, Pareto k, leave-one-out comparison.

ArviZ 0.x, to which PyMC 5 belongs, holds draws in an ``InferenceData``; ArviZ 1.x, to which PyMC 6 belongs, in xarray's
``DataTree``. Everything that differs between the two generations stands in this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

TAILS = (0.05, 0.95)
"""Quantiles whose effective sample sizes make the one of the tails."""


def makes_trees() -> bool:
    """Whether the installed ArviZ is of the generation that holds draws in a ``DataTree``."""
    import arviz as az

    return int(az.__version__.split(".")[0]) >= 1


# -- the object that holds the draws ------------------------------------------------------------


def with_names(
    groups: Mapping[str, Mapping[str, Any]],
    *,
    coords: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Make an ArviZ object, an ``InferenceData`` or a ``DataTree``.

    Args:
        groups: Arrays by name of the group (``posterior``, ``observed_data``, ...) and of the variable. Draws have the
            shape (chains, draws, ...), data have no such dimensions. Empty groups are left out.
        coords: Coordinates by name of the dimension.
        dims: Names of the dimensions of variables, without chain and draw.
        attributes: Attributes by name of the group; ``"/"`` is the object itself.

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import with_names
        >>> made = with_names({"posterior": {"b": np.zeros((2, 50, 1))}}, coords={"term": ["x"]}, dims={"b": ["term"]})
        >>> made.posterior["b"].dims
        ('chain', 'draw', 'term')
    """
    import arviz as az

    filled = {name: dict(group) for name, group in groups.items() if group}
    named: dict[str, Any] = {"coords": dict(coords or {}), "dims": {k: list(v) for k, v in (dims or {}).items()}}
    own = {group: dict(values) for group, values in (attributes or {}).items()}
    if makes_trees():
        return az.from_dict(filled, attrs=own, **named)
    by_group = {f"{group}_attrs": values for group, values in own.items() if group != "/"}
    return az.from_dict(**filled, **named, attrs=own.get("/"), **by_group)


def with_groups(draws: Any, groups: Mapping[str, Any]) -> Any:
    """A copy of an ArviZ object that shares its arrays and has further groups, given as datasets of xarray."""
    if not makes_trees():
        # a shallow copy would share the list of groups, which grows
        return type(draws)(attrs=draws.attrs, **{name: draws[name] for name in draws.groups()}, **groups)
    import xarray as xr

    tree = draws.copy(deep=False)
    for name, data in groups.items():
        tree[name] = xr.DataTree(data)
    return tree


def to_datasets(draws: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The groups of an ArviZ object as datasets of xarray, by name, and the attributes of the object."""
    if makes_trees():
        return {str(name): node.to_dataset() for name, node in draws.children.items()}, dict(draws.attrs)
    return {str(name): draws[name] for name in draws.groups()}, dict(draws.attrs)


def from_datasets(groups: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    """The ArviZ object whose groups are datasets of xarray: the inverse of :func:`to_datasets`."""
    import arviz as az

    if not makes_trees():
        return az.InferenceData(attrs=dict(attributes), **groups)
    import xarray as xr

    tree = xr.DataTree.from_dict({f"/{name}": data for name, data in groups.items()})
    tree.attrs.update(attributes)
    return tree


# -- diagnostics of one quantity ----------------------------------------------------------------


def rhat(values: FloatArray) -> float:
    """Rank-normalised split R-hat of draws, shape (chains, draws).

    Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Bayesian Analysis 16:667-718.

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import rhat
        >>> draws = np.random.default_rng(1).normal(size=(4, 500))
        >>> rhat(draws) < 1.01 < rhat(draws + np.arange(4)[:, None])
        True
    """
    import arviz as az

    return float(az.rhat(values))


def effective_size(values: FloatArray, kind: Literal["bulk", "tail", "mean"]) -> float:
    """Effective sample size of draws, shape (chains, draws): of the bulk, of the tails, or for the mean.

    That of the tails is the smaller one of the 5 % and 95 % quantiles. Vehtari, Gelman, Simpson, Carpenter & Buerkner
    (2021), Bayesian Analysis 16:667-718.

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import effective_size
        >>> draws = np.random.default_rng(1).normal(size=(4, 500))
        >>> bool(1000 < effective_size(draws, "bulk") < 3000)
        True
    """
    import arviz as az

    # ArviZ 1 has no default for the quantiles of an array
    more = {"prob": TAILS} if kind == "tail" else {}
    return float(az.ess(values, method=kind, **more))


def pareto_k(log_weights: FloatArray) -> float:
    """Pareto k of importance weights, from their logarithms, shape (draws,).

    Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import pareto_k
        >>> pareto = np.random.default_rng(1).pareto(1 / 0.9, size=20_000) + 1  # its k is 0.9
        >>> bool(abs(pareto_k(np.log(pareto)) - 0.9) < 0.3)  # three standard errors of 420 tail draws
        True
    """
    return smoothed_weights(log_weights)[1]


def smoothed_weights(log_weights: FloatArray) -> tuple[FloatArray, float]:
    """Pareto-smoothed importance weights, which sum to one, shape (draws,), and Pareto k.

    The largest weights are replaced by quantiles of a generalised Pareto distribution that is fitted to them (Vehtari,
    Simpson, Gelman, Yao & Gabry 2024, J. Mach. Learn. Res. 25(72)).

    Args:
        log_weights: Logarithms of importance weights up to a constant, shape (draws,).

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import smoothed_weights
        >>> draws = np.random.default_rng(1).normal(size=4000)
        >>> weights, k = smoothed_weights(draws * 0.5 - 0.125)  # the density ratio of N(0.5, 1) and N(0, 1)
        >>> bool(abs(weights @ draws - 0.5) < 4 / np.sqrt(4000) * np.exp(0.125)), k < 0.7
        (True, True)
    """
    if makes_trees():
        from arviz_stats.base import array_stats

        # what ArviZ 1 smooths are the weights of leaving one out, 1 / likelihood: it wants log-likelihoods
        smoothed, k = array_stats.psislw(-log_weights, axis=-1)
    else:
        import arviz as az

        smoothed, k = az.psislw(log_weights)
    weights = np.exp(np.asarray(smoothed) - np.max(smoothed))
    return weights / weights.sum(), float(k)


def power_scaling(draws: FloatArray, log_density: FloatArray, delta: float = 0.01) -> FloatArray:
    """Sensitivity of posterior quantities to the power of a part of their density, shape (k,).

    The part is raised to the powers 1 / (1 + delta) and 1 + delta, by Pareto-smoothed importance weights. The
    sensitivity is the cumulative Jensen-Shannon distance of the distributions per doubling of the power (Kallioinen,
    Paananen, Buerkner & Vehtari 2024, Stat. Comput. 34:57). ArviZ computes it.

    Args:
        draws: Draws of k quantities, shape (chains, draws, k).
        log_density: Log density of the part, up to a constant, at each draw, shape (chains, draws).
        delta: Relative change of the power.

    Example:
        >>> import numpy as np
        >>> from unimix.stats.draw_diagnostics import power_scaling
        >>> draws = np.random.default_rng(1).normal(size=(4, 1000, 2))
        >>> found = power_scaling(draws, -0.5 * draws[:, :, 0] ** 2)  # the density of the first quantity
        >>> bool(found[0] > 0.05 > found[1])
        True
    """
    import arviz as az

    # from_dict of ArviZ 0.x takes no log priors, and a log-likelihood is scaled in the same way
    made = with_names({"posterior": {"x": draws}, "log_likelihood": {"p": log_density}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large Pareto k, which the caller reports
        if makes_trees():
            found = az.psense(made, group="likelihood", alphas=(1 / (1 + delta), 1 + delta))
        else:
            found = az.psens(made, component="likelihood", delta=delta)
    return np.asarray(found["x"], dtype=np.float64).reshape(draws.shape[2])


# -- leave-one-out cross-validation -------------------------------------------------------------


def leave_one_out(log_likelihood: FloatArray, draws: Any) -> Any:
    """Leave-one-out cross-validation by Pareto-smoothed importance sampling.

    Args:
        log_likelihood: Log-likelihood of each row under each draw, shape (chains, draws, rows).
        draws: ArviZ object of the draws, from whose posterior ArviZ computes their relative efficiency.

    Returns:
        ArviZ's result, with ``elpd_loo``, ``p_loo``, ``se`` and ``pareto_k`` in both generations.
    """
    import arviz as az

    made = with_names({"log_likelihood": {"y": log_likelihood}})
    node = draws.posterior
    whole = with_groups(made, {"posterior": node.to_dataset() if makes_trees() else node})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ warns of large Pareto k, which the result holds and the caller reports
        found = az.loo(whole, pointwise=True)
    if makes_trees():  # ArviZ 1 calls them elpd and p, whatever was left out
        found.elpd_loo, found.p_loo = found.elpd, found.p
    return found


def compare_left_out(found: Mapping[str, Any]) -> pd.DataFrame:
    """Compare results of :func:`leave_one_out`, best first.

    Returns:
        One row per model, with the columns elpd, se, p_loo, elpd_diff (difference from the best model, not above zero),
        se_diff and weight (stacking; Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13:917-1007).
    """
    import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large Pareto k, which the caller counts
        exactly = {"round_to": "none"} if makes_trees() else {"scale": "log"}  # the only scale of ArviZ 1
        table = az.compare(dict(found), **exactly)
    table = pd.DataFrame(table).rename(columns={"elpd_loo": "elpd", "p": "p_loo", "dse": "se_diff"})
    table["elpd_diff"] = table["elpd"] - table["elpd"].max()
    return table[["elpd", "se", "p_loo", "elpd_diff", "se_diff", "weight"]].astype(float)
