"""Capability and family sheets of statsmodels."""

from __future__ import annotations

from unimix.backends.capabilities import Answer, Capabilities, Never, NotYet, Upstream, Yes
from unimix.backends.family_support import FamilySheet, all_families

_NO_GLMM = Upstream(
    "statsmodels maximises no likelihood of a generalised mixed model; it has approximate posteriors, "
    "method='variational' or 'MAP'."
)
_NO_PART = Upstream("statsmodels' mixed models do not support this.")

CAPABILITIES = Capabilities(
    smooths=Never("statsmodels' mixed models have no smooths."),
    no_random_part=Yes("by OLS, GLM, NegativeBinomial and BetaModel"),
    random_intercept=Yes(),
    correlated_terms=Yes("in Gaussian models; the Bayesian ones have independent effects only"),
    independent_terms=Yes("as variance components"),
    several_correlated_blocks=Never("MixedLM has room for one correlated block, exog_re."),
    nested_factors=Yes("the inner factor as variance components within groups of the outer one"),
    crossed_factors=Yes("as variance components on one group of all tied rows; slow beyond small data"),
    correlated_crossed=Never(
        "MixedLM's correlated effects must belong to the factor that splits the data into independent groups; "
        "crossed and inner factors can only have uncorrelated terms, (1 + x || g)."
    ),
    weights=Yes("rows scaled by sqrt(w), and sum(log w) / 2 added to the log-likelihood (exact)"),
    offset=Yes("subtracted from the response and added back"),
    likelihood=Yes(),
    laplace=_NO_GLMM,
    agq=_NO_GLMM,
    approximate_posterior=Yes("by BinomialBayesMixedGLM and PoissonBayesMixedGLM"),
    posterior=Never(
        "statsmodels has no sampler: MixedLM maximises a likelihood, and its Bayesian models approximate the "
        "posterior (method='variational' or 'MAP')."
    ),
    priors=Never("MixedLM has no priors, and those of the Bayesian models are the options fe_p and vcp_p."),
    satterthwaite=Yes("by unimix at statsmodels' estimates (it reports z)"),
    kenward_roger=Yes("by unimix at statsmodels' estimates"),
    structures=_NO_PART,
    parts=_NO_PART,
    residual_covariance=Upstream("statsmodels estimates no correlations of residuals by maximum likelihood."),
)

_TWO_ONLY = "statsmodels has mixed models of two generalised families, BinomialBayesMixedGLM and PoissonBayesMixedGLM"
_NO_LINK = Upstream(f"{_TWO_ONLY}, each with its canonical link only (logit, log).")
_NO_FAMILY = Upstream(f"{_TWO_ONLY}, and none with a dispersion parameter.")
_BAYES = Yes("an approximate posterior, variational or MAP, of independent effects")
_MIXED: dict[str, Answer] = {
    "gaussian(identity)": Yes("by MixedLM"),
    "gaussian": _NO_FAMILY,
    "binomial(logit)": _BAYES,
    "binomial": _NO_LINK,
    "poisson(log)": _BAYES,
    "poisson": _NO_LINK,
    **{f.label: _NO_FAMILY for f in all_families() if f.name not in ("gaussian", "binomial", "poisson")},
}
_LOG_ONLY = Upstream(
    "statsmodels estimates the dispersion of a negative binomial with the log link only; its GLM takes it as known."
)
_PLAIN: dict[str, Answer] = {
    "gaussian(identity)": Yes("by OLS"),
    "gaussian": Yes("by GLM"),
    "binomial": Yes("by GLM"),
    "poisson": Yes("by GLM"),
    "gamma": Yes("by GLM"),
    "inverse_gaussian": Yes("by GLM"),
    "negative_binomial(log)": Yes("by NegativeBinomial, nb2"),
    "negative_binomial": _LOG_ONLY,
    "negative_binomial_1(log)": Yes("by NegativeBinomial, nb1"),
    "negative_binomial_1": _LOG_ONLY,
    "beta": Yes("by BetaModel"),
    "student_t": Upstream(
        "statsmodels has Student's t only as an experiment without derivatives (miscmodels.TLinearModel)."
    ),
}
_NOT_CALLED = NotYet("unimix does not call statsmodels for this family, or statsmodels has none.")
FAMILIES = FamilySheet(_MIXED, _PLAIN, others=_NOT_CALLED)
