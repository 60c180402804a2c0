"""Distributions of the response and their links."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from unimix.errors import OptionError, did_you_mean, listing


@dataclass(frozen=True)
class Family:
    """Distribution of the response given its mean, and the link between the mean and the linear predictor.

    Attributes:
        link: Name of the link function.
        name: Name of the family in ``family=``.
        links: Names of the links that the family supports; the first is the default.
        canonical: Link for which expected and observed information are the same; empty if there is none.
        parameters: Names of the dispersion parameters, which are estimated together with the coefficients.
        response: Values that the family describes: real, binomial, count, positive or unit (between 0 and 1).
    """

    link: str = ""
    name: ClassVar[str] = ""
    links: ClassVar[tuple[str, ...]] = ()
    canonical: ClassVar[str] = ""
    parameters: ClassVar[tuple[str, ...]] = ()
    response: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        if isinstance(self.link, str) and not self.link:
            object.__setattr__(self, "link", self.links[0])
        if not isinstance(self.link, str) or self.link not in self.links:
            raise OptionError(
                f"link={self.link!r} is not a link of the {self.name} family."
                f"{did_you_mean(str(self.link), self.links)} Choose {listing(self.links)}."
            )

    @property
    def is_linear(self) -> bool:
        """Whether this is the linear model: Gaussian with the identity link."""
        return self.name == "gaussian" and self.link == "identity"

    @property
    def is_canonical(self) -> bool:
        """Whether the link is the canonical link of the family."""
        return self.link == self.canonical

    @property
    def label(self) -> str:
        """Name of the distribution, which :func:`as_family` accepts."""
        return "negative_binomial_1" if self.parameters == ("alpha",) else self.name

    def __str__(self) -> str:
        more = "".join(
            f", {f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.name != "link" and getattr(self, f.name) != f.default
        )
        return f"{self.name}(link={self.link!r}{more})"


@dataclass(frozen=True)
class Gaussian(Family):
    """Normal distribution: Var(y) = sigma^2 / w."""

    name: ClassVar[str] = "gaussian"
    links: ClassVar[tuple[str, ...]] = ("identity", "log")
    canonical: ClassVar[str] = "identity"
    parameters: ClassVar[tuple[str, ...]] = ("sigma",)


@dataclass(frozen=True)
class Binomial(Family):
    """Binomial distribution of the proportion of successes in trials: Var(y) = mu (1 - mu) / trials."""

    name: ClassVar[str] = "binomial"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog", "cauchit")
    canonical: ClassVar[str] = "logit"
    response: ClassVar[str] = "binomial"


@dataclass(frozen=True)
class Poisson(Family):
    """Poisson distribution of counts: Var(y) = mu."""

    name: ClassVar[str] = "poisson"
    links: ClassVar[tuple[str, ...]] = ("log", "identity", "sqrt")
    canonical: ClassVar[str] = "log"
    response: ClassVar[str] = "count"


@dataclass(frozen=True)
class Gamma(Family):
    """Gamma distribution of positive values with a constant coefficient of variation: Var(y) = dispersion mu^2."""

    name: ClassVar[str] = "gamma"
    links: ClassVar[tuple[str, ...]] = ("log", "inverse", "identity")
    canonical: ClassVar[str] = "inverse"
    parameters: ClassVar[tuple[str, ...]] = ("dispersion",)
    response: ClassVar[str] = "positive"


@dataclass(frozen=True)
class InverseGaussian(Family):
    """Inverse Gaussian distribution of positive values with a long tail: Var(y) = dispersion mu^3."""

    name: ClassVar[str] = "inverse_gaussian"
    links: ClassVar[tuple[str, ...]] = ("log", "inverse", "identity", "inverse_squared")
    canonical: ClassVar[str] = "inverse_squared"
    parameters: ClassVar[tuple[str, ...]] = ("dispersion",)
    response: ClassVar[str] = "positive"


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """Negative binomial distribution of overdispersed counts.

    Attributes:
        variance: Form of the variance: ``quadratic`` is Var(y) = mu + mu^2 / theta (NB2), ``linear`` is
            Var(y) = mu (1 + alpha) (NB1).
    """

    variance: str = "quadratic"
    name: ClassVar[str] = "negative_binomial"
    links: ClassVar[tuple[str, ...]] = ("log", "identity", "sqrt")
    response: ClassVar[str] = "count"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.variance, str) or self.variance not in ("quadratic", "linear"):
            raise OptionError(
                f"variance={self.variance!r}: choose 'quadratic' (NB2, mu + mu^2 / theta) or 'linear' (NB1, "
                "mu (1 + alpha))."
            )

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Name of the dispersion parameter: theta for a quadratic variance, alpha for a linear one."""
        return ("theta",) if self.variance == "quadratic" else ("alpha",)


@dataclass(frozen=True)
class Beta(Family):
    """Beta distribution of values strictly between 0 and 1: Var(y) = mu (1 - mu) / (1 + precision)."""

    name: ClassVar[str] = "beta"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog", "cauchit")
    parameters: ClassVar[tuple[str, ...]] = ("precision",)
    response: ClassVar[str] = "unit"


@dataclass(frozen=True)
class StudentT(Family):
    """Student's t distribution with location mu, scale sigma and nu degrees of freedom, for data with outliers."""

    name: ClassVar[str] = "student_t"
    links: ClassVar[tuple[str, ...]] = ("identity", "log")
    parameters: ClassVar[tuple[str, ...]] = ("sigma", "nu")


FAMILIES: dict[str, type[Family]] = {
    c.name: c for c in (Gaussian, Binomial, Poisson, Gamma, NegativeBinomial, Beta, InverseGaussian, StudentT)
}
_ALIASES: dict[str, tuple[str, dict[str, str]]] = {
    "normal": ("gaussian", {}),
    "bernoulli": ("binomial", {}),
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
    "betafamily": ("beta", {}),
}
_ZEROS = "write family='{}', ziformula='~ 1' with backend='glmmtmb'."
_ORDERED = (
    "Ordered responses are not supported: two halves of the scale can be fitted by family='binomial', and scores with "
    "many steps by 'gaussian'."
)
_ELSEWHERE: dict[tuple[str, ...], str] = {
    ("zip", "zipoisson", "zeroinflatedpoisson", "zipoissonlog"): f"Zero inflation has a formula of its own: "
    f"{_ZEROS.format('poisson')}",
    ("zinb", "zinegativebinomial", "zeroinflatednegativebinomial", "zinb2", "zinbinomial"): "Zero inflation has a "
    f"formula of its own: {_ZEROS.format('negative_binomial')}",
    ("zib", "zibinomial", "zeroinflatedbinomial", "zeroinflatedbeta", "zibeta", "zoib", "zeroinflatedgamma"): "Zero "
    "inflation is for counts: family='poisson' or 'negative_binomial', ziformula='~ 1' with backend='glmmtmb'.",
    (
        *("hurdlepoisson", "hurdlenegativebinomial", "hurdlegamma", "hurdlelognormal", "hurdle", "ziggamma"),
        *("truncatedpoisson", "truncatednbinom1", "truncatednbinom2", "truncatednegativebinomial", "zigamma"),
    ): "Hurdle models are not supported: fit zero or not by family='binomial', and the rows above zero by themselves.",
    ("ordinal", "ordered", "cumulative", "clm", "clmm", "polr", "propodds", "sratio", "cratio", "acat"): _ORDERED,
    ("multinomial", "categorical", "softmax", "multinom"): "Responses with several unordered classes are not "
    "supported: fit one class against the others by family='binomial'.",
    ("lognormal", "loggaussian", "lognorm", "shiftedlognormal"): "The logarithm of the response is normal: write "
    "log(y) ~ ... with family='gaussian'; or family='gamma' for a mean on the log scale.",
    ("logitnormal", "logisticnormal"): "The logit of the response is normal: compute a column logit(y), and fit it "
    "with family='gaussian'; or use family='beta'.",
    ("quasi", "quasipoisson"): "A quasi-likelihood has no likelihood and no group effects: overdispersed counts are "
    "family='negative_binomial', or have an effect per row, (1 | row).",
    ("quasibinomial", "betabinomial", "betabinomial2"): "Overdispersed proportions have an effect per row here, "
    "family='binomial' with (1 | row).",
    ("tweedie", "compois", "compoissonlog", "conwaymaxwellpoisson", "genpois", "generalizedpoisson"): "It is not "
    "supported: 'negative_binomial' is for overdispersed counts, 'gamma' for positive responses.",
    ("exponential", "weibull", "cox", "coxph", "frechet"): "Survival times are not supported; 'gamma' is for positive "
    "responses without censoring.",
    ("skewnormal", "exgaussian", "asymlaplace", "laplace", "vonmises", "wiener", "cauchy", "hyperbolic"): "It is not "
    "supported: 'student_t' has heavy tails, 'gamma' and 'inverse_gaussian' are skewed to the right.",
    ("dirichlet", "orderedbeta", "ordbeta"): "It is not supported: 'beta' is for proportions strictly between 0 and 1.",
}
"""Names of families that other packages have, without underscores, and what to use here."""

FamilyLike = str | Family | type[Family]


def as_family(family: FamilyLike) -> Family:
    """Convert a name, a class or an instance to a family.

    Args:
        family: ``"binomial"``, ``"binomial(probit)"``, ``Binomial`` or ``Binomial(link="probit")``.

    Raises:
        OptionError: If the family is unknown, or it does not support the link.
    """
    if isinstance(family, Family):
        if type(family).name not in FAMILIES:
            raise OptionError(f"family={family!r}: choose {listing(FAMILIES)}.")
        return family
    if isinstance(family, type) and issubclass(family, Family) and family.name:
        return family()
    if not isinstance(family, str):
        hint = (
            " unimix.priors.Gamma and unimix.priors.StudentT are priors; the families are unimix.families.Gamma and "
            "unimix.families.StudentT."
            if getattr(family, "__module__", "").startswith("unimix.distributions.prior")
            or getattr(type(family), "__module__", "").startswith("unimix.distributions.prior")
            else ""
        )
        raise OptionError(
            f"family={family!r}: give a name ({listing(FAMILIES)}) or an instance such as "
            f"unimix.families.Binomial(link='probit').{hint}"
        )
    head, _, rest = family.strip().partition("(")
    plain = head.lower().replace("_", "").replace(" ", "").replace("-", "").replace(".", "")
    names = {name.replace("_", ""): name for name in FAMILIES}
    name, more = _ALIASES.get(plain, (names.get(plain, ""), {}))
    if not name:
        reason = next((text for names_, text in _ELSEWHERE.items() if plain in names_), "")
        hint = f" {reason}" if reason else did_you_mean(plain, (*FAMILIES, *_ALIASES))
        raise OptionError(f"family={family!r} is unknown.{hint} Known: {listing(FAMILIES)}.")
    link = rest.rstrip(") ").replace("link", "").strip("= '\"") if rest else ""
    return FAMILIES[name](link=link, **more)
