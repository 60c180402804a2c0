"""Power of a planned study from assumed numbers, without data of a pilot study."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.api import fit
from unimix.argument_types import count_fault
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.design.frames import to_pandas
from unimix.distributions.family import Cumulative, FamilyLike, as_family
from unimix.errors import OptionError, UnsupportedModelError, did_you_mean, listing
from unimix.estimation.arguments import Method
from unimix.fitted.schema import DfMethod
from unimix.foreign_names import suggests_names
from unimix.formula.interpreter import parse
from unimix.formula.parser import Name
from unimix.parallel.jobs import check_seed
from unimix.result import FitResult
from unimix.workflows.assumed_parameters import UNITS, assumed_parameters
from unimix.workflows.power import Power, Sizes, power

FloatArray = npt.NDArray[np.float64]


@suggests_names
def design_power(
    formula: str,
    layout: Any,
    *,
    fixed: Mapping[str, float],
    random: Mapping[str, float] | None = None,
    residual: float | Mapping[str, float] | None = None,
    effect: str | None = None,
    units: Literal["raw", "d", "ratio"] = "raw",
    between: Mapping[str, str] | None = None,
    n_groups: Sizes = None,
    n_rows: Sizes = None,
    group: str | None = None,
    backend: BackendLike = DEFAULT_BACKEND,
    family: FamilyLike = "gaussian",
    method: Method | None = None,
    contrasts: Mapping[str, object] | None = None,
    df_method: DfMethod | None = None,
    alpha: float = 0.05,
    n_sim: int = 500,
    seed: int | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Power:
    """Estimate by simulation how often a planned study would detect an effect, from assumed numbers alone.

    Responses are simulated from the model with the assumed parameters, fitted by the engine and tested, as
    :func:`power` does from a fitted model.

    Args:
        formula: The model in lme4's language; the response is a name.
        layout: The rows of the study without their responses: a table; or a dict with the number of levels of each
            grouping factor and the values of each predictor, ``{"person": 20, "item": 10, "word": ["short", "long"]}``,
            whose combinations are the rows.
        fixed: Coefficients by name, as in ``fit.fixed_effects``; all of them, but an intercept that is left out is 0.
        random: Standard deviations of the group effects by name, ``{"sd(Intercept | person)": 1.0}`` or, for a factor
            with one effect, ``{"person": 1.0}``; all of them. Correlations, ``{"cor(Intercept, x | person)": 0.3}``,
            are 0 if they are left out.
        residual: Residual standard deviation; for other families a dispersion parameter, or several by name.
        effect: Name of the coefficient to test, or of a term for its joint type III test. It may be left out if only
            one coefficient besides the intercept is given, or is not zero.
        units: Units of the coefficients in ``fixed``: raw, those of the model; d, standard deviations of a response
            about its mean, so that the coefficient of a factor with two levels is Cohen's d with all variances
            (Westfall, Kenny & Judd 2014, J. Exp. Psychol. Gen. 143:2020); ratio, odds ratios, rate ratios or ratios of
            means for a log, logit or cloglog link. The intercept is always raw.
        between: Predictors of a dict that do not vary within the levels of a grouping factor, with this factor,
            ``{"arm": "person"}``: their values go to its levels in turn.
        n_groups: Number of levels of the grouping factor, or several numbers. In a dict, the layout is made anew for
            each; a table is extended or cut, as in :func:`power`.
        n_rows: Number of rows per level, or several numbers, as in :func:`power`; of all rows without groups.
        group: Name of the grouping factor whose levels are counted; needed where there are several.
        backend: Engine of the fits.
        family: Distribution of the response.
        method: Criterion of the estimates, as in :func:`unimix.fit`.
        contrasts: Coding of factors, as in :func:`unimix.fit`.
        df_method: Degrees of freedom of the test; None takes Satterthwaite's for linear mixed models.
        alpha: Significance level of the test.
        n_sim: Number of simulations per design.
        seed: Seed of the random numbers.
        n_jobs: Number of processes (joblib); -1 uses all cores.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The same as :func:`power`: ``.table`` with one row per design, ``.plot()``, the assumed parameters ``.truth`` in
        raw units, and ``.notes``, which say the units.

    Raises:
        OptionError: If arguments are wrong or parameters are missing, all of them at once.
        UnsupportedModelError: If the response is an expression, or the model has a part besides the mean.
        FitError: If no simulation could be fitted.

    Example:
        >>> import unimix as um
        >>> um.design_power(
        ...     "y ~ arm + (1 | person)",
        ...     {"person": 40, "time": [1, 2, 3, 4], "arm": ["control", "treated"]},
        ...     between={"arm": "person"},
        ...     fixed={"arm[T.treated]": 0.8},
        ...     random={"person": 1.0},
        ...     residual=1.0,
        ...     n_groups=[20, 40],
        ...     n_sim=20,
        ...     seed=1,
        ...     progress=False,
        ... ).table[["n_groups", "n_rows", "n_obs"]]
           n_groups  n_rows  n_obs
        0        20     4.0     80
        1        40     4.0    160
    """
    check_seed(seed)
    spec = parse(formula)
    if not isinstance(spec.response, Name):
        raise UnsupportedModelError(
            "The response of a planned study is a name: assume numbers on the scale that is analysed, and write y for "
            "log(y); for proportions, one row per trial, or weights."
        )
    response, factors = spec.response.name, list(dict.fromkeys(f for term in spec.random for f in term.factors))
    groups = list(dict.fromkeys(term.group for term in spec.random))
    is_dict = isinstance(layout, Mapping) and any(isinstance(v, int) for v in layout.values())
    faults = _faults(layout if is_dict else None, between, units, factors, groups, group, n_groups)
    if faults:
        raise OptionError("\n".join(faults))
    chosen = group or (groups[0] if len(groups) == 1 else None)
    rebuilt = is_dict and n_groups is not None and chosen in layout
    sizes = _listed(n_groups) if rebuilt else [None]
    seeds: list[int | None] = [seed] * len(sizes)
    if seed is not None and rebuilt:  # designs have random numbers of their own
        seeds = [int(one) for one in np.random.SeedSequence(seed).generate_state(len(sizes))]
    parts: list[Power] = []
    for size, own_seed in zip(sizes, seeds, strict=True):
        if not is_dict:
            rows = to_pandas(layout)
        else:
            rows = _crossed({**layout, str(chosen): size} if size else layout, between or {})
        planned = _planned(formula, rows, response, backend, family, method, contrasts)
        truth, units_note = assumed_parameters(planned, fixed, random or {}, residual, units)
        parts.append(
            power(
                planned,
                _effect(planned, effect, fixed),
                parameters=truth,
                n_groups=None if rebuilt else n_groups,
                n_rows=n_rows,
                group=chosen,
                alpha=alpha,
                n_sim=n_sim,
                df_method=df_method,
                seed=own_seed,
                n_jobs=n_jobs,
                progress=progress,
            )
        )
    table = pd.concat([part.table for part in parts], ignore_index=True)
    varied = ("n_groups", *(n for n in parts[0].varied if n != "n_groups")) if rebuilt else parts[0].varied
    said = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(parts[0], table=table, notes=(units_note, *said), varied=varied)


def _listed(sizes: Sizes) -> list[int | None]:
    return list(sizes) if isinstance(sizes, Sequence | np.ndarray) else [sizes]


def _faults(
    layout: Mapping[str, Any] | None,
    between: Mapping[str, str] | None,
    units: str,
    factors: Sequence[str],
    groups: Sequence[str],
    group: str | None,
    n_groups: Sizes,
) -> list[str]:
    faults = []
    if units not in UNITS:
        faults.append(f"units={units!r}: choose {listing(map(repr, UNITS))}.{did_you_mean(str(units), UNITS)}")
    if group is not None and group not in groups:
        faults.append(f"group={group!r} is not a grouping factor of this model.{did_you_mean(group, groups)}")
    if group is None and len(groups) > 1 and n_groups is not None:
        faults.append(
            f"The model has several grouping factors: name one of {listing(map(repr, groups))} as group=, whose levels "
            "n_groups= counts."
        )
    if layout is None:
        faults += ["between= belongs to a layout that is a dict: leave it out."] if between else []
        return faults
    numbers = [name for name, value in layout.items() if isinstance(value, int) and not isinstance(value, bool)]
    for name in layout:
        fault = count_fault(f"layout[{name!r}]", layout[name], 2, "levels") if name in numbers else None
        faults += [fault] if fault else []
    absent = [f for f in factors if f not in layout]
    faults += [f"layout has no {f!r}, a grouping factor of the model: give its number of levels." for f in absent]
    for name, inside in (between or {}).items():
        if name not in layout or name in numbers:
            faults.append(f"between={{{name!r}: ...}}: the layout has no values of {name}, {{{name!r}: ['a', 'b']}}.")
        if inside not in numbers:
            faults.append(f"between={{{name!r}: {inside!r}}}: {inside} is not a number of levels in the layout.")
    if n_groups is not None:
        wrong = [count_fault("n_groups", s, 2, "groups") for s in _listed(n_groups)]
        faults += [fault for fault in wrong if fault]
    return faults


def _crossed(layout: Mapping[str, Any], between: Mapping[str, str]) -> pd.DataFrame:
    """All combinations of the levels of a layout; predictors between groups are constant within their levels."""
    values = {
        name: [f"{name}{k + 1}" for k in range(value)] if isinstance(value, int) else list(value)
        for name, value in layout.items()
    }
    within = {name: v for name, v in values.items() if name not in between}
    frame = pd.DataFrame(list(itertools.product(*within.values())), columns=list(within))
    for name, inside in between.items():
        place = {level: k for k, level in enumerate(values[inside])}
        frame[name] = [values[name][place[level] % len(values[name])] for level in frame[inside]]
    for name, value in values.items():
        if any(isinstance(v, str) for v in value):
            frame[name] = pd.Categorical(frame[name], categories=list(dict.fromkeys(value)))  # in the order given
    return frame


def _planned(
    formula: str,
    rows: pd.DataFrame,
    response: str,
    backend: BackendLike,
    family: FamilyLike,
    method: Method | None,
    contrasts: Mapping[str, object] | None,
) -> FitResult:
    """The model of the layout, fitted to noise: its names, columns and engine are used, and none of its estimates."""
    rng, kind = np.random.default_rng(0), as_family(family).response
    if isinstance(as_family(family), Cumulative):
        raise UnsupportedModelError(
            "design_power has no arguments for the thresholds of ordered categories. Plan a study of two of them, one "
            "category or more against the rest: family='binomial'."
        )
    n = len(rows)
    if kind == "binomial":
        drawn = rng.permutation(np.arange(n) % 2).astype(np.float64)
    else:  # values that every family of counts, or of continuous responses, can have
        drawn = rng.integers(1, 4, n).astype(np.float64) if kind == "count" else rng.uniform(0.3, 0.7, n)
    planned = fit(formula, rows.assign(**{response: drawn}), backend, family=family, method=method, contrasts=contrasts)
    if planned.fixed.interval == "credible":
        raise UnsupportedModelError("Power is of tests: name an engine that maximises a likelihood, backend='pls'.")
    return planned


def _effect(planned: FitResult, effect: str | None, fixed: Mapping[str, float]) -> str:
    """The coefficient or term to test."""
    if effect is not None:
        return effect
    others = [t for t in planned.fixed.terms if t != "Intercept"]
    moved = [t for t in others if fixed.get(t)] if len(others) > 1 else others
    if len(moved) != 1:
        known = listing(map(repr, others)) or "none"
        raise OptionError(f"effect= names the coefficient or term to test, one of {known}.")
    return moved[0]


__all__ = ["design_power"]
