"""Type III tests do not depend on how a factor came into the formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    made = pd.DataFrame({"a": rng.integers(1, 4, 150), "b": rng.choice(list("uvw"), 150)})
    made["t"], made["g"] = made["a"].astype(str), rng.integers(0, 10, 150).astype(str)
    return made.assign(y=rng.normal(size=150) + made["a"] * (made["b"] == "u"))


@pytest.mark.parametrize(
    "formula",
    [
        "C(a) * b",
        "factor(a) * C(b)",
        "C(t, contr.treatment) * C(b, contr.treatment)",
        "C(a, contr.helmert) * b",
        "C(t, contr.sum) * b",
    ],
)
def test_terms_have_the_tests_of_sum_coding(data: pd.DataFrame, formula: str) -> None:
    """A model whose factors are text is that of lmerTest in the reference cases."""
    right = um.fit("y ~ t * b + (1 | g)", data, "pls").anova().table
    found = um.fit(f"y ~ {formula} + (1 | g)", data, "pls").anova().table
    np.testing.assert_allclose(found[["F", "den_df"]], right[["F", "den_df"]], rtol=1e-6)


@pytest.mark.parametrize("how", ["sum", {"2 against the rest": [-0.5, 1, -0.5], "3 - 1": [-1, 0, 1]}], ids=str)
def test_contrasts_code_a_number_that_stands_as_a_factor(data: pd.DataFrame, how: object) -> None:
    text = um.fit("y ~ t + (1 | g)", data, "pls", contrasts={"t": how})
    number = um.fit("y ~ C(a) + (1 | g)", data, "pls", contrasts={"a": how})
    np.testing.assert_allclose(number.fixed_effects["estimate"], text.fixed_effects["estimate"], rtol=1e-6)
    new = data.head(5)
    np.testing.assert_allclose(number.predict(new), text.predict(new), rtol=1e-6)
    with pytest.raises(um.OptionError, match=r"write C\(a\) in the formula"):
        um.fit("y ~ a + (1 | g)", data, "pls", contrasts={"a": how})


def test_a_likelihood_ratio_is_not_negative_by_rounding() -> None:
    """Two models on the boundary have the same likelihood, but for the last digits."""
    from unimix.workflows.model_tests.nesting import ratio_statistic

    assert ratio_statistic(-10.0, -10.0 + 2.7e-12) == 0.0
    assert ratio_statistic(-10.0, -9.0) == -2.0
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60), "g": np.repeat(list("abcdef"), 10)})
    data["y"] -= data.groupby("g")["y"].transform("mean")
    small, large = um.fit("y ~ x", data, "pls"), um.fit("y ~ x + (1 | g)", data, "pls", method="ML")
    assert um.anova(small, large).table["chisq"].iloc[1] == 0.0
    assert um.anova(small, large).table["p_value"].iloc[1] == 1.0
