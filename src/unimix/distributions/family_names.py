"""Names of families that people type, and what they mean here."""

from __future__ import annotations

ALIASES: dict[str, tuple[str, dict[str, str]]] = {
    "normal": ("gaussian", {}),
    "bernoulli": ("binomial", {}),
    "logistic": ("binomial", {"link": "logit"}),
    "logit": ("binomial", {"link": "logit"}),
    "probit": ("binomial", {"link": "probit"}),
    "cloglog": ("binomial", {"link": "cloglog"}),
    "nb": ("negative_binomial", {}),
    "nb2": ("negative_binomial", {}),
    "nbinom": ("negative_binomial", {}),
    "nbinom2": ("negative_binomial", {}),
    "negbinomial": ("negative_binomial", {}),
    "negbin": ("negative_binomial", {}),
    "nb1": ("negative_binomial", {"variance": "linear"}),
    "nbinom1": ("negative_binomial", {"variance": "linear"}),
    "negativebinomial1": ("negative_binomial", {"variance": "linear"}),
    "t": ("student_t", {}),
    "student": ("student_t", {}),
    "tfamily": ("student_t", {}),
    "scat": ("student_t", {}),
    "betafamily": ("beta", {}),
    "betar": ("beta", {}),
    "betabinomial2": ("beta_binomial", {}),
    "loggaussian": ("lognormal", {}),
    "lognorm": ("lognormal", {}),
    "wald": ("inverse_gaussian", {}),
    "invgauss": ("inverse_gaussian", {}),
    "genpois": ("generalised_poisson", {}),
    "genpoisson": ("generalised_poisson", {}),
    "generalizedpoisson": ("generalised_poisson", {}),
    "ztpoisson": ("truncated_poisson", {}),
    "zerotruncatedpoisson": ("truncated_poisson", {}),
    "positivepoisson": ("truncated_poisson", {}),
    "truncatednbinom2": ("truncated_negative_binomial", {}),
    "truncatednbinom": ("truncated_negative_binomial", {}),
    "ztnb": ("truncated_negative_binomial", {}),
    "ztnbinom": ("truncated_negative_binomial", {}),
    "zerotruncatednegativebinomial": ("truncated_negative_binomial", {}),
    "skewednormal": ("skew_normal", {}),
    **dict.fromkeys(("ordinal", "ordered", "clm", "clmm", "polr", "propodds", "proportionalodds"), ("cumulative", {})),
    **dict.fromkeys(
        ("ologit", "cumulativelogit", "orderedlogit", "ordinallogit", "orderedlogistic"),
        ("cumulative", {"link": "logit"}),
    ),
    **dict.fromkeys(
        ("oprobit", "cumulativeprobit", "orderedprobit", "ordinalprobit"), ("cumulative", {"link": "probit"})
    ),
}
"""Families by the names that other packages have for them, without underscores, and their arguments."""

_ZEROS = "write family='{}', ziformula='~ 1'."
_ORDERED = "Ordered responses are family='cumulative', which has links logit, probit, cloglog, loglog and cauchit."
_UNORDERED = (
    "Responses with several unordered classes are not supported: fit one class against the others by family='binomial'."
)
_SURVIVAL = (
    "Survival times are not supported; 'gamma', 'lognormal' and 'exponential' are for positive responses without "
    "censoring."
)
_HURDLE = (
    "A hurdle model has a formula for the zeros and a family without zeros for the counts above: write family='{}', "
    "ziformula='~ 1'."
)
_TWO_FITS = (
    "A hurdle model of positive values is two fits whose log-likelihoods add up: zero or not by family='binomial', "
    "and the rows above zero by {}."
)
ELSEWHERE: dict[tuple[str, ...], str] = {
    ("zip", "zipoisson", "zeroinflatedpoisson", "zipoissonlog", "zipois"): f"Zero inflation has a formula of its own: "
    f"{_ZEROS.format('poisson')}",
    (
        "zinb",
        "zinegativebinomial",
        "zeroinflatednegativebinomial",
        "zinb2",
        "zinbinomial",
        "zinegbin",
    ): f"Zero inflation has a formula of its own: {_ZEROS.format('negative_binomial')}",
    ("zib", "zibinomial", "zeroinflatedbinomial", "zeroinflatedbeta", "zibeta", "zoib", "zeroinflatedgamma"): "Zero "
    "inflation is for counts: family='poisson' or 'negative_binomial', ziformula='~ 1'.",
    ("hurdlepoisson", "hurdle", "zap", "zapoisson", "hurdlepois"): _HURDLE.format("truncated_poisson"),
    ("hurdlenegativebinomial", "hurdlenb", "hurdlenegbin", "zanb", "zanegbinomial", "hurdlenbinom"): _HURDLE.format(
        "truncated_negative_binomial"
    ),
    ("hurdlegamma", "ziggamma", "zigamma"): _TWO_FITS.format("'gamma'") + " One model of both is family='tweedie'.",
    ("hurdlelognormal",): _TWO_FITS.format("'lognormal'"),
    ("truncatednbinom1",): "Counts without zeros have a quadratic variance here: 'truncated_negative_binomial'.",
    (
        "sratio",
        "cratio",
        "acat",
        "continuationratio",
        "adjacentcategory",
    ): f"Sequential and adjacent-category models are not supported. {_ORDERED}",
    ("multinomial", "categorical", "softmax", "multinom", "mlogit", "multinomiallogit"): _UNORDERED,
    ("shiftedlognormal",): "A shift is not estimated: subtract it from the response, and use family='lognormal'.",
    ("logitnormal", "logisticnormal"): "The logit of the response is normal: compute a column logit(y), and fit it "
    "with family='gaussian'; or use family='beta'.",
    ("quasi", "quasipoisson"): "A quasi-likelihood has no likelihood and no group effects: overdispersed counts are "
    "family='negative_binomial' (variance='linear' for a variance in proportion to the mean), or have an effect per "
    "row, (1 | row).",
    ("quasibinomial",): "A quasi-likelihood has no likelihood and no group effects: overdispersed proportions are "
    "family='beta_binomial', or have an effect per row, (1 | row).",
    ("compois", "compoissonlog", "conwaymaxwellpoisson", "compoisson", "cmp"): "It is not supported: "
    "'generalised_poisson' is for counts that vary more or less than Poisson counts.",
    (*("weibull", "cox", "coxph", "frechet", "loglogistic", "gengamma", "gompertz", "survival", "aft"),): _SURVIVAL,
    ("censored", "tobit", "cnorm", "truncatednormal", "truncnorm"): "Censored and truncated responses are not "
    "supported, and a fit to the values as they are would be biased.",
    ("exgaussian", "asymlaplace", "laplace", "vonmises", "wiener", "cauchy", "hyperbolic"): "It is not supported: "
    "'student_t' has heavy tails; 'skew_normal', 'gamma', 'lognormal' and 'inverse_gaussian' are skewed.",
    ("dirichlet",): "It is not supported: 'beta' is for single proportions strictly between 0 and 1.",
    ("orderedbeta", "ordbeta"): "It is not supported: 'beta' is for proportions strictly between 0 and 1.",
    ("uniform", "geometric", "hypergeometric", "betanegativebinomial"): "It is not supported: 'negative_binomial' is "
    "for overdispersed counts.",
}
"""Names of models that are no family here, without underscores, and what to use instead."""

OUTSIDE: tuple[tuple[str, str], ...] = (
    ("zeroinflat", f"Zero inflation has a formula of its own: {_ZEROS.format('poisson')}"),
    ("hurdle", _HURDLE.format("truncated_poisson")),
    ("ordinal", _ORDERED),
    ("ordered", _ORDERED),
    ("cumulative", _ORDERED),
    ("multinom", _UNORDERED),
    ("categorical", _UNORDERED),
    ("surviv", _SURVIVAL),
    ("weibull", _SURVIVAL),
    ("censor", "Censored responses are not supported, and a fit to the values as they are would be biased."),
    ("truncated", "Truncated counts are 'truncated_poisson' and 'truncated_negative_binomial'."),
)
"""Parts of names that are not known as a whole, and what to use instead; they must not lead to a similar name."""
