"""Every engine against the reference cases, with the tolerances that are claimed for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from gold import Gold, as_list, gaussian_cases, r_name

import unimix as um
from unimix.testing import reference_cases

CASES = gaussian_cases()


@dataclass(frozen=True)
class Allowed:
    """Tolerances of one engine, with their reasons in the table below."""

    fixed: float  # in standard errors of the reference
    std_error: float  # relative
    sd: float  # relative to the larger of itself and a hundredth of the residual SD
    log_likelihood: float  # absolute


ALLOWED = {
    # The optimizer's tolerances are tight; what is left is the flatness of the criterion.
    "lme4": Allowed(1e-4, 1e-4, 1e-3, 1e-5),
    "pymer4": Allowed(1e-4, 1e-4, 1e-3, 1e-5),
    # Its standard errors are of the observed information of all parameters, which differs where groups are few; it
    # searches logarithms of SDs and stops near a zero variance.
    "glmmtmb": Allowed(1e-4, 5e-2, 5e-3, 1e-5),
    # nlminb with differences for derivatives, of logarithms of SDs: near a zero variance it starts beside the optimum.
    "nlme": Allowed(1e-4, 1e-4, 5e-3, 1e-5),
    # Its log-likelihood carries an evaluation error of up to 3e-5 near the boundary, which hides the last digits.
    "statsmodels": Allowed(1e-2, 2e-3, 2e-2, 1e-3),
    # Newton's method with exact derivatives; the references themselves are rounded to 15 digits of a polished optimum.
    "pls": Allowed(1e-4, 1e-4, 1e-3, 1e-7),
    # BFGS and BOBYQA, in well-scaled columns: what is left is the flatness of the criterion.
    "glmm": Allowed(1e-4, 1e-4, 1e-3, 1e-6),
    # L-BFGS-B with exact derivatives, and COBYQA near the boundary.
    "mixedlm": Allowed(1e-4, 1e-4, 1e-3, 1e-6),
    "mixedlm_rs": Allowed(1e-4, 1e-4, 1e-3, 1e-6),
}


REFUSED = {
    "glmm": {"sleepstudy_uncorr", "sleepstudy_uncorr_ml", "sleepstudy_slope_only_ml"},
    "mixedlm_rs": {
        "dietox_litter", "dietox_lm", "sleepstudy_uncorr", "sleepstudy_uncorr_ml", "imm10_lm", "penicillin",
        "penicillin_ml", "pastes", "pastes_ml", "machines_nested",
    },
}  # fmt: skip
"""Cases that an engine cannot express, according to its capability sheet."""


def fixef(case: Gold) -> tuple[np.ndarray, np.ndarray]:
    """Fixed effects and standard errors of the reference."""
    table = case.reference["fixef"]
    return np.array(as_list(table["estimate"]), dtype=float), np.array(as_list(table["std_error"]), dtype=float)


@pytest.mark.parametrize("engine", ALLOWED)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_likelihood_engines(case: Gold, engine: str) -> None:
    if case.id in REFUSED.get(engine, ()):
        with pytest.raises(
            um.UnsupportedModelError,
            match=r"one correlated block|needs a grouping factor|no independent terms|no random intercept",
        ):
            case.fit(engine)
        return
    fit = case.fit(engine)
    reference, allowed = case.reference, ALLOWED[engine]
    gap = reference["loglik"] - fit.log_likelihood
    assert abs(gap) < allowed.log_likelihood or not fit.converged
    assert fit.converged
    estimate, std_error = fixef(case)
    assert [r_name(t, fit) for t in fit.fixed.terms] == as_list(reference["fixef"]["names"])
    assert (np.abs(fit.fixed.estimate - estimate) / std_error).max() < allowed.fixed
    np.testing.assert_allclose(fit.fixed.std_error, std_error, rtol=allowed.std_error)
    ours, theirs = case.standard_deviations(fit)
    assert (np.abs(ours - theirs) / np.maximum(theirs, 0.01 * fit.sigma)).max() < allowed.sd
    assert fit.singular == bool(reference["singular"])
    assert fit.n_obs == reference["nobs"]
    assert fit.model.n_dropped == reference["n_rows_dropped"]
    assert fit.criteria.n_parameters == reference["n_parameters"]
    assert fit.aic == pytest.approx(reference["aic"], abs=2 * allowed.log_likelihood)
    assert fit.bic == pytest.approx(reference["bic"], abs=2 * allowed.log_likelihood)
    rows = reference["fitted"]
    # Fitted values move with the modes: by less than a few times the tolerance of the SDs, in residual SDs.
    assert np.abs(fit.fitted[:5] - rows["first5"]).max() < 5 * allowed.sd * fit.sigma
    assert fit.fitted.sum() == pytest.approx(rows["sum"], rel=1e-6)
    if case.mixed:
        assert fit.n_groups == reference["ngroups"]
        check_modes(fit, reference, allowed)
    check_predictions(case, fit, allowed)
    if fit.fixed.df_method == "satterthwaite" and not fit.singular:
        np.testing.assert_allclose(fit.fixed.df, np.array(as_list(reference["fixef"]["df"]), dtype=float), rtol=1e-3)


def check_modes(fit: um.FitResult, reference: dict, allowed: Allowed) -> None:
    """Conditional modes and their SDs, level by level, wherever one term of a factor is meant beyond doubt."""
    for row in reference["ranef"]["rows"]:
        modes, sds = fit.group_effects[row["group"]], fit.group_effects_sd[row["group"]]
        at = [r_name(str(c), fit) for c in modes.columns].index(row["term"])
        level = next(i for i, v in enumerate(modes.index) if str(v) == row["level"])
        # Levels stand in R's order, where R's order is that of a factor with stated levels.
        slack = 20 * allowed.sd * max(row["cond_sd"], 1e-3 * fit.sigma)
        assert modes.iloc[level, at] == pytest.approx(row["mode"], abs=slack)
        floor = 0.01 * allowed.sd * fit.sigma
        assert sds.iloc[level, at] == pytest.approx(row["cond_sd"], rel=5 * allowed.sd, abs=floor)
    for total in reference["ranef"]["checksums"]:
        modes = fit.group_effects[total["group"]]
        assert len(modes) == total["n_levels"]


def check_predictions(case: Gold, fit: um.FitResult, allowed: Allowed) -> None:
    """Population and conditional predictions for three new rows, the third with an unknown level."""
    wanted = case.reference["predictions"]
    new = pd.DataFrame(wanted["new_data"])
    for role in ("weights", "offset"):
        column = (case.definition[role] or {}).get("column")
        if column and column not in new and role == "offset":
            return
    scale = np.array(as_list(wanted["population_se"]), dtype=float)
    population = fit.predict(new, level="population")
    assert (np.abs(population - wanted["population"]) / scale).max() < 10 * allowed.fixed
    if case.mixed:
        conditional = fit.predict(new, new_levels="population")
        assert np.abs(conditional - wanted["conditional"]).max() < 10 * allowed.sd * fit.sigma
        with pytest.raises(um.DataError, match="not fitted"):
            fit.predict(new)


@pytest.mark.parametrize("source", ["unimix", "pbkrtest"])
@pytest.mark.parametrize("engine", ["lme4", "pymer4"])
@pytest.mark.parametrize("case", [c for c in CASES if "kenward_roger" in c.reference], ids=lambda c: c.id)
def test_kenward_roger(case: Gold, engine: str, source: str) -> None:
    fit = case.fit(engine, df_method="kenward-roger", options={"kenward_roger": source})
    assert f"by {source}" in fit.provenance["df"]
    wanted = case.reference["kenward_roger"]
    np.testing.assert_allclose(fit.fixed.std_error, np.array(as_list(wanted["std_error"]), dtype=float), rtol=1e-4)
    # The df inherit the accuracy of the variances, amplified where few levels are left: 1e-3.
    np.testing.assert_allclose(fit.fixed.df, np.array(as_list(wanted["df"]), dtype=float), rtol=1e-3)
    p_value = np.array(as_list(wanted["p_value"]), dtype=float)
    np.testing.assert_allclose(fit.fixed.p_value, p_value, rtol=1e-2, atol=1e-12)


CONTRACT = {c.id for c in reference_cases()}
"""Cases whose posteriors are held against the reference by the contract, too."""

SAMPLED = [
    c
    for c in CASES
    # the posterior has no criterion: the REML case of a model stands for it
    if c.reml and (not c.mixed or c.smallest_factor >= 10) and (c.id not in CONTRACT or c.id == "sleepstudy_slope")
]
"""Cases with ten levels to learn from."""


@pytest.mark.parametrize("case", SAMPLED, ids=lambda c: c.id)
def test_posterior(case: Gold) -> None:
    """The defaults of `bayes`: means within 0.3 SE + 4 MCSE, SDs within 20 %; PyMC meets references in its contract.

    A posterior knows that variances are uncertain: with the ten schools of imm10 its exact SD is 14 % larger than the
    standard error (100,000 draws by backend bayes); the rest is Monte Carlo error.
    """
    fit = case.fit("bayes", method="posterior", seed=11)
    assert fit.converged, fit.status
    assert fit.status.rhat is not None
    assert fit.status.rhat < 1.01
    assert not fit.status.divergences
    estimate, std_error = fixef(case)
    mcse = 1 / np.sqrt(fit.status.ess_bulk)
    assert (np.abs(fit.fixed.estimate - estimate) / std_error).max() < 0.3 + 4 * mcse
    np.testing.assert_allclose(fit.fixed.std_error, std_error, rtol=0.2)
    draws, theirs = case.draws_of_sds(fit)
    low, high = np.quantile(draws, [0.005, 0.995], axis=0)
    assert (low <= theirs).all()
    assert (theirs <= high).all()
