"""PyMC against the reference cases of generalised models."""

from __future__ import annotations

import numpy as np
import pytest
from gold import Gold, as_list, generalised_cases, r_name

CASES = [c for c in generalised_cases() if c.id == "cbpp"]
"""One case; the density of every family and form is tested by itself."""


@pytest.mark.mcmc
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_posterior(case: Gold) -> None:
    """At its defaults: means within 0.35 SE + 4 MCSE, standard errors within 20 %.

    The reference is the maximum of the likelihood by quadrature where there is one: Laplace's approximation is off by a
    standard error where levels are poor (ohio).
    """
    fit = case.fit("pymc", method="posterior", seed=11)
    assert fit.converged, fit.status
    assert fit.status.rhat is not None
    assert fit.status.rhat < 1.01
    assert fit.status.divergences == 0
    assert min(fit.status.ess_bulk, fit.status.ess_tail) > 400
    assert [r_name(t, fit) for t in fit.fixed.terms] == as_list(case.reference["fixef"]["names"])
    exact = case.reference.get("agq") or case.reference["fixef"]
    estimate, std_error = (np.array(as_list(exact[k]), dtype=float) for k in ("estimate", "std_error"))
    mcse = 1 / np.sqrt(fit.status.ess_bulk)
    assert (np.abs(fit.fixed.estimate - estimate) / std_error).max() < 0.35 + 4 * mcse
    np.testing.assert_allclose(fit.fixed.std_error, std_error, rtol=0.2)
    if not case.mixed:
        return
    draws, theirs = case.draws_of_sds(fit)
    if "agq" in case.reference:
        theirs = np.array(as_list(case.reference["agq"]["theta"]), dtype=float)
    low, high = np.quantile(draws, [0.005, 0.995], axis=0)
    assert (low <= theirs).all()
    assert (theirs <= high).all()
