"""The picture of smooth curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.errors import DataError


def test_the_picture_shows_the_curve_about_its_mean_with_the_band_of_its_errors() -> None:
    rng = np.random.default_rng(8)
    x, arm = rng.uniform(0, 10, 80), rng.choice(["a", "b"], 80)
    fit = um.fit("y ~ arm + s(x)", {"x": x, "arm": arm, "y": np.sin(x) + (arm == "b") + 0.4 * rng.normal(size=80)})
    data, design = fit.plot.smooths(draw=False), fit.design()
    predicted = fit.predict(pd.DataFrame({"x": data["x"], "arm": "a"}), level="population")
    np.testing.assert_allclose(np.diff(data["estimate"]), np.diff(predicted), atol=1e-9)
    own = [fit.fixed.terms.index(name) for name in fit.smooths[0].columns]
    assert (design.x[:, own] @ fit.fixed.estimate[own]).mean() == pytest.approx(0, abs=1e-9)
    new = fit.model.encoding.transform(pd.DataFrame({"x": data["x"], "arm": "a"}), with_groups=False).x[:, own]
    spread = np.einsum("nj,jk,nk->n", new, fit.fixed.covariance[np.ix_(own, own)], new)
    np.testing.assert_allclose(data["std_error"] ** 2, spread, rtol=1e-9)
    (panel,) = fit.plot.smooths()
    assert panel.get_xlabel() == "x"
    assert "effective degrees of freedom" in panel.get_title(loc="left")
    with pytest.raises(DataError, match="has no smooths"):
        um.fit("y ~ x", design.frame()).plot.smooths()
