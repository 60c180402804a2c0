"""Johnson-Neyman regions against their closed form, intervals of slopes, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import unimix as um


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(20), 10)
    x, z = rng.normal(size=200), rng.normal(2, 1, size=200)
    y = 1 + x * (0.6 * z - 1) + 0.5 * rng.normal(size=20)[g] + rng.normal(size=200)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": [f"g{k}" for k in g], "f": np.where(g % 2, "a", "b")})


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> um.FitResult:
    return um.fit("y ~ x * z + (1 | g)", data, "pls")


def roots(fit: um.FitResult, critical: float) -> list[float]:
    """Where (b_x + b_xz z)^2 equals the squared critical value times its variance (Bauer & Curran 2005)."""
    b, v, q = fit.fixed.estimate, np.asarray(fit.fixed.covariance), critical**2
    return sorted(
        np.roots([b[3] ** 2 - q * v[3, 3], 2 * (b[1] * b[3] - q * v[1, 3]), b[1] ** 2 - q * v[1, 1]]).real.tolist()
    )


def test_boundaries_are_those_of_the_closed_form(fit: um.FitResult, data: pd.DataFrame) -> None:
    plain = um.fit("y ~ x * z", data, "pls")
    t = stats.t.ppf(0.975, 196)
    for model, df_method, critical in ((plain, None, t), (fit, "normal", stats.norm.ppf(0.975))):
        found = model.johnson_neyman("x", by="z", between=(-5, 8), df_method=df_method)  # type: ignore[arg-type]
        # the search ends within 13 / 100 * 32**-5 = 4e-9
        assert found.boundaries == pytest.approx(roots(model, critical), abs=1e-7)
        assert found.table["slope"].tolist() == ["negative", "not different from zero", "positive"]
    low, high = found.boundaries
    z = data["z"]
    assert found.table["rows"].tolist() == [(z < low).sum(), z.between(low, high).sum(), (z > high).sum()]
    own = fit.johnson_neyman("x", by="z")
    assert own.table["lower"].iloc[0] == data["z"].min()
    assert own.table["upper"].iloc[-1] == data["z"].max()
    at = fit.slopes("x", by="z", at={"z": list(own.boundaries)}).table
    nearest = np.minimum(at["lower"].abs(), at["upper"].abs())
    assert nearest.to_numpy() == pytest.approx(np.zeros(len(at)), abs=1e-6)
    robust = fit.robust().johnson_neyman("x", by="z", between=(-5, 8))
    assert robust.boundaries != pytest.approx(found.boundaries, abs=1e-3)


def test_generalised_loaded_and_sampled_fits(fit: um.FitResult, data: pd.DataFrame, tmp_path: Path) -> None:
    counts = data.assign(y=np.random.default_rng(3).poisson(np.exp(0.3 * data["x"] * (data["z"] - 2))))
    poisson = um.fit("y ~ x * z + (1 | g)", counts, "pls", family="poisson")
    found = poisson.johnson_neyman("x", by="z", between=(-5, 8))
    assert found.boundaries == pytest.approx(roots(poisson, stats.norm.ppf(0.975)), abs=1e-7)
    loaded = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    plain = fit.johnson_neyman("x", "z")
    assert loaded.johnson_neyman("x", "z").boundaries == pytest.approx(plain.boundaries, rel=1e-6)
    posterior = um.fit("y ~ x * z + (1 | g)", data, "bayes", seed=1)
    # quantiles of 4000 draws: 0.05 of an SD of the slope, whose slope in z is 0.6
    assert posterior.johnson_neyman("x", "z").boundaries == pytest.approx(plain.boundaries, abs=0.1)


@pytest.mark.parametrize("backend", ["statsmodels", "mixedlm", "lme4", "glmmtmb"])
def test_every_engine(backend: str, fit: um.FitResult, data: pd.DataFrame) -> None:
    other = um.fit("y ~ x * z + (1 | g)", data, backend)
    ours = fit.johnson_neyman("x", "z", between=(-5, 8), df_method="normal").boundaries
    theirs = other.johnson_neyman("x", "z", between=(-5, 8), df_method="normal").boundaries
    assert theirs == pytest.approx(ours, abs=0.02)  # optimizers leave 1e-3 of a standard error


def test_pictures_and_simple_slopes(fit: um.FitResult, data: pd.DataFrame) -> None:
    found = fit.johnson_neyman("x", by="z")
    m, s = data["z"].mean(), data["z"].std()
    assert found.simple_slopes.table["z"].tolist() == pytest.approx([m - s, m, m + s])
    expected = fit.fixed.estimate[1] + fit.fixed.estimate[3] * np.array([m - s, m, m + s])
    assert found.simple_slopes.table["estimate"].tolist() == pytest.approx(expected.tolist(), rel=1e-10)
    lines = found.plot_lines(draw=False)
    rise = lines[lines["z"] == lines["z"].iloc[-1]].sort_values("x")
    slope = np.diff(rise["estimate"]) / np.diff(rise["x"])
    assert slope == pytest.approx(np.full(29, expected[2]), rel=1e-8)
    assert found.plot().get_ylabel() == "slope of x"
    assert found.plot_lines().get_xlabel() == "x"
    assert "do not hold for all values together" in str(found)


def test_refusals(fit: um.FitResult, data: pd.DataFrame) -> None:
    with pytest.raises(um.OptionError, match=r"x='w' is not a predictor[\s\S]*by='q' is not a predictor"):
        fit.johnson_neyman("w", by="q")
    with pytest.raises(um.OptionError, match="name a moderator"):
        fit.johnson_neyman("x", by="x")
    with pytest.raises(um.OptionError, match="two numbers in order"):
        fit.johnson_neyman("x", by="z", between=(3, 1))
    factor = um.fit("y ~ x * f + z + (1 | g)", data, "pls")
    with pytest.raises(um.OptionError, match=r"by='f' is a factor: fit\.slopes\('x', by='f'\)"):
        factor.johnson_neyman("x", by="f")
    with pytest.raises(um.DataError, match="does not depend on z: the model needs their interaction, x:z"):
        factor.johnson_neyman("x", by="z")
    with pytest.raises(um.DataError, match="holds no data"):
        um.FitResult.from_json(fit.to_json()).johnson_neyman("x", by="z")


def test_an_interaction_that_is_averaged_over_is_named(data: pd.DataFrame) -> None:
    found = um.fit("y ~ x * z * f + (1 | g)", data, "pls").johnson_neyman("x", by="z")
    assert found.notes[-1].endswith("interactions with f (averaged over): at= separates them.")
