"""Adapter for bambi, with bambi's own priors and families, on unimix's numeric columns."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends import (
    Answer,
    Backend,
    BackendInfo,
    Capabilities,
    Design,
    Estimates,
    FamilySheet,
    FitRequest,
    Never,
    NotYet,
    Posterior,
    Problem,
    RawDraws,
    Sampled,
    Upstream,
    Yes,
    estimates_of_draws,
)
from unimix.errors import EngineBrokenError, to_type
from unimix.installation import bounds, fault, installed_version, requirements
from unimix.parallel.progress import is_shown

if TYPE_CHECKING:
    from types import ModuleType

FloatArray = npt.NDArray[np.float64]

_LIKELIHOOD = Never("bambi samples a posterior; it maximises no likelihood.")
_NO_DF = Never("a posterior has no degrees of freedom")
_CORRELATED = Upstream(
    "bambi takes (x | g) for independent effects, (x || g) in unimix, and never estimates their correlation. "
    "Write || for that model."
)
_NOT_COMPARED = NotYet("bambi has this link, which nobody has held against another engine here.")
_NO_FAMILY = NotYet("nobody has held bambi's model of this family against another engine here.")
_NO_LINK = Upstream("bambi has no such link for this family.")
_FAMILIES: dict[str, Answer] = {
    "gaussian(identity)": Yes(),
    "gaussian": _NOT_COMPARED,
    "binomial(logit)": Yes(),
    "binomial(probit)": Yes(),
    "binomial(cloglog)": Yes(),
    "binomial": _NO_LINK,
    "poisson(log)": Yes(),
    "poisson(identity)": _NOT_COMPARED,
    "poisson": _NO_LINK,
    "negative_binomial(log)": Yes(),
    "negative_binomial(identity)": _NOT_COMPARED,
    "negative_binomial": _NO_LINK,
    "negative_binomial_1": Upstream("bambi's negative binomial has a quadratic variance only."),
    "gamma(log)": Yes(),
    "gamma": _NOT_COMPARED,
    "inverse_gaussian(log)": Yes(),
    "inverse_gaussian": _NOT_COMPARED,
    "beta(logit)": Yes(),
    "beta(cauchit)": _NO_LINK,
    "beta": _NOT_COMPARED,
    "student_t(identity)": Yes(),
    "student_t": _NOT_COMPARED,
}
_NAMES = {
    "gaussian": "gaussian", "binomial": "binomial", "poisson": "poisson", "negative_binomial": "negativebinomial",
    "gamma": "gamma", "inverse_gaussian": "wald", "beta": "beta", "student_t": "t",
}  # fmt: skip
_DISPERSION: dict[str, dict[str, tuple[str, bool]]] = {
    "gaussian": {"sigma": ("sigma", False)},
    "negative_binomial": {"theta": ("alpha", False)},
    "gamma": {"dispersion": ("alpha", True)},
    "inverse_gaussian": {"dispersion": ("lam", True)},
    "beta": {"precision": ("kappa", False)},
    "student_t": {"sigma": ("sigma", False), "nu": ("nu", False)},
}
"""Name of each dispersion parameter in bambi, by unimix's name, and whether bambi has the inverse of it."""


class Bambi(Backend):
    """bambi's Bayesian models, with priors that bambi scales by the data.

    bambi centres the predictors, so that the prior of its intercept is that of the expected response at their means.
    ``fit.native`` is the ``bambi.Model`` of the user's columns, with the priors reported. It has not been built; the
    draws are in ``fit.posterior``.

    Attributes:
        draws: Number of draws kept per chain.
        tune: Number of tuning steps per chain.
        chains: Number of chains.
        cores: Number of chains that run at the same time; None for bambi's default.
        sampler: PyMC's own NUTS, which is bambi's default, or nutpie.
        target_accept: Target acceptance rate of the tuning of the step size.
        noncentered: Whether group effects are sampled as multiples of their standard deviation, which is bambi's
            default; False is better where every level has many rows.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="bambi",
        engine="bambi",
        title="bambi on PyMC",
        packages=("bambi",),
        distributions=("bambi", "formulae", "pymc"),
        extra="bambi",
        optional=("nutpie", "numba", "threadpoolctl"),
        url="https://bambinos.github.io/bambi",
        reference="Capretto, T., Piho, C., Kumar, R., Westfall, J., Yarkoni, T., & Martin, O. A. (2022). Bambi: A "
        "simple interface for fitting Bayesian linear models in Python. Journal of Statistical Software, 103(15), "
        "1-29. https://doi.org/10.18637/jss.v103.i15",
        default_method="posterior",
        strengths="bambi's own priors, independent effects only",
        rank=30,
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes(),
        group_effects=Yes(),
        correlated_terms=_CORRELATED,
        several_correlated_blocks=_CORRELATED,
        correlated_crossed=_CORRELATED,
        weights=Upstream("bambi's weights are numbers of copies of a row, not precisions."),
        offset=Yes("subtracted from the response of a linear model; bambi's own in others"),
        likelihood=_LIKELIHOOD,
        approximate_posterior=Upstream("bambi's inference_method='laplace' fails on these models."),
        posterior=Yes(),
        priors=NotYet("this backend has bambi's own priors."),
        degrees_of_freedom=_NO_DF,
        structures=_CORRELATED,
        residual_covariance=Upstream("bambi has independent residuals."),
        zero_inflation=NotYet("bambi's zero-inflated families are not passed on."),
        dispersion_formula=NotYet("bambi's distributional models are not passed on."),
    )
    families: ClassVar[FamilySheet] = FamilySheet(_FAMILIES, _FAMILIES, others=_NO_FAMILY)

    conditioning: Literal[False] = False
    draws: Annotated[int, Field(ge=4)] = 1000
    tune: Annotated[int, Field(ge=0)] = 1000
    chains: Annotated[int, Field(ge=1)] = 4
    cores: Annotated[int, Field(ge=1)] | None = None
    sampler: Literal["pymc", "nutpie"] = "pymc"
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.8
    noncentered: bool = True

    def load(self) -> ModuleType:
        """Import bambi.

        Raises:
            EngineBrokenError: If the installed bambi is of a version with other models and names.
        """
        needed = next(r for r in requirements("bambi") if r.name == "bambi")
        if self.available() and fault(needed):
            raise EngineBrokenError(
                f"bambi {installed_version('bambi')} is installed; backend='bambi' knows {bounds(needed)}. "
                + to_type(self.install_lines())
            )
        return super().load()

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models for which bambi's default priors make no sense."""
        del request
        reasons = []
        if design.is_linear and not any(is_one(c) for c in design.x.T):
            reasons.append(
                "without an intercept bambi's priors, which it scales by the spread of the response, may "
                "rule the answer out: keep the intercept, or use backend='pymc' or 'bayes'"
            )
        columns = [*design.x.T, *(b.z[:, j] for b in design.blocks for j in range(b.q))]
        odd = any(np.ptp(c) == 0 and c[0] != 1 for c in columns)
        if odd:
            reasons.append("a column is constant but not 1, and bambi divides by its spread for a prior")
        return reasons

    def preview(self, design: Design, request: FitRequest) -> str:
        """The call in Python."""
        del request
        family = _NAMES[design.family.name]
        return f'bambi.Model("{formula_of(design)}", data, family="{family}", link="{design.family.link}")'

    def _shows_progress(self, request: FitRequest) -> bool:
        return is_shown(request.progress)

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        from threadpoolctl import threadpool_limits

        from unimix.backends.sampling.compiler_warnings import ignore_compiler_warnings

        bambi: Any = engine
        design, request = problem.design, problem.request
        own, units = scaled(design)
        model = model_of(bambi, own, noncentered=self.noncentered)
        cores = {} if self.cores is None else {"cores": self.cores}
        with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
            ignore_compiler_warnings()
            trace = model.fit(
                draws=self.draws,
                tune=self.tune,
                chains=self.chains,
                target_accept=self.target_accept,
                inference_method=self.sampler,
                random_seed=request.seed,
                progressbar=self._shows_progress(request),
                **cores,
            )
        posterior, raw = read(trace, design, units)
        native = model_of(bambi, design, noncentered=self.noncentered)
        found = estimates_of_draws(
            design,
            Sampled(posterior, raw, kept=True),
            priors_of(native, design),
            ci_level=request.ci_level,
            call=self.preview(design, request),
            library=self.sampler,
            observed=problem.original,
        )
        return replace(found, native=native)


@dataclass(frozen=True)
class Units:
    """Units of the user's columns, in multiples of the scaled columns that bambi receives.

    Attributes:
        shift: Response at which the scaled response is zero.
        response: Unit of the response.
        fixed: Units of the columns of the fixed effects, shape (p,).
        effects: Unit of the column of each block.
    """

    shift: float
    response: float
    fixed: FloatArray
    effects: tuple[float, ...]


def scaled(design: Design) -> tuple[Design, Units]:
    """Scale all columns to a spread of one, which gives the same model because bambi scales its priors by the data.

    PyMC's samplers start near zero with unit steps and would not reach a slope of 1e-9.
    """

    def spread(column: FloatArray) -> float:
        return 1.0 if is_one(column) else float(column.std())

    real = design.family.name in ("gaussian", "student_t") and design.family.link == "identity"
    response = float(design.y.std()) if real else 1.0
    shift = float(design.y.mean()) if real and any(is_one(c) for c in design.x.T) else 0.0
    offset = None if design.offset is None else design.offset / response
    fixed = np.array([spread(c) for c in design.x.T])
    effects = tuple(spread(b.z[:, 0]) for b in design.blocks)
    blocks = tuple(replace(b, z=b.z / s) for b, s in zip(design.blocks, effects, strict=True))
    own = replace(design, y=(design.y - shift) / response, x=design.x / fixed, offset=offset, blocks=blocks)
    return own, Units(shift, response, fixed, effects)


def model_of(bambi: Any, design: Design, *, noncentered: bool) -> Any:
    """Make bambi's model of the columns; it is not built yet."""
    family = design.family
    more = {} if family.is_linear else {"link": family.link}
    return bambi.Model(formula_of(design), frame(design), family=_NAMES[family.name], noncentered=noncentered, **more)


def formula_of(design: Design) -> str:
    """Formula in bambi's language: constant columns become intercepts, and other columns are named."""
    fixed = ["1" if is_one(c) else f"x{j}" for j, c in enumerate(design.x.T)]
    groups = group_names(design)
    bars = [
        f"({'1' if is_one(b.z[:, 0]) else f'0 + z{k}'} | {g})"
        for k, (b, g) in enumerate(zip(design.blocks, groups, strict=True))
    ]
    head = [] if "1" in fixed else ["0"]
    shift = ["offset(o)"] if design.offset is not None else []
    response = "p(y, n)" if design.family.name == "binomial" else "y"
    return f"{response} ~ {' + '.join([*head, *fixed, *shift, *bars])}"


def group_names(design: Design) -> list[str]:
    """Generated name of each block's grouping factor: g0 for all blocks of the first factor, and so on."""
    known = list(dict.fromkeys(b.group for b in design.blocks))
    return [f"g{known.index(b.group)}" for b in design.blocks]


def frame(design: Design) -> Any:
    """Data frame of the columns of :func:`formula_of`, with levels in the order of the design."""
    pd: Any = importlib.import_module("pandas")
    columns: dict[str, Any] = {}
    if design.family.name == "binomial":
        trials = np.ones(design.n) if design.trials is None else design.trials
        columns |= {"y": np.rint(design.y * trials).astype(int), "n": np.rint(trials).astype(int)}
    elif design.family.response == "count":
        columns["y"] = np.rint(design.y).astype(int)
    else:
        columns["y"] = design.y
    columns |= {f"x{j}": c for j, c in enumerate(design.x.T)}
    columns |= {} if design.offset is None else {"o": design.offset}
    for k, (block, group) in enumerate(zip(design.blocks, group_names(design), strict=True)):
        columns[f"z{k}"] = block.z[:, 0]
        labels = [f"{i:09d}" for i in range(block.n_levels)]
        columns[group] = pd.Categorical.from_codes(block.codes, categories=labels, ordered=True)
    return pd.DataFrame(columns)


def is_one(column: FloatArray) -> bool:
    """Whether a column is constant one, as that of an intercept."""
    return bool(np.all(column == 1.0))


def names_of_effects(design: Design) -> list[str]:
    """Bambi's name of each block's effects."""
    return [
        f"{'1' if is_one(b.z[:, 0]) else f'z{k}'}|{g}"
        for k, (b, g) in enumerate(zip(design.blocks, group_names(design), strict=True))
    ]


def read(trace: Any, design: Design, units: Units) -> tuple[Posterior, RawDraws]:
    """Read the draws in the user's units, in the shapes of :class:`Posterior`."""
    found = trace.posterior

    def flat(name: str) -> FloatArray:
        values = np.asarray(found[name].transpose("chain", "draw", ...).values, dtype=np.float64)
        return values.reshape(values.shape[0] * values.shape[1], -1)

    count = found.sizes["chain"] * found.sizes["draw"]
    fixed = [flat("Intercept" if is_one(c) else f"x{j}") for j, c in enumerate(design.x.T)]
    beta = np.concatenate([np.empty((count, 0)), *fixed], axis=1) * units.response / units.fixed
    beta += units.shift * np.array([is_one(c) for c in design.x.T])
    effects: list[FloatArray] = []
    turns = [units.response / s for s in units.effects]
    for name, block, group in zip(names_of_effects(design), design.blocks, group_names(design), strict=True):
        levels = [int(v) for v in found[name].coords[f"{group}__factor_dim"].values]
        ordered = np.empty((count, block.n_levels))
        ordered[:, levels] = flat(name)
        effects.append(turns[len(effects)] * ordered[:, :, None])
    sds = tuple(t * flat(f"{name}_sigma") for t, name in zip(turns, names_of_effects(design), strict=True))
    ones = tuple(np.ones((count, 1, 1)) for _ in design.blocks)
    known = _DISPERSION.get(design.family.name, {})
    parts = [np.empty((count, 0))]
    for ours in design.family.parameters:
        theirs, inverse = known[ours]
        unit = units.response if ours == "sigma" else 1.0
        parts.append(unit * (1 / flat(theirs) if inverse else flat(theirs)))
    posterior = Posterior.of_effects(beta, sds, ones, np.concatenate(parts, axis=1), tuple(effects))
    chains, draws = found.sizes["chain"], found.sizes["draw"]
    diverging = np.asarray(trace.sample_stats["diverging"].values, dtype=bool)
    seconds = float(found.attrs.get("sampling_time", np.nan))
    return posterior, RawDraws(posterior.parameters().reshape(chains, draws, -1), diverging, {}, seconds)


def parameters_of(model: Any) -> Any:
    """Parts of a model by bambi's name of the parameter, such as ``mu``; bambi 0.21 deprecates their old name."""
    return model.parameters if hasattr(model, "parameters") else model.components


def priors_of(model: Any, design: Design) -> dict[str, str]:
    """Text of every prior in force, as bambi writes it, by unimix's name of the parameter."""
    parts = parameters_of(model)
    part = parts[model.family.likelihood.parent]
    texts: dict[str, str] = {}
    for j, (name, column) in enumerate(zip(design.fixed_names, design.x.T, strict=True)):
        if is_one(column):
            texts[name] = f"{written(part.intercept_term.prior)} at the predictors' means"
        else:
            texts[name] = written(part.common_terms[f"x{j}"].prior)
    for block, name in zip(design.blocks, names_of_effects(design), strict=True):
        texts[f"sd({block.group}: {block.terms[0]})"] = written(part.group_specific_terms[name].prior.args["sigma"])
    for ours, (theirs, inverse) in _DISPERSION.get(design.family.name, {}).items():
        prior = parts[theirs].prior
        texts[ours] = f"1 / {ours} ~ {written(prior)}" if inverse else written(prior)
    return texts


def written(prior: Any) -> str:
    """Text of a prior with six significant digits; bambi's own text has four decimals, and 0.0 for a scale of 1e-6."""
    values = {name: np.ravel(value) for name, value in prior.args.items()}
    return f"{prior.name}({', '.join(f'{n}: ' + ', '.join(f'{v:.6g}' for v in vs) for n, vs in values.items())})"
