"""Simulated (quantile) residuals of any model, and tests of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from unimix.analysis.checks.row_values import numbers, row_values
from unimix.analysis.prediction.draws import draws_of_both_parts
from unimix.analysis.prediction.simulate import draw_responses, simulator_of
from unimix.argument_types import count_fault
from unimix.backends.limits import memory_fault
from unimix.errors import DataError, OptionError, UnsupportedModelError, did_you_mean
from unimix.fitted.model import is_sampled
from unimix.fitted.table_result import TableResult
from unimix.parallel.jobs import check_seed
from unimix.stats.quantile_residuals import (
    kolmogorov_distance,
    kolmogorov_p,
    lag_one,
    monte_carlo_p,
    moran,
    outside,
    randomised_ranks,
    spread_ratios,
)

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]

FEWEST = 20
"""Smallest number of simulations; with fewer, no p value is below 0.05."""
MOST_PLACES = 4000
"""Largest number of places whose pairs are compared."""
CONDITIONS = {
    "new": "with new group effects in every simulation",
    "drawn": "given one draw of all coefficients from their distribution given the data",
    "kept": "given the estimated group effects",
}
SHRUNKEN = (
    "Estimated group effects are shrunken and were fitted to the same rows, so that p values are not calibrated: "
    "effects='drawn' is the calibrated check of the distribution given the group effects."
)


@dataclass(frozen=True, repr=False, eq=False)
class SimulatedResiduals(TableResult):
    """Quantile residuals of all rows, with their tests.

    Attributes:
        residuals: Quantile residual of each row, shape (n,): its place among the simulated responses, uniform on (0, 1)
            if the model is right.
        fitted: Mean of the simulated responses of each row, shape (n,); of the positions of ordered categories.
        effects: Treatment of the group effects: new, drawn or kept.
    """

    residuals: FloatArray
    fitted: FloatArray
    effects: str
    _all: FloatArray = field(repr=False)
    _values: FloatArray = field(repr=False)
    _design: Design = field(repr=False)
    _formula: str = ""

    @property
    def n(self) -> int:
        """Number of simulations."""
        return len(self._all) - 1

    @property
    def table(self) -> pd.DataFrame:
        """One row per test: columns statistic, expected (its mean over the simulations), p_value.

        Rows: uniformity (Kolmogorov distance of the residuals from the uniform distribution), dispersion (variance of
        the responses about their mean, divided by that of the simulations), outliers (rows outside all simulations),
        and for counts zeros (their number).
        """
        distances = kolmogorov_distance(self._all)
        exact = self.effects == "drawn"
        p = kolmogorov_p(float(distances[0]), len(self.residuals)) if exact else monte_carlo_p(distances, "greater")
        rows = {"uniformity": (distances[0], distances[1:].mean(), p)}
        statistics = {"dispersion": spread_ratios(self._values), "outliers": outside(self._values)}
        if self._design.family.response == "count":
            statistics["zeros"] = (self._values == 0).sum(axis=1).astype(float)
        rows |= {name: (s[0], s[1:].mean(), monte_carlo_p(s)) for name, s in statistics.items()}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["statistic", "expected", "p_value"])
        return frame.rename_axis("test")

    @property
    def notes(self) -> tuple[str, ...]:
        """What was simulated."""
        said = (
            (f"{self.n} simulations {CONDITIONS[self.effects]}.",)
            if self._design.blocks
            else (f"{self.n} simulations.",)
        )
        return (*said, SHRUNKEN) if self.effects == "kept" and self._design.blocks else said

    @property
    def _heading(self) -> str:
        return "Simulated (quantile) residuals"

    def test_autocorrelation(self, time: Any, group: Any = None) -> TableResult:
        """Whether residuals that follow each other in time are correlated.

        The statistic is the correlation of successive residuals. Its p value comes from the same statistic of the
        simulations, which have the correlations that the model knows (group effects), and is two-sided.

        Args:
            time: Name of a numeric column of the formula, or one number or date per row of the data.
            group: Name of a column or grouping factor whose levels are separate series, or one label per row; None for
                a single series.

        Returns:
            ``.table`` with one row with columns correlation, expected, p_value.

        Raises:
            OptionError: If an argument is no column, or has not one value per row.
            DataError: If two rows of a series have the same time, or no series has two rows.

        Example:
            >>> import unimix as um
            >>> sleep = um.load_dataset("sleepstudy")
            >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", sleep)
            >>> residuals = fit.simulated_residuals(effects="drawn", seed=1)
            >>> residuals.test_autocorrelation("Days", group="Subject").table.round(2)
                       correlation  expected  p_value
            residuals         0.37      -0.0     0.01
        """
        at = numbers(self._design, time, "time").to_numpy()
        series = np.zeros(len(at), dtype=np.int64)
        if group is not None:
            series = pd.factorize(row_values(self._design, group, "group"))[0].astype(np.int64)
        order = np.lexsort((at, series))
        first = np.concatenate([[True], np.diff(series[order]) != 0])
        same = ~first & (np.concatenate([[1.0], np.diff(at[order])]) == 0)
        if same.any():
            more = "name the series by group=" if group is None else "average them before the fit, or leave rows out"
            raise DataError(f"{int(same.sum())} rows have the same time as another one of their series: {more}.")
        if first.all():
            raise DataError("No series has two rows.")
        return self._tested(lag_one(self._all, order, first), "correlation", "Temporal autocorrelation of residuals")

    def test_spatial(self, x: Any, y: Any) -> TableResult:
        """Whether residuals of near places are alike, by Moran's I with inverse distances as weights.

        Residuals of the same place are averaged. The two-sided p value comes from the same statistic of the
        simulations.

        Args:
            x: First coordinate: name of a numeric column of the formula, or one number per row of the data.
            y: Second coordinate.

        Returns:
            ``.table`` with one row with columns moran, expected, p_value.

        Raises:
            OptionError: If an argument is no column, or has not one value per row.
            DataError: If there are fewer than three places, or more than 4,000.

        Example:
            >>> import numpy as np
            >>> import unimix as um
            >>> ticks = um.load_dataset("grouseticks")
            >>> place = np.random.default_rng(1).normal(size=(2, len(ticks)))
            >>> fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson")
            >>> residuals = fit.simulated_residuals(effects="drawn", seed=1)
            >>> bool(residuals.test_spatial(place[0], place[1]).table["p_value"].item() > 0.05)
            True
        """
        points = np.column_stack([numbers(self._design, v, a).to_numpy() for v, a in ((x, "x"), (y, "y"))])
        places, codes = np.unique(points, axis=0, return_inverse=True)
        codes = codes.ravel()
        if not 3 <= len(places) <= MOST_PLACES:
            raise DataError(
                f"{len(places)} places: at least 3 and at most {MOST_PLACES:,} can be compared. Round the coordinates "
                "to a coarser grid if they are too many."
            )
        counts = np.bincount(codes)
        order = np.argsort(codes, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        means = np.add.reduceat(self._all[:, order], starts, axis=1) / counts
        distances = np.sqrt(((places[:, None, :] - places[None, :, :]) ** 2).sum(axis=2))
        np.fill_diagonal(distances, np.inf)
        return self._tested(moran(means, 1.0 / distances), "moran", "Spatial autocorrelation of residuals (Moran's I)")

    def _tested(self, statistics: FloatArray, name: str, heading: str) -> TableResult:
        values = {name: statistics[0], "expected": statistics[1:].mean(), "p_value": monte_carlo_p(statistics)}
        return TableResult(pd.DataFrame({k: [v] for k, v in values.items()}, index=["residuals"]), self.notes, heading)

    def plot(self, x: Any = None, *, draw: bool = True) -> Any:
        """Draw the residuals: their quantiles against those of the uniform distribution, and against a predictor.

        Against a numeric predictor, lines show the quartiles of the residuals in bins of equally many rows, which
        should lie at 0.25, 0.5 and 0.75; against a factor there are boxes.

        Args:
            x: Predictor of the second panel: name of a column of the formula, or one value per row of the data. None
                takes the ranks of the fitted values.
            draw: Whether to draw; if not, the data are returned.

        Returns:
            The two matplotlib Axes. With ``draw=False`` one row per row that was fitted: columns residual, quantile
            (of the uniform distribution), fitted, x.

        Raises:
            OptionError: If ``x`` is no column, or has not one value per row.
            EngineNotInstalledError: If matplotlib is missing.
        """
        ranks = pd.Series(self.residuals).rank().to_numpy()
        data = pd.DataFrame({"residual": self.residuals, "quantile": (ranks - 0.5) / len(ranks), "fitted": self.fitted})
        if x is None:
            data["x"], label = pd.Series(self.fitted).rank(pct=True), "rank of the fitted values"
        else:
            data["x"] = values = row_values(self._design, x, "x")
            label = str(values.name)
        if not draw:
            return data
        from unimix.plots.residuals import draw_residuals

        return draw_residuals(data, label=label, title=self._formula)


def simulated_residuals(
    fit: FittedModel,
    n: int = 250,
    *,
    effects: Literal["new", "drawn", "kept"] = "new",
    seed: int = 0,
) -> SimulatedResiduals:
    """Quantile residuals: the place of each response among responses that are simulated from the fitted model.

    They are uniform on (0, 1) for every family if the model is right, where Pearson residuals of counts and proportions
    have no known distribution. Responses that are equal to simulated ones are placed at random among them (Dunn & Smyth
    1996, J. Comput. Graph. Stat. 5:236-244). The tests follow the R package DHARMa; their p values come from the same
    statistics of the simulations, so that they also hold where residuals of a group are correlated. Parameters are
    taken as known, which makes tests of what was fitted (uniformity, dispersion) conservative.

    Three kinds of simulations answer three questions. ``effects="new"`` draws group effects anew (DHARMa's default) and
    checks the whole model. ``effects="drawn"`` checks the distribution given the group effects: all coefficients are
    drawn once from their distribution given the data, after which residuals of a right model are independent
    (Waagepetersen 2006, Scand. J. Stat. 33:721-731; Johnson 2004, Ann. Stat. 32:2361-2384, for posteriors).
    ``effects="kept"`` takes the estimated group effects, as DHARMa does with ``re.form = NULL``.

    Args:
        n: Number of simulated responses of each row.
        effects: Treatment of the group effects.
        seed: Seed of the random numbers.

    Returns:
        ``.residuals``, shape (n_obs,); ``.table`` with tests of uniformity, dispersion, outliers and zeros;
        ``.test_autocorrelation(time)``, ``.test_spatial(x, y)`` and ``.plot(x)``.

    Raises:
        OptionError: If ``n`` is below 20 or too large for the free memory, or ``effects`` is unknown.
        DataError: If the result was loaded without its data.
        UnsupportedModelError: If rows stand for several responses, or the dispersion has a formula.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("TICKS ~ YEAR + (1 | BROOD)", um.load_dataset("grouseticks"), family="poisson")
        >>> residuals = fit.simulated_residuals(effects="drawn", seed=1)
        >>> residuals.table["p_value"].round(3).to_dict()
        {'uniformity': ..., 'dispersion': ..., 'outliers': ..., 'zeros': ...}
    """
    check_seed(seed)
    faults = [count_fault("n", n, FEWEST, "simulated responses (250 is DHARMa's number)")]
    if effects not in CONDITIONS:
        choose = f"effects={effects!r}: choose 'new', 'drawn' or 'kept'."
        faults.append(f"{choose}{did_you_mean(str(effects), tuple(CONDITIONS))}")
    faults.append("" if faults[0] else memory_fault("n", n, 4 * fit.model.n_obs, "simulated responses"))
    if told := [f for f in faults if f]:
        raise OptionError("\n".join(told))
    design = fit.design()
    drawn = _given_one_draw(fit, int(n), seed) if effects == "drawn" else draw_responses(fit, int(n), seed, effects)
    if not np.isfinite(drawn).all():
        raise UnsupportedModelError(
            "Some simulated responses are not defined, because linear predictors lie outside the range of the link "
            f"({fit.family.link}). Fit with a link whose inverse is always defined, such as 'log'."
        )
    values = np.vstack([design.y, drawn])
    every = randomised_ranks(values, np.random.default_rng([seed, 3]))
    return SimulatedResiduals(every[0], drawn.mean(axis=0), effects, every, values, design, fit.model.formula)


def _given_one_draw(fit: FittedModel, n: int, seed: int) -> FloatArray:
    """Responses given one draw of the coefficients from their distribution given the data, shape (n, n_obs)."""
    rng = np.random.default_rng([seed, 5])
    own = simulator_of(fit, "kept")
    draws, gamma = draws_of_both_parts(fit, fit.status.n_draws or 1 if is_sampled(fit) else 1, seed=seed)
    k, zero = int(rng.integers(len(draws))), own.design.zero
    own = replace(
        own,
        share=own.share if gamma is None or zero is None else special.expit(-(zero.x @ gamma[k])),
        beta=draws.beta[k],
        covariances=tuple(c[k] for c in draws.covariances),
        parameters=draws.parameters[k],
        effects=tuple(e[k] for e in draws.effects),
    )
    return np.array([own.draw(rng) for _ in range(n)])


__all__ = ["SimulatedResiduals", "simulated_residuals"]
