"""Capability and family sheets of unimix's own engine."""

from __future__ import annotations

from unimix.backends.capabilities import Capabilities, Never, Yes
from unimix.backends.family_support import FamilySheet
from unimix.design.arrays import Design
from unimix.design.grouping_factors import is_nested
from unimix.design.modelled_variances import faults

_NO_POSTERIOR = Never("pls maximises a likelihood; it has no posterior.")
CAPABILITIES = Capabilities(
    no_random_part=Yes(),
    group_effects=Yes(),
    weights=Yes(),
    offset=Yes("subtracted from the response and added back"),
    likelihood=Yes(),
    bayesian=_NO_POSTERIOR,
    approximate_posterior=Never("pls maximises a likelihood."),
    degrees_of_freedom=Yes("from the criterion's exact derivatives"),
    structures=Yes("in linear models"),
    residual_covariance=Yes("in linear models, for group effects within the groups of the residuals"),
    zero_inflation=Yes(),
    dispersion_formula=Yes("on the log scale; of a linear model, the residual standard deviations"),
    known=Yes("in linear models"),
    smooths=Yes("as random effects with one variance"),
)
FAMILIES = FamilySheet({}, {}, others=Yes())
MOST_PARAMETERS, MOST_TIMES = 400, 2000
"""Largest numbers of parameters of the residuals' covariance, and of its times, for which a search takes minutes."""


def residual_limits(design: Design) -> list[str]:
    """Reasons to refuse a covariance of the residuals: its size, or group effects that tie its groups together."""
    block = design.residual
    if block is None:
        return []
    structure, reasons = block.structure, []
    outside = [b.text for b in design.blocks if not is_nested(b.codes, block.codes)]
    if outside:
        reasons.append(
            f"residual={block.text!r} with {', '.join(outside)}: several {block.group} share these effects, and the "
            f"likelihood is computed for one {block.group} at a time. Use group effects within {block.group}, or none"
        )
    if structure.n_times > MOST_TIMES:
        reasons.append(
            f"residual={block.text!r} has {structure.n_times:,} different times, and matrices of more than "
            f"{MOST_TIMES:,} take long. Round the times"
        )
    elif structure.n_parameters > MOST_PARAMETERS:
        reasons.append(
            f"residual={block.text!r} has {structure.n_parameters:,} parameters, and a search over more than "
            f"{MOST_PARAMETERS} takes long. Use a structure with fewer, such as ar1, car1 or cs"
        )
    return reasons


def variance_limits(design: Design) -> list[str]:
    """Reasons to refuse a formula of the residual standard deviations."""
    return faults(design) if design.has_modelled_variances else []
