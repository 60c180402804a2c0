"""The R packages of the engines in R, by backend.

The file imports nothing, because ``scripts/install_r.py`` reads it before anything is installed.
"""

from __future__ import annotations

REQUIRED = {
    "lme4": ("lme4", "Matrix"),
    "glmmtmb": ("glmmTMB",),
    "nlme": ("nlme",),
    "pymer4": ("lme4", "Matrix", "lmerTest"),
    "ordinal": ("ordinal", "Matrix"),
}
"""R packages that each backend cannot fit without."""

_PBKRTEST = {"pbkrtest": 'the option kenward_roger="pbkrtest"'}
OPTIONAL: dict[str, dict[str, str]] = {
    "lme4": {"lmerTest": 'the option satterthwaite="lmerTest"', **_PBKRTEST},
    # pymer4 0.9.2 imports these whenever it is imported, but only its tables and methods use them, never its fit in R
    "pymer4": {
        **_PBKRTEST,
        "parameters": "the tables result_fit and params of fit.native",
        "insight": "the tables result_fit and params of fit.native, and its convergence_status",
        "broom": "the table result_fit_stats of fit.native and the fitted values in its data, without group effects",
        "broom.mixed": "result_fit_stats, ranef_var, ranef and fixef of fit.native, and the fitted values in its data",
        "performance": "the columns of the table result_fit_stats of fit.native that broom does not have",
        "tibble": "the table design_matrix of fit.native",
        "emmeans": "the methods anova, emmeans and emtrends of fit.native",
        "report": "the method report of fit.native",
    },
}
"""R packages that are used if they are installed, each with the feature that needs it."""
