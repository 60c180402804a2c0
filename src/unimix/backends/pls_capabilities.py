"""Capability and family sheets of unimix's own engine."""

from __future__ import annotations

from unimix.backends.capabilities import Capabilities, Never, Yes
from unimix.backends.family_support import FamilySheet

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
    dispersion_formula=Yes("on the log scale, in generalised models"),
    known=Yes("in linear models"),
)
FAMILIES = FamilySheet({}, {}, others=Yes())
