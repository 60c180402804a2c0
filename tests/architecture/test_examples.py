"""Every example of a docstring runs and prints what it says; every verb of a fit and every public function has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import unimix as um
from unimix.backends.registry import backend_class, registered
from unimix.formula.allowed import REGISTERED

SOURCE = Path(um.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MARKERS = {"rpy2": "r", "pymc": "mcmc", "bambi": "mcmc"}
"""Package that an engine needs: the marker of the examples that fit with it."""

SLOW = {"unimix.doctor.doctor"}
"""Examples that take longer than ten seconds."""


def documented(node: ast.AST, path: str) -> Iterator[tuple[str, str, int]]:
    """Dotted name, docstring and line of a module or class and of everything in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        text = ast.get_docstring(node)
        if text and ">>>" in text:
            yield path, text, node.body[0].lineno
        for inner in node.body:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef):
                yield from documented(inner, f"{path}.{inner.name}")


def examples() -> Iterator[tuple[str, doctest.DocTest]]:
    """Module and doctest of every object whose docstring has an example; nothing is imported for it."""
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path, text, line in documented(ast.parse(file.read_text(encoding="utf-8")), module):
            yield module, doctest.DocTestParser().get_doctest(text, {}, path, str(file), line)


def marks_of(test: doctest.DocTest) -> list[pytest.MarkDecorator]:
    """The markers of the engines that an example names; examples that draw posterior samples are slow."""
    code = "".join(e.source for e in test.examples)
    engines = {name for name in re.findall(r"[\"'](\w+)[\"']", code) if name in registered()}
    names = {MARKERS[p] for e in engines for p in backend_class(e).info.packages if p in MARKERS}
    if test.name in SLOW or "mcmc" in names:
        names.add("slow")
    return [getattr(pytest.mark, name) for name in sorted(names)]


def foreign_packages(test: doctest.DocTest) -> set[str]:
    """Packages that an example imports, without unimix."""
    code = "".join(e.source for e in test.examples)
    return set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)) - {"unimix"}


CASES = [
    pytest.param(module, test, id=test.name, marks=marks_of(test))
    for module, test in examples()
    if all(importlib.util.find_spec(package) for package in foreign_packages(test))
]
"""Examples whose packages are installed: that of `to_marginaleffects` needs marginaleffects, an extra of its own."""


@pytest.fixture
def nothing_registered() -> Iterator[None]:
    """What an example registers is taken back, so that no other test sees it."""
    attributes, functions = set(vars(um.FitResult)), dict(REGISTERED)
    yield
    for name in set(vars(um.FitResult)) - attributes:
        delattr(um.FitResult, name)
    REGISTERED.clear()
    REGISTERED.update(functions)


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize(("module", "test"), CASES)
def test_example_prints_what_it_says(
    module: str, test: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in um.__all__:  # `um.doctor` is the function: it must be asked for before its module is imported
        getattr(um, name)
    test.globs = dict(vars(importlib.import_module(module)))
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    assert result.attempted == len(test.examples)


def has_example(value: Any) -> bool:
    return bool(doctest.DocTestParser().get_examples(inspect.getdoc(value) or ""))


def verbs_of(cls: type) -> dict[str, Any]:
    """Public methods of a class."""
    found = {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}
    plain = {n: v.__func__ if isinstance(v, classmethod | staticmethod) else v for n, v in found.items()}
    return {name: value for name, value in plain.items() if inspect.isfunction(value)}


def test_every_verb_of_a_fit_has_an_example() -> None:
    verbs = verbs_of(um.FitResult)
    assert {"anova", "predict", "model_graph", "tidy", "from_json", "with_data"} <= verbs.keys()
    without = sorted(name for name, verb in verbs.items() if not has_example(verb))
    assert not without, f"These methods of FitResult need an 'Example:' in their docstrings: {', '.join(without)}."


def test_every_public_function_has_an_example() -> None:
    values = {name: getattr(um, name) for name in um.__all__}
    # after `import unimix.doctor`, which another test may do, the name is the module, which can be called
    values = {name: getattr(value, name, value) for name, value in values.items()}
    functions = {name: value for name, value in values.items() if inspect.isfunction(value)}
    assert {"fit", "compare", "doctor"} <= functions.keys()
    without = sorted(name for name, function in functions.items() if not has_example(function))
    assert not without, f"These functions need an 'Example:' in their docstrings: {', '.join(without)}."


def test_a_wrong_example_fails() -> None:
    def verb() -> None:
        """Print one.

        Example:
            >>> 1 + 1
            3
        """

    assert has_example(verb)
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(verb) or "", {}, "verb", None, None)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test, out=lambda _text: None).failed == 1


def test_examples_are_found_where_the_standard_library_finds_them() -> None:
    """The reader of source files sees what doctest's own finder sees in an imported module."""
    module = "unimix.fitted.model"
    importlib.import_module(module)
    found = doctest.DocTestFinder(exclude_empty=True).find(sys.modules[module])
    assert {t.name for t in found if t.examples} == {t.name for m, t in examples() if m == module}
