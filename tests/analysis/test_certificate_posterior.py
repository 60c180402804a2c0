"""Certificates of posteriors: numbers against the draws, and the draws against the likelihood and the priors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.bayes import Bayes
from unimix.backends.sampling.draws import Posterior, Sampled
from unimix.design.design import build_design
from unimix.design.estimates import Estimates
from unimix.distributions.prior_text import read_prior
from unimix.formula.interpreter import parse
from unimix.stats.posterior_identities import PosteriorDraws, identities

FORMULA = "y ~ x + z + (1 + x | g)"


@functools.cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(20), 8), rng.normal(size=160)
    u = rng.normal(size=(20, 2)) * [2, 1]
    y = 5 + x + u[g, 0] + u[g, 1] * x + rng.normal(size=160)
    return pd.DataFrame({"y": y, "x": x, "z": rng.normal(size=160), "g": [f"g{i}" for i in g]})


def fit_with(change: Callable[[Estimates], Estimates]) -> um.FitResult:
    """The fit of a sampler whose adapter reports something else than its draws."""

    class Faulty(Bayes):
        def _fit(self, engine: Any, problem: Any) -> Estimates:
            return change(super()._fit(engine, problem))

    return um.fit(FORMULA, data(), Faulty(), seed=1)


def sample_with(change: Callable[[Posterior], Posterior]) -> um.FitResult:
    """The fit of a sampler with wrong draws, which it reports faithfully."""

    class Faulty(Bayes):
        def _run(self, design: Any, table: Any, request: Any) -> Any:
            run, because = super()._run(design, table, request)
            sampled = run.sampled
            p = change(sampled.posterior)
            assert p.effects is not None
            wrong = Posterior.of_effects(p.beta, p.sds, p.correlations, p.dispersion, p.effects)
            return replace(run, sampled=Sampled(wrong, sampled.raw, sampled.kept)), because

    return um.fit(FORMULA, data(), Faulty(), seed=1)


def narrowed(e: Estimates, by: float) -> Estimates:
    assert e.interval is not None
    return replace(e, beta_cov=by**2 * e.beta_cov, interval=e.beta[:, None] + by * (e.interval - e.beta[:, None]))


def moved(e: Estimates, by: float) -> Estimates:
    assert e.interval is not None
    step = by * np.sqrt(np.diag(e.beta_cov))
    return replace(e, beta=e.beta + step, interval=e.interval + step[:, None])


REPORTED: dict[str, Callable[[Estimates], Estimates]] = {
    "narrow intervals": lambda e: narrowed(e, 0.2),
    "moved by 0.8 SD": lambda e: moved(e, 0.8),
    "SDs of group effects": lambda e: replace(e, covariances=tuple(9 * c for c in e.covariances)),
    "residual SD": lambda e: replace(e, sigma=2 * e.sigma),
    "levels": lambda e: replace(e, modes=tuple(m[::-1] for m in e.modes)),
    "SDs of levels": lambda e: replace(e, mode_covs=tuple(0.5 * v for v in e.mode_covs)),
    "priors": lambda e: replace(e, priors={**e.priors, "sigma": "HalfNormal(100)"}),
}


@pytest.mark.parametrize("name", REPORTED)
def test_what_the_draws_do_not_give_is_not_certified(name: str) -> None:
    found = fit_with(REPORTED[name]).certificate()
    assert found.verdict == "a different model", str(found)
    assert [c.name for c in found.faults] == ["priors" if name == "priors" else "draws"]


def spread(p: Posterior, by: float) -> Posterior:
    centre = p.beta.mean(axis=0)
    return replace(p, beta=centre + by * (p.beta - centre))


DRAWN: dict[str, Callable[[Posterior], Posterior]] = {
    "spread of the fixed effects": lambda p: spread(p, 0.8),
    "location of the fixed effects": lambda p: replace(p, beta=p.beta + 0.3 * p.beta.std(axis=0)),
    "SDs": lambda p: replace(p, sds=tuple(1.1 * s for s in p.sds)),
    "sigma": lambda p: replace(p, dispersion=1.05 * p.dispersion),
    "correlations": lambda p: replace(p, correlations=tuple(0.5 * r + 0.5 * np.eye(2) for r in p.correlations)),
    "effects of other draws": lambda p: replace(p, effects=tuple(e[::-1] for e in p.effects or ())),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_of_another_distribution_are_not_certified(name: str) -> None:
    """Everything follows from the draws, chains mix well, and means lie near the optimum."""
    found = sample_with(DRAWN[name]).certificate()
    assert not found.certified, str(found)
    assert "posterior" in {c.name for c in found.faults}
    assert found.check("draws").passed is True


def test_the_sound_sampler_is_certified() -> None:
    fit = sample_with(lambda p: p)
    assert fit.certificate().verdict == "certified", str(fit.certificate())
    narrow = um.fit(FORMULA, data(), "bayes", priors={"sd(g)": um.priors.HalfNormal(2)}, seed=1)
    assert narrow.certificate().verdict == "certified"
    assert narrow.certificate().check("priors").passed is True


def test_a_loaded_posterior_says_that_its_draws_are_missing() -> None:
    fit = um.fit(FORMULA, data(), "bayes", seed=1)
    found = um.FitResult.from_json(fit.to_json()).with_data(data()).certificate()
    assert found.verdict == "not checkable"
    assert "the draws are not there" in found.sentence


def test_identities_hold_for_exact_draws_and_not_under_another_prior() -> None:
    """Draws from a grid of the density of two parameters, written down here; independent draws, so sqrt(S) decides."""
    rng = np.random.default_rng(0)
    y = rng.normal(1.0, 1.5, size=12)
    mean, sd = np.linspace(-4, 6, 801), np.exp(np.linspace(-1.5, 2.5, 801))
    m, s = np.meshgrid(mean, sd, indexing="ij")
    value = -12 * np.log(s) - ((y[:, None, None] - m) ** 2).sum(axis=0) / (2 * s**2)  # likelihood
    value += -0.5 * (m / 2.0) ** 2 - 0.5 * (s / 1.0) ** 2 + np.log(s)  # Normal(0, 2), HalfNormal(1), log-spaced grid
    weights = np.exp(value - value.max()).ravel()
    picked = rng.choice(weights.size, size=20_000, p=weights / weights.sum())
    beta, sigma = m.ravel()[picked, None], s.ravel()[picked, None]
    design = build_design(parse("y ~ 1"), pd.DataFrame({"y": y}))

    def largest(prior_sd: float) -> float:
        draws = PosteriorDraws(beta, [], [], [], sigma, -beta / 4.0, [], [], -sigma / prior_sd**2)
        found = identities(design, draws)
        assert set(found) == {"Intercept", "variance of Intercept", "sigma", "variance of log sigma"}
        return max(abs(v.mean()) / v.std() * np.sqrt(len(v)) for v in found.values())

    assert largest(1.0) < 4
    assert largest(2.0) > 20


def test_texts_of_priors_are_read() -> None:
    assert read_prior("Normal(0, 2.5) at the mean of the predictors") == um.priors.Normal(0, 2.5)
    assert read_prior("Normal(mu: 1, sigma: 2.5)") == um.priors.Normal(1, 2.5)
    assert read_prior("LKJ(2)") == um.priors.LKJ(2)
    assert [read_prior(t) for t in ("1 / theta ~ Gamma(1)", "Normal(a, b)", "Horseshoe(1)", "", "open(1)")] == [
        None
    ] * 5


@pytest.mark.parametrize("engine", ["pymc", "bambi"])
def test_posteriors_of_generalised_models(engine: str) -> None:
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(15), 8), rng.normal(size=120)
    frame = pd.DataFrame(
        {"k": rng.poisson(np.exp(0.5 + 0.3 * x + 0.6 * rng.normal(size=15)[g])), "x": x, "g": g.astype(str)}
    )
    quick = {"sampler": "pymc", "cores": 1, "chains": 2, "tune": 500}
    options = quick if engine == "pymc" else {"draws": 2000, "target_accept": 0.95}
    fit = um.fit("k ~ x + (1 | g)", frame, engine, family="poisson", seed=1, options=options)
    assert fit.certificate().verdict == "certified", str(fit.certificate())
    block = fit.random[0]
    wrong = replace(fit, random=(block.model_copy(update={"modes": block.modes[::-1]}),))
    assert not wrong.certificate().certified


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_the_evidence_is_that_of_draws_of_its_own(family: str) -> None:
    """Its value may be off by six Monte Carlo errors, and its error, of which a thousand draws know little, by half."""
    rng = np.random.default_rng(6)
    g, x = np.repeat(np.arange(12), 10), rng.normal(size=120)
    eta = 0.5 * x + 0.7 * rng.normal(size=12)[g]
    y = eta + rng.normal(size=120) if family == "gaussian" else rng.binomial(1, 1 / (1 + np.exp(-eta)))
    fit = um.fit("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, "bayes", family=family, seed=1)
    evidence = fit.criteria.evidence
    assert evidence is not None

    def verdict(**changed: Any) -> tuple[bool, list[str]]:
        criteria = fit.criteria.model_copy(update={"evidence": replace(evidence, **changed)})
        found = replace(fit, criteria=criteria).certificate()
        return found.certified, [c.name for c in found.checks if c.passed is False]

    assert verdict() == (True, [])
    assert verdict(value=evidence.value + 0.3) == (False, ["evidence"])
    assert verdict(value=evidence.value + 30, error=5.0) == (False, ["evidence"])
    assert verdict(error=evidence.error / 4) == (False, ["evidence"])
    assert verdict(default_priors=()) == (False, ["evidence"])
