"""Comparisons: verdicts that mean something, failures that keep their column, assertions for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import unimix as um
from unimix.backends import registry
from unimix.fitted.schema import PRIORS
from unimix.testing import assert_agree, simulate_rich, simulate_slopes

FORMULA = "y ~ x + (1 + x | g)"


@pytest.fixture(scope="module")
def base() -> um.FitResult:
    return um.fit(FORMULA, simulate_slopes(), backend="pls")


def changed(fit: um.FitResult, part: str, **values: object) -> um.FitResult:
    """The same result with some values replaced, as an engine that went wrong would give it."""
    return replace(fit, **{part: getattr(fit, part).model_copy(update=values)})


def other_engine(fit: um.FitResult) -> um.FitResult:
    return changed(fit, "engine", backend="other", engine="other")


@pytest.mark.r
def test_two_roads_to_one_engine() -> None:
    base = um.fit(FORMULA, simulate_slopes(), backend="lme4")
    found = um.compare(FORMULA, simulate_slopes(), backends=["lme4", "pymer4"])
    assert found.reference == "lme4"
    assert found.verdicts.loc["pymer4", "verdict"] == "identical engine"
    assert found.agree
    found.assert_agree()
    table = found.estimates
    assert list(table.columns) == ["lme4", "pymer4"]
    assert table.loc[("fixed", "x"), "lme4"] == base.fixed.estimate[1]
    assert ("correlation", "Intercept, x | g") in table.index
    assert found.differences.loc[("fixed (in SE)", "x"), "pymer4"] == pytest.approx(0, abs=1e-4)
    assert "pymer4: identical engine" in str(found)


def test_a_wrong_fixed_effect_is_suspicious(base: um.FitResult) -> None:
    away = base.fixed.estimate + np.array([0, 0.5]) * base.fixed.std_error
    wrong = changed(other_engine(base), "fixed", estimate=away)
    with pytest.raises(um.DisagreementError, match=r"a fixed effect is 0.5 standard errors away \(allowed 0.01\)"):
        assert_agree(base, wrong)
    assert_agree(base, wrong, fixed=0.6)


def test_a_lower_optimum_is_suspicious(base: um.FitResult) -> None:
    lower = changed(other_engine(base), "criteria", log_likelihood=base.log_likelihood - 2.5)
    for order in ((base, lower), (lower, base)):
        found = um.compare(*order)
        assert found.reference == "pls"
        assert found.verdicts.loc["other", "verdict"] == "suspicious"
        assert "stopped 2.5 log-likelihood units below" in found.verdicts.loc["other", "reason"]
        assert not found.agree


def test_wrong_standard_errors_sds_and_likelihood_constants(base: um.FitResult) -> None:
    wrong = changed(other_engine(base), "fixed", std_error=base.fixed.std_error * 1.03)
    with pytest.raises(um.DisagreementError, match=r"a standard error differs by 3.0%"):
        assert_agree(base, wrong)
    wrong = changed(other_engine(base), "criteria", sigma=base.sigma * 1.1)
    with pytest.raises(um.DisagreementError, match="a standard deviation differs by"):
        assert_agree(base, wrong)
    wrong = changed(other_engine(base), "criteria", log_likelihood=base.log_likelihood + 38.8)
    with pytest.raises(um.DisagreementError, match="log-likelihood"):
        assert_agree(base, wrong)


def test_a_fit_that_did_not_converge_is_never_the_reference(base: um.FitResult) -> None:
    stuck = changed(other_engine(base), "status", state="not_converged", messages=("it gave up",))
    stuck = changed(stuck, "criteria", log_likelihood=base.log_likelihood + 100)
    found = um.compare(stuck, base)
    assert found.reference == "pls"
    assert found.verdicts.loc["other", "verdict"] == "not converged"
    assert "it gave up" in found.verdicts.loc["other", "reason"]
    with pytest.raises(um.DisagreementError, match="did not converge"):
        found.assert_agree()


def test_another_criterion_is_expected_to_differ(base: um.FitResult) -> None:
    ml = um.fit(FORMULA, simulate_slopes(), backend="pls", method="ML")
    found = um.compare(base, ml)
    assert list(found) == ["pls (REML)", "pls (ML)"]
    assert found.verdicts.loc["pls (ML)", "verdict"] == "expected to differ"
    assert np.isnan(found.differences.loc[("fit", "log_likelihood (difference)"), "pls (ML)"])
    assert list(um.compare(base, other_engine(ml), base)) == ["pls", "other", "pls (2)"]


@pytest.mark.r
def test_comparisons_are_saved(base: um.FitResult, tmp_path) -> None:
    found = um.compare(FORMULA, simulate_slopes(), backends=["lme4", um.backends.Lme4(start=(1.0,) * 5)])
    assert found.to_json(tmp_path / "c.json") == tmp_path / "c.json"
    for source in (found.to_json(), tmp_path / "c.json"):
        loaded = um.Comparison.from_json(source)
        assert str(loaded) == str(found)
        assert loaded == found
    for wrong in ("{}", "no such file", base.to_json()):
        with pytest.raises(um.DataError, match="not a saved Comparison"):
            um.Comparison.from_json(wrong)


def test_priors_of_the_user_explain_a_distance(base: um.FitResult) -> None:
    far = changed(changed(other_engine(base), "criteria", criterion="posterior"), "status", ess_bulk=4000.0)
    far = changed(far, "fixed", estimate=far.fixed.estimate + 2 * far.fixed.std_error)
    assert um.compare(base, far).verdicts.loc["other", "verdict"] == "suspicious"
    told = replace(far, provenance={**far.provenance, PRIORS: "x ~ Normal(5, 0.1)"})
    verdict = um.compare(base, told).verdicts.loc["other"]
    assert verdict["verdict"] == "expected to differ"
    assert "priors of the user (x ~ Normal(5, 0.1)): a fixed effect is 2 standard errors away" in verdict["reason"]
    um.compare(base, told).assert_agree()


def test_other_designs_are_refused(base: um.FitResult) -> None:
    data = simulate_slopes()
    data.loc[0, "y"] += 1e-6
    for other in (
        um.fit(FORMULA, data, backend="pls"),
        um.fit("y ~ x + (1 | g)", simulate_slopes(), backend="pls"),
        um.fit(FORMULA, simulate_slopes().iloc[1:], backend="pls"),
    ):
        with pytest.raises(um.DataError, match="different designs"):
            um.compare(base, other)


def test_loaded_results_compare_like_fresh_ones(base: um.FitResult) -> None:
    loaded = um.FitResult.from_json(base.to_json())
    found = um.compare([loaded, base])
    found.assert_agree(fixed=0, std_error=0, sd=0, log_likelihood=0)


@pytest.mark.r
def test_one_failing_engine_does_not_lose_the_others() -> None:
    found = um.compare(
        "y ~ x + (1 | g)", simulate_slopes(), backends=["lme4", um.backends.Lme4(start=(1.0, 2.0, 3.0, 4.0, 5.0))]
    )
    assert list(found.results) == ["lme4"]
    assert found.verdicts.loc["lme4 (2)", "verdict"] == "failed"
    assert "FitError" in found.verdicts.loc["lme4 (2)", "reason"]
    assert "lme4 (2)" in str(found)
    with pytest.raises(um.DisagreementError, match="no result"):
        _ = found["lme4 (2)"]
    with pytest.raises(um.DisagreementError):
        found.assert_agree()


@pytest.mark.r
def test_an_engine_that_refuses_keeps_its_column() -> None:
    found = um.compare("y ~ x + (1 + x | g) + (1 | h)", simulate_rich(), backends=["statsmodels", "lme4", "pymer4"])
    assert found.failures["statsmodels"].error == "UnsupportedModelError"
    assert found.estimates["statsmodels"].isna().all()
    assert found["lme4"].converged


@pytest.mark.r
def test_zero_variances_are_not_compared_as_ratios() -> None:
    data = um.load_dataset("sleepstudy").assign(noise=lambda d: np.tile(np.arange(10), 18) % 5)
    found = um.compare("Reaction ~ Days + (1 | noise)", data, backends=["lme4", "pymer4"])
    assert found["lme4"].singular
    found.assert_agree()


def test_wrong_arguments_are_told(base: um.FitResult) -> None:
    with pytest.raises(um.OptionError, match="at least two"):
        um.compare(FORMULA, simulate_slopes(), backends=["pls"])
    with pytest.raises(um.OptionError, match="give a list"):
        um.compare(FORMULA, simulate_slopes(), backends="pls")
    with pytest.raises(um.OptionError, match="at least two results"):
        um.compare(base)
    with pytest.raises(um.OptionError, match="'fixd' is not a tolerance"):
        um.compare(base, base).assert_agree(fixd=1)
    with pytest.raises(um.OptionError, match="FitResult"):
        um.compare([base, "pls"])  # type: ignore[list-item]


def test_page_and_picture(base: um.FitResult, tmp_path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    from unimix.plots.forest import forest_data

    found = um.compare(base, other_engine(base))
    assert found.to_html(str(tmp_path / "c.html")) == tmp_path / "c.html"
    page = found.to_html()
    assert (tmp_path / "c.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "y ~ x + (1 + x | g)" in page
    axes = found.plot()
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["Intercept", "x", "SD(Intercept | g)", "SD(x | g)", "SD(Residual)"]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["pls", "other"]
    data = forest_data([("pls", base)])
    assert data.loc[data["name"] == "x", "lower"].item() == base.fixed.lower[1]
    plt.close("all")


def test_names_in_a_page_are_escaped() -> None:
    data = simulate_slopes(n_groups=10).rename(columns={"x": "<script>alert(1)</script>"})
    fit = um.fit("y ~ `<script>alert(1)</script>` + (1 | g)", data, backend="pls")
    assert "<script>" not in fit._repr_html_()


@pytest.mark.r
def test_kenward_roger_errors_beside_plain_ones_are_expected_to_differ() -> None:
    data = um.load_dataset("Orthodont").iloc[[i for i in range(108) if i % 5]]
    formula = "distance ~ age * Sex + (1 + age | Subject)"
    same = um.compare(formula, data, backends=["lme4", "statsmodels"], df_method="kenward-roger")
    assert set(same.verdicts["verdict"]) == {"reference", "numerically equal"}
    found = um.compare(same["lme4"], um.fit(formula, data, "statsmodels"))
    assert set(found.verdicts["verdict"]) == {"reference", "expected to differ"}
    assert "Kenward" in " ".join(found.verdicts["reason"])
    found.assert_agree()


def test_posteriors_under_other_priors_are_expected_to_differ(base: um.FitResult) -> None:
    one = changed(
        changed(other_engine(base), "criteria", criterion="posterior"), "engine", priors={"x": "Normal(0, 1)"}
    )
    two = changed(one, "engine", priors={"x": "Normal(5, 1)"})
    two = changed(two, "fixed", estimate=two.fixed.estimate + two.fixed.std_error)
    found = um.compare(one, two)
    assert found.verdicts["verdict"].tolist() == ["reference", "expected to differ"]
    assert "other priors (x)" in found.verdicts["reason"].iloc[1]


def test_engines_that_nobody_named_may_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    formula, data = "Reaction ~ Days + (1 + Days | Subject) + (1 | Days)", um.load_dataset("sleepstudy")
    names = ["pls", "mixedlm", "mixedlm_rs"]
    named = um.compare(formula, data, backends=names)
    assert not named.agree
    assert named.verdicts.loc["mixedlm_rs", "verdict"] == "failed"
    monkeypatch.setattr(registry, "others", lambda: {n: registry.resolve(n) for n in names})
    found = um.compare(formula, data)
    assert found.agree
    found.assert_agree()
    verdict = found.verdicts.loc["mixedlm_rs"]
    assert verdict["verdict"] == "refused"
    assert verdict["reason"].startswith(
        "It does not fit this model: correlated effects beside a crossed or outer factor"
    )
    assert "These can" not in str(found)
    assert str(found).count("has one correlated block") == 1
    loaded = type(found).from_json(found.to_json())
    assert loaded.verdicts.equals(found.verdicts)
    monkeypatch.setattr(registry, "others", lambda: {n: registry.resolve(n) for n in names[1:]})
    alone = um.compare(formula, data)
    assert not alone.agree
    with pytest.raises(um.DisagreementError, match="nothing is compared"):
        alone.assert_agree()


@pytest.mark.parametrize("given", [(["pls", "statsmodels"],), ("pls", "statsmodels")])
def test_engines_by_position_are_answered_with_the_line_to_type(given: tuple[object, ...]) -> None:
    data = {"y": [1.0, 2.0, 4.0, 4.5], "x": [1.0, 2.0, 3.0, 5.0]}
    with pytest.raises(um.OptionError, match=r"type backends=\['pls', 'statsmodels'\]"):
        um.compare("y ~ x", data, *given)
