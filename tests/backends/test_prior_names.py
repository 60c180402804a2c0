"""Priors by the names of parameters, of terms and of classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.sampling.priors import resolve_priors
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.formula.interpreter import parse

P = um.priors
FORMULA = "y ~ x * f + poly(z, 2) + (1 + x | g) + (1 | h)"


def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({name: rng.normal(size=60) for name in ("y", "x", "z", "sd", "coefficients")})
    return frame.assign(f=list("abc") * 20, g=np.repeat(np.arange(10), 6), h=np.tile(np.arange(6), 10))


def design(formula: str = FORMULA) -> Design:
    return build_design(parse(formula), data())


def test_the_most_specific_name_counts() -> None:
    table = resolve_priors(
        design(),
        {
            "coefficients": P.Normal(0, 5), "f": P.Normal(0, 4), "f[T.c]": P.Normal(0, 3), "x:f": P.StudentT(3, 0, 2),
            "poly(z, 2)": P.Normal(0, 1), "sd": P.HalfNormal(5), "sd(g)": P.HalfNormal(4),
            "sd(g: x)": P.HalfNormal(3), "cor": P.LKJ(7),
        },
    )  # fmt: skip
    wanted = {
        "x": P.Normal(0, 5), "f[T.b]": P.Normal(0, 4), "f[T.c]": P.Normal(0, 3),
        "x:f[T.b]": P.StudentT(3, 0, 2), "x:f[T.c]": P.StudentT(3, 0, 2),
        "poly(z, 2)[1]": P.Normal(0, 1), "poly(z, 2)[2]": P.Normal(0, 1),
        "sd(g: Intercept)": P.HalfNormal(4), "sd(g: x)": P.HalfNormal(3), "sd(h)": P.HalfNormal(5), "cor(g)": P.LKJ(7),
    }  # fmt: skip
    assert {name: table.named[name] for name in wanted} == wanted
    assert table.defaults == ("Intercept", "sigma")  # the intercept is no coefficient of the class


def test_a_class_without_members_serves_other_models() -> None:
    table = resolve_priors(design("y ~ 1"), {"coefficients": P.Normal(0, 1), "sd": P.HalfNormal(1), "cor": P.LKJ(2)})
    assert table.defaults == ("Intercept", "sigma")


def test_without_an_intercept_all_columns_are_coefficients() -> None:
    table = resolve_priors(design("y ~ 0 + f"), {"coefficients": P.Normal(0, 1)})
    assert [table.named[f"f[{level}]"] for level in "abc"] == [P.Normal(0, 1)] * 3


def test_a_column_with_the_name_of_a_class_is_that_column() -> None:
    table = resolve_priors(
        design("y ~ sd + coefficients + x + (1 | g)"), {"sd": P.Normal(0, 2), "coefficients": P.Normal(0, 3)}
    )
    assert table.named["sd"] == P.Normal(0, 2)
    assert table.named["coefficients"] == P.Normal(0, 3)
    assert {"x", "sd(g)"} <= set(table.defaults)


def test_it_is_the_fit_with_each_name_written_out() -> None:
    short = {"coefficients": P.Normal(0, 2), "sd": P.HalfNormal(1)}
    long = {n: P.Normal(0, 2) for n in ("x", "f[T.b]", "f[T.c]")} | {"sd(g)": P.HalfNormal(1)}
    a, b = (um.fit("y ~ x + f + (1 | g)", data(), "bayes", priors=p, seed=1) for p in (short, long))
    np.testing.assert_array_equal(a.fixed.estimate, b.fixed.estimate)
    assert a.engine.priors == b.engine.priors
    # names are still known where the result was saved, and where its rows were chosen
    again = um.refit(um.FitResult.from_json(a.to_json()), data())
    assert again.engine.priors == a.engine.priors
    np.testing.assert_array_equal(again.fixed.estimate, a.fixed.estimate)
    assert um.refit(a).engine.priors == a.engine.priors


def test_all_faults_at_once_with_the_line_to_type() -> None:
    given = {
        "F": P.Normal(0, 1), "coeficients": P.HalfNormal(5), "cor": P.Normal(0, 2), "sd(g)": P.Normal(0, 3),
        "x": 3, "nothing like it": P.Normal(0, 1),
    }  # fmt: skip
    with pytest.raises(um.OptionError) as caught:
        um.fit(FORMULA, data(), "bayes", priors=given)
    text = str(caught.value)
    for part in (
        "'F', which is no parameter of this model. Did you mean 'f'?",
        "'coeficients', which is no parameter of this model. Did you mean 'coefficients'?",
        "The prior of cor is Normal(0, 2), but a correlation matrix needs LKJ(eta).",
        "The prior of sd(g) is Normal(0, 3), but a standard deviation is positive: use HalfNormal",
        "The prior of x is 3: give a distribution",
        "'nothing like it', which is no parameter",
    ):
        assert part in text
    line = (
        "Type:\n    priors={'f': unimix.priors.Normal(0, 1), 'coefficients': unimix.priors.Normal(0, 5), 'cor': "
        "unimix.priors.LKJ(2), 'sd(g)': unimix.priors.HalfNormal(3), 'x': unimix.priors.Normal(0, 1)}"
    )
    assert text.endswith(line)


def test_more_priors_than_a_listing_shows_are_certified_and_refitted() -> None:
    frame = data().assign(**{f"v{k}": np.random.default_rng(50 + k).normal(size=60) for k in range(12)})
    names = [f"v{k}" for k in range(12)]
    given = {n: P.Normal(0, 1 / 3) for n in names} | {"Intercept": P.Normal(0, 1), "sigma": P.HalfNormal(2)}
    fit = um.fit(f"y ~ {' + '.join(names)}", frame, "bayes", priors=given, seed=1)
    assert {c.name: c.passed for c in fit.certificate().checks}["priors"] is True
    np.testing.assert_array_equal(um.refit(fit).fixed.estimate, fit.fixed.estimate)
