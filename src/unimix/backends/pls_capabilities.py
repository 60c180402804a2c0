"""Capability and family sheets of unimix's own engine."""

from __future__ import annotations

from unimix.backends.capabilities import Capabilities, Never, NotYet, Yes
from unimix.backends.family_support import FamilySheet

_NO_POSTERIOR = Never("pls maximises a likelihood; it has no posterior. Use backend='pymc'.")
_NO_PART = NotYet("pls does not support this. Use backend='glmmtmb'.")

CAPABILITIES = Capabilities(
    no_random_part=Yes(),
    group_effects=Yes(),
    weights=Yes(),
    offset=Yes("subtracted from the response and added back"),
    likelihood=Yes(),
    bayesian=_NO_POSTERIOR,
    approximate_posterior=Never("pls maximises a likelihood. Use backend='statsmodels'."),
    degrees_of_freedom=Yes("from the criterion's exact derivatives"),
    structures=Yes("in linear models"),
    parts=_NO_PART,
    known=Yes("in linear models"),
)
FAMILIES = FamilySheet({}, {}, others=Yes())
