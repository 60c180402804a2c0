"""Verbs of others on a fit, and ``fit.plot``, which is made the same way."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator

import pytest

import unimix as um


@pytest.fixture
def fit() -> um.FitResult:
    return um.fit("y ~ x", {"y": [1.0, 2.5, 2.9, 4.2], "x": [1, 2, 3, 4]})


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(vars(um.FitResult))
    yield
    for name in set(vars(um.FitResult)) - before:
        delattr(um.FitResult, name)


def test_a_registered_class_is_made_once_per_fit(fit: um.FitResult) -> None:
    made = []

    @um.register_accessor("mine")
    class Mine:
        """Mine."""

        def __init__(self, fit: um.FitResult) -> None:
            made.append(fit)
            self.fit = fit

        def rows(self) -> int:
            return self.fit.n_obs

    assert made == []
    assert fit.mine.rows() == 4  # type: ignore[attr-defined]
    assert fit.mine is fit.mine  # type: ignore[attr-defined]
    assert len(made) == 1
    assert "mine" in dir(fit)
    other = um.fit("y ~ 1", {"y": [1.0, 2.0, 4.0]})
    assert other.mine.rows() == 3  # type: ignore[attr-defined]
    assert um.FitResult.from_json(fit.to_json()).mine.rows() == 4  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(fit)).mine.fit is not fit
    assert um.FitResult.mine.__doc__ == "Mine."  # type: ignore[attr-defined]


def test_a_collision_is_warned_about_and_the_same_class_again_is_not() -> None:
    def first() -> None:
        @um.register_accessor("mine")
        class Mine:
            def __init__(self, fit: um.FitResult) -> None:
                self.number = 1

    first()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first()
    with pytest.warns(UserWarning, match=r"fit\.mine was .*first.*Mine and is now .*Other"):

        @um.register_accessor("mine")
        class Other:
            def __init__(self, fit: um.FitResult) -> None:
                self.number = 2

    assert um.fit("y ~ 1", {"y": [1.0, 2.0, 4.0]}).mine.number == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["emmeans", "fixed", "criteria", "native", "plot", "with_data"])
def test_unimix_own_names_are_refused(name: str) -> None:
    with pytest.raises(um.OptionError, match=rf"unimix itself uses fit\.{name}"):
        um.register_accessor(name)


@pytest.mark.parametrize("name", ["", "_hidden", "two words", "1st", None])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(um.OptionError, match="give a name that can follow a dot"):
        um.register_accessor(name)


def test_a_fault_of_the_accessor_is_not_taken_for_a_missing_one(fit: um.FitResult) -> None:
    @um.register_accessor("broken")
    class Broken:
        def __init__(self, fit: um.FitResult) -> None:
            _ = fit.no_such_thing  # type: ignore[attr-defined]

    with pytest.raises(RuntimeError, match=r"fit\.broken failed: .*no_such_thing"):
        _ = fit.broken  # type: ignore[attr-defined]


def test_pictures_are_kept_with_the_fit(fit: um.FitResult) -> None:
    assert fit.plot is fit.plot
    assert ".diagnostics()" in repr(fit.plot)
    with pytest.raises(AttributeError, match=r"fit\.plot\.groups\(draw=False\) returns what the picture shows"):
        _ = fit.plot.groups_data
