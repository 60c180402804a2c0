"""Capability and family sheets of unimix's own engine."""

from __future__ import annotations

from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Yes
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
)
_ANSWERS: dict[str, Answer] = {
    "gaussian": Yes(),
    "binomial": Yes(),
    "poisson": Yes(),
    "gamma": Yes(),
    "inverse_gaussian": Yes(),
    "negative_binomial": Yes(),
    "negative_binomial_1": Yes(),
    "beta": Yes(),
    "student_t": NotYet("pls has no Student's t. Use backend='pymc'."),
}
FAMILIES = FamilySheet(_ANSWERS, _ANSWERS)
