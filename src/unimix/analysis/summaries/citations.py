"""What to cite for a fit: unimix, the engine, and the method of its degrees of freedom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from unimix._version import __version__
from unimix.backends.registry import backend_class, registered
from unimix.fitted import describe
from unimix.fitted.table_result import TableResult

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

METHODS = {
    "satterthwaite": (
        "Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components. Biometrics "
        "Bulletin, 2(6), 110-114. https://doi.org/10.2307/3002019"
    ),
    "kenward-roger": (
        "Kenward, M. G., & Roger, J. H. (1997). Small sample inference for fixed effects from restricted maximum "
        "likelihood. Biometrics, 53(3), 983-997. https://doi.org/10.2307/2533558"
    ),
}
"""Publication of each method of degrees of freedom."""


def citations(fit: FittedModel) -> TableResult:
    """What to cite for the fit, in APA style: unimix, the engine, and the method of the degrees of freedom.

    Returns:
        ``.table`` with the columns what and reference. The notes name the versions that were used, as a methods section
        should. An engine without a publication is named with its home page.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"), "statsmodels")
        >>> print(fit.citations()["reference"].iloc[1])
        Seabold, S., & Perktold, J. (2010). statsmodels: Econometric and statistical modeling with Python. ...
    """
    rows = {"unimix": f"unimix (Version {__version__}) [Computer software]."}
    name, known = fit.engine.backend, registered()
    # an interface to another engine is cited with it, as pymer4 with lme4
    for engine in dict.fromkeys([name, fit.engine.engine]):
        info = backend_class(engine).info if engine in known else None
        if info is not None and info.engine != "unimix":
            rows[engine] = info.reference or f"{info.engine} [Computer software]. {info.url}"
    if fit.fixed.df_method in METHODS and not describe.is_posterior(fit):
        rows["degrees of freedom"] = METHODS[fit.fixed.df_method]
    table = pd.DataFrame({"what": list(rows), "reference": list(rows.values())})
    return TableResult(table, [f"Software: unimix {__version__}; {describe.engine_words(fit)}."])


__all__ = ["citations"]
