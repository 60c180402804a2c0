"""Adapter for pymer4: its ``lmer`` class fits the model, and the results are read from the R model that it keeps.

pymer4 is another interface to lme4. The adapter uses its class as pymer4's users do, on a polars frame with generated
columns. It does not read pymer4's tables, which omit ``REML=False``, call a singular fit converged, and list
conditional coefficients under the name of fixed effects.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from unimix.backends.base import BackendInfo, Problem
from unimix.backends.capture import unique_lines
from unimix.backends.cost import Pace
from unimix.backends.r import glmer
from unimix.backends.r.backend import RBackend, prior_weights, r_family
from unimix.backends.r.bridge import (
    LOCK,
    RBridge,
    at_work,
    connect,
    conversions,
    immediate_warnings,
    placeholders,
    quiet_console,
)
from unimix.backends.r.mermod import (
    PYMER4_FAMILIES,
    R_PACKAGES,
    LmerBackend,
    call_text,
    effects_are_ours,
    evaluate,
    first_start,
    homoscedastic,
    n_starts_provenance,
    read_lm,
    read_merMod,
    theta_to_restart,
)
from unimix.backends.r.packages import OPTIONAL, REQUIRED
from unimix.errors import EngineNotInstalledError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from unimix.backends.family_support import FamilySheet
    from unimix.design.arrays import Design
    from unimix.design.estimates import Estimates

FloatArray = npt.NDArray[np.float64]
_STARTS = (0.1, 3.0, 0.01)
_ROUNDING = 1e-13
_TABLES = ("_get_design", "_get_params", "_get_fit_stats", "_get_fits_resids", "_handle_rfx")
"""Steps of ``fit`` in pymer4 0.9.2 after R has fitted the model."""
_UNCHECKED = {f"check.{c}": "ignore" for c in ("nobs.vs.nlev", "nobs.vs.nRE", "nobs.vs.rankZ", "rankX", "scaleX")}


class Pymer4(LmerBackend):
    """pymer4's ``lmer`` and ``glmer`` (``lm`` and ``glm`` without a random part)."""

    info: ClassVar[BackendInfo] = BackendInfo(
        name="pymer4",
        engine="lme4",
        title="lme4 (R) through pymer4",
        packages=("pymer4", "rpy2", "polars"),
        distributions=("pymer4", "rpy2"),
        extra="pymer4",
        url="https://eshinjolly.com/pymer4",
        reference="Jolly, E. (2018). Pymer4: Connecting R and Python for linear mixed modeling. Journal of Open Source "
        "Software, 3(31), 862. https://doi.org/10.21105/joss.00862",
        strengths="lme4 through another interface; needs R",
        rank=70,
        r_packages=REQUIRED["pymer4"],
        r_optional=OPTIONAL["pymer4"],
    )
    families: ClassVar[FamilySheet] = PYMER4_FAMILIES
    per_row: ClassVar[float] = 40.0  # its tables hold every row several times
    pace: ClassVar[Pace] = Pace(
        call=0.35,
        rows=80.0,
        products=14.0,
        visits=17.0,
        moments=5.1,
        pairs=0.68,
        crossed_rows=4.7,
        crossed_moments=0.11,
        dense_pairs=1.2,
    )  # lme4's, and the tables
    r_engine: ClassVar[tuple[str, ...]] = (*R_PACKAGES, "lmerTest")

    def load(self) -> Any:
        """Start R, check its packages and import pymer4 (about ten seconds the first time)."""
        self.checked_bridge()
        if "pymer4.models" not in sys.modules:
            absent = placeholders(self.info.r_optional, self.info.name)
            with LOCK, quiet_console(), immediate_warnings(), absent:
                super(RBackend, self).load()
                importlib.import_module("pymer4.models")
        return sys.modules["pymer4.models"]

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        if not problem.design.family.is_linear:
            settings = self.glmer_settings(problem.request)
            return glmer.with_looser_tolerance(settings, lambda looser: self._fit_generalised(engine, problem, looser))
        bridge = connect(self.info.name, self.install_lines)
        design, constant, provenance = homoscedastic(problem.design, self.r_request(problem.request))
        data, text = _frame(design)
        call = call_text(text, design, problem.request, self.control_text())
        with conversions(), at_work(warns=True) as said:
            model = (engine.lmer if design.blocks else engine.lm)(text, data, weights=design.weights)
            search = self._steer(model, bridge, problem) if design.blocks else _Search()
            trouble = _run(model)
        notes = [*unique_lines("".join([*said, *search.said])), *trouble]
        provenance = {"engine": "lme4, through pymer4's own class; values read from its r_model", **provenance}
        if not design.blocks:
            answer = bridge.call("extract_lm", model.r_model)
            return read_lm({**answer, "model": model, "notes": [*answer["notes"], *notes]}, problem, call)
        answer = bridge.call(
            "extract_model",
            model.r_model,
            len(design.blocks),
            problem.coefficients,
            self.r_request(problem.request).df_method,
            not effects_are_ours(design),
        )
        answer |= {"model": model, "notes": [*answer["notes"], *notes]}
        finished = int(answer["code"][0]) == 0
        provenance |= n_starts_provenance(search.n_starts)
        evaluation = evaluate(answer, design, reml=problem.request.reml)
        return read_merMod(answer, problem, constant, provenance, call, finished=finished, evaluation=evaluation)

    def _fit_generalised(self, engine: ModuleType, problem: Problem, settings: glmer.Settings) -> Estimates:
        bridge = connect(self.info.name, self.install_lines)
        design = problem.design
        name, link = r_family(design.family)
        data, text = _frame(design)
        weights = prior_weights(design)
        with conversions(), at_work(warns=True) as said:
            model = (engine.glmer if design.blocks else engine.glm)(
                text,
                data,
                family=name.replace(".", "_"),  # rpy2's name of R's function
                link=link,
                weights=weights if len(weights) else None,
            )
            search = (
                _steer_glmer(model, bridge, problem, settings) if design.blocks else _steer_glm(model, bridge, problem)
            )
            trouble = _run(model)
        notes = [*unique_lines("".join([*said, *search.said])), *trouble]
        call = glmer.call_text(text, design, settings)
        more = {"model": model, "size": np.array([np.nan])}
        provenance = {"engine": "lme4, through pymer4's own class; values read from its r_model"}
        if not design.blocks:
            answer = bridge.call("extract_glm", model.r_model)
            estimates = glmer.read_glm({**answer, **more, "notes": [*answer["notes"], *notes]}, problem, call)
            return replace(estimates, provenance={**estimates.provenance, **provenance})
        answer = bridge.call("extract_model", model.r_model, len(design.blocks), np.empty((0, 0)), "normal", True)
        answer |= {**more, "notes": [*answer["notes"], *notes]}
        return glmer.read_glmer(answer, problem, settings, provenance | n_starts_provenance(search.n_starts), call)

    def _steer(self, model: Any, bridge: RBridge, problem: Problem) -> _Search:
        """Make the class pass on the method, the controls and further starts, for which ``fit`` has no arguments."""
        lmer, record = model._r_func, _Search()
        controls = importlib.import_module("pymer4.tidystats.lmerTest").lmer_control
        settings = controls(
            optimizer=self.optimizer,
            optCtrl=bridge.named_list(self.controls()),
            **_UNCHECKED,
        )

        def search(formula: str, data: Any, start: Any = None, **others: Any) -> Any:
            record.n_starts += 1
            more = {} if start is None else {"start": np.asarray(start, dtype=np.float64)}
            return lmer(formula, data, REML=problem.request.reml, control=settings, **more, **others)

        def further(state: dict[str, Any]) -> list[Any]:
            if not self.restarts:
                return []
            if effects_are_ours(problem.design):
                start = theta_to_restart(state, problem.design, reml=problem.request.reml)
                return [] if start is None else [start]
            return _scaled_starts(state, self.restarts)

        blocks, chosen = len(problem.design.blocks), first_start(self.start, problem)
        model._r_func = _best_of(search, further, chosen, model, bridge, record, blocks)
        return record


def _scaled_starts(state: dict[str, Any], count: int) -> list[Any]:
    """Starts with unequal variances for another search after one that ended on the boundary."""
    return [np.where(state["diagonal"], scale, 0.0) for scale in _STARTS[:count]] if state["singular"][0] else []


@dataclass
class _Search:
    """Record of R's messages during the fit, without the later warnings of pymer4's own tables."""

    n_starts: int = 0
    said: list[str] = field(default_factory=list)


def _best_of(
    search: Callable[..., Any],
    further: Callable[[dict[str, Any]], list[Any]],
    chosen: Any,
    pymer: Any,
    bridge: RBridge,
    record: _Search,
    n_blocks: int,
) -> Callable[..., Any]:
    """Make a fitter that tries further starts if the first search ended on the boundary or short of the optimum.

    Args:
        search: Function that fits from one start.
        further: Function that returns further starts, from the result of ``boundary`` in ``lme4.R`` at the first end.
        chosen: Start given by the user, which excludes further starts; or None.
        pymer: Model object of pymer4.
        bridge: Connection to R.
        record: Record of R's messages.
        n_blocks: Number of random terms.
    """

    def best(formula: str, data: Any, **others: Any) -> Any:
        model = search(formula, data, chosen, **others)
        state = bridge.call("boundary", model, n_blocks)
        if chosen is None:
            for start in further(state):
                other = search(formula, data, start, **others)
                refit = bridge.call("boundary", other, n_blocks)
                if refit["log_likelihood"][0] > state["log_likelihood"][0] + 1e-9:
                    model, state = other, refit
        record.said = list(pymer.r_console)
        return model

    return best


def _steer_glmer(model: Any, bridge: RBridge, problem: Problem, settings: glmer.Settings) -> _Search:
    """Make ``glmer`` pass on controls, quadrature, offset and further starts."""
    fitter, record = model._r_func, _Search()
    library = importlib.import_module("pymer4.tidystats.lmerTest").lib_lmer
    control = library.glmerControl(
        optimizer=settings.optimizer,
        optCtrl=bridge.named_list({k: float(v) for k, v in settings.control.items()}),
        tolPwrss=settings.tolerance,
        **_UNCHECKED,
    )
    offset = {} if problem.design.offset is None else {"offset": problem.design.offset}

    def search(formula: str, data: Any, start: Any = None, **others: Any) -> Any:
        record.n_starts += 1
        more = {} if start is None else {"start": np.asarray(start, dtype=np.float64)}
        return fitter(formula, data, control=control, nAGQ=settings.n_agq, **offset, **more, **others)

    def further(state: dict[str, Any]) -> list[Any]:
        return _scaled_starts(state, settings.restarts)

    model._r_func = _best_of(search, further, settings.start, model, bridge, record, len(problem.design.blocks))
    return record


def _steer_glm(model: Any, bridge: RBridge, problem: Problem) -> _Search:
    """Make ``glm`` pass on the offset and a tighter tolerance than its default."""
    del bridge
    fitter = model._r_func
    library = importlib.import_module("pymer4.models.glm").lib_stats
    offset = {} if problem.design.offset is None else {"offset": problem.design.offset}

    def fit(formula: str, data: Any, **others: Any) -> Any:
        return fitter(formula, data, control=library.glm_control(epsilon=1e-12, maxit=200), **offset, **others)

    model._r_func = fit
    return _Search()


def _run(model: Any) -> list[str]:
    """Call ``fit``; if only its tables fail, after R has fitted, return a note and continue with the R model.

    Tables that need an R package that is not installed are omitted; ``Pymer4.info.r_optional`` names them.
    """
    for step in _TABLES:
        if hasattr(model, step):
            setattr(model, step, _where_possible(getattr(model, step)))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the text that it also stores in r_console
            model.fit()
    # raised by its last table, which needs insight; packages needed for the fit have been checked before
    except EngineNotInstalledError:
        return []
    except Exception as error:
        if model.r_model is None:
            raise
        return [f"pymer4's own tables could not be made ({type(error).__name__}: {error}); they are not used here."]
    return []


def _where_possible(step: Callable[..., None]) -> Callable[..., None]:
    """Wrap a step so that it ends with its partial result if it needs an R package that is not installed."""

    def partly(*args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(EngineNotInstalledError):
            step(*args, **kwargs)

    return partly


def _frame(design: Design) -> tuple[Any, str]:
    """Data frame of the columns with generated names, without repetitions (pymer4 converts slowly), and the formula."""
    import polars as pl

    columns: dict[str, Any] = {"y": design.y}

    def side(matrix: FloatArray, prefix: str) -> str:
        names = []
        for j, column in enumerate(np.ascontiguousarray(matrix.T)):
            if j == 0 and np.abs(column - 1).max() < _ROUNDING:
                names.append("1")
                continue
            known = next((name for name, values in columns.items() if np.array_equal(values, column)), None)
            names.append(known or f"{prefix}{j}")
            columns.setdefault(names[-1], column)
        return " + ".join(names if names[:1] == ["1"] else ["0", *names])

    parts = [side(design.x, "x")]
    for k, block in enumerate(design.blocks):
        parts.append(f"({side(block.z, f'z{k}_')} | g{k})")
    for k, block in enumerate(design.blocks):
        columns[f"g{k}"] = (block.codes + 1).astype(np.int32)  # lme4 sorts numbers as numbers
    return pl.DataFrame(columns), f"y ~ {' + '.join(parts)}"
