"""Tests of a backend's sheets: they are complete, claimed families are fitted correctly, all others are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import pytest

import unimix as um
from unimix.backends.base import Backend
from unimix.backends.capabilities import Yes
from unimix.backends.family_support import Cell, all_families
from unimix.backends.registry import registered, resolve, sound
from unimix.design.arrays import Design
from unimix.design.design import build_design
from unimix.design.features import Feature
from unimix.distributions.family import Family
from unimix.formula.interpreter import parse
from unimix.result import FitResult
from unimix.testing.generalised import check_generalised, family_truth, simulate_family


class FamilyContract:
    """The tests of the sheets in every contract of :mod:`unimix.testing`."""

    backend: ClassVar[str]
    """Name of the backend."""
    options: ClassVar[dict[str, Any]] = {}
    """Options of the backend for every fit of the suite."""
    starved: ClassVar[dict[str, Any]]
    """Options with which the engine must stop too early; see :meth:`stopped_early`."""

    family_options: ClassVar[dict[str, Any]] = {}
    """Options for the fits of :meth:`test_claimed_families_deliver_and_others_are_refused`."""

    fitted_cells: ClassVar[Collection[Cell] | None] = None
    """Claimed cells of the family sheet that are fitted; None for every claimed cell.

    A sampler takes long. It may name a few cells here if a test of its own proves all others by their log density.
    """

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the test of the family sheet over its cells; pytest calls this when it collects the class.

        Raises:
            pytest.UsageError: If ``fitted_cells`` names a cell that the sheet does not claim.
        """
        if metafunc.function.__name__ != "test_claimed_families_deliver_and_others_are_refused":
            return
        sheet = self.engine.families
        for cell in self.fitted_cells or ():
            if not isinstance(sheet[cell], Yes):
                raise pytest.UsageError(f"{type(self).__name__}.fitted_cells: the sheet does not claim {cell}.")
        claimed = [cell for cell, answer in sheet.items() if isinstance(answer, Yes)]
        left_out = [] if self.fitted_cells is None else [cell for cell in claimed if cell not in self.fitted_cells]
        for_each = [
            pytest.param(family, mixed, id=f"{family}-{'mixed' if mixed else 'plain'}")
            for family in all_families()
            for mixed in (True, False)
            # the linear model is what all other tests are about; ordered categories have tests of their own
            if not family.is_linear
            and family.response != "ordered"
            and Cell(family.label, family.link, mixed) not in left_out
        ]
        metafunc.parametrize(("family", "mixed"), for_each)

    def test_is_registered_under_its_own_name(self) -> None:
        assert self.backend in registered()
        assert self.engine.info.name == self.backend

    def test_every_no_has_a_reason(self) -> None:
        for feature in Feature:
            answer = self.engine.capabilities[feature]
            assert isinstance(answer, Yes) or len(answer.reason) > 15, feature

    def test_options_are_frozen_documented_and_checked(self) -> None:
        engine = self.engine
        with pytest.raises(um.OptionError, match="Options: "):
            resolve(self.backend, {"no_such_option": 1})
        for name in type(engine).model_fields:
            documentation = " ".join(c.__doc__ or "" for c in type(engine).__mro__)
            assert f"{name}:" in documentation, f"the option {name} is not in the docstring"

    def test_loading_the_adapter_loads_no_engine(self) -> None:
        engines = {"pytensor", "nutpie", "arviz", "matplotlib", "polars", *self.engine.info.packages}
        engines |= {p for cls in sound().values() for p in cls.info.packages}
        code = (
            "import sys; from unimix.backends.registry import backend_class; before = set(sys.modules); "
            f"backend_class({self.backend!r}); print(*sorted((set(sys.modules) - before) & {engines!r}))"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    @property
    def engine(self) -> Backend:
        """The backend under test with its options."""
        return resolve(self.backend, self.options)

    def fit(self, formula: str, data: Any, **arguments: Any) -> FitResult:
        """Fit with the backend under test and a fixed seed."""
        return um.fit(formula, data, backend=self.engine, **{"seed": 20, **arguments})

    def stopped_early(self, monkeypatch: pytest.MonkeyPatch) -> Backend:  # noqa: ARG002  for those who override it
        """The backend with options with which its engine stops too early.

        A test class overrides this method for an engine without such options: it replaces the engine's search by one
        that ends elsewhere.
        """
        return resolve(self.backend, {**self.options, **self.starved})

    def forbid_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the test fail if the engine is loaded, because a model must be refused before that."""

        def not_to_be_called(_self: Backend) -> None:
            raise AssertionError("the engine was loaded for a model it cannot fit")

        monkeypatch.setattr(type(self.engine), "load", not_to_be_called)

    @staticmethod
    def design_of(formula: str, data: Any, arguments: dict[str, Any]) -> Design:
        """The design that ``fit`` would build."""
        kept = {k: v for k, v in arguments.items() if k in ("weights", "offset", "family", "sigma", "relationship")}
        texts = [arguments.get(name) for name in ("ziformula", "dispformula", "residual")]
        return build_design(parse(formula, *texts), data, **kept)

    def test_claimed_families_deliver_and_others_are_refused(
        self, family: Family, mixed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Estimates are within 4 standard errors of the truth, and dispersion parameters within a third (600 rows)."""
        data = simulate_family(family, mixed=mixed)
        formula = "y ~ x + (1 | g)" if mixed else "y ~ x"
        arguments: dict[str, Any] = {"family": family}
        arguments |= {"weights": "trials"} if family.response == "binomial" else {}
        design = self.design_of(formula, data, arguments)
        answer = self.engine.families.answer(family, mixed=mixed)
        if isinstance(answer, Yes):
            engine = resolve(self.backend, {**self.options, **self.family_options})
            fit = um.fit(formula, data, backend=engine, seed=20, **arguments)
            check_generalised(fit, design)
            truth = family_truth(family, mixed=mixed)
            assert (np.abs(fit.fixed.estimate - np.array(truth.fixed)) < 4 * fit.fixed.std_error).all()
            for name, value in zip(family.parameters, truth.parameters, strict=True):
                assert fit.criteria.parameters[name] == pytest.approx(value, rel=1.0 if name == "nu" else 0.34)
            if mixed:
                assert float(fit.random[0].sd[0]) == pytest.approx(truth.sd, rel=0.34)
            return
        assert len(answer.reason) > 15

        self.forbid_loading(monkeypatch)
        with pytest.raises(um.UnsupportedModelError) as refused:
            self.fit(formula, data, **arguments)
        assert answer.reason in str(refused.value)
