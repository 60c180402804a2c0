"""Capability and family sheets of unimix's own engine."""

from __future__ import annotations

from unimix.backends.capabilities import Capabilities, Never, Yes
from unimix.backends.family_support import FamilySheet
from unimix.design.arrays import Design
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


def variance_limits(design: Design) -> list[str]:
    """Reasons to refuse a formula of the residual standard deviations."""
    return faults(design) if design.has_modelled_variances else []
