"""fit, compare and explain: arguments checked all at once, errors that say what to type."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import unimix as um
from unimix.backends.registry import others
from unimix.testing import simulate_rich, simulate_slopes

DATA = simulate_slopes(n_groups=10)


def test_all_wrong_arguments_are_told_at_once() -> None:
    with pytest.raises(um.OptionError) as error:
        um.fit("y ~ x", DATA, method="RELM", df_method="kenward", ci_level=95, seed=-1)  # type: ignore[arg-type]
    text = str(error.value)
    for part in ("method='RELM'", "Did you mean 'REML'", "df_method='kenward'", "ci_level=95", "seed=-1"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"backend": "lme"}, um.UnknownBackendError, "There is no backend 'lme'. Did you mean 'lme4'?"),
        ({"backend": 3}, um.UnknownBackendError, "give a name"),
        ({"backend": "lme4", "options": {"optimiser": "bobyqa"}}, um.OptionError, "Did you mean 'optimizer'"),
        ({"backend": "lme4", "options": {"optimizer": "newton"}}, um.OptionError, "optimizer='newton'"),
        ({"backend": "lme4", "method": "posterior"}, um.UnsupportedModelError, "backend='pymc'"),
        ({"backend": "lme4", "priors": {"x": 1}}, um.UnsupportedModelError, "lme4 has no priors"),
        ({"backend": "lme4", "df_method": "kenward-roger", "method": "ML"}, um.UnsupportedModelError, "belong to REML"),
        ({"backend": "pymc", "df_method": "kenward-roger"}, um.UnsupportedModelError, "backend='lme4'"),
        ({"family": "binomal"}, um.OptionError, "family"),
        ({"missing": "keep"}, um.OptionError, "choose 'drop' or 'raise'"),
        ({"weights": "ww"}, um.UnimixError, "ww"),
        ({"weights": [1, 2]}, um.DataError, "weights= has 2 values"),
        ({"contrasts": {"q": "sum"}}, um.OptionError, "contrasts names 'q'"),
    ],
)
def test_wrong_arguments(arguments: dict, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text.replace("(", r"\(").replace("?", r"\?")):
        um.fit("y ~ x + (1 | g)", DATA, **arguments)


@pytest.mark.r
def test_an_instance_is_its_options() -> None:
    engine = um.backends.Lme4(optimizer="bobyqa")
    fit = um.fit("y ~ x + (1 | g)", DATA, backend=engine)
    assert fit.engine.options["optimizer"] == "bobyqa"
    assert "bobyqa" in fit.engine.call
    with pytest.raises(um.OptionError, match="both given"):
        um.fit("y ~ x", DATA, backend=engine, options={"optimizer": "bobyqa"})
    assert um.fit("y ~ x + (1 | g)", DATA, backend=um.backends.Lme4).engine.options["optimizer"] == "nloptwrap"


def test_a_missing_engine_names_the_line_to_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n in ("pymc", "rpy2", "pymer4") else find(n, *a)
    )
    from unimix.backends.r import bridge

    monkeypatch.setattr(bridge, "_bridge", None)
    for name, package in (("pymc", "pymc>="), ("lme4", "rpy2"), ("pymer4", "rpy2")):
        with pytest.raises(um.EngineNotInstalledError) as error:
            um.fit("y ~ x + (1 | g)", DATA, backend=name)
        line = next(line for line in str(error.value).splitlines() if line.startswith("    pip install "))
        assert package in line
        assert "unimix[" not in line


def test_explain_fits_nothing_and_tells_all() -> None:
    told = um.explain("y ~ x * f + (1 + x || g) + (1 | h)", simulate_rich(), backend="lme4", weights="w", offset="off")
    text = str(told)
    assert told.columns["engine"].tolist()[:4] == ["y", "x0", "x1", "x2"]
    assert "lmer(y ~ 0 + x0 + x1" in text
    assert "weights = w" in text
    assert "varies over g" in text
    assert "lme4" in told.able
    assert told._repr_html_()
    refused = um.explain("y ~ x + (1 + x | g) + (1 | h)", simulate_rich(), backend="statsmodels")
    assert refused.refusals
    assert "statsmodels" not in refused.able


def test_the_capability_table() -> None:
    table = um.backends()
    assert set(table.marks.columns) >= {"statsmodels", "lme4", "pymer4", "pymc"}
    assert table.installed["statsmodels"]
    assert all(table.installed[name] == engine.available() for name, engine in others().items())
    assert table.to_markdown().count("\n") == len(table.marks) + 1
    assert "Kenward-Roger" in str(table)


def test_confidence_level_reaches_the_intervals() -> None:
    narrow, wide = (um.fit("y ~ x + (1 | g)", DATA, backend="pls", ci_level=v) for v in (0.5, 0.99))
    assert (wide.fixed.upper > narrow.fixed.upper).all()
    assert narrow.fixed.level == 0.5


def test_degrees_of_freedom_can_be_left_out() -> None:
    fit = um.fit("y ~ x + (1 | g)", DATA, backend="pls", df_method="normal")
    assert np.isinf(fit.fixed.df).all()
    assert "z" in str(fit)


@pytest.mark.r
def test_conditioning_can_be_switched_off() -> None:
    bare = um.fit("y ~ x + (1 + x | g)", DATA, backend="lme4", options={"conditioning": False})
    plain = um.fit("y ~ x + (1 + x | g)", DATA, backend="lme4")
    assert "coordinates" not in bare.provenance
    assert bare.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)


@pytest.mark.r
def test_conditioning_reaches_the_optimum_where_bare_columns_do_not() -> None:
    """sleepstudy with Days times 1e6: the engine's own search on bare columns stops far below the optimum."""
    data = um.load_dataset("sleepstudy").assign(Days=lambda d: d["Days"] * 1e6)
    fit = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, backend="lme4")
    # The optimum is that of the unscaled model; the REML criterion moves by the log of the unit: log(1e6).
    assert fit.log_likelihood == pytest.approx(-871.8141 - np.log(1e6), abs=1e-3)
    bare = um.fit("Reaction ~ Days + (1 + Days | Subject)", data, backend="lme4", options={"conditioning": False})
    assert not bare.converged or bare.log_likelihood < fit.log_likelihood + 1e-6


@pytest.mark.r
def test_a_likelihood_without_a_maximum_is_refused() -> None:
    few = {
        "y": [-0.54, 0.36, 1.30, 0.95, -0.70, -1.27, -0.62],
        "x": [-0.32, 0.41, 1.04, -0.13, 1.37, -0.67, 0.35],
        "f": list("ccbccbc"),
        "g": list("5331100"),
    }
    with pytest.raises(um.UnsupportedModelError, match="grows without bound"):
        um.fit("y ~ x * f + (1 | g)", few, method="ML")
    # Two rows per level and two effects per level in two terms: Z spans the rows by itself, the likelihood is bounded.
    rng = np.random.default_rng(3)
    twice = {"y": rng.normal(size=40), "t": np.tile([0.0, 1.0], 20), "g": np.repeat(np.arange(20), 2)}
    assert np.isfinite(um.fit("y ~ t + (1 | g) + (0 + t | g)", twice, method="ML", backend="lme4").log_likelihood)


def test_whoever_can_is_named_with_the_method_it_has() -> None:
    cases = [
        ("y ~ x + (1 | g)", "lme4", {"priors": {"x": um.priors.Normal(0, 1)}}, ["backend='pymc' (method='posterior')"]),
        (
            "y ~ x + (1 + x | g) + (1 | h)",
            "statsmodels",
            {},
            ["backend='lme4'", "backend='pymer4'", "pymc"],
        ),
        ("y ~ x + (1 | g)", "pymc", {"method": "REML"}, ["backend='lme4'", "backend='statsmodels'"]),
    ]
    for formula, backend, arguments, named in cases:
        with pytest.raises(um.UnsupportedModelError) as error:
            um.fit(formula, simulate_rich(), backend=backend, **arguments)
        for name in named:
            assert name in str(error.value)


def test_a_first_linear_fit_imports_no_optimiser_of_scipy():
    # SciPy's optimisers are a tenth of the time of a first fit, which needs none of them
    code = (
        "import sys, unimix as um\n"
        "str(um.fit('Reaction ~ Days + (Days | Subject)', um.load_dataset('sleepstudy')))\n"
        "assert 'scipy.optimize' not in sys.modules and 'scipy.stats' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
