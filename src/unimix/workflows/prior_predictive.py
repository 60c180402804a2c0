"""Responses drawn from the priors of a model before it is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.analysis.plot_data.by_plot import predictive_densities
from unimix.api import fit
from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.backends.sampling.draws import parameter_names
from unimix.backends.sampling.prior_simulator import PriorSimulator
from unimix.design.design import ColumnOrArray
from unimix.distributions.family import FamilyLike
from unimix.errors import OptionError, UnimixError, UnsupportedModelError, listing
from unimix.estimation.arguments import FitArguments, takes_arguments_of
from unimix.fitted.table_result import TableResult
from unimix.foreign_names import suggests_names
from unimix.formula.parser import render

FloatArray = npt.NDArray[np.float64]
_STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "sd": np.std,
    "min": np.min,
    "median": np.median,
    "max": np.max,
}


class PriorOptions(TypedDict, total=False):
    """The arguments of a fit that determine the model and its priors."""

    family: FamilyLike
    weights: ColumnOrArray
    offset: ColumnOrArray
    contrasts: Mapping[str, object] | None
    missing: Literal["drop", "raise"]
    priors: Mapping[str, Any] | None
    seed: int | None


@suggests_names(path=None)
@dataclass(frozen=True, repr=False, eq=False)
class PriorPredictive(TableResult):
    """The answer of :func:`prior_predictive`.

    Attributes:
        table: One row per statistic of a whole response: mean, sd, min, median, max and, for counts and proportions,
            zeros (share of rows). Columns: observed, lower, median and upper (2.5 %, 50 % and 97.5 % of the draws),
            below (share of draws whose statistic is not above the observed one).
        responses: Responses drawn from the prior, one data set per row, shape (n, rows), in the units of the response;
            proportions for a binomial family.
        parameters: The parameters of each draw, one column per parameter.
        priors: Text of every prior in force, by name of the parameter.
        observed: Observed responses of the rows used, shape (rows,).
        response: Name of the response.
        kind: Kind of response of the family, such as ``count``.
        notes: What the draws say about the priors.

    Example:
        >>> import unimix as um
        >>> priors = {"Intercept": um.priors.Normal(250, 50), "Days": um.priors.Normal(10, 10)}
        >>> priors |= {"sd(Subject)": um.priors.HalfNormal(50), "sigma": um.priors.HalfNormal(50)}
        >>> formula, sleep = "Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy")
        >>> found = um.prior_predictive(formula, sleep, priors=priors, seed=1)
        >>> found.responses.shape, list(found.parameters)
        ((500, 180), ['Intercept', 'Days', 'sd(Subject: Intercept)', 'sigma'])
    """

    table: pd.DataFrame
    responses: FloatArray
    parameters: pd.DataFrame
    priors: dict[str, str]
    observed: FloatArray
    response: str
    kind: str
    notes: tuple[str, ...]

    def plot(self, n: int = 50, *, ax: Any = None) -> Any:
        """Draw the distribution of the observed response among those of responses from the prior.

        Args:
            n: Number of data sets to draw.
            ax: The matplotlib Axes to draw on; None makes new ones.

        Returns:
            The matplotlib Axes.

        Raises:
            OptionError: If ``n`` is not a whole number of at least 1.
            UnimixError: If no draw gives finite responses.
        """
        from unimix.plots.checks import draw_predictive

        fault = count_fault("n", n, 1, "data sets")
        if fault:
            raise OptionError(fault)
        data = predictive_densities(self.observed, self.responses[:n], self.kind, self.response)
        title = f"{self.response} under the priors"
        return draw_predictive(data, ax=ax, title=title, xlabel=self.response, label="from the prior")

    @property
    def _heading(self) -> str:
        return f"{len(self.responses)} responses from the prior: {self.response}"


@takes_arguments_of(fit, PriorOptions)
def prior_predictive(formula: str, data: Any, *, n: int = 500, **arguments: Unpack[PriorOptions]) -> PriorPredictive:
    """Draw responses from the priors of a model, before it is fitted.

    Parameters are drawn from their priors, group effects from their distribution and responses from the family, for the
    rows of the data. If the responses are nothing like what could be observed, the priors say what nobody believes
    (Gabry, Simpson, Vehtari, Betancourt & Gelman 2019, J. R. Stat. Soc. A 182:389-402). Nothing is fitted. The priors
    and their names are those of ``backend="bayes"`` and ``"pymc"``.

    Args:
        formula: The model in lme4's language, as in :func:`unimix.fit`.
        data: A table or a dict of arrays, as in :func:`unimix.fit`. The response is read for the comparison, and for
            the scale of default priors.
        n: Number of data sets to draw.
        arguments: Arguments of :func:`unimix.fit` that determine the model and its priors.

    Returns:
        ``.table``, the observed response among the draws; ``.responses``, ``.parameters``, ``.priors`` and ``.plot()``.

    Raises:
        FormulaError: If the formula cannot be read.
        DataError: If the data do not allow the model.
        OptionError: If arguments or priors are wrong; the message lists every fault.
        UnsupportedModelError: If weights let rows count several times, because there is no response to draw then.
        UnimixError: If the prior allows means of which no response can be drawn.

    Example:
        >>> import unimix as um
        >>> priors = {"Intercept": um.priors.Normal(0, 10), "sd(herd)": um.priors.HalfNormal(10)}
        >>> cbpp = um.load_dataset("cbpp")
        >>> formula = "cbind(incidence, size - incidence) ~ 1 + (1 | herd)"
        >>> wide = um.prior_predictive(formula, cbpp, family="binomial", priors=priors, seed=1)
        >>> wide.loc["sd", ["observed", "median"]].round(1).to_dict()  # such priors expect all or nothing
        {'observed': 0.1, 'median': 0.3}
    """
    faults = [f for f in (count_fault("n", n, 1, "draws"),) if f]
    checked = FitArguments.read(prior_predictive, formula, data, arguments, faults=faults)
    design = checked.problem(formula, data).design
    if design.smooths:
        raise UnsupportedModelError(
            f"{design.smooths[0].term} has no prior here, because curves are not sampled: use bs(x) or ns(x) in place "
            "of the smooth."
        )
    if fault := memory_fault("n", n, design.n, "draws"):
        raise OptionError(fault)
    simulator = PriorSimulator.of(design, checked.priors)
    drawn, responses = simulator.draws(n, checked.seed)
    texts, defaults = simulator.stated
    usable = np.isfinite(responses).all(axis=1)
    table = _table(design.y, responses[usable], zeros=design.family.response in ("count", "binomial"))
    return PriorPredictive(
        table=table,
        responses=responses,
        parameters=pd.DataFrame(drawn.parameters(), columns=parameter_names(design)),
        priors=texts,
        observed=design.y,
        response=render(design.spec.response),
        kind=design.family.response,
        notes=tuple(_notes(table, int((~usable).sum()), n, defaults)),
    )


def _table(observed: FloatArray, drawn: FloatArray, *, zeros: bool) -> pd.DataFrame:
    """Statistics of the observed response among those of the drawn ones, shape (draws, rows)."""
    if not len(drawn):
        raise UnimixError("No draw gives finite responses: the prior or the link allows means that do not exist.")
    rows = {}
    statistics = {**_STATISTICS, **({"zeros": _share_of_zeros} if zeros else {})}
    for name, statistic in statistics.items():
        own, values = float(statistic(observed, axis=0)), np.asarray(statistic(drawn, axis=1))
        low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
        below = float(np.mean(values <= own))
        rows[name] = {"observed": own, "lower": low, "median": middle, "upper": high, "below": below}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("statistic")


def _share_of_zeros(y: FloatArray, axis: int) -> Any:
    return np.mean(y == 0, axis=axis)


def _notes(table: pd.DataFrame, lost: int, n: int, defaults: tuple[str, ...]) -> list[str]:
    notes = []
    outside = [str(s) for s, row in table.iterrows() if not row["lower"] <= row["observed"] <= row["upper"]]
    if outside:
        notes.append(f"Outside the middle 95 % of the draws: {listing(outside)}. The priors expect other responses.")
    if lost:
        notes.append(f"{lost} of {n} draws have means that do not exist under the link, and are left out of the table.")
    if defaults:
        notes.append(f"Default priors, which are scaled by these data: {listing(defaults)}.")
    return notes


__all__ = ["PriorPredictive", "prior_predictive"]
