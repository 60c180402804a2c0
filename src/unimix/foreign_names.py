"""Names that other packages use, and the names of unimix, for error messages. No name is translated silently."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from unimix import argument_types
from unimix.errors import OptionError, did_you_mean, listing

Target = TypeVar("Target", bound=Callable[..., Any])

_FORMULA = ("formula", "part of the formula, such as 'y ~ x + (1 + x | g)'")
# For each foreign name: the argument of unimix, and the text of the hint, in which {0} is the given value.
_KEYWORDS: dict[str, tuple[str, str]] = {
    "re_form": ("level", "level='population' (no group effects, R's re.form = NA) or level='group' (R's NULL)"),
    "allow_new_levels": ("new_levels", "new_levels='population'"),
    **dict.fromkeys(("newdata", "new_data", "exog"), ("data", "data=...")),
    "type": ("kind", "kind={0}"),
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
    "options": ("backends", "part of a configured engine: backends=[unimix.backends.Lme4(optimizer='bobyqa'), ...]"),
    "link": ("family", "part of the family: family='binomial(probit)'"),
    "exposure": (
        "offset",
        "an offset on the log scale: offset=numpy.log(data['time']), or offset(log(time)) in the formula",
    ),
    **dict.fromkeys(("zi_formula", "zi", "zero_inflation", "exog_infl"), ("ziformula", "ziformula='~ 1'")),
    "hurdle": ("ziformula", "family='truncated_poisson', ziformula='~ 1'"),
    "disp_formula": ("dispformula", "dispformula='~ x'"),
    **dict.fromkeys(
        ("se_fit", "return_std", "se.fit"), ("interval", "interval='confidence', whose table has std_error")
    ),
}

# The same for the methods of a fit, where no name above applies.
_QUESTIONS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("data", "new_data", "exog", "X"), ("newdata", "newdata=...")),
    "newdata": ("at", "at={{'x': [0, 1]}}, with the values of the predictors to look at"),
    "alpha": ("ci_level", "ci_level=1 - {0}"),
    "which": ("kind", "kind={0}"),
    "typ": ("type", "type={0}"),
    **dict.fromkeys(("lmer_df", "mode"), ("df_method", "df_method='satterthwaite' or df_method='kenward-roger'")),
    **dict.fromkeys(("nsim", "nboot", "n_boot", "n_samples", "draws"), ("n", "n={0}")),
    **dict.fromkeys(("cores", "n_cores", "ncpus", "njobs", "num_workers"), ("n_jobs", "n_jobs={0}")),
    "var": ("variable", "variable={0}"),
    "ref": ("reference", "reference={0}"),
    "parm": ("parameters", "parameters={0}"),
    **dict.fromkeys(("hypothesis", "r_matrix", "linfct"), ("tests", "tests={0}")),
    **dict.fromkeys(("group", "groups"), ("by", "by={0}")),
}
_MORE_QUESTIONS: dict[str, tuple[str, str]] = {"nsim": ("n_sim", "n_sim={0}")}
_FITTED_ROWS = ("data", "fitted", "frame")
"""Arguments with which users hand the fitted data to a method of a fit."""

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
    **dict.fromkeys(("resid", "resids", "residual"), "fit.residuals()"),
    **dict.fromkeys(("df_resid", "df_residual"), "fit.criteria.df_residual"),
    **dict.fromkeys(("isSingular", "is_singular"), "fit.singular"),
    **dict.fromkeys(("trace", "idata"), "fit.posterior"),
    "dump": "fit.save('fit.zip')",
    **dict.fromkeys(("rsquared", "rsquared_adj", "r_squared", "r2_nakagawa"), "fit.r2()"),
    **dict.fromkeys(("cooks_distance", "dfbetas", "hatvalues", "get_influence"), "fit.influence()"),
    **dict.fromkeys(("check_model", "check_singularity", "check_convergence"), "fit.check()"),
    **dict.fromkeys(("eta_squared", "standardize_parameters"), "fit.effect_sizes()"),
    "vif": "fit.collinearity()",
    "rePCA": "fit.random_pca()",
    **dict.fromkeys(("simulateResiduals", "testDispersion", "testUniformity"), "fit.simulated_residuals()"),
    "AIC": "fit.aic",
    "BIC": "fit.bic",
    "scale": "fit.sigma ** 2",
    "fit": "fit.criteria",
    "zero_check": "fit.check_zeros",
    "warnings": "fit.notes and fit.status.messages",
    "link": "fit.model.link",
    "method": "fit.model.method",
    "priors": "fit.engine.priors",
}


def attribute_hint(name: str) -> str | None:
    """A message that gives unimix's name for an attribute of other packages' results; None if there is none."""
    meant = _ATTRIBUTES.get(name)
    return None if meant is None else f"FitResult has no attribute {name!r}; it is {meant}."


@functools.cache
def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments of a function, in order, without ``*args`` and ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))


@overload
def suggests_names(target: Target) -> Target: ...
@overload
def suggests_names(
    *, path: str | None = "", refuse: Callable[[dict[str, Any]], object] | None = None
) -> Callable[[Target], Target]: ...
def suggests_names(
    target: Any = None, *, path: str | None = "", refuse: Callable[[dict[str, Any]], object] | None = None
) -> Any:
    """A decorator that answers unknown arguments with the name to type.

    It applies to a function, or to all public methods of a class.

    Args:
        target: The function or class.
        path: Text between the fit and the name of a method of the class, such as ``plot.``; None for a class whose
            methods are not reached through a fit.
        refuse: Function that is called with all arguments by name if one of them is unknown, and raises an error that
            lists the other faults of the call, too.
    """
    if target is None:
        return functools.partial(_suggesting, path=path, refuse=refuse)
    return _suggesting(target, path=path, refuse=refuse)


def _suggesting(target: Any, *, path: str | None, refuse: Callable[[dict[str, Any]], object] | None) -> Any:
    if not isinstance(target, type):
        owner = target.__qualname__.split(".")[0]  # the class, if the function is its __init__; else the function
        return _answering(target, owner if target.__name__ == "__init__" else target.__name__, "", refuse)
    for name, member in list(vars(target).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            with_data = "" if path is None else f"fit.with_data(frame).{path}{name}"
            setattr(target, name, _answering(member, name, with_data, refuse))
    return target


def _answering(
    function: Callable[..., Any], name: str, with_data: str, refuse: Callable[[dict[str, Any]], object] | None
) -> Callable[..., Any]:
    """The function with a check of its arguments.

    Args:
        function: The function. If it takes ``**kwargs``, only arguments that hold the fitted data are checked.
        name: Name by which the user calls the function.
        with_data: The call of a method on a fit with its data, such as ``fit.with_data(frame).predict``; empty for a
            function.
        refuse: Function that raises an error for the whole call; see :func:`suggests_names`.
    """
    signature = inspect.signature(function)
    known = frozenset(parameters_of(function))
    hands_on = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @functools.wraps(function)
    def answering(*args: Any, **given: Any) -> Any:
        unknown = {key: value for key, value in given.items() if key not in known}
        if hands_on:
            unknown = {key: value for key, value in unknown.items() if with_data and key in _FITTED_ROWS}
        if not unknown:
            return argument_types.call(function, args, given, method=bool(with_data))
        if refuse is not None:
            refuse({**signature.bind_partial(*args).arguments, **given})
        named = parameters_of(function)
        named = named[1:] if named[:1] == ("self",) or with_data else named
        raise OptionError("\n".join(name_faults(name, named, unknown, with_data=with_data)))

    return answering


def name_faults(
    function: str,
    known: Sequence[str],
    unknown: Mapping[str, object],
    options: Iterable[str] = (),
    with_data: str = "",
) -> list[str]:
    """Messages about arguments that a function does not have, with what to type instead.

    Args:
        function: Name of the function.
        known: Names of the arguments of the function.
        unknown: Values of the unknown arguments by name.
        options: Names of the options of the chosen backend.
        with_data: The call of a method on a fit with its data; empty for a function.
    """
    return [_fault(function, name, value, known, set(options), with_data) for name, value in unknown.items()]


def _fault(function: str, name: str, value: object, known: Sequence[str], options: set[str], with_data: str) -> str:
    shown = repr(value) if isinstance(value, str | int | float | bool | None) else "..."
    fault = f"{function} has no argument {name!r}"
    if name.lower() == "reml" and "method" in known:
        return f"{fault}; type method={'REML' if value else 'ML'!r}."
    if name in options and "options" in known:
        return f"{fault}; it is an option of the engine: type options={{{name!r}: {shown}}}."
    for meanings in (_KEYWORDS, _QUESTIONS, _MORE_QUESTIONS):
        argument, words = meanings.get(name.replace(".", "_"), ("", ""))
        if argument in known:
            answer = f"{fault}; {'type' if words.startswith(argument + '=') else 'it is'} {words.format(shown)}"
            return answer if answer.endswith("...") else f"{answer}."
    if with_data and name in _FITTED_ROWS:
        return f"{fault}; with_data gives a loaded fit the rows that were fitted: type {with_data}(...)."
    taken = f"Arguments: {listing(known, 30)}." if known else "It has none."
    return f"{fault}.{did_you_mean(name, known)} {taken}"


def swapped_faults(function: str, formula: object, data: object) -> list[str]:
    """The message for a call in which formula and data are swapped; empty if they are not."""
    if isinstance(data, str) and not isinstance(formula, str):
        return [f"The arguments are swapped: the formula comes first, then the data. Type {function}({data!r}, data)."]
    return []


__all__ = ["attribute_hint", "name_faults", "parameters_of", "suggests_names", "swapped_faults"]
