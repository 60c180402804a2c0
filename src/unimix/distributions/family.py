"""Distributions of the response and their links."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from unimix.distributions.cumulative import THRESHOLDS, parameter_names, threshold_matrix
from unimix.distributions.family_names import ALIASES, ELSEWHERE, OUTSIDE
from unimix.errors import OptionError, did_you_mean, listing

RANGES: dict[str, tuple[float, float]] = {"power": (1.0, 2.0), "skewness": (-0.9952, 0.9952)}
"""Ends of the range of a dispersion parameter; the others are positive. A skew normal's skewness is below 0.9953."""


@dataclass(frozen=True)
class Family:
    """Distribution of the response given its mean, and the link between the mean and the linear predictor.

    Attributes:
        link: Name of the link function.
        name: Name of the family in ``family=``.
        links: Names of the links that the family supports; the first is the default.
        canonical: Link for which expected and observed information are the same; empty if there is none.
        parameters: Names of the dispersion parameters, which are estimated together with the coefficients.
        response: Values that the family describes: real, binomial, count, positive_count (without zero), positive,
            nonnegative, unit (between 0 and 1) or ordered (categories).
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
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Ends of the range of each dispersion parameter."""
        return tuple(RANGES.get(name, (0.0, float("inf"))) for name in self.parameters)

    @property
    def is_truncated(self) -> bool:
        """Whether the distribution is one of counts without zeros; with ``ziformula=`` it is that of a hurdle model."""
        return self.response == "positive_count"

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


@dataclass(frozen=True)
class SkewNormal(Family):
    """Skew normal distribution with mean mu, standard deviation sigma and skewness between -0.995 and 0.995."""

    name: ClassVar[str] = "skew_normal"
    links: ClassVar[tuple[str, ...]] = ("identity",)
    parameters: ClassVar[tuple[str, ...]] = ("sigma", "skewness")


@dataclass(frozen=True)
class BetaBinomial(Family):
    """Proportion of successes in m trials whose probability has a beta distribution with mean mu.

    Var(y) = mu (1 - mu) (1 + (m - 1) / (precision + 1)) / m.
    """

    name: ClassVar[str] = "beta_binomial"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog", "cauchit")
    parameters: ClassVar[tuple[str, ...]] = ("precision",)
    response: ClassVar[str] = "binomial"


@dataclass(frozen=True)
class LogNormal(Family):
    """Lognormal distribution of positive values with mean mu: log y is normal with standard deviation sigma.

    Var(y) = (exp(sigma^2) - 1) mu^2. The coefficients describe the logarithm of the mean, so that the intercept is
    larger by sigma^2 / 2 than that of a linear model of log y; the others are the same.
    """

    name: ClassVar[str] = "lognormal"
    links: ClassVar[tuple[str, ...]] = ("log",)
    parameters: ClassVar[tuple[str, ...]] = ("sigma",)
    response: ClassVar[str] = "positive"


@dataclass(frozen=True)
class Exponential(Family):
    """Exponential distribution of positive values, such as waiting times that have ended: Var(y) = mu^2."""

    name: ClassVar[str] = "exponential"
    links: ClassVar[tuple[str, ...]] = ("log", "inverse", "identity")
    canonical: ClassVar[str] = "inverse"
    response: ClassVar[str] = "positive"


@dataclass(frozen=True)
class Tweedie(Family):
    """Tweedie distribution of positive values with exact zeros: Var(y) = dispersion mu^power, power between 1 and 2."""

    name: ClassVar[str] = "tweedie"
    links: ClassVar[tuple[str, ...]] = ("log",)
    parameters: ClassVar[tuple[str, ...]] = ("dispersion", "power")
    response: ClassVar[str] = "nonnegative"


@dataclass(frozen=True)
class GeneralisedPoisson(Family):
    """Generalised Poisson distribution of counts: Var(y) = dispersion mu; below 1 for counts that vary too little."""

    name: ClassVar[str] = "generalised_poisson"
    links: ClassVar[tuple[str, ...]] = ("log",)
    parameters: ClassVar[tuple[str, ...]] = ("dispersion",)
    response: ClassVar[str] = "count"


@dataclass(frozen=True)
class TruncatedPoisson(Family):
    """Poisson distribution of counts without zeros; mu is the mean of the counts with zeros."""

    name: ClassVar[str] = "truncated_poisson"
    links: ClassVar[tuple[str, ...]] = ("log",)
    response: ClassVar[str] = "positive_count"


@dataclass(frozen=True)
class TruncatedNegativeBinomial(Family):
    """Negative binomial distribution (NB2) of counts without zeros; mu and theta are those of the counts with zeros."""

    name: ClassVar[str] = "truncated_negative_binomial"
    links: ClassVar[tuple[str, ...]] = ("log",)
    parameters: ClassVar[tuple[str, ...]] = ("theta",)
    response: ClassVar[str] = "positive_count"


@dataclass(frozen=True)
class Cumulative(Family):
    """Ordered categories: P(Y <= j) = F(theta_j - eta), with thresholds theta_j in the place of an intercept.

    The link is the inverse of F: logit for proportional odds, probit for a normal latent variable. A positive
    coefficient shifts responses to higher categories.

    Attributes:
        threshold: Structure of the thresholds: ``flexible`` (each is free), ``symmetric`` about a middle, or
            ``equidistant``.
        categories: The categories in order, from the lowest. They are needed for text and unordered categories; a fit
            learns them from an ordered categorical column or from whole numbers.

    Example:
        >>> import unimix as um
        >>> um.families.Cumulative("probit", threshold="equidistant").link
        'probit'
        >>> um.families.Cumulative(categories=("bad", "fair", "good")).threshold_names
        ('bad|fair', 'fair|good')
    """

    threshold: str = "flexible"
    categories: tuple[bool | int | float | str, ...] = ()
    name: ClassVar[str] = "cumulative"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog", "loglog", "cauchit")
    response: ClassVar[str] = "ordered"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.threshold, str) or self.threshold not in THRESHOLDS:
            raise OptionError(
                f"threshold={self.threshold!r}: choose {listing(map(repr, THRESHOLDS))}."
                f"{did_you_mean(str(self.threshold), THRESHOLDS)}"
            )
        given = self.categories
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise OptionError(f"categories={given!r}: give the categories in order, such as ['low', 'middle', 'high'].")
        categories = tuple(c.item() if isinstance(c, np.generic) else c for c in given)
        if any(not isinstance(c, bool | int | float | str) for c in categories):
            raise OptionError(f"categories={given!r}: categories are texts or numbers.")
        if len(set(map(str, categories))) < len(categories):
            raise OptionError(f"categories={given!r}: a category is named twice.")
        object.__setattr__(self, "categories", categories)

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the parameters of the thresholds; none before the categories are known."""
        return parameter_names(self.threshold, len(self.categories)) if self.categories else ()

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Ends of the ranges of the parameters: the first may be any number, the others are positive distances."""
        endless = float("inf")
        return tuple((0.0 if k else -endless, endless) for k in range(len(self.parameters)))

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Matrix J of the thresholds J p with parameters p, shape (K - 1, k)."""
        return threshold_matrix(self.threshold, len(self.categories))

    @property
    def threshold_names(self) -> tuple[str, ...]:
        """Names of the K - 1 thresholds between neighbouring categories."""
        return tuple(f"{a}|{b}" for a, b in zip(self.categories, self.categories[1:], strict=False))

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Numbers of the categories, shape (K,): their values if all are whole numbers, otherwise 1 to K."""
        whole = all(isinstance(c, int) and not isinstance(c, bool) for c in self.categories)
        return np.array(self.categories if whole else range(1, len(self.categories) + 1), dtype=np.float64)


FAMILIES: dict[str, type[Family]] = {
    c.name: c
    for c in (
        *(Gaussian, Binomial, Poisson, Gamma, NegativeBinomial, Beta, InverseGaussian, StudentT),
        *(BetaBinomial, GeneralisedPoisson, TruncatedPoisson, TruncatedNegativeBinomial),
        *(LogNormal, Exponential, Tweedie, SkewNormal, Cumulative),
    )
}
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
    name, more = ALIASES.get(plain, (names.get(plain, ""), {}))
    if not name:
        reason = next((text for names_, text in ELSEWHERE.items() if plain in names_), "")
        if not reason:
            reason = next((text for part, text in OUTSIDE if part in plain), "")
        hint = f" {reason}" if reason else did_you_mean(plain, (*FAMILIES, *ALIASES))
        raise OptionError(f"family={family!r} is unknown.{hint} Known: {listing(FAMILIES)}.")
    link = rest.rstrip(") ").replace("link", "").strip("= '\"") if rest else ""
    if link and more.get("link", link) != link:
        raise OptionError(f"family={family!r} names two links: write '{name}({link})' or {plain!r}.")
    return FAMILIES[name](**{"link": link, **more})
