"""Pages name what exists, their code is kept by what it depends on, and the style sheet is held to."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import unimix as um

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def loaded(path: Path) -> ModuleType:
    """A program of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


runner = loaded(DOCS / "page_runner.py")
prose = loaded(ROOT / "scripts" / "prose.py")
ALL = os.environ.get("UNIMIX_PAGES") == "all"
CHOSEN = [str(p.relative_to(DOCS)) for p in runner.pages()] if ALL else ["five-questions.md", "tutorials/crossed.md"]
"""Pages that are run: `make docs` runs all of them, and so does UNIMIX_PAGES=all."""
PAGES = [pytest.param(page, id=str(page.relative_to(DOCS))) for page in runner.pages()]


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The display options and the path of modules that pages set are taken back."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pd.option_context("display.width", 80, "display.max_columns", 0, "display.max_colwidth", 50):
        yield


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_is_python_that_names_public_things(page: Path) -> None:
    for block in runner.blocks(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "um":
                assert hasattr(um, node.attr), f"um.{node.attr}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = [line.split()[-1] for line in navigation.splitlines() if line.strip().endswith(".md")]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_style_sheet_is_held_to() -> None:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    found = [f"{f.name}:{line}: {said}" for f in files for line, said in prose.faults(f.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_the_style_sheet_finds_words_and_long_sentences_and_skips_code() -> None:
    text = "It is quite good.\n\n```python\nx = 'utilised'\n```\n\n| a | in order to b |\n"
    assert [(line, said.split(":")[0]) for line, said in prose.faults(text)] == [(1, "'quite'"), (7, "'in order to'")]
    assert not list(prose.faults(" ".join(["word"] * prose.LONGEST) + "."))
    assert list(prose.faults(" ".join(["word"] * (prose.LONGEST + 1)) + "."))


def test_a_record_is_stale_once_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, helper = tmp_path / "docs" / "a.md", tmp_path / "helper.txt"
    page.parent.mkdir()
    code = '```python exec="on" source="above" session="s"\nprint(2 + 3)\n```\n'
    page.write_text(code)
    helper.write_text("one")
    monkeypatch.setattr(runner, "DOCS", page.parent)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RECORDS", tmp_path / "records")
    assert runner.fresh(page) is None
    assert list(runner.outputs(page)) == ["5\n"]
    record = {
        "code": runner.digest_of_code(page),
        "versions": runner.versions(),
        "files": {"helper.txt": runner.digest_of(helper)},
        "outputs": ["5\n"],
    }
    path = runner.record_of(page)
    path.parent.mkdir(parents=True)
    path.write_text(runner.json.dumps(record))
    assert runner.fresh(page) == record
    page.write_text(code + "\nMore words, which are not run.\n")
    assert runner.fresh(page) == record
    helper.write_text("two")
    runner.digest_of.cache_clear()
    assert runner.fresh(page) is None
    helper.write_text("one")
    runner.digest_of.cache_clear()
    page.write_text(code.replace("2", "4"))
    assert runner.fresh(page) is None


def test_a_block_that_fails_is_named(tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text('```python exec="on"\n1 / 0\n```\n')
    with pytest.raises(RuntimeError, match=r"(?s)wrong.md, block 1.*1 / 0.*ZeroDivisionError"):
        list(runner.outputs(page))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_page_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = DOCS / name
    blocks = runner.blocks(page.read_text(encoding="utf-8"))
    record = runner.fresh(page)
    printed = list(runner.outputs(page)) if record is None else record["outputs"]
    assert all(text.strip() for block, text in zip(blocks, printed, strict=True) if block.shown)
