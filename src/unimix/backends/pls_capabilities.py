"""What unimix's own engine can and cannot fit."""

from __future__ import annotations

from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Yes
from unimix.backends.family_support import FamilySheet
from unimix.design.features import Feature

_NO_POSTERIOR = Never("pls maximises a likelihood; it has no posterior. Use backend='pymc'.")
_NO_PART = NotYet("pls has no such part. Use backend='glmmtmb'.")

CAPABILITIES = Capabilities(
    {
        Feature.NO_RANDOM_PART: Yes(),
        Feature.RANDOM_INTERCEPT: Yes(),
        Feature.CORRELATED_TERMS: Yes(),
        Feature.INDEPENDENT_TERMS: Yes(),
        Feature.SEVERAL_CORRELATED_BLOCKS: Yes(),
        Feature.NESTED_FACTORS: Yes(),
        Feature.CROSSED_FACTORS: Yes(),
        Feature.CORRELATED_CROSSED: Yes(),
        Feature.WEIGHTS: Yes(),
        Feature.OFFSET: Yes("subtracted from the response and added back"),
        Feature.REML: Yes(),
        Feature.ML: Yes(),
        Feature.LAPLACE: Yes(),
        Feature.AGQ: Yes(),
        Feature.APPROXIMATE_POSTERIOR: Never("pls maximises a likelihood. Use backend='statsmodels'."),
        Feature.POSTERIOR: _NO_POSTERIOR,
        Feature.PRIORS: _NO_POSTERIOR,
        Feature.SATTERTHWAITE: Yes("from the criterion's exact derivatives"),
        Feature.KENWARD_ROGER: Yes("from the criterion's exact derivatives"),
        Feature.COMPOUND_SYMMETRY: _NO_PART,
        Feature.AUTOREGRESSIVE: _NO_PART,
        Feature.ZERO_INFLATION: _NO_PART,
        Feature.DISPERSION_FORMULA: _NO_PART,
    }
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
