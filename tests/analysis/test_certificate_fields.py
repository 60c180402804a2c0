"""Every field of a result has a check: each is planted with a fault of 5 %, and none of the results is certified."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import unimix as um
from support.certified_models import MODELS, POSTERIORS, data, fitted
from support.planted_faults import (
    ENGINES_FAULTS,
    NOT_CERTIFIED,
    NOT_OF_THE_MODEL,
    as_from_engine,
    leaves,
    parts_of,
    planted,
)

LOADED = ["REML, offset", "ML, arrays", "poisson", "gamma without groups"]
BYTES = "model.fingerprint"
"""A digest of bytes, which is compared where the arrays are those that were fitted: a loaded result is given a frame,
which may have been through a text file, and is compared with digests that allow for rounding instead."""


def fields() -> Iterator[tuple[str, ...]]:
    return (path for path in leaves() if ".".join(path) not in NOT_OF_THE_MODEL)


@pytest.mark.parametrize("name", [*MODELS, *POSTERIORS])
def test_a_fault_in_any_field_is_found(name: str) -> None:
    fit = fitted(name)
    assert fit.certificate().verdict == "certified", str(fit.certificate())
    missed = []
    for path in fields():
        wrong = planted(fit, path)
        if wrong is not None and wrong.certificate().certified:
            missed.append(".".join(path))
    assert missed == []


@pytest.mark.parametrize("name", LOADED)
def test_a_fault_in_any_field_of_a_file_is_found(name: str) -> None:
    fit = fitted(name)
    assert um.FitResult.from_json(fit.to_json()).with_data(data()).certificate().certified
    missed = []
    for path in fields():
        wrong = planted(fit, path)
        if wrong is None or ".".join(path) == BYTES:
            continue
        try:
            found = um.FitResult.from_json(wrong.to_json()).with_data(data()).certificate()
        except um.UnimixError:  # refused with a reason: no number at all
            continue
        if found.certified:
            missed.append(".".join(path))
    assert missed == []


def test_every_field_of_the_schema_was_planted() -> None:
    """A new field needs a check, or a reason in ``NOT_OF_THE_MODEL``; this fails until it has one."""
    fits = [fitted(name) for name in [*MODELS, *POSTERIORS]]
    never = [".".join(path) for path in fields() if all(planted(fit, path) is None for fit in fits)]
    assert [name for name in never if not name.startswith(NOT_CERTIFIED)] == []
    assert set(NOT_OF_THE_MODEL) <= {".".join(path) for path in leaves()}


@pytest.mark.parametrize("name", [*MODELS, *POSTERIORS])
def test_a_fault_of_the_engine_is_found_though_all_tables_follow(name: str) -> None:
    fit = fitted(name)
    wrong = {fault: as_from_engine(fit, fault) for fault in ENGINES_FAULTS}
    assert sum(found is not None for found in wrong.values()) >= 3
    missed = [fault for fault, found in wrong.items() if found is not None and found.certificate().certified]
    assert missed == []


@pytest.mark.r
@pytest.mark.parametrize("name", ["Kenward-Roger, weights", "probit, quadrature", "negative binomial"])
def test_faults_of_lme4_are_found(name: str) -> None:
    """Its criterion for these links and families is Laplace's approximation with the expected information."""
    formula, more = MODELS[name]
    fit = um.fit(formula, data(), "lme4", **{**more, "method": None} if name.startswith("probit") else more)
    assert fit.certificate().verdict == "certified", str(fit.certificate())
    wrong = {fault: as_from_engine(fit, fault) for fault in ENGINES_FAULTS}
    assert [fault for fault, found in wrong.items() if found is not None and found.certificate().certified] == []


def test_names_that_were_exchanged_in_a_file_are_refused() -> None:
    """Estimates keep their places, so that all sums are right, and every table is wrong."""
    content = json.loads(fitted("REML, offset").to_json())
    terms = content["fixed"]["terms"]
    content["fixed"]["terms"] = [terms[0], *terms[:0:-1]]
    with pytest.raises(um.DataError, match="its formula has the columns"):
        um.FitResult.from_json(json.dumps(content)).with_data(data())


def test_the_whole_covariance_matrix_is_compared() -> None:
    """The diagonal is right: a contrast of two levels is wrong by a factor that has a closed form."""
    fit = fitted("REML, offset")
    wrong = as_from_engine(fit, "covariances of the fixed effects")
    assert wrong is not None
    np.testing.assert_allclose(wrong.fixed.std_error, fit.fixed.std_error)
    found = wrong.certificate()
    assert found.verdict == "wrong inference"
    assert "a contrast is" in found.check("standard errors").said


@pytest.mark.parametrize("formula", ["y ~ x + twice + f + (1 + x | g)", "y ~ x + twice"])
def test_loaded_results_are_certified_with_rows_that_were_read_from_a_text(formula: str) -> None:
    """Missing values, an index of its own, a column left out, and digits that a text file has rounded."""
    frame = data().assign(twice=2 * data()["x"])
    frame.loc[3, "y"] = frame.loc[5, "x"] = np.nan
    frame.index = [f"row {i}" for i in range(len(frame))]
    fit = um.fit(formula, frame, "pls")
    assert fit.model.aliased == ("twice",)
    rounded = pd.read_csv(io.StringIO(frame.to_csv(index=False, float_format="%.15g")))
    for given in (frame, rounded):
        found = um.FitResult.from_json(fit.to_json()).with_data(given).certificate()
        assert found.verdict == "certified", str(found)


def test_fields_are_entered_through_tuples_and_dictionaries() -> None:
    fit = fitted("REML, offset")
    assert ("random", "sd") in set(leaves())
    assert ("parts", "estimate") in set(leaves())
    wrong = planted(fit, ("random", "sd"))
    assert wrong is not None
    np.testing.assert_allclose(parts_of(wrong.random)[0].sd, 1.05 * fit.random[0].sd)
