"""``residual=`` against R's nlme: its own examples (Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um

pytestmark = pytest.mark.r

WAVES = "follicles ~ sin(6.283185307179586 * Time) + cos(6.283185307179586 * Time)"
R_WAVES = "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)"
CASES: dict[str, tuple[str, str, str, str]] = {
    "cs": ("Orthodont", "distance ~ age * Sex", "cs(age | Subject, hom=TRUE)",
           "gls(distance ~ age * Sex, correlation = corCompSymm(form = ~ 1 | Subject))"),
    "us": ("Orthodont", "distance ~ age * Sex", "us(age | Subject)",
           ("gls(distance ~ age * Sex, correlation = corSymm(form = ~ 1 | Subject), "
            "weights = varIdent(form = ~ 1 | age))")),
    "diag": ("Orthodont", "distance ~ age * Sex + (1 | Subject)", "diag(Sex | Subject)",
             "lme(distance ~ age * Sex, random = ~ 1 | Subject, weights = varIdent(form = ~ 1 | Sex))"),
    "ar1": ("Ovary", WAVES, "ar1(row | Mare)", f"gls({R_WAVES}, correlation = corAR1(form = ~ 1 | Mare))"),
    "ar1 and intercepts": ("Ovary", f"{WAVES} + (1 | Mare)", "ar1(row | Mare)",
                           f"lme({R_WAVES}, random = ~ 1 | Mare, correlation = corAR1(form = ~ 1 | Mare))"),
    "car1": ("BodyWeight", "weight ~ Time * Diet + (Time | Rat)", "car1(Time | Rat)",
             "lme(weight ~ Time * Diet, random = ~ Time | Rat, correlation = corCAR1(form = ~ Time | Rat))"),
    "exp": ("BodyWeight", "weight ~ Time * Diet", "exp(Time | Rat)",
            "gls(weight ~ Time * Diet, correlation = corExp(form = ~ Time | Rat))"),
}  # fmt: skip

VARIANCES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "varIdent": ("Orthodont", "distance ~ age * Sex + (1 | Subject)", {"dispformula": "~ Sex"},
                 "lme(distance ~ age * Sex, random = ~ 1 | Subject, weights = varIdent(form = ~ 1 | Sex))"),
    "varExp": ("Orthodont", "distance ~ age * Sex", {"dispformula": "~ age"},
               "gls(distance ~ age * Sex, weights = varExp(form = ~ age))"),
    "ar1 and varIdent": ("Orthodont", "distance ~ age * Sex", {"dispformula": "~ Sex",
                         "residual": "ar1(age | Subject)"},
                         ("gls(distance ~ age * Sex, correlation = corAR1(form = ~ 1 | Subject), "
                          "weights = varIdent(form = ~ 1 | Sex))")),
    "us and varIdent": ("Orthodont", "distance ~ age * Sex", {"dispformula": "~ Sex", "residual": "us(age | Subject)"},
                        ("gls(distance ~ age * Sex, correlation = corSymm(form = ~ 1 | Subject), "
                         "weights = varComb(varIdent(form = ~ 1 | age), varIdent(form = ~ 1 | Sex)))")),
    "car1, varIdent and intercepts": ("BodyWeight", "weight ~ Time * Diet + (1 | Rat)",
                                      {"dispformula": "~ Diet", "residual": "car1(Time | Rat)"},
                                      ("lme(weight ~ Time * Diet, random = ~ 1 | Rat, "
                                       "correlation = corCAR1(form = ~ Time | Rat), "
                                       "weights = varIdent(form = ~ 1 | Diet))")),
}  # fmt: skip

SCRIPT = """
library(nlme)
numbers <- function(v) paste0("[", paste(format(v, digits = 17, trim = TRUE), collapse = ","), "]")
column <- function(v) if (is.numeric(v)) numbers(v) else paste0('["', paste(v, collapse = '","'), '"]')
plain <- function(name) {
  data <- as.data.frame(get(name))
  for (n in names(data)) if (is.factor(data[[n]])) data[[n]] <- factor(as.character(data[[n]]))
  data
}
tell <- function(call, data) {
  fits <- lapply(c("REML", "ML"), function(m) {
    f <- eval(parse(text = sub("[)]$", ", data = data, method = m)", call)))
    b <- if (inherits(f, "lme")) fixef(f) else coef(f)
    corr <- if (is.null(f$modelStruct$corStruct)) numeric(0) else coef(f$modelStruct$corStruct, unconstrained = FALSE)
    sds <- attr(f$residuals, "std")
    paste0('{"value":', numbers(as.numeric(logLik(f))), ',"beta":', numbers(as.numeric(b)), ',"correlation":',
           numbers(as.numeric(corr)), ',"sds":', numbers(as.numeric(sds)), "}")
  })
  columns <- paste0('"', names(data), '":', vapply(data, column, ""), collapse = ",")
  paste0('{"data":{', columns, '},"fits":[', paste(fits, collapse = ","), "]}")
}
"""


@pytest.fixture(scope="module")
def nlme() -> dict[str, Any]:
    """Data and fits of all cases, from one R process."""
    every = {**CASES, **VARIANCES}
    told = [f"tell({json.dumps(call)}, plain('{data}'))" for data, _, _, call in every.values()]
    text = f"{SCRIPT}\ncat('[', paste(c({', '.join(told)}), collapse = ','), ']', sep = '')"
    done = subprocess.run(["Rscript", "-e", text], capture_output=True, text=True, check=True)
    return dict(zip(every, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("case", CASES)
def test_nlme_has_the_same_optimum(nlme: dict[str, Any], case: str, method: str) -> None:
    """nlme stops at a relative change of 1e-6 or so: our value is not below its own, and effects differ by 1e-4 SE.

    Its REML criterion is that of the same density; the values are compared relative to their size.
    """
    name, formula, residual, _ = CASES[case]
    data = pd.DataFrame(nlme[case]["data"])
    data["row"] = data.groupby("Mare").cumcount() if name == "Ovary" else 0
    fit = um.fit(formula, data, residual=residual, method=method)
    theirs = nlme[case]["fits"][method == "ML"]
    value = theirs["value"][0]
    assert fit.log_likelihood >= value - 1e-6 * abs(value)
    assert fit.log_likelihood == pytest.approx(value, rel=1e-5)
    off = np.abs(fit.fixed.estimate - np.array(theirs["beta"])) / fit.fixed.std_error
    assert off.max() < (1e-4 if fit.log_likelihood - value < 1e-6 else 2e-2)
    if case.startswith(("ar1", "cs", "exp")):  # nlme's parameter is ours: rho, Phi, range
        assert fit.residual_part is not None
        assert fit.residual_part.estimates[0] == pytest.approx(theirs["correlation"][0], rel=2e-3)


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize("case", VARIANCES)
def test_nlme_has_the_same_variances(nlme: dict[str, Any], case: str, method: str) -> None:
    """As above; the standard deviations of the rows agree as the correlations do."""
    _, formula, arguments, _ = VARIANCES[case]
    data = pd.DataFrame(nlme[case]["data"])
    fit = um.fit(formula, data, method=method, **arguments)
    theirs = nlme[case]["fits"][method == "ML"]
    value = theirs["value"][0]
    assert fit.certificate().verdict == "certified"
    assert fit.log_likelihood >= value - 1e-6 * abs(value)
    assert fit.log_likelihood == pytest.approx(value, rel=1e-5)
    off = np.abs(fit.fixed.estimate - np.array(theirs["beta"])) / fit.fixed.std_error
    assert off.max() < (1e-4 if fit.log_likelihood - value < 1e-6 else 2e-2)
    sds = np.asarray(fit.rows.dispersion)
    if fit.residual_part is not None and len(fit.residual_part.sd) > 1:
        sds = sds * np.asarray(fit.residual_part.sd)[np.unique(data["age"], return_inverse=True)[1]]
    np.testing.assert_allclose(sorted(sds), sorted(theirs["sds"]), rtol=2e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_backend_gives_what_nlme_itself_gives(nlme: dict[str, Any], case: str) -> None:
    """The same program, called by hand with formulas of its own: the differences are those of its looser stop."""
    name, formula, residual, _ = CASES[case]
    data = pd.DataFrame(nlme[case]["data"])
    data["row"] = data.groupby("Mare").cumcount() if name == "Ovary" else 0
    fit = um.fit(formula, data, "nlme", residual=residual)
    theirs = nlme[case]["fits"][0]
    assert fit.status.state == "converged"
    assert fit.log_likelihood == pytest.approx(theirs["value"][0], rel=1e-5)
    assert fit.log_likelihood >= theirs["value"][0] - 1e-6 * abs(theirs["value"][0])
    assert (np.abs(fit.fixed.estimate - np.array(theirs["beta"])) / fit.fixed.std_error).max() < 2e-2
