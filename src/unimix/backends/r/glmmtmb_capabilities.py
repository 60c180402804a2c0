"""What glmmTMB can do."""

from __future__ import annotations

from unimix.backends.capabilities import Answer, Capabilities, Never, Upstream, Yes
from unimix.backends.family_support import FamilySheet
from unimix.design.features import Feature

_NO_POSTERIOR = Never("glmmTMB maximises a likelihood; it has no posterior. Use backend='pymc'.")
_NO_FAMILY = Upstream("glmmTMB 1.1 has no such family. Use backend='pymc'.")
_NO_LINK = Upstream("glmmTMB 1.1 has not implemented this link. Use backend='pymc', or 'lme4' where it has it.")
_SAME: dict[str, Answer] = {
    "gaussian": Yes(),
    "binomial(cauchit)": _NO_LINK,
    "binomial": Yes(),
    "poisson": Yes(),
    "gamma": Yes(),
    "inverse_gaussian": _NO_FAMILY,
    "negative_binomial": Yes("nbinom2"),
    "negative_binomial_1": Yes("nbinom1"),
    "beta(cauchit)": _NO_LINK,
    "beta": Yes("beta_family"),
    "student_t": _NO_FAMILY,
}

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
        Feature.WEIGHTS: Yes("rows scaled by sqrt(w) in Gaussian models, where glmmTMB's weights count likelihoods"),
        Feature.OFFSET: Yes("subtracted from the response and added back in Gaussian models"),
        Feature.REML: Yes(),
        Feature.ML: Yes(),
        Feature.LAPLACE: Yes(),
        Feature.AGQ: Never("glmmTMB integrates by Laplace's approximation. Use backend='lme4' with method='AGQ'."),
        Feature.APPROXIMATE_POSTERIOR: _NO_POSTERIOR,
        Feature.POSTERIOR: _NO_POSTERIOR,
        Feature.PRIORS: Upstream("glmmTMB 1.1.5 has no priors. Use backend='pymc'."),
        Feature.SATTERTHWAITE: Yes("by unimix at glmmTMB's estimates (it reports z)"),
        Feature.KENWARD_ROGER: Yes("by unimix at glmmTMB's estimates"),
        Feature.COMPOUND_SYMMETRY: Yes("a variance per column and one correlation"),
        Feature.AUTOREGRESSIVE: Yes("one variance and one correlation between neighbouring times"),
        Feature.ZERO_INFLATION: Yes(),
        Feature.DISPERSION_FORMULA: Yes("on the log scale"),
    }
)
FAMILIES = FamilySheet(_SAME, _SAME)
