"""The demonstration, with fewer engines than it has at its best."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unimix.backends.base import Backend
from unimix.backends.registry import built_in

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import demo


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(Backend, "available", lambda self: self.info.name in names)
    monkeypatch.setattr(demo, "MODELS", demo.MODELS[:1])


@pytest.mark.r
def test_compares_draws_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "statsmodels", "lme4")
    assert demo.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "statsmodels: numerically equal" in said
    absent = said.split("Not installed here: ")[1].split(". What")[0]
    assert set(absent.split(", ")) == {*built_in()} - {"statsmodels", "lme4"}
    assert {p.name for p in tmp_path.iterdir()} == {"dietox.png", "dietox.html"}
    assert (tmp_path / "dietox.png").stat().st_size > 10_000


def test_one_engine_alone_still_gives_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "statsmodels")
    assert demo.main([str(tmp_path)]) == 0
    assert "fitted by statsmodels (REML) to 861 rows" in capsys.readouterr().out


def test_comparing_one_installed_engine_says_how_to_get_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import unimix as um

    only(monkeypatch, "statsmodels")
    with pytest.raises(um.OptionError, match="only statsmodels is installed here"):
        um.compare("Weight ~ Time", um.load_dataset("dietox"))
