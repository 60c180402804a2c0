"""What users of other packages type, and how unimix calls it: for messages only, nothing is translated silently."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from unimix.errors import OptionError, did_you_mean, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_FORMULA = ("formula", "part of the formula, such as 'y ~ x + (1 + x | g)'")
# For each foreign name the argument that stands for it, and what to say; {0} is the value given.
_KEYWORDS: dict[str, tuple[str, str]] = {
    "re_form": ("level", "level='population' (no group effects, R's re.form = NA) or level='group' (R's NULL)"),
    "allow_new_levels": ("new_levels", "new_levels='population'"),
    **dict.fromkeys(("newdata", "new_data", "exog"), ("data", "data=...")),
    "type": ("kind", "kind='response' or kind='link'"),
    **dict.fromkeys(("groups", "re_formula", "vc_formula", "random"), _FORMULA),
    "prior": ("priors", "priors={{'x': unimix.priors.Normal(0, 1)}}"),
    **dict.fromkeys(("random_seed", "random_state"), ("seed", "seed={0}")),
    **dict.fromkeys(("conf_level", "level"), ("ci_level", "ci_level={0}")),
    "ddf": ("df_method", "df_method='satterthwaite' or df_method='kenward-roger'"),
    "na_action": ("missing", "missing='drop' or missing='raise'"),
    "subset": ("data", "a choice of rows of the data: data[data['x'] > 0]"),
    "nAGQ": ("method", "method='AGQ'; the option n_agq of lme4 is the number of nodes"),
    "control": ("options", "an option of the engine: options={{'optimizer': ..., 'control': ...}}"),
    "engine": ("backend", "backend={0}"),
    "link": ("family", "part of the family: family='binomial(probit)'"),
    "exposure": (
        "offset",
        "an offset on the log scale: offset=numpy.log(data['time']), or offset(log(time)) in the formula",
    ),
    "zi_formula": ("ziformula", "ziformula='~ 1'"),
    "disp_formula": ("dispformula", "dispformula='~ x'"),
    **dict.fromkeys(
        ("se_fit", "return_std", "se.fit"), ("interval", "interval='confidence', whose table has std_error")
    ),
}

# The same where rows are predicted.
_NEW_ROWS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("data", "new_data", "exog", "X"), ("newdata", "newdata=...")),
    "fitted": ("newdata", "fit.with_data(frame) that gives a loaded result the data that were fitted"),
}

_EFFECTS = "fit.fixed_effects"
_ATTRIBUTES: dict[str, str] = {
    **dict.fromkeys(("fixef", "fe_params", "params", "coef", "coefs", "coef_"), f"{_EFFECTS}['estimate']"),
    **dict.fromkeys(("bse", "bse_fe", "std_errors", "se"), f"{_EFFECTS}['std_error']"),
    **dict.fromkeys(("pvalues", "p_values"), f"{_EFFECTS}['p_value']"),
    **dict.fromkeys(("tvalues", "zvalues"), f"{_EFFECTS}['statistic']"),
    **dict.fromkeys(("conf_int", "conf_ints", "profile"), "fit.confint()"),
    **dict.fromkeys(("bootMer", "boot"), "fit.bootstrap"),
    **dict.fromkeys(("vcov", "cov_params"), "fit.fixed_cov"),
    **dict.fromkeys(("ranef", "random_effects"), "fit.group_effects['g'], with 'g' the grouping factor"),
    **dict.fromkeys(("VarCorr", "varcorr", "cov_re", "vcomp", "ranef_var"), "fit.variance_components"),
    **dict.fromkeys(("nobs", "n"), "fit.n_obs"),
    **dict.fromkeys(("ngrps", "ngroups"), "fit.n_groups"),
    **dict.fromkeys(("llf", "loglik", "logLik", "loglike"), "fit.log_likelihood"),
    **dict.fromkeys(("fittedvalues", "fitted_values", "fits"), "fit.fitted"),
    **dict.fromkeys(("resids", "residual"), "fit.residuals"),
    **dict.fromkeys(("df_resid", "df_residual"), "fit.fit.df_residual"),
    **dict.fromkeys(("isSingular", "is_singular"), "fit.singular"),
    **dict.fromkeys(("trace", "idata"), "fit.posterior"),
    **dict.fromkeys(("save", "dump"), "fit.to_json('fit.json')"),
    **dict.fromkeys(("rsquared", "rsquared_adj", "r_squared", "r2_nakagawa"), "fit.r2()"),
    **dict.fromkeys(("cooks_distance", "dfbetas", "hatvalues", "get_influence"), "fit.influence()"),
    **dict.fromkeys(("check_model", "check_singularity", "check_convergence"), "fit.check()"),
    **dict.fromkeys(("eta_squared", "standardize_parameters"), "fit.effect_sizes()"),
    "vif": "fit.collinearity()",
    "AIC": "fit.aic",
    "BIC": "fit.bic",
    "scale": "fit.sigma ** 2",
    "warnings": "fit.notes and fit.status.messages",
    "link": "fit.model.link",
    "method": "fit.model.method",
    "priors": "fit.engine.priors",
}


def attribute_hint(name: str) -> str | None:
    """How a result calls an attribute of other packages' results, as a message; None where nothing fits."""
    meant = _ATTRIBUTES.get(name)
    return None if meant is None else f"FitResult has no attribute {name!r}; it is {meant}."


def refuse_keywords(function: Callable[..., Any], unknown: Mapping[str, object], options: Iterable[str] = ()) -> None:
    """Refuse arguments that a function does not have, with what to type instead.

    Args:
        function: Who was called.
        unknown: Its unknown keyword arguments.
        options: Options of the chosen backend.

    Raises:
        OptionError: If there are any.
    """
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    faults = [_fault(function.__name__, name, value, known, set(options)) for name, value in unknown.items()]
    if faults:
        raise OptionError("\n".join(faults))


def _fault(function: str, name: str, value: object, known: list[str], options: set[str]) -> str:
    shown = repr(value) if isinstance(value, str | int | float | bool | None) else "..."
    told = f"{function} has no argument {name!r}"
    if name.lower() == "reml" and "method" in known:
        return f"{told}; type method={'REML' if value else 'ML'!r}."
    if name in options and "options" in known:
        return f"{told}; it is an option of the engine: type options={{{name!r}: {shown}}}."
    for meanings in (_KEYWORDS, _NEW_ROWS):
        argument, words = meanings.get(name.replace(".", "_"), ("", ""))
        if argument in known:
            return f"{told}; {'type' if words.startswith(argument + '=') else 'it is'} {words.format(shown)}."
    return f"{told}.{did_you_mean(name, known)} Arguments: {listing(known, 30)}."


def refuse_swapped(function: str, formula: object, data: object) -> None:
    """Refuse a data frame where the formula belongs, and the other way round.

    Raises:
        OptionError: If they are swapped.
    """
    if isinstance(data, str) and not isinstance(formula, str):
        raise OptionError(
            f"The arguments are swapped: the formula comes first, then the data. Type {function}({data!r}, data)."
        )


__all__ = ["attribute_hint", "refuse_keywords", "refuse_swapped"]
