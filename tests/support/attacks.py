"""Texts that try to run something, and what they would leave behind."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def left_behind(folder: Path) -> Iterator[list[str]]:
    """The files, variables and modules that a text which ran leaves behind.

    Args:
        folder: The working directory, which is empty.
    """
    modules = set(sys.modules)
    found: list[str] = []
    yield found
    found += [path.name for path in folder.iterdir()]
    found += ["UNIMIX_CANARY"] if "UNIMIX_CANARY" in os.environ else []
    found += sorted({"antigravity", "this", "webbrowser"} & (set(sys.modules) - modules))


PYTHON = [
    "__import__('os').system('touch canary')",
    '__import__("os").system("touch canary")',
    "I(__import__('os').system('touch canary'))",
    "I(x*0+__import__('os').getpid())",
    "I(open('canary', 'w'))",
    'eval(\'open("canary", "w")\')',
    "exec('import this')",
    "compile('1', '', 'eval')",
    "getattr(x, 'values')",
    "globals()",
    "locals()['x']",
    "vars(x)",
    "breakpoint()",
    "input()",
    "print(x)",
    "os.system('touch canary')",
    "os.environ.setdefault('UNIMIX_CANARY', '1')",
    "np.log(x)",
    "numpy.save('canary', x)",
    "np.exp.__class__(x)",
    "x.__class__",
    "x.__class__.__mro__[1].__subclasses__()",
    "I(x.values)",
    "I(x).to_csv('canary')",
    "().__class__.__bases__[0]",
    "''.__class__",
    "(lambda: open('canary', 'w'))()",
    "I(lambda: x)",
    "I([v for v in (1, 2)])",
    "I({v: v for v in x})",
    "I((v for v in x))",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    'f\'{open("canary", "w")}\'',
    'I(f"{x}")',
    "I(z := x)",
    "(z := x)",
    "I(x if x else x)",
    "I(x and x)",
    "I(not x)",
    "I(x[0])",
    "I(x[::2])",
    "I(*x)",
    "I(**x)",
    "log(*x)",
    "poly(x, **{'degree': 2})",
    "{open('canary', 'w')}",
    "`x`.__class__",
    "I(await x)",
    "I(x; import this)",
    "x; import this",
    "x\nimport this",
    "x # comment\n + f",
    "@x",
    "x @ x",
    "I(x << 2)",
    "I(x >> 2)",
    "I(~x)",
    "I(x & x)",
    "I(0x10)",
    "I(1_000)",
    "I(1j * x)",
    "I(...)",
    "x\\n",
    "I('\\x41')",
    "poly(x, __import__('os'))",
    "bs(x, knots=__import__('os').environ)",
    "C(f, __import__('os'))",
    "C(f, eval('1'))",
    "C(f, contr.treatment(base=eval('1')))",
    "cr(x, df=3, constraints=\"__import__('os').system('touch canary')\")",
    "bs(x, extrapolation='__class__')",
    "encode_contrasts(f)",
    "lag(x)",
    "hashed(f)",
    "Q('x')",
    "standardize(x)",
    "te(x, x)",
    "offset(__import__('os'))",
    "(1 | __import__('os'))",
    "(eval('1') | g)",
    "(1 | eval('g'))",
]
R = [
    "system('touch canary')",
    'system("touch canary")',
    "I(system('touch canary'))",
    "base::system('touch canary')",
    "I(base::system('touch canary'))",
    "x + system('touch canary', intern = TRUE)",
    "shell('touch canary')",
    "eval(parse(text = 'system(\"touch canary\")'))",
    "do.call('system', list('touch canary'))",
    "file.create('canary')",
    "Sys.setenv(UNIMIX_CANARY = '1')",
    "source('canary.R')",
    "(function() file.create('canary'))()",
    "(\\(x) x)(1)",
    "{ file.create('canary') }",
    "x <- 1",
    "x -> z",
    "x <<- 1",
    "x |> log()",
    "get('x')",
    "x$y",
    "x[['y']]",
    "x@y",
    "I(x %o% x)",
    "I(x %>% log)",
    "factor(f, levels = system('touch canary'))",
    "C(f, system('touch canary'))",
    "(system('touch canary') | g)",
    "(1 | system('touch canary'))",
    "`system`('touch canary')",
    "x); system('touch canary'); (x",
    "x ~ x",
    "\"); system('touch canary')\"",
]
UNICODE = [
    "ｅｖａｌ(x)",
    "ｌｏｇ(x)",
    "ｘ",
    "x + ｏｓ",
    "x．y",
    "x（1）",
    "x＋f",
    "x ｜ g",
    "x \u200b+ f",
    "x\u2028import",
    "\u202ex + f",
    "х",  # Cyrillic
    "ℯ",
    "lοg(x)",  # Greek omicron
    "_＿import＿_('os')",
    "x\0",
    "x\0 + f",
    "\ufeffx",
    "\ud800",
    "I(x^٢)",
    "x²",
    "I(x × 2)",
    "I(x − 1)",
    "‘x’",
]
