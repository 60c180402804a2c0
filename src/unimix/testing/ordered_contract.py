"""The test suite of backends of ordered responses that fit no linear models.

from unimix.testing import OrderedContract

class TestMine(OrderedContract):
    backend = "mine"
    starved = {"max_iterations": 1}
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.base import FitRequest
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import Cell
from unimix.backends.registry import others
from unimix.design.features import Feature, requirements
from unimix.distributions.cumulative import draw_categories
from unimix.distributions.family import Cumulative
from unimix.result import FitResult
from unimix.testing.examples import EXAMPLES
from unimix.testing.family_contract import FamilyContract
from unimix.testing.generalised import check_generalised
from unimix.testing.simulated import simulate_rich

THRESHOLDS = np.array([-1.0, 0.3, 1.5])
SLOPE, SD = 0.8, 0.7


def simulate_ratings(
    link: str = "logit", *, sd: float = SD, seed: int = 0, n_groups: int = 20, n_per_group: int = 10
) -> pd.DataFrame:
    """Simulate ratings of ``rating ~ x + (1 | g)`` with the thresholds -1, 0.3 and 1.5 and the slope 0.8.

    Args:
        link: Link of the cumulative family.
        sd: Standard deviation of the group effects, which are scaled to it exactly.
        seed: Seed of NumPy's default generator.
        n_groups: Number of levels of g.
        n_per_group: Number of rows per level.

    Returns:
        A table with the columns rating (1 to 4), x and g.
    """
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), n_per_group)
    x, effects = rng.normal(size=len(codes)), rng.normal(size=n_groups)
    effects = sd * (effects - effects.mean()) / effects.std()
    rating = 1 + draw_categories(link, THRESHOLDS, SLOPE * x + effects[codes], rng).astype(int)
    return pd.DataFrame({"rating": rating, "x": x, "g": [f"g{c:02d}" for c in codes]})


_PLAIN: dict[type, FitResult] = {}
"""The fit of :meth:`OrderedContract.plain` for each class."""


class OrderedContract(FamilyContract):
    """Tests of a backend of ordered responses. Subclass it, name the backend, and pytest collects it.

    The models of the tests follow the capability sheet and the family sheet of the backend.

    Attributes:
        backend: Name of the backend.
        options: Options of the backend for every fit of the suite.
        starved: Options with which the engine must stop too early; see :meth:`stopped_early`.
        fitted_features: Claimed features that are fitted; None, the default, for all. An engine of which one fit takes
            seconds may name some if a test of its own proves the others.
    """

    fitted_features: ClassVar[frozenset[Feature] | None] = None
    formula: ClassVar[str] = "rating ~ x + (1 | g)"

    def plain(self) -> FitResult:
        """The fit that other tests repeat with other rows, names and options; it is fitted once per class."""
        if type(self) not in _PLAIN:
            _PLAIN[type(self)] = self.fit(self.formula, simulate_ratings(), family="cumulative")
        return _PLAIN[type(self)]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the tests over what applies to the engine; pytest calls this when it collects the class."""
        super().pytest_generate_tests(metafunc)
        if metafunc.function.__name__ == "test_claimed_features_deliver_and_others_are_refused":
            sheet, fitted = self.engine.capabilities, self.fitted_features
            left_out = {f for f in Feature if isinstance(sheet[f], Yes) and fitted is not None and f not in fitted}
            metafunc.parametrize("feature", [f for f in Feature if f not in left_out], ids=lambda f: f.name)
        if metafunc.function.__name__ == "test_claimed_links_recover_simulated_truth":
            claimed = [
                cell for cell, a in self.engine.families.items() if cell.family == "cumulative" and isinstance(a, Yes)
            ]
            metafunc.parametrize("cell", claimed, ids=lambda c: f"{c.link}-{'mixed' if c.mixed else 'plain'}")

    @staticmethod
    def rated() -> pd.DataFrame:
        """The data of the examples of features, with four categories of the response of the linear models."""
        data = simulate_rich()
        return data.assign(rating=1 + np.digitize(data["y"], np.quantile(data["y"], [0.25, 0.5, 0.75])))

    def test_claimed_features_deliver_and_others_are_refused(
        self, feature: Feature, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claimed feature is asked of ratings; one that is not claimed, of the response of its example."""
        answer, data = self.engine.capabilities[feature], self.rated()
        formula, arguments = EXAMPLES[feature]
        if isinstance(answer, Yes):
            right = formula.partition("~")[2]
            kept = {k: v for k, v in arguments.items() if k in ("weights", "offset")}
            kept |= {"family": "cumulative"} | ({"method": "AGQ"} if feature is Feature.AGQ else {})
            formula = f"rating ~ {'x + f' if feature is Feature.ML else right}"
            design = self.design_of(formula, data, kept)
            method = kept.get("method", self.engine.default_method(design))
            assert feature in requirements(design, method), "the example does not ask for the feature"
            check_generalised(self.fit(formula, data, **kept), design)
            return
        if feature is Feature.SATTERTHWAITE:
            assert self.plain().fixed.df_method != "satterthwaite"
            return
        arguments = {**arguments, **({"priors": {"x": um.priors.Normal(0, 10)}} if "priors" in arguments else {})}
        self.forbid_loading(monkeypatch)
        with pytest.raises(um.UnsupportedModelError) as refused:
            self.fit(formula, data, **arguments)
        assert answer.reason in str(refused.value)

    def test_linear_models_are_refused_with_the_engines_that_fit_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forbid_loading(monkeypatch)
        data = simulate_rich()
        with pytest.raises(um.UnsupportedModelError, match="gaussian") as refused:
            self.fit("y ~ x + (1 | g)", data)
        design = self.design_of("y ~ x + (1 | g)", data, {})
        able = [n for n, b in others().items() if not b.refusals(design, FitRequest("REML"))]
        assert able
        assert all(f"backend={name!r}" in str(refused.value) for name in able)

    def test_claimed_links_recover_simulated_truth(self, cell: Cell) -> None:
        """Within 4 standard errors of the truth (200 rows), and at the maximum of unimix's own likelihood."""
        data = simulate_ratings(cell.link, sd=SD if cell.mixed else 0.0, seed=2)
        formula = self.formula if cell.mixed else "rating ~ x"
        fit = self.fit(formula, data, family=Cumulative(cell.link))
        check_generalised(fit, self.design_of(formula, data, {"family": Cumulative(cell.link)}))
        table = fit.thresholds
        assert abs(fit.fixed.estimate[0] - SLOPE) < 4 * fit.fixed.std_error[0]
        assert (np.abs(table["estimate"] - THRESHOLDS) < 4 * table["std_error"]).all()

    def test_order_of_rows_and_names_of_levels_change_nothing(self) -> None:
        """Estimates to 1e-3 standard errors, the error of an optimizer."""
        plain, data = self.plain(), simulate_ratings()
        names = {f"g{i:02d}": f"z{99 - i:02d} `system('x')`" for i in range(20)}
        shuffled = data.sample(frac=1, random_state=1).set_index(np.full(len(data), 7))
        again = self.fit(self.formula, shuffled.assign(g=shuffled["g"].map(names)), family="cumulative")
        assert abs(again.fixed.estimate[0] - plain.fixed.estimate[0]) < 1e-3 * plain.fixed.std_error[0]
        moved = np.abs(again.thresholds["estimate"] - plain.thresholds["estimate"])
        assert (moved < 1e-3 * plain.thresholds["std_error"]).all()
        effects = again.group_effects["g"].to_numpy()[::-1]
        np.testing.assert_allclose(effects, plain.group_effects["g"].to_numpy(), atol=1e-3 * SD)

    def test_text_and_reversed_categories_are_the_same_model(self) -> None:
        """Reversed categories of a symmetric link turn the signs of the coefficient and of the thresholds."""
        plain, data = self.plain(), simulate_ratings()
        turned = self.fit(self.formula, data.assign(rating=5 - data["rating"]), family="cumulative")
        assert turned.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)
        slack = 1e-3 * plain.thresholds["std_error"].to_numpy()
        there = -turned.thresholds["estimate"].to_numpy()[::-1]
        assert (np.abs(there - plain.thresholds["estimate"].to_numpy()) < slack).all()
        assert abs(turned.fixed.estimate[0] + plain.fixed.estimate[0]) < 1e-3 * plain.fixed.std_error[0]

    def test_a_fit_that_stopped_early_is_never_called_converged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        starved = self.stopped_early(monkeypatch)
        try:
            fit = um.fit(self.formula, simulate_ratings(seed=4), backend=starved, family="cumulative")
        except um.FitError:
            return
        assert not fit.converged
        assert fit.status.state == "not_converged"
        assert fit.status.messages

    def test_a_zero_variance_is_called_singular(self) -> None:
        """Every group has the same numbers of each rating, so that nothing varies between groups."""
        data = pd.DataFrame({"rating": np.tile(np.repeat([1, 2, 3], 3), 10), "g": np.repeat(np.arange(10), 9)})
        fit = self.fit("rating ~ 1 + (1 | g)", data.assign(g=data["g"].astype(str)), family="cumulative")
        assert fit.converged
        assert fit.singular
        assert fit.random[0].sd[0] < 1e-3
        # a third of the rows below each threshold; the error is that of two shares, on the scale of the link
        np.testing.assert_allclose(fit.thresholds["estimate"], [-np.log(2), np.log(2)], atol=1e-4)
        np.testing.assert_allclose(fit.thresholds["std_error"], np.sqrt(1 / (90 * 2 / 9)), rtol=2e-3)

    def test_leaves_the_world_as_it_was(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.plain()  # the first fit imports the engine
        data = simulate_ratings(seed=8)
        data.loc[3, "x"] = np.nan
        before = data.copy(deep=True)
        capfd.readouterr()
        floating = np.geterr()
        fit = self.fit(self.formula, data, family="cumulative")
        printed = capfd.readouterr()
        assert (printed.out, printed.err) == ("", "")
        assert np.geterr() == floating
        pd.testing.assert_frame_equal(data, before)
        assert fit.model.n_dropped == 1

    def test_saved_and_loaded_it_is_the_same(self) -> None:
        fit = self.plain()
        text = fit.to_json()
        loaded = FitResult.from_json(text)
        assert loaded.to_json() == text
        assert loaded == fit
        assert fit.native is not None
        assert loaded.native is None
        np.testing.assert_array_equal(loaded.predict(simulate_ratings()), fit.predict(simulate_ratings()))
