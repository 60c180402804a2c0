"""The conformance table tells right, refused, flagged and wrong results apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

import unimix as um
from unimix.backends import BackendInfo, Estimates, Problem
from unimix.backends.pls import Pls
from unimix.backends.registry import registered
from unimix.testing.__main__ import main, settings
from unimix.testing.conformance import (
    Conformance,
    Model,
    conform,
    feature_models,
    judge,
    random_models,
    reference_models,
)


class Twisted(Pls):
    """pls with standard errors of half the size, which it does not say."""

    info: ClassVar[BackendInfo] = replace(Pls.info, name="twisted")

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        found = super()._fit(engine, problem)
        return replace(found, beta_cov=found.beta_cov / 4)


class Doubtful(Pls):
    """pls that says of itself that it did not converge, at half the residual SD."""

    info: ClassVar[BackendInfo] = replace(Pls.info, name="doubtful")

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        found = super()._fit(engine, problem)
        return replace(found, sigma=found.sigma / 2, converged=False, messages=("I stopped early.",))


SLEEP = Model("reference", "sleep", "Reaction ~ Days + (1 + Days | Subject)", lambda: um.load_dataset("sleepstudy"))


def test_verdicts() -> None:
    assert judge(Pls(), SLEEP).verdict == "certified"
    wrong = judge(Twisted(), SLEEP)
    assert wrong.verdict == "wrong"
    assert "standard error" in wrong.said
    assert judge(Doubtful(), SLEEP).verdict == "flagged"
    refused = judge(Pls(), replace(SLEEP, arguments={"method": "posterior"}))
    assert refused.verdict == "refused"
    assert "posterior" in refused.said
    failed = judge(Pls(), replace(SLEEP, formula="Reaction ~ Day"))
    assert failed.verdict == "failed"


def test_models_are_the_same_at_every_call() -> None:
    first, second = ([m.data() for m in random_models(4)] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.equals(b)
    assert len({m.name for m in (*feature_models(), *reference_models(), *random_models(9))}) > 35


def test_table_counts_random_designs_and_survives_json() -> None:
    found = conform(["pls", Twisted()], [SLEEP, *random_models(3)])
    table = found.table
    assert list(table.columns) == ["pls", "twisted"]
    assert table.loc[("reference", "sleep"), "twisted"] == "wrong"
    assert table.loc[("random", "random designs"), "pls"] == "3 certified"
    assert {e.engine for e in found.silent} == {"twisted"}
    assert Conformance.model_validate_json(found.model_dump_json()).table.equals(table)
    assert "unimix" in found.versions["pls"]


def test_the_command_writes_reads_and_renews(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.json"
    assert main(["pls", "--random", "2", "--json", str(path)]) == 0
    assert "certified" in capsys.readouterr().out
    assert main(["--read", str(path)]) == 0
    assert "random designs" in capsys.readouterr().out
    two = tmp_path / "two.json"
    assert main(["pls", "mixedlm_rs", "--random", "2", "--jobs", "2", "--json", str(two)]) == 0
    entries = Conformance.model_validate_json(two.read_text()).entries
    alone = Conformance.model_validate_json(path.read_text()).entries
    assert [(e.model, e.verdict) for e in entries if e.engine == "pls"] == [(e.model, e.verdict) for e in alone]
    assert {e.engine for e in entries} == {"pls", "mixedlm_rs"}
    before = two.read_text()
    assert main(["pls", "--random", "1", "--renew", str(two)]) == 0
    after = Conformance.model_validate_json(two.read_text()).entries
    kept = [[(e.model, e.said, e.seconds) for e in some if e.engine == "mixedlm_rs"] for some in (after, entries)]
    assert kept[0] == kept[1]
    assert list(dict.fromkeys(e.engine for e in after)) == [n for n in registered() if n in ("pls", "mixedlm_rs")]
    assert sum(e.kind == "random" and e.engine == "pls" for e in after) == 1
    assert two.read_text() != before
    with pytest.raises(SystemExit):
        main([])
    assert settings(tmp_path / "none.toml") == {}
