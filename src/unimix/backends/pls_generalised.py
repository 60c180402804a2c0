"""Generalised models of unimix's own engine: Laplace's approximation, quadrature, and models without group effects."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.design.estimates import Estimates
from unimix.errors import FitError, listing
from unimix.likelihood.glmm.criterion import LaplaceCriterion
from unimix.likelihood.glmm.laplace import laplace_at
from unimix.likelihood.glmm.optimise import joint_covariance_of, thresholds_of
from unimix.likelihood.glmm.row_model import RowModel
from unimix.likelihood.glmm.separation import undetermined_categories
from unimix.likelihood.lmm.conditioning import column_scale, is_singular, restore
from unimix.likelihood.lmm.newton_decrement import WORTHWHILE, stopped_short

if TYPE_CHECKING:
    from unimix.backends.base import FitRequest, Problem
    from unimix.design.arrays import Design

FloatArray = npt.NDArray[np.float64]
PEAKS = (
    "; with heavy tails the effect of a group may have several likely values, which Laplace's approximation does not "
    "see. Use backend='bayes', which integrates over them"
)
"""What is added to a fault of a fit with Student's t."""


def limits(design: Design, request: FitRequest) -> list[str]:
    """Reasons to refuse a generalised model beyond the sheets."""
    if any(b.structure != "us" and not b.is_smooth for b in design.blocks):
        structures = listing(dict.fromkeys(b.structure for b in design.blocks if b.structure != "us"))
        return [f"{structures} covariances of a generalised model: pls has them for linear models. Use 'glmmtmb'"]
    if design.dispersion is not None and len(design.family.parameters) > 1:
        both = " and ".join(design.family.parameters)
        return [f"dispformula= with the {design.family.name} family, which has {both}: leave it out"]
    return request.quadrature_faults(design, "use method='Laplace' or backend='pymc'")


def start_near(design: Design, like: Design, nodes: int) -> None:
    """Search the likelihood of a changed design from the maximum of the original one alone, as ``bootMer`` does.

    Args:
        design: Design with another response or other rows.
        like: Original design, whose maximum is known or is searched now.
        nodes: Number of nodes of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    """
    with contextlib.suppress(FloatingPointError):  # the fit itself searches from the usual starts
        LaplaceCriterion.of(design).search_near(LaplaceCriterion.of(like), nodes)


def fit(problem: Problem, n_agq: int, call: str) -> Estimates:
    """Fit a generalised model.

    Args:
        problem: Generalised model, with or without blocks.
        n_agq: Number of quadrature nodes for the method AGQ.
        call: Text of the call that the result shows.

    Raises:
        FitError: If the likelihood is not finite at any start.
    """
    request, criterion = problem.request, LaplaceCriterion.of(problem.design)
    design = criterion.rows
    nodes = request.nodes(design, n_agq)
    try:
        optimum = criterion.search(nodes)
    except FloatingPointError as error:
        raise FitError(f"pls found no start: {error}. Another link may help, such as the log link.") from error
    point = optimum.point
    covariances = tuple(f @ f.T for f in point.factors)
    units = [column_scale(b.z) for b in design.blocks]
    singular = is_singular(tuple(c * np.outer(u, u) for c, u in zip(covariances, units, strict=True)), 1.0)
    rows = RowModel.of(design, point.parameters, point.parts)
    at = laplace_at(design, point.beta, covariances, rows.dispersion, zero=rows.predictors.get("zero"))
    parameters = dict(zip(design.parameters, map(float, point.parameters), strict=True))
    name = design.parameters[0] if design.parameters else ""
    first = parameters.get(name, 1.0)
    joint = joint_covariance_of(optimum, design)
    fixed, fault = joint.of["fixed"], joint.fault
    beta_cov = joint.covariance[fixed, fixed]
    unbounded = {n: lost for n in joint.of if len(lost := joint.lost_of(n))}
    if fault and design.family.name == "student_t":
        fault += PEAKS
        if not np.isfinite(beta_cov).all():
            raise FitError(f"pls found no maximum: {fault}.")
    parts = {n: (own, joint.covariance[joint.of[n], joint.of[n]]) for n, own in point.parts.items()}
    thresholds = thresholds_of(optimum, design, joint)
    if thresholds is not None and not (np.isfinite(thresholds[1]).all() and np.diag(thresholds[1]).min() >= 0):
        raise FitError(undetermined_categories("pls", fault, problem.original))
    finished = optimum.gain < WORTHWHILE and not fault
    if not fault and not finished:
        fault = stopped_short(optimum.gain)
    estimates = Estimates(
        beta=point.beta,
        beta_cov=beta_cov,
        covariances=covariances,
        sigma=first if name == "sigma" else float(np.sqrt(first)) if name == "dispersion" else 1.0,
        modes=at.modes,
        mode_covs=at.mode_covs,
        log_likelihood=optimum.value,
        converged=finished,
        parameters=parameters,
        parts=parts if thresholds is None else {"thresholds": thresholds[:2]},
        zero_cross=joint.covariance[fixed, joint.of["zero"]] if "zero" in joint.of else None,
        threshold_cross=None if thresholds is None else thresholds[2],
        unbounded=unbounded,
        std_error_kind="observed information",
        criterion=f"AGQ({nodes})" if nodes > 1 else "",
        singular=singular if design.blocks else False,
        messages=(fault,) if fault else (),
        engine_call=call,
        native=optimum,
    )
    return restore(estimates, criterion.way_back, reml=False)
