"""Whether the estimates determine a row depends on the row and on the fitted data, not on the rows beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_were_fitted_can_be_predicted_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {"x": rng.normal(50, 3, 60), "a": rng.choice(list("pqr"), 60), "g": rng.choice(list("uvwxyz"), 60)}
    data = pd.DataFrame({**columns, "y": rng.normal(size=60)})
    fit = um.fit("y ~ poly(x, 3) + scale(x):a + (1 | g)", data, "pls")
    assert fit.model.aliased
    for size in (1, 2, 5):
        parts = [fit.predict(data.iloc[i : i + size]) for i in range(0, 60, size)]
        np.testing.assert_allclose(np.concatenate(parts), fit.fitted, atol=1e-9)


def test_a_row_beside_a_huge_one_is_refused_all_the_same() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": list("pq") * 30, "b": (["u"] * 2 + ["v", "u"]) * 15, "x": rng.normal(size=60)})
    data["z"] = 2 * data["x"]
    data["y"] = rng.normal(size=60)
    fit = um.fit("y ~ a * b + x + z", data, "pls")
    assert set(fit.model.aliased) == {"a[T.q]:b[T.v]", "z"}
    fine = pd.DataFrame({"a": ["p"], "b": ["v"], "x": [1e9], "z": [2e9]})
    empty = pd.DataFrame({"a": ["q"], "b": ["v"], "x": [0.5], "z": [1.0]})
    off = pd.DataFrame({"a": ["p"], "b": ["v"], "x": [0.5], "z": [1.001]})
    assert np.isfinite(fit.predict(fine)).all()
    for lost in (empty, off):
        with pytest.raises(um.DataError, match="1 of 2 rows cannot be predicted"):
            fit.predict(pd.concat([fine, lost]))
    # a huge value in a column that has nothing to do with the empty cell
    with pytest.raises(um.DataError, match="cannot be predicted"):
        fit.predict(empty.assign(x=1e9, z=2e9))
    with pytest.raises(um.DataError, match="cannot be estimated"):
        fit.comparisons("a", newdata=empty.assign(b="v", x=1e9, z=2e9))
