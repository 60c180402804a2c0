"""Correlated residuals and structured effects against R's nlme: `python -m benchmarks.covariance_parity`.

The data are nlme's own examples (Orthodont, Ovary, BodyWeight, Dialyzer; Pinheiro & Bates 2000, Mixed-Effects Models
in S and S-PLUS, chapter 5), read from the installed package. Each line shows the log-likelihoods, and the largest
difference of a fixed effect in standard errors.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unimix.design.covariance_structures import Structure, UnitUnstructured
from unimix.design.design import build_design
from unimix.formula.interpreter import parse
from unimix.likelihood.lmm.block_diagonal import Residuals, form_grouped
from unimix.likelihood.lmm.conditioning import condition
from unimix.likelihood.lmm.search import search


@dataclass(frozen=True)
class Case:
    """A model in both languages.

    Attributes:
        data: Name of the data in nlme.
        r: Call of ``gls`` or ``lme``, without its data and method.
        formula: The same model without the structure of its residuals.
        group: Column of the groups of residuals.
        time: Column of the times; empty takes the order of the rows within their group.
        structure: Name of the structure.
    """

    data: str
    r: str
    formula: str
    group: str
    time: str
    structure: str


CASES = (
    Case("Orthodont", "gls(distance ~ age * Sex, correlation = corCompSymm(form = ~ 1 | Subject))",
         "distance ~ age * Sex", "Subject", "", "homcs"),
    Case("Orthodont", "gls(distance ~ age * Sex, correlation = corSymm(form = ~ 1 | Subject), "
         "weights = varIdent(form = ~ 1 | age))", "distance ~ age * Sex", "Subject", "age", "us"),
    Case("Orthodont", "lme(distance ~ age * Sex, random = ~ 1 | Subject, weights = varIdent(form = ~ 1 | Sex))",
         "distance ~ age * Sex + (1 | Subject)", "Subject", "Sex", "diag"),
    Case("Orthodont", "lme(distance ~ age * Sex, random = ~ 1 | Subject, correlation = corAR1(form = ~ 1 | Subject))",
         "distance ~ age * Sex + (1 | Subject)", "Subject", "", "ar1"),
    Case("Ovary", "gls(follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time), correlation = corAR1(form = ~ 1 | Mare))",
         "follicles ~ sin(6.283185307179586 * Time) + cos(6.283185307179586 * Time)", "Mare", "", "ar1"),
    Case("Ovary", "lme(follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time), random = ~ 1 | Mare, "
         "correlation = corAR1(form = ~ 1 | Mare))",
         "follicles ~ sin(6.283185307179586 * Time) + cos(6.283185307179586 * Time) + (1 | Mare)", "Mare", "", "ar1"),
    Case("BodyWeight", "lme(weight ~ Time * Diet, random = ~ Time | Rat, correlation = corCAR1(form = ~ Time | Rat))",
         "weight ~ Time * Diet + (Time | Rat)", "Rat", "Time", "car1"),
    Case("BodyWeight", "gls(weight ~ Time * Diet, correlation = corExp(form = ~ Time | Rat))",
         "weight ~ Time * Diet", "Rat", "Time", "exp"),
    Case("Dialyzer", "gls(rate ~ (pressure + I(pressure^2) + I(pressure^3) + I(pressure^4)) * QB, "
         "correlation = corAR1(form = ~ 1 | Subject))",
         "rate ~ (pressure + I(pressure^2) + I(pressure^3) + I(pressure^4)) * QB", "Subject", "", "ar1"),
)  # fmt: skip

_R = """
library(nlme)
data <- as.data.frame(get("{data}"))
for (n in names(data)) if (is.factor(data[[n]])) data[[n]] <- factor(as.character(data[[n]]))
fits <- lapply(c("REML", "ML"), function(m) {{
  f <- {call}
  b <- if (inherits(f, "lme")) fixef(f) else coef(f)
  list(value = as.numeric(logLik(f)), beta = as.numeric(b))
}})
numbers <- function(v) paste0("[", paste(format(v, digits = 17, trim = TRUE), collapse = ","), "]")
fit <- function(f) paste0('{{"value":', numbers(f$value), ',"beta":', numbers(f$beta), "}}")
column <- function(v) if (is.numeric(v)) numbers(v) else paste0('["', paste(v, collapse = '","'), '"]')
columns <- paste0('"', names(data), '":', vapply(data, column, ""), collapse = ",")
cat('{{"data":{{', columns, '}},"fits":[', paste(vapply(fits, fit, ""), collapse = ","), "]}}", sep = "")
"""


def by_nlme(case: Case) -> dict[str, Any]:
    """Data and estimates from R."""
    call = case.r.rstrip()[:-1] + ", data = data, method = m)"
    text = _R.format(data=case.data, call=call)
    done = subprocess.run(["Rscript", "-e", text], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def residuals_of(case: Case, data: pd.DataFrame) -> tuple[Residuals, Structure]:
    """Groups, times and structure of the residuals."""
    codes = np.unique(data[case.group].to_numpy(), return_inverse=True)[1]
    if case.time:
        levels, times = np.unique(data[case.time].to_numpy(), return_inverse=True)
    else:
        times = data.groupby(case.group).cumcount().to_numpy()
        levels = np.arange(times.max() + 1)
    q = len(levels)
    if case.structure == "us":
        return Residuals(codes, times, q), UnitUnstructured("us", q, unit=True)
    places = tuple(map(float, levels)) if case.structure in ("car1", "exp") else ()
    structure = Structure(case.structure, q, places, unit=True)
    return Residuals(codes, times, q, independent=structure.form == "diag"), structure


def main() -> None:
    """Fit every case with both and print the table."""
    print(f"{'data':11}{'structure':10}{'method':7}{'nlme':>14}{'unimix':>14}{'difference':>12}{'effects (SE)':>14}")
    for case in CASES:
        answer = by_nlme(case)
        data = pd.DataFrame(answer["data"])
        design, way_back = condition(build_design(parse(case.formula), data))
        products = form_grouped(design, *residuals_of(case, data))
        for method, theirs in zip(("REML", "ML"), answer["fits"], strict=True):
            reml = method == "REML"
            at = search(products, reml=reml).profile
            value = at.value - way_back.lost(reml=reml)
            beta = way_back.shift + way_back.coefficients @ at.beta
            m = way_back.coefficients
            error = at.sigma * np.sqrt(np.einsum("ap,pr,ar->a", m, at.cov_unscaled, m))
            off = float(np.abs((beta - np.array(theirs["beta"])) / error).max())
            gap = value - theirs["value"][0]
            print(
                f"{case.data:11}{case.structure:10}{method:7}{theirs['value'][0]:14.6f}{value:14.6f}{gap:12.1e}{off:14.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
