"""glmm: what unimix keeps out, what its columns reach, what it adds, and each limit of the engine in its own words.

A test of a limit that fails says that it is gone upstream, and that the capability sheet may be widened.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.glmm_columns import columns_for
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.testing.simulated import simulate_rich

engine = pytest.importorskip("glmm")
RICH = simulate_rich()


@pytest.fixture
def bare() -> Iterator[Any]:
    """glmm as it stands, with its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield engine


def grouped(n: int = 300, levels: int = 25, seed: int = 2) -> tuple[np.random.Generator, pd.DataFrame, np.ndarray]:
    """A generator, a frame with two predictors and a factor, and the effect of each row's level."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, levels, n)
    frame = pd.DataFrame({"x": rng.normal(size=n), "u": rng.normal(size=n), "g": g.astype(str)})
    return rng, frame, rng.normal(size=levels)[g]


# --- what its formulas do not have ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x + (1 + x || g)", "no independent terms on one factor"),
        ("y ~ x + u + (1 + x | g) + (0 + u + v | g)", "no independent terms on one factor"),
        ("y ~ x + (0 + x | g)", "no random intercept"),
        ("y ~ x + (1 + u | g)", "not among the fixed effects"),
        ("y ~ x + (0 + f | g)", "not among the fixed effects"),
        ("y ~ x + u + (1 + x | g) + (1 + u | h) + (1 + I(x + u) | sub)", "not among the fixed effects"),
        ("y ~ 0 + (1 | g)", "needs a fixed effect"),
        ("series ~ x + cs(0 + t | g)", "unstructured covariances only"),
    ],
)
def test_what_is_refused_is_refused_in_words(formula: str, words: str) -> None:
    with pytest.raises(um.UnsupportedModelError, match=words) as refused:
        um.fit(formula, RICH, "glmm")
    assert "These can: backend=" in str(refused.value)


REACHED = (
    "y ~ f + (0 + f | g)",
    "y ~ x + f + (f | g) + (1 | h)",
    "y ~ x + (1 + x | g/sub)",
    "y ~ x + (1 + x | g:h)",
    "y ~ poly(x, 2) + (1 + poly(x, 2) | g)",
    "y ~ 0 + x + (1 + x | g)",
    "y ~ x + u + (1 + I(x + u) | g)",
    "y ~ x + u + v + (1 + x + u | g) + (1 + x | h)",
)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", REACHED)
def test_other_models_are_reached_by_other_columns(formula: str, weights: str | None) -> None:
    """Against pls: the log-likelihood to 1e-6, all else to what the flatness of the criterion leaves."""
    for method in ("REML", "ML"):
        fit, own = (um.fit(formula, RICH, b, weights=weights, method=method) for b in ("glmm", "pls"))
        assert fit.status.state == own.status.state
        assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-6)
        assert (np.abs(fit.fixed.estimate - own.fixed.estimate) < 1e-4 * own.fixed.std_error).all()
        np.testing.assert_allclose(fit.fixed.std_error, own.fixed.std_error, rtol=1e-4)
        for ours, theirs in zip(fit.random, own.random, strict=True):
            np.testing.assert_allclose(ours.covariance, theirs.covariance, atol=1e-3 * np.abs(theirs.covariance).max())
            assert np.abs(np.array(ours.modes) - theirs.modes).max() < 1e-3 * fit.sigma
    assert fit.certificate().verdict.startswith("certified")


@pytest.mark.parametrize("formula", ["y ~ f + (0 + f | g)", "y ~ x + (1 + x | g/sub)", "y ~ poly(x, 2) + (1 | g)"])
def test_its_own_formulas_do_not_have_them(bare: Any, formula: str) -> None:
    with pytest.raises(ValueError, match=r"not supported|cannot|not a valid|expected|nest|slope"):
        bare.fit(RICH, formula)


@pytest.mark.parametrize("formula", REACHED)
def test_the_columns_are_those_of_the_same_model(formula: str) -> None:
    """X_g = X B and Z_g = Z T; the columns of Z_g are a one and the columns of X_g that the formula names."""
    design = build_design(parse(formula), RICH)
    made = columns_for(design)
    assert made is not None
    np.testing.assert_allclose(made.x, design.x @ made.basis, atol=1e-12)
    assert np.linalg.cond(made.basis) < 1e6
    for block, turn, slopes in zip(design.blocks, made.turns, made.slopes, strict=True):
        wanted = np.column_stack([np.ones(design.n), made.x[:, list(slopes)]])
        np.testing.assert_allclose(block.z @ turn, wanted, atol=1e-9 * np.abs(wanted).max())


# --- numbers that are not its own -------------------------------------------------------------------------------------


def test_a_factor_with_one_level_is_refused_which_it_would_leave_out(bare: Any) -> None:
    data = RICH.assign(one="a")
    with pytest.raises(um.DataError, match="one level"):
        um.fit("y ~ x + (1 | one)", data, "glmm")
    found = bare.fit(data, "y ~ x + (1 | one)")
    assert found.converged
    assert not found.re_groups


def test_quadrature_that_it_would_not_do_is_refused(bare: Any) -> None:
    with pytest.raises(um.UnsupportedModelError, match="one scalar random term"):
        um.fit("success ~ x + (1 | g) + (1 | h)", RICH, "glmm", family="binomial", method="AGQ")
    assert bare.fit(RICH, "success ~ x + (1 | g) + (1 | h)", "binomial", nagq=7).nagq == 1
    with pytest.raises(um.OptionError, match="odd number of nodes"):
        um.fit("success ~ x + (1 | g)", RICH, "glmm", family="binomial", method="AGQ", options={"n_agq": 8})


@pytest.mark.parametrize("family", ["gamma", "inverse_gaussian(log)"])
def test_the_dispersion_of_a_model_without_groups_is_a_maximum(bare: Any, family: str) -> None:
    """glmm reports the Pearson estimate beside its log-likelihood, which is that of another dispersion."""
    rng, data, _ = grouped()
    data["y"] = rng.gamma(2, np.exp(1 + 0.3 * data["x"]) / 2)
    fit, own = (um.fit("y ~ x", data, b, family=family) for b in ("glmm", "pls"))
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-6)
    assert fit.criteria.parameters["dispersion"] == pytest.approx(own.criteria.parameters["dispersion"], rel=1e-5)
    assert "Pearson" in fit.provenance["std_error"]
    name, link = fit.model.family.replace("_", ""), fit.model.link
    assert bare.fit(data, "y ~ x", name, link=link).dispersion != pytest.approx(fit.sigma**2, rel=1e-3)
    weighted, own = (um.fit("y ~ x", data.assign(w=3.0), b, family=family, weights="w") for b in ("glmm", "pls"))
    assert weighted.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-6)
    np.testing.assert_allclose(weighted.fixed.std_error, fit.fixed.std_error / np.sqrt(3), rtol=1e-2)  # n - p as well


def test_weights_of_a_gamma_model_with_groups_are_refused() -> None:
    """glmm divides the dispersion by them; in unimix a row counts w times."""
    rng, data, effect = grouped()
    data["y"] = rng.gamma(2, np.exp(effect) / 2)
    with pytest.raises(um.UnsupportedModelError, match="glmm's are precisions"):
        um.fit("y ~ x + (1 | g)", data.assign(w=2.0), "glmm", family="gamma", weights="w")


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"])
def test_counts_beyond_its_largest_theta_are_not_converged(bare: Any, formula: str) -> None:
    """Counts of a million with theta 30,000: glmm stops at 10,000, with standard errors 60 % too large, converged."""
    rng, data, effect = grouped()
    mu = np.exp(14 + 0.1 * data["x"] + (0.1 * effect if "|" in formula else 0.0))
    data["y"] = rng.negative_binomial(3e4, 3e4 / (3e4 + mu)).astype(float)
    fit = um.fit(formula, data, "glmm", family="negative_binomial")
    assert fit.status.state == "not_converged"
    assert fit.status.messages[0].startswith("glmm searches theta up to 10,000")
    found = bare.fit(data, formula, "negativebinomial")
    assert found.converged
    assert found.dispersion == pytest.approx(1e4, rel=1e-3)
    own = um.fit(formula, data, "pls", family="negative_binomial")
    assert own.converged
    assert own.log_likelihood > fit.log_likelihood + 1


def test_separation_is_said() -> None:
    _, data, _ = grouped()
    with pytest.raises(um.FitError, match="separation"):
        um.fit("y ~ x + (1 | g)", data.assign(y=(data["x"] > 0) * 1.0), "glmm", family="binomial")


@pytest.mark.parametrize("backend", ["glmm", "mixedlm_rs"])
def test_a_residual_of_zero_is_said(backend: str) -> None:
    """Their searches end at some limit; EM steps towards another start must not fail there."""
    _, data, effect = grouped(seed=3)
    fit = um.fit("y ~ x + (1 | g)", data.assign(y=data["x"] + effect), backend)
    assert fit.status.state == "not_converged"
    assert fit.status.messages


def test_wrong_data_do_not_reach_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Its Rust code would print a trace of the stack to the terminal."""
    for family, y in (("poisson", -1.0), ("gamma", 0.0), ("binomial", 2.0)):
        with pytest.raises(um.UnimixError):
            um.fit("y ~ x + (1 | g)", RICH.assign(y=y), "glmm", family=family)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


# --- what unimix adds -------------------------------------------------------------------------------------------------


def test_standard_errors_of_a_generalised_model_are_of_all_parameters(bare: Any) -> None:
    """pls' are from exact derivatives: 1e-5. With the variances taken as known, the intercept's is 1.5 % smaller."""
    herds = um.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit, own = (um.fit(formula, herds, b, family="binomial") for b in ("glmm", "pls"))
    np.testing.assert_allclose(fit.fixed.std_error, own.fixed.std_error, rtol=1e-5)
    np.testing.assert_allclose(fit.random[0].mode_covariance, own.random[0].mode_covariance, rtol=1e-5)
    assert "their covariances by unimix" in fit.provenance["group_effects"]
    frame = herds.assign(y=herds["incidence"] / herds["size"], period=herds["period"].astype(str))
    known = bare.fit(
        frame.astype({"herd": str}), "y ~ period + (1 | herd)", "binomial", weights=herds["size"], wald_se="rx"
    )
    assert known.se[0] < 0.99 * fit.fixed.std_error[0]


FAMILIES = (
    "binomial",
    "binomial(probit)",
    "binomial(cloglog)",
    "poisson",
    "gamma",
    "gamma(inverse)",
    "negative_binomial",
)


@pytest.mark.parametrize("method", ["Laplace", "AGQ"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_exact_determinant(family: str, method: str) -> None:
    """The observed information is in the determinant, as in pls, not the expected one: 1e-7."""
    rng, data, effect = grouped()
    eta = 0.3 * data["x"] + 0.6 * effect
    match family.split("(", maxsplit=1)[0]:
        case "binomial":
            data["y"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
        case "poisson":
            data["y"] = rng.poisson(np.exp(eta))
        case "gamma":
            data["y"] = rng.gamma(20, (np.exp(eta) if family == "gamma" else 1 / (4 + eta)) / 20)
        case _:
            data["y"] = rng.negative_binomial(2, 2 / (2 + np.exp(eta)))
    fit, own = (um.fit("y ~ x + (1 | g)", data, b, family=family, method=method) for b in ("glmm", "pls"))
    assert fit.converged
    assert fit.criteria.criterion == own.criteria.criterion
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(fit.fixed.std_error, own.fixed.std_error, rtol=1e-4)


@pytest.mark.parametrize("conditioning", [True, False])
def test_awkward_units_are_no_reason_to_distrust_a_generalised_model(conditioning: bool) -> None:
    """The derivatives at the estimates are taken in well-scaled columns, whichever columns the engine received."""
    rng, data, effect = grouped()
    data["y"] = rng.poisson(np.exp(0.5 + 0.3 * data["x"] + 0.4 * effect))
    data["far"] = 1e4 * (data["x"] + 30)
    fit = um.fit("y ~ far + (1 + far | g)", data, "glmm", family="poisson", options={"conditioning": conditioning})
    own = um.fit("y ~ far + (1 + far | g)", data, "pls", family="poisson")
    assert fit.status.state == own.status.state
    assert fit.log_likelihood == pytest.approx(own.log_likelihood, abs=1e-6)


def test_names_that_a_formula_parser_would_stumble_over() -> None:
    plain = um.fit("y ~ x * f + (1 + x | g)", RICH, "glmm")
    odd = RICH.rename(columns={"x": "x | y", "f": "(f)", "g": "g + 1"})
    fit = um.fit("y ~ `x | y` * `(f)` + (1 + `x | y` | `g + 1`)", odd, "glmm")
    np.testing.assert_array_equal(fit.fixed.estimate, plain.fixed.estimate)


def test_it_computes_no_degrees_of_freedom_that_are_computed_again() -> None:
    fit = um.fit("y ~ x + (1 | g)", RICH, "glmm")
    assert "satterthwaite=False" in fit.engine.call
    assert fit.native.df_method == "disabled"
    assert fit.fixed.df_method == "satterthwaite"


def test_fits_travel_and_stay(tmp_path: Path) -> None:
    """Through pickle with the engine's own object, and through the processes of fit_many with the numbers alone."""
    fit = um.fit("y ~ x + (1 | g)", RICH, "glmm")
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.fixed.estimate, fit.fixed.estimate)
    many = um.fit_many(["y ~ x + (1 | g)", "y ~ x + (1 + x | g)"], RICH, "glmm", n_jobs=2)
    assert list(many.table["state"]) == ["converged", "converged"]


def test_a_bootstrap_refits_quickly() -> None:
    fit = um.fit("y ~ x + (1 | g)", RICH, "glmm")
    assert fit.bootstrap(20, seed=1).notes[0] == "20 of 20 refits"
