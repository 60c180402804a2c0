"""Capability and family sheets of glmmTMB."""

from __future__ import annotations

from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Upstream, Yes
from unimix.backends.family_support import FamilySheet

_NO_POSTERIOR = Never("glmmTMB maximises a likelihood; it has no posterior.")
_NO_FAMILY = Upstream("glmmTMB 1.1.5 has no such family.")
_NO_LINK = Upstream("glmmTMB 1.1 has not implemented this link.")
_SAME: dict[str, Answer] = {
    "gaussian": Yes(),
    "binomial(cauchit)": _NO_LINK,
    "binomial": Yes(),
    "poisson": Yes(),
    "gamma": Yes(),
    "negative_binomial": Yes("nbinom2"),
    "negative_binomial_1": Yes("nbinom1"),
    "beta(cauchit)": _NO_LINK,
    "beta": Yes("beta_family"),
    "student_t(log)": _NO_LINK,
    "student_t": Yes("t_family"),
    "beta_binomial(cauchit)": _NO_LINK,
    "beta_binomial": Yes("betabinomial"),
    "generalised_poisson": Yes("genpois"),
    "truncated_poisson": Yes(),
    "truncated_negative_binomial": Yes("truncated_nbinom2"),
    "tweedie": Yes(),
}

CAPABILITIES = Capabilities(
    no_random_part=Yes(),
    group_effects=Yes(),
    weights=Yes("rows scaled by sqrt(w) in Gaussian models, where glmmTMB's weights count likelihoods"),
    offset=Yes("subtracted from the response and added back in Gaussian models"),
    likelihood=Yes(),
    agq=Never("glmmTMB integrates by Laplace's approximation."),
    bayesian=_NO_POSTERIOR,
    priors=Upstream("glmmTMB 1.1.5 has no priors."),
    satterthwaite=Yes("by unimix at glmmTMB's estimates (it reports z)"),
    kenward_roger=Yes("by unimix at glmmTMB's estimates"),
    compound_symmetry=Yes("a variance per column and one correlation"),
    autoregressive=Yes("one variance and one correlation between neighbouring times"),
    toeplitz=Yes("a variance per column and a correlation per lag"),
    smooths=NotYet("glmmTMB has s() from version 1.1.8 on, and the adapter does not use it."),
    decay=Yes("its ou, exp and gau, at the coordinates of the columns"),
    homogeneity=NotYet(
        "the adapter does not use glmmTMB's homdiag, homcs, homtoep and hetar1, which came after 1.1.5."
    ),
    zero_inflation=Yes(),
    residual_covariance=Yes("as effects of every row, + ar1(0 + time | id) with dispformula = ~ 0"),
    dispersion_formula=Yes("on the log scale"),
)
FAMILIES = FamilySheet(_SAME, _SAME, others=_NO_FAMILY)
