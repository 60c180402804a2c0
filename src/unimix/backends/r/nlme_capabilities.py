"""Capability sheet of nlme."""

from __future__ import annotations

from unimix.backends.capabilities import Capabilities, Never, NotYet, Upstream, Yes

CAPABILITIES = Capabilities(
    no_random_part=Yes("by gls"),
    group_effects=Yes(),
    crossed_factors=Yes("as effects of one variance within a group of all rows, up to the option max_crossed"),
    correlated_crossed=Yes("where the other crossed factors have independent effects"),
    weights=Yes("its varFixed, whose variances are the inverse"),
    offset=Yes("subtracted from the response and added back"),
    likelihood=Yes(),
    laplace=Never("nlme is for Gaussian models."),
    agq=Never("nlme is for Gaussian models."),
    bayesian=Never("nlme maximises a likelihood; it has no posterior."),
    satterthwaite=Yes("by unimix at nlme's estimates (its own are those of nested designs)"),
    kenward_roger=Yes("by unimix at nlme's estimates"),
    structures=NotYet(
        "the adapter does not use nlme's pdDiag, pdIdent and pdCompSymm; nlme has no other structures of group effects."
    ),
    zero_inflation=Never("nlme is for Gaussian models."),
    residual_covariance=Yes("corAR1, corCAR1, corExp, corGaus, corCompSymm, corARMA, corSymm, with varIdent"),
    dispersion_formula=NotYet("the adapter uses nlme's varIdent for the times of residual= only."),
    known_sigma=Upstream("with lmeControl(sigma=), nlme 3.1 gives likelihoods that have changed between its versions."),
    relationship=Upstream("nlme has no known relationship matrices."),
)
