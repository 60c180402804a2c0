"""Densities against scipy.stats, their derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special, stats

import unimix as um
from unimix.distributions.distribution import DISTRIBUTIONS
from unimix.distributions.family import FAMILIES, Family, as_family
from unimix.distributions.kernel import trigamma
from unimix.distributions.links import LINKS
from unimix.distributions.log_density import pointwise, response_variance, unit_deviance
from unimix.distributions.parameter_scales import from_free, inside, slopes, to_free
from unimix.distributions.random_responses import draw_response, mean_of
from unimix.testing.simulated_responses import simulate_response

RNG = np.random.default_rng(5)
N = 200
PARAMETERS = {
    "gaussian": [0.7], "binomial": [], "poisson": [], "gamma": [0.4], "inverse_gaussian": [0.3],
    "negative_binomial": [1.7], "beta": [6.0], "student_t": [0.8, 4.5], "beta_binomial": [6.0],
    "generalised_poisson": [1.8], "truncated_poisson": [], "truncated_negative_binomial": [1.7], "lognormal": [0.6],
    "exponential": [], "tweedie": [0.7, 1.4], "skew_normal": [0.8, 0.4],
}  # fmt: skip
CELLS = [c(link=link) for c in FAMILIES.values() for link in c.links if c.response != "ordered"]
CELLS += [um.families.NegativeBinomial(link=link, variance="linear") for link in ("log", "identity", "sqrt")]


def example(family: Family) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """eta, y, parameters, weights and trials that suit a family."""
    p = np.array(PARAMETERS[family.name])
    eta = RNG.normal(size=N).clip(-2.5, 1.5)  # beyond, a double no longer holds 1 - mu of the complementary log-log
    if LINKS[family.link].positive or (family.link == "identity" and family.response != "real"):
        eta = RNG.uniform(0.5, 2.0, N)
    mu = LINKS[family.link].inverse(eta)
    trials = RNG.integers(1, 9, N).astype(float) if family.response == "binomial" else None
    match family.response:
        case "binomial":
            y = RNG.binomial(trials.astype(int), mu) / trials
        case "count":
            y = RNG.poisson(mu * RNG.gamma(2, 0.5, N)).astype(float)
        case "positive_count":
            y = 1.0 + RNG.poisson(mu * RNG.gamma(2, 0.5, N))
        case "positive":
            y = mu * RNG.gamma(2.5, 0.4, N)
        case "nonnegative":
            y = mu * RNG.gamma(2.5, 0.4, N) * RNG.binomial(1, 0.7, N)
        case "unit":
            y = RNG.beta(2 * mu + 0.1, 2 * (1 - mu) + 0.1).clip(1e-6, 1 - 1e-6)
        case _:
            y = mu + RNG.standard_t(5, N)
    weights = RNG.uniform(0.5, 3, N)
    return eta, y, p, weights, trials


def reference(family: Family, y, mu, p, trials):
    """Log-density by scipy."""
    match (family.name, getattr(family, "variance", "")):
        case ("gaussian", _):
            return stats.norm.logpdf(y, mu, p[0])
        case ("binomial", _):
            return stats.binom.logpmf(np.round(y * trials), trials, mu)
        case ("poisson", _):
            return stats.poisson.logpmf(y, mu)
        case ("gamma", _):
            return stats.gamma.logpdf(y, 1 / p[0], scale=mu * p[0])
        case ("inverse_gaussian", _):
            return stats.invgauss.logpdf(y, mu * p[0], scale=1 / p[0])
        case ("negative_binomial", "quadratic"):
            return stats.nbinom.logpmf(y, p[0], p[0] / (p[0] + mu))
        case ("negative_binomial", "linear"):
            return stats.nbinom.logpmf(y, mu / p[0], 1 / (1 + p[0]))
        case ("beta", _):
            return stats.beta.logpdf(y, mu * p[0], (1 - mu) * p[0])
        case ("student_t", _):
            return stats.t.logpdf(y, p[1], mu, p[0])
        case _:
            return newer_reference(family.name, y, mu, p, trials)


def newer_reference(name: str, y, mu, p, trials):
    """Log-density by scipy of the families that McCullagh & Nelder's book does not have."""
    match name:
        case "beta_binomial":
            return stats.betabinom.logpmf(np.round(y * trials), trials, mu * p[0], (1 - mu) * p[0])
        case "lognormal":
            return stats.lognorm.logpdf(y, p[0], scale=mu * np.exp(-(p[0] ** 2) / 2))
        case "exponential":
            return stats.expon.logpdf(y, scale=mu)
        case "truncated_poisson":
            return stats.poisson.logpmf(y, mu) - np.log(stats.poisson.sf(0, mu))
        case "truncated_negative_binomial":
            whole = stats.nbinom(p[0], p[0] / (p[0] + mu))
            return whole.logpmf(y) - np.log(whole.sf(0))
        case "generalised_poisson":
            rate, share = mu / np.sqrt(p[0]), 1 - 1 / np.sqrt(p[0])  # Consul & Jain's theta and lambda
            at = rate + share * y
            return np.log(rate) + (y - 1) * np.log(at) - at - special.gammaln(y + 1)
        case "skew_normal":
            alpha = skewed(p[1])
            made = stats.skewnorm(alpha)
            omega = p[0] / made.std()
            return stats.skewnorm.logpdf(y, alpha, mu - omega * made.mean(), omega)
        case _:
            return np.array([tweedie(*row, *p) for row in zip(y, mu, strict=True)])


def skewed(skewness: float) -> float:
    """SciPy's shape of a skew normal with a given skewness, by root finding."""
    return optimize.brentq(lambda a: float(stats.skewnorm.stats(a, moments="s")) - skewness, -60, 60, xtol=1e-13)


def tweedie(y: float, mu: float, phi: float, power: float) -> float:
    """Log density of a Poisson sum of gamma variables, number by number."""
    rate = mu ** (2 - power) / (phi * (2 - power))
    if y == 0:
        return -rate
    shape, scale = (2 - power) / (power - 1), phi * (power - 1) * mu ** (power - 1)
    n = np.arange(1, 300)
    return special.logsumexp(stats.poisson.logpmf(n, rate) + stats.gamma.logpdf(y, n * shape, scale=scale))


@pytest.mark.parametrize("family", CELLS, ids=str)
def test_density_is_scipys(family):
    eta, y, p, _, trials = example(family)
    mu = LINKS[family.link].inverse(eta)
    np.testing.assert_allclose(
        pointwise(family, p, y, eta, None, trials).value, reference(family, y, mu, p, trials), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("family", CELLS, ids=str)
def test_derivatives_are_those_of_the_value(family):
    eta, y, p, weights, trials = example(family)
    w = None if trials is not None else weights

    def at(e, q):
        return pointwise(family, q, y, e, w, trials)

    here, h = at(eta, p), 1e-5
    up, down = at(eta + h, p), at(eta - h, p)
    # central differences of doubles: 1e-10 / h in the first derivative
    np.testing.assert_allclose(here.score, (up.value - down.value) / (2 * h), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(here.observed, -(up.score - down.score) / (2 * h), rtol=1e-5, atol=1e-5)
    for k, derivative in enumerate(here.by_parameters):
        step = np.eye(len(p))[k] * 1e-6
        slope = (at(eta, p + step).value - at(eta, p - step).value) / 2e-6
        np.testing.assert_allclose(derivative, slope, rtol=1e-5, atol=1e-5)


NO_CLOSED_FORM = ("beta_binomial", "generalised_poisson", "skew_normal")


@pytest.mark.parametrize("family", CELLS, ids=str)
def test_expected_information_is_the_mean_of_the_observed(family):
    """By simulation at one linear predictor: 200,000 draws (40,000 of Tweedie), 5 standard errors; some have none.

    The scores have mean zero, and the variance of the responses is the family's.
    """
    rng, n = np.random.default_rng(9), 40_000 if family.name == "tweedie" else 200_000
    eta = np.full(n, 0.8)
    mu = LINKS[family.link].inverse(eta)
    p = np.array(PARAMETERS[family.name])
    trials = np.full(n, 4.0) if family.response == "binomial" else None
    match family.name:
        case "gaussian":
            y = rng.normal(mu, p[0])
        case "binomial":
            y = rng.binomial(4, mu) / 4
        case "poisson":
            y = rng.poisson(mu).astype(float)
        case "gamma":
            y = rng.gamma(1 / p[0], mu * p[0])
        case "inverse_gaussian":
            y = rng.wald(mu, 1 / p[0])
        case "negative_binomial" if family.parameters == ("alpha",):
            y = rng.negative_binomial(mu / p[0], 1 / (1 + p[0])).astype(float)
        case "negative_binomial":
            y = rng.negative_binomial(p[0], p[0] / (p[0] + mu)).astype(float)
        case "beta":
            y = rng.beta(mu * p[0], (1 - mu) * p[0])
        case "student_t":
            y = mu + p[0] * rng.standard_t(p[1], n)
        case label:
            y = simulate_response(label, mu, p, trials, rng)
    found = pointwise(family, p, y, eta, None, trials)
    error = found.observed.std() / np.sqrt(n)
    if family.parameters != ("alpha",) and family.name not in NO_CLOSED_FORM:
        assert abs(found.observed.mean() - found.expected[0]) < 5 * error + 1e-12
    for slope in (found.score, *found.by_parameters):
        assert abs(slope.mean()) < 5 * slope.std() / np.sqrt(n)
    assert y.mean() == pytest.approx(float(mean_of(family, eta[:1], p)[0]), abs=5 * y.std() / np.sqrt(n))
    if family.name != "student_t":  # its fourth moment hardly exists
        of_one = response_variance(family, p, mu[:1], None if trials is None else trials[:1])
        assert np.var(y) == pytest.approx(float(of_one[0]), rel=0.03)


@pytest.mark.parametrize("family", CELLS, ids=str)
def test_drawn_responses_have_the_mean_and_variance_of_the_family(family):
    """50,000 draws: 5 standard errors of the mean, and 6 % of the variance, whose own error is below 2 %."""
    rng, eta = np.random.default_rng(4), np.full(50_000, 0.8)
    p = np.array(PARAMETERS[family.name])
    trials = np.full(len(eta), 4.0) if family.response == "binomial" else None
    y = draw_response(family, p, eta, rng, trials=trials)
    mu = LINKS[family.link].inverse(eta[:1])
    of_one = response_variance(family, p, mu, None if trials is None else trials[:1])
    assert y.mean() == pytest.approx(float(mean_of(family, eta[:1], p)[0]), abs=5 * y.std() / np.sqrt(len(y)))
    if family.name != "student_t":
        assert np.var(y) == pytest.approx(float(of_one[0]), rel=0.06)
    assert np.isfinite(pointwise(family, p, y, eta, None, trials).value).all()


@pytest.mark.parametrize("family", [f for f in CELLS if f.parameters], ids=str)
def test_free_scales_are_inverse_and_their_slopes_are_derivatives(family):
    p = np.array(PARAMETERS[family.name])
    free = to_free(family, p)
    np.testing.assert_allclose(from_free(family, free), p, rtol=1e-13)
    change = (from_free(family, free + 1e-6) - from_free(family, free - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes(family, p), change, rtol=1e-8)
    assert inside(family, p)
    assert not inside(family, np.array([low for low, _ in family.ranges]))


@pytest.mark.parametrize("power", [1.3, 1.7, 1.95])
@pytest.mark.parametrize("phi", [0.003, 0.5, 20.0])
def test_tweedie_densities_integrate_to_the_probability_of_no_zero(power, phi):
    """A series that is cut off would lose probability; the trapezoidal sum over log y has 8 digits."""
    family, mu = as_family("tweedie"), 1.7
    rate = mu ** (2 - power) / (phi * (2 - power))
    # few gamma variables may be tiny, and the sum of many is near its mean
    low = -30.0 * (power - 1) / (2 - power) - 5.0 if rate < 50 else np.log(mu) - 6.0
    t = np.linspace(low, np.log(mu) + 6.0, 3000)
    value = pointwise(family, np.array([phi, power]), np.exp(t), np.full(len(t), np.log(mu))).value
    total = np.exp(value + t).sum() * (t[1] - t[0])
    assert total == pytest.approx(-np.expm1(-rate), abs=1e-7)


@pytest.mark.parametrize("family", CELLS, ids=str)
def test_links_are_inverse_to_each_other(family):
    eta, *_ = example(family)
    link = LINKS[family.link]
    np.testing.assert_allclose(link.forward(link.inverse(eta)), eta, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_binomial_tails_stay_finite(link):
    """A linear predictor of +-40 has probabilities of 1e-18 and less: the log-likelihood must not become infinite."""
    eta = np.array([-40.0, -12.0, 12.0, 40.0, -40.0, 40.0])
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    found = pointwise(as_family(f"binomial({link})"), np.empty(0), y, eta, None, np.ones(6))
    for part in (found.value, found.score, found.observed, found.expected):
        assert np.isfinite(part).all()


@pytest.mark.parametrize("family", [f for f in CELLS if DISTRIBUTIONS[f.label].unit_deviance is not None], ids=str)
def test_deviance_is_twice_the_loss_against_the_saturated_model(family):
    eta, y, p, _, trials = example(family)
    inside = (y > 0) & (y < 1) if trials is not None else y > 0
    eta, y = eta[inside], y[inside]
    trials = None if trials is None else trials[inside]
    link = LINKS[family.link]
    if link.positive or family.link == "log":
        keep = y > 0
        eta, y = eta[keep], y[keep]
    full = pointwise(family, p, y, link.forward(y), None, trials).value
    loss = 2 * (full - pointwise(family, p, y, eta, None, trials).value)
    scale = {"gaussian": p[:1] ** 2, "gamma": p[:1], "inverse_gaussian": p[:1], "tweedie": p[:1]}.get(
        family.name, np.ones(1)
    )
    unit = unit_deviance(family, p, y, link.inverse(eta)) * (1 if trials is None else trials)
    np.testing.assert_allclose(unit, loss * scale, rtol=1e-7, atol=1e-8)


def test_trigamma_is_scipys():
    x = np.concatenate([np.geomspace(1e-8, 1e12, 400), [0.5, 1.0, 2.0]])
    np.testing.assert_allclose(trigamma(x), special.polygamma(1, x), rtol=1e-13)


def test_a_negative_binomial_with_a_large_theta_is_poisson():
    y, eta = np.array([0.0, 1.0, 7.0, 40.0]), np.log([0.5, 2.0, 6.0, 30.0])
    wanted = pointwise(um.families.Poisson(), np.empty(0), y, eta).value
    for theta in (1e9, 1e12, 1e15):
        found = pointwise(um.families.NegativeBinomial(), np.array([theta]), y, eta).value
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_names_classes_and_instances_mean_the_same():
    wanted = um.families.Binomial(link="probit")
    assert as_family("binomial(probit)") == as_family('binomial(link = "probit")') == as_family(wanted) == wanted
    assert as_family("bernoulli") == as_family(um.families.Binomial) == um.families.Binomial()
    assert as_family("logistic") == as_family("bernoulli") == as_family("logit")
    assert as_family("probit") == wanted
    assert as_family("lognormal") == as_family("log-normal") == as_family("log_normal") == um.families.LogNormal()
    assert as_family("genpois") == as_family("generalized_poisson") == um.families.GeneralisedPoisson()
    assert as_family("truncated_nbinom2") == um.families.TruncatedNegativeBinomial()
    assert as_family("betabinomial") == as_family("beta-binomial") == um.families.BetaBinomial()
    assert as_family("nbinom1") == um.families.NegativeBinomial(variance="linear")
    assert as_family("inverse.gaussian").name == as_family("Inverse Gaussian").name == "inverse_gaussian"


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("binomal", "binomial"),
        ("gamma(logit)", "log, inverse"),
        ("probit(cloglog)", "two links"),
        (um.priors.Gamma(2, 1), "families.Gamma"),
        (3, "Binomial"),
    ],
)
def test_wrong_families_are_refused_with_the_right_names(family, words):
    with pytest.raises(um.OptionError, match=words):
        as_family(family)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(
            (n, "ziformula='~ 1'")
            for n in ("zip", "ZIP", "zero_inflated_poisson", "zinb", "ZeroInflatedNegativeBinomial")
        ),
        *((n, "Ordered responses are family='cumulative'") for n in ("sratio", "acat", "ordinal_something")),
        *((n, "several unordered classes are not supported") for n in ("multinomial", "categorical")),
        ("quasipoisson", "family='negative_binomial'"),
        ("quasibinomial", "family='beta_binomial'"),
        *((n, "'truncated_poisson'") for n in ("hurdle", "hurdle_poisson")),
        *((n, "'truncated_negative_binomial'") for n in ("hurdle_negative_binomial", "truncated_nbinom1")),
        ("hurdle_gamma", "family='tweedie'"),
        *((n, "Survival times are not supported") for n in ("weibull", "cox", "survival_weibull")),
        *((n, "fit to the values as they are would be biased") for n in ("tobit", "censored", "censored_normal")),
        ("compois", "'generalised_poisson'"),
        ("ordbeta", "'beta' is for proportions"),
        *((n, "ziformula=") for n in ("zero_inflated_something", "zip")),
    ],
)
def test_families_of_other_packages_lead_to_the_reason_and_to_no_neighbour(name: str, told: str) -> None:
    with pytest.raises(um.OptionError, match=told) as error:
        as_family(name)
    assert "Did you mean" not in str(error.value)
