"""What is timed: each side takes a case and gives a call without arguments."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import unimix as um
from benchmarks.cases import Case
from unimix.design.design import build_design
from unimix.formula.interpreter import parse

Call = Callable[[], Any]
Side = Callable[[Case], Call]


def ours(backend: str, df_method: str = "satterthwaite", **options: Any) -> Side:
    """A whole call of ``um.fit``."""

    def side(c: Case) -> Call:
        return lambda: um.fit(
            c.formula, c.data, backend=backend, df_method=df_method, seed=1, progress=False, options=options or None
        )

    return side


def in_r(package: str, *, summary: bool) -> Side:
    """``lmer``, and ``summary``, in the R of this process, on a data frame that is there already."""

    def side(c: Case) -> Call:
        call = f"{package}::lmer({c.formula}, data)"
        return r_call(c, f"function() summary({call})" if summary else f"function() {call}")

    return side


def pymer4(c: Case) -> Call:
    """pymer4's own class, on a polars frame that is there already."""
    import polars as pl

    um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend="pymer4")  # imports it
    from pymer4.models import lmer

    frame = pl.from_pandas(c.data.assign(**{g: c.data[g].astype(str) for g in c.groups}))
    return lambda: lmer(c.formula, frame).fit()


def mixedlm(c: Case) -> Call:
    """Statsmodels' own formula interface at its defaults."""
    import statsmodels.formula.api as smf

    def call() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return smf.mixedlm(c.fixed, c.data, groups=c.group, re_formula=f"~{c.slope}").fit()

    return call


def compare_four(c: Case) -> Call:
    """``um.compare`` of four engines, certificates included."""
    engines = ["statsmodels", "lme4", "pymer4", "pymc"]
    return lambda: um.compare(c.formula, c.data, backends=engines, seed=1, progress=False)


def design(c: Case) -> Call:
    """The arrays of a model from its formula and frame."""
    return lambda: build_design(parse(c.formula), c.data)


def r_call(c: Case, code: str) -> Call:
    """An R function without arguments, with the case's frame as ``data``; run with R's console silenced."""
    um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), backend="lme4")  # starts R
    from rpy2 import rinterface

    from unimix.backends.r.bridge import quiet_console

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        c.data.to_csv(path, index=False)
        factors = "".join(f"data${g} <- factor(data${g}); " for g in c.groups)
        make = rinterface.evalr(f"function(path) {{ data <- read.csv(path); {factors}{code} }}")
        function: Any = make(rinterface.StrSexpVector([str(path)]))

    def call() -> object:
        with quiet_console():
            return function()

    return call


SIDES: dict[str, Side] = {
    "lme4": ours("lme4", "normal"),
    "lme4 with df": ours("lme4"),
    "pymer4": ours("pymer4"),
    "statsmodels": ours("statsmodels"),
    "statsmodels without df": ours("statsmodels", "normal"),
    "pls": ours("pls", "normal"),
    "pls with df": ours("pls"),
    "glmm": ours("glmm", "normal"),
    "mixedlm": ours("mixedlm", "normal"),
    "mixedlm_rs": ours("mixedlm_rs", "normal"),
    "bayes": ours("bayes"),
    "pymc": ours("pymc"),
    "compare": compare_four,
    "design": design,
    "R: lmer": in_r("lme4", summary=False),
    "R: lmer + summary": in_r("lme4", summary=True),
    "R: lmerTest + summary": in_r("lmerTest", summary=True),
    "pymer4: fit": pymer4,
    "statsmodels: mixedlm": mixedlm,
}
