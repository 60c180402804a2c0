"""From estimates and a design to a result."""

from __future__ import annotations

from typing import Any

from unimix.design.arrays import Design
from unimix.design.estimates import Estimates
from unimix.fitted.derived_parts import BAYESIAN
from unimix.fitted.schema import EngineInfo
from unimix.fitted.smooth_parts import assembled_with_smooths
from unimix.result import FitResult

COMPUTED = {
    "statistic": "estimate / std_error, computed by unimix",
    "interval": "Wald interval at the stated df, computed by unimix",
    "aic, bic, deviance": "computed by unimix from the log-likelihood",
    "fitted, residuals": "computed by unimix from the design and the estimates",
}


def assemble(
    design: Design,
    estimates: Estimates,
    *,
    method: str,
    engine: EngineInfo,
    provenance: dict[str, str],
    notes: tuple[str, ...],
    ci_level: float,
) -> FitResult:
    """Make the result of a fit.

    Args:
        design: The model that was fitted, in the units of the user's data.
        estimates: Estimates of the engine, in the units of the user's data; of a design with smooths, those of its
            mixed model.
        method: Criterion of the estimates, such as REML, ML or posterior.
        engine: Name, versions, options and call of the engine.
        provenance: Origin of the quantities that the engine did not report itself, by name of the quantity.
        notes: Notes on the fit, beyond those of the design.
        ci_level: Probability of the intervals, between 0 and 1.
    """
    parts: dict[str, Any] = assembled_with_smooths(design, estimates, method=method, ci_level=ci_level)
    bayesian = method in BAYESIAN
    computed = {k: v for k, v in COMPUTED.items() if not bayesian or k.startswith("fitted")}
    return FitResult(**parts, engine=engine, provenance={**computed, **provenance}, notes=(*design.notes, *notes))
