"""The test suite that every backend passes, also those of third parties.

from unimix.testing import BackendContract

class TestMine(BackendContract):
    backend = "mine"
    starved = {"max_iterations": 1}
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import unimix as um
from unimix.backends.base import FitRequest
from unimix.backends.capabilities import Yes
from unimix.backends.registry import others
from unimix.design.features import Feature, requirements
from unimix.result import FitResult
from unimix.testing import dense
from unimix.testing.agreement import assert_agree
from unimix.testing.delivery import check_delivery
from unimix.testing.examples import EXAMPLES
from unimix.testing.family_contract import FamilyContract
from unimix.testing.references import ReferenceCase, reference_cases
from unimix.testing.simulated import SLOPES, simulate_rich, simulate_slopes

FloatArray = npt.NDArray[np.float64]

SMALL = simulate_slopes(seed=5, n_groups=20)
"""The data of the fit that many tests share."""

FEW_GROUPS = simulate_slopes(seed=4, n_groups=8)
"""The data of a search that is stopped early: few groups leave a start by EM far from the optimum."""

_PLAIN: dict[type, FitResult] = {}
"""The fit of :meth:`BackendContract.plain` for each class."""


class BackendContract(FamilyContract):
    """Tests of a backend. Subclass it, name the backend, and pytest collects it.

    The models of the tests follow the capability sheet of the backend.

    Attributes:
        backend: Name of the backend.
        options: Options of the backend for every fit of the suite.
        family_options: Options of the backend for the fits of families and links.
        fitted_cells: Claimed cells of the family sheet that are fitted; None, the default, for every claimed cell. A
            sampler may name a few if a test of its own proves the others by their log density.
        fitted_features: Claimed features that are fitted; None, the default, for all. A sampler may name a few if a
            test of its own proves the others by their log density.
        references: Reference cases that are fitted; None for all.
        flagged: Reference cases in which the engine ends with a warning under these options; it must end so.
        starved: Options with which the engine must stop too early; see :meth:`stopped_early`.
    """

    fitted_features: ClassVar[frozenset[Feature] | None] = None
    references: ClassVar[frozenset[str] | None] = None
    flagged: ClassVar[frozenset[str]] = frozenset()

    # -- tools ----------------------------------------------------------------------------------

    @property
    def samples(self) -> bool:
        """Whether the engine gives a posterior."""
        return self.engine.info.samples

    @property
    def formula(self) -> str:
        """The richest of the usual models that the backend claims to fit."""
        slopes = self.engine.capabilities.can(Feature.CORRELATED_TERMS)
        return "y ~ x + (1 + x | g)" if slopes else "y ~ x + (1 | g)"

    def plain(self) -> FitResult:
        """The fit that other tests repeat with other rows, names, units and options; it is fitted once per class."""
        if type(self) not in _PLAIN:
            _PLAIN[type(self)] = self.fit(self.formula, SMALL)
        return _PLAIN[type(self)]

    @staticmethod
    def example(feature: Feature) -> tuple[str, dict[str, Any]]:
        """Formula and arguments that ask for a feature."""
        formula, arguments = EXAMPLES[feature]
        if arguments.get("priors"):
            arguments = {"priors": {"x": um.priors.Normal(0, 10)}}
        return formula, arguments

    # -- features -------------------------------------------------------------------------------

    def test_claimed_features_deliver_and_others_are_refused(
        self, feature: Feature, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        formula, arguments = self.example(feature)
        data = simulate_rich()
        design = self.design_of(formula, data, arguments)
        method = arguments.get("method", self.engine.default_method(design))
        needs = requirements(design, method, priors="priors" in arguments)
        if feature not in (Feature.SATTERTHWAITE, Feature.KENWARD_ROGER):
            assert feature in needs, "the example does not ask for the feature"
        answer = self.engine.capabilities[feature]
        if isinstance(answer, Yes):
            fit = self.fit(formula, data, **arguments)
            check_delivery(fit, design, method)
            if feature is Feature.KENWARD_ROGER:
                assert fit.fixed.df_method == "kenward-roger"
                assert np.isfinite(fit.fixed.df).all()
            return
        if feature is Feature.SATTERTHWAITE:
            fit = self.fit(formula, data, **arguments)
            assert fit.fixed.df_method != "satterthwaite"
            assert fit.fixed.df_method == "posterior" or "df" in fit.provenance
            return

        self.forbid_loading(monkeypatch)
        with pytest.raises(um.UnsupportedModelError) as refused:
            self.fit(formula, data, **arguments)
        message = str(refused.value)
        assert answer.reason in message
        request = FitRequest(method, arguments.get("df_method", "satterthwaite"), priors=arguments.get("priors"))
        able = [n for n, b in others().items() if not b.refusals(design, request)]
        assert all(f"backend={name!r}" in message for name in able)

    # -- truth ----------------------------------------------------------------------------------

    def test_recovers_simulated_truth(self) -> None:
        # 40 groups x 12 rows: fixed effects within 4 SE, SDs within a third (3 sampling SDs).
        slopes = self.engine.capabilities.can(Feature.CORRELATED_TERMS)
        simulated = SLOPES if slopes else replace(SLOPES, sd=(1.2, 0.0))
        fit = self.fit(self.formula, simulate_slopes(seed=3, truth=simulated))
        truth = np.array(list(SLOPES.fixed.values()))
        assert (np.abs(fit.fixed.estimate - truth) < 4 * fit.fixed.std_error).all()
        np.testing.assert_allclose(fit.random[0].sd, SLOPES.sd if slopes else SLOPES.sd[:1], rtol=0.34)
        assert fit.sigma == pytest.approx(SLOPES.sigma, rel=0.12)
        if slopes:
            assert float(fit.random[0].correlation[1, 0]) == pytest.approx(SLOPES.correlation, abs=0.45)

    def test_least_squares_without_a_random_part(self) -> None:
        data = simulate_slopes(seed=4)
        answer = self.engine.capabilities[Feature.NO_RANDOM_PART]
        if not isinstance(answer, Yes):
            with pytest.raises(um.UnsupportedModelError, match=re.escape(answer.reason)):
                self.fit("y ~ x", data)
            return
        fit = self.fit("y ~ x", data)
        x = np.column_stack([np.ones(len(data)), data["x"]])
        beta, rss = np.linalg.lstsq(x, data["y"], rcond=None)[:2]
        se = np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * rss[0] / (len(data) - 2))
        slack = 5 / np.sqrt(fit.status.ess_bulk or np.inf) if self.samples else 1e-8
        assert (np.abs(fit.fixed.estimate - beta) < slack * se + (0.02 * se if self.samples else 0)).all()
        np.testing.assert_allclose(fit.fixed.std_error, se, rtol=0.1 if self.samples else 1e-7)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the tests over what applies to the engine; pytest calls this when it collects the class."""
        super().pytest_generate_tests(metafunc)
        if metafunc.function.__name__ == "test_claimed_features_deliver_and_others_are_refused":
            sheet, fitted = self.engine.capabilities, self.fitted_features
            left_out = {f for f in Feature if isinstance(sheet[f], Yes) and fitted is not None and f not in fitted}
            metafunc.parametrize("feature", [f for f in Feature if f not in left_out], ids=lambda f: f.name)
        if metafunc.function.__name__ == "test_meets_stored_references":
            # a posterior has no criterion to choose: the REML case stands for a model
            cases = [c for c in reference_cases() if c.method == "REML" or not self.samples]
            cases = [c for c in cases if self.references is None or c.id in self.references]
            metafunc.parametrize("case", cases, ids=lambda c: c.id)

    def test_meets_stored_references(self, case: ReferenceCase) -> None:
        """Tolerances of likelihood engines are those of the least exact one.

        Samplers: 0.3 SE + 4 MCSE, and standard errors within 20 % of those of a t distribution with one degree of
        freedom less than there are levels, where there are ten levels to learn from. Their standard deviations have the
        reference's between the quantiles 0.005 and 0.995.
        """
        data = um.load_dataset(case.dataset)
        design = self.design_of(case.formula, data, {})
        method = "posterior" if self.samples else case.method
        if self.engine.refusals(design, FitRequest(method)):
            with pytest.raises(um.UnsupportedModelError):
                self.fit(case.formula, data, method=method)
            return
        fit = self.fit(case.formula, data, method=method)
        distance = np.abs(fit.fixed.estimate - np.array(case.estimate)) / np.array(case.std_error)
        sds = np.array([*(s for b in fit.random for s in b.sd), fit.sigma])
        if case.id in self.flagged:
            assert fit.status.state == "not_converged"
            return
        assert fit.converged
        if self.samples:
            draws = fit.draws(fit.status.n_draws or 1000)
            variances = [np.diagonal(c, axis1=1, axis2=2) for c in draws.covariances]
            low, high = np.quantile(np.hstack([np.sqrt(v) for v in variances] + [draws.parameters]), [0.005, 0.995], 0)
            assert (low <= case.sd).all()
            assert (case.sd <= high).all()
            if case.n_groups >= 10:
                assert distance.max() < 0.3 + 4 / np.sqrt(fit.status.ess_bulk or 1.0)
                spread = np.sqrt((case.n_groups - 1) / (case.n_groups - 3))  # SD of t with n - 1 degrees of freedom
                np.testing.assert_allclose(fit.fixed.std_error, spread * np.array(case.std_error), rtol=0.2)
            return
        assert distance.max() < 1e-2
        np.testing.assert_allclose(fit.fixed.std_error, case.std_error, rtol=2e-3)
        np.testing.assert_allclose(sds, case.sd, rtol=0.02)
        assert fit.log_likelihood == pytest.approx(case.log_likelihood, abs=1e-3)
        assert fit.singular == case.singular
        if fit.fixed.df_method == "satterthwaite":
            np.testing.assert_allclose(fit.fixed.df, case.df, rtol=1e-3)

    # -- invariance -----------------------------------------------------------------------------

    def test_order_of_rows_index_and_container_change_nothing(self) -> None:
        import polars as pl

        plain = self.plain()
        shuffled = SMALL.sample(frac=1, random_state=1)
        for other in (shuffled.set_index(np.full(len(SMALL), 7)), pl.from_pandas(SMALL)):
            again = self.fit(self.formula, other)
            self.same_numbers(again, plain)
            effects, wanted = again.group_effects["g"], plain.group_effects["g"]
            assert list(effects.index) == list(wanted.index)
            self.same_effects(effects.to_numpy(), plain)

    def test_names_of_levels_change_nothing_but_names(self) -> None:
        plain = self.plain()
        names = {f"g{i:03d}": f"z{99 - i:02d} `system('x')`" for i in range(20)}
        again = self.fit(self.formula, SMALL.assign(g=SMALL["g"].map(names)))
        self.same_numbers(again, plain)
        self.same_effects(again.group_effects["g"].to_numpy()[::-1], plain)

    def test_units_change_nothing_but_units(self) -> None:
        plain = self.plain()
        big = self.fit(self.formula, SMALL.assign(x=SMALL["x"] * 1e5, y=SMALL["y"] * 1e-3 + 50))
        unit = np.array([1e-3, 1e-8])
        slack = 0.35 if self.samples else 1e-3
        shift = np.array([50.0, 0.0])
        assert (
            np.abs((big.fixed.estimate - shift) / unit - plain.fixed.estimate) < slack * plain.fixed.std_error
        ).all()
        np.testing.assert_allclose(
            big.fixed.std_error / unit, plain.fixed.std_error, rtol=0.15 if self.samples else 3e-3
        )
        q = len(plain.random[0].sd)
        np.testing.assert_allclose(big.random[0].sd / unit[:q], plain.random[0].sd, rtol=0.2 if self.samples else 5e-3)
        assert big.sigma / 1e-3 == pytest.approx(plain.sigma, rel=0.05 if self.samples else 1e-3)

    def same_effects(self, effects: FloatArray, wanted: FitResult) -> None:
        """Equal up to what an optimizer leaves, or up to a third of their standard deviations."""
        slack = 0.35 * wanted.group_effects_sd["g"].to_numpy() if self.samples else 1e-3 * wanted.sigma
        assert (np.abs(effects - wanted.group_effects["g"].to_numpy()) < slack).all()

    def same_numbers(self, fit: FitResult, wanted: FitResult) -> None:
        """Assert that estimates are equal up to the error of an optimizer, or up to Monte Carlo error."""
        slack = 6 / np.sqrt(wanted.status.ess_bulk or 1.0) if self.samples else 1e-3
        assert (np.abs(fit.fixed.estimate - wanted.fixed.estimate) < slack * wanted.fixed.std_error).all()
        for a, b in zip(fit.random, wanted.random, strict=True):
            np.testing.assert_allclose(a.sd, b.sd, rtol=0.15 if self.samples else 5e-3)
        assert fit.sigma == pytest.approx(wanted.sigma, rel=0.03 if self.samples else 1e-3)

    # -- manners --------------------------------------------------------------------------------

    def test_leaves_the_world_as_it_was(self, capfd: pytest.CaptureFixture[str]) -> None:
        import random

        data = simulate_slopes(seed=8, n_groups=12)
        data.loc[3, "x"] = np.nan
        before = data.copy(deep=True)
        self.plain()  # the first fit imports the engine
        capfd.readouterr()
        np.random.seed(5)  # noqa: NPY002  the global state is what is looked at
        random.seed(5)
        states = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
        filters, folder, floating = list(warnings.filters), Path.cwd(), np.geterr()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = self.fit("y ~ x + (1 | g)", data)
        assert caught == []
        printed = capfd.readouterr()
        assert (printed.out, printed.err) == ("", "")
        assert repr(np.random.get_state(legacy=False)) == repr(states[0])  # noqa: NPY002
        assert random.getstate() == states[1]
        assert list(warnings.filters) == filters
        assert Path.cwd() == folder
        assert np.geterr() == floating
        pd.testing.assert_frame_equal(data, before)
        assert fit.model.n_dropped == 1
        assert fit.model.missing == {"x": 1}

    def test_a_fit_that_stopped_early_is_never_called_converged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        starved = self.stopped_early(monkeypatch)
        try:
            fit = um.fit(self.formula, FEW_GROUPS, backend=starved, seed=1)
        except um.FitError:
            return
        assert not fit.converged
        assert fit.status.state == "not_converged"
        assert fit.status.messages
        with pytest.raises(um.DisagreementError, match="not converged"):
            assert_agree(fit, fit)

    def test_a_zero_variance_is_called_singular(self) -> None:
        # Group means are pulled together, so that the mean square between groups is below that within groups.
        rng = np.random.default_rng(9)
        g = np.repeat(np.arange(12), 8)
        y = rng.normal(size=96)
        y -= 0.9 * np.array([y[g == k].mean() for k in range(12)])[g]
        fit = self.fit("y ~ 1 + (1 | g)", {"y": y, "g": [f"g{k}" for k in g]})
        assert fit.converged
        if self.samples:
            assert fit.status.divergences == 0
            return
        assert fit.singular
        assert float(fit.random[0].sd[0]) < 1e-3 * fit.sigma
        assert np.abs(fit.random[0].modes).max() < 1e-3 * fit.sigma
        assert fit.sigma == pytest.approx(np.std(y, ddof=1), rel=1e-4)

    # -- the result -----------------------------------------------------------------------------

    def test_saved_and_loaded_it_is_the_same(self) -> None:
        data = simulate_rich()
        fit = self.fit(f"{self.formula} + f", data, ci_level=0.9)
        text = fit.to_json()
        loaded = FitResult.from_json(text)
        assert loaded.to_json() == text
        assert loaded == fit
        assert str(loaded) == str(fit)
        np.testing.assert_array_equal(loaded.predict(data), fit.predict(data))
        np.testing.assert_allclose(fit.predict(data), fit.fitted, rtol=1e-10)
        np.testing.assert_allclose(fit.fitted + fit.residuals(), data["y"], rtol=1e-10)
        assert fit.native is not None
        assert loaded.native is None

    def test_same_seed_same_answer(self) -> None:
        first, second = self.plain(), self.fit(self.formula, SMALL)
        np.testing.assert_array_equal(first.fixed.estimate, second.fixed.estimate)
        np.testing.assert_array_equal(first.random[0].modes, second.random[0].modes)
        assert first.sigma == second.sigma

    def test_modes_and_their_covariances_are_those_of_the_estimates(self) -> None:
        """Compare with best linear unbiased predictions and their conditional variances from the full matrices.

        b = Cov Z'V^-1 (y - X beta), Var(b | y, beta) = Cov - Cov Z'V^-1 Z Cov.
        """
        data = simulate_rich()
        arguments = {"weights": "w"} if self.engine.capabilities.can(Feature.WEIGHTS) else {}
        design = self.design_of(self.formula, data, arguments)
        fit = self.fit(self.formula, data, **arguments)
        cov = np.array(fit.random[0].covariance)
        v = dense.marginal_covariance(design, (cov,), fit.sigma)
        block = design.blocks[0]
        residual = np.linalg.solve(v, design.y - design.x @ fit.fixed.estimate)
        for level in range(block.n_levels):
            z = np.where((block.codes == level)[:, None], block.z, 0.0)
            mode = cov @ z.T @ residual
            conditional = cov - cov @ z.T @ np.linalg.solve(v, z) @ cov
            sd = np.sqrt(np.diag(conditional))
            slack = 0.35 if self.samples else 1e-3
            assert (np.abs(fit.random[0].modes[level] - mode) < slack * sd).all()
            if not self.samples:
                np.testing.assert_allclose(fit.random[0].mode_covariance[level], conditional, rtol=2e-3, atol=1e-6)
