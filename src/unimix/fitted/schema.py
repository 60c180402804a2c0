"""The schema of all results: frozen, versioned, exact in JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from unimix.design.covariance_structures import BY_DISTANCE
from unimix.design.encoding import Encoding, JsonLevel
from unimix.design.estimates import Evidence
from unimix.design.residual_block import ResidualStructure
from unimix.design.row_labels import RowLabels
from unimix.design.smooths import CURVE
from unimix.distributions.family import Cumulative, Family, as_family
from unimix.fitted.arrays import Array, Real
from unimix.formula.covariance_names import STRUCTURES
from unimix.stats.inference import is_unbounded

FloatArray = npt.NDArray[np.float64]
DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]

SCHEMA_VERSION = 3
PRIORS = "priors given by the user"
"""Key of ``provenance`` under which the user's priors are listed."""
State = Literal["converged", "singular", "not_identified", "not_converged", "failed"]
UNSURE: dict[str, str] = {"not_converged": "did not converge", "not_identified": "is not identified"}
"""States of fits with numbers that should not be relied on, in words."""


def _a_scale(value: float) -> float:
    if value < 0 or value > 1e150:  # its square is a number
        raise ValueError("a standard deviation is not negative, and its square is a number")
    return value


Count = Annotated[int, Field(ge=0, lt=2**53)]
Scale = Annotated[Real, AfterValidator(_a_scale)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    """Base of all parts of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def _require_shape(self, shape: tuple[int, ...], *names: str) -> None:
        """Refuse arrays of another shape; an array may be None."""
        for name in names:
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, not {shape}")


class ModelInfo(Part):
    """The model that was fitted.

    Attributes:
        formula: Formula as the user wrote it.
        reading: Canonical text of the formula.
        response: Canonical text of the response.
        family: Distribution of the response; ``negative_binomial_1`` has a linear variance.
        link: Link function.
        method: REML, ML, least squares, Laplace, AGQ, variational, MAP or posterior.
        n_obs: Number of rows used.
        n_dropped: Number of rows left out for missing values.
        missing: Number of missing values per column.
        groups: Number of levels per grouping factor.
        aliased: Columns left out because they depend linearly on others.
        fingerprint: Digest of the design; results with the same fingerprint can be compared.
        encoding: Levels and constants learnt from the data, from which the same columns are made of new data.
        weighted: Whether weights were used; numbers of trials do not count as weights.
        sigma: Known residual standard deviation of a row with weight 1; None if it was estimated.
        related: Grouping factors whose levels have a known relationship matrix, which a saved result does not hold.
        threshold: Structure of the thresholds of an ordered response, whose categories are in ``encoding``; else None.
    """

    formula: str
    reading: str
    response: str
    family: str
    link: str
    method: str
    n_obs: Count
    n_dropped: Count
    missing: dict[str, Count]
    groups: dict[str, Count]
    aliased: tuple[str, ...]
    fingerprint: str
    encoding: Encoding
    weighted: bool
    sigma: Scale | None = None
    related: tuple[str, ...] = ()
    threshold: str | None = None

    def distribution(self) -> Family:
        """Distribution of the response, with its link and, of an ordered response, its categories."""
        if self.threshold is not None:
            return Cumulative(self.link, self.threshold, self.encoding.categories)
        return as_family(f"{self.family}({self.link})")


class EngineInfo(Part):
    """The engine that fitted the model, and how.

    Attributes:
        backend: Name of the backend.
        engine: Name of the software whose numbers these are.
        versions: Versions of packages and runtimes.
        options: Options of the backend, with defaults filled in.
        seed: Seed of the random numbers, if any were used.
        call: The call as the engine received it.
        seconds: Seconds spent on design, load, fit and extract.
        priors: Prior of each parameter.
    """

    backend: str
    engine: str
    versions: dict[str, str]
    options: dict[str, Any]
    seed: Annotated[int, Field(ge=0)] | None
    call: str
    seconds: dict[str, Real]
    priors: dict[str, str]


class FixedPartResult(Part):
    """Fixed effects; all arrays have shape (p,), ``covariance`` (p, p).

    Attributes:
        interval: Kind of the intervals: confidence or credible.
        level: Probability of the intervals, between 0 and 1.
        df_method: Degrees of freedom: satterthwaite, kenward-roger, residual, normal, or posterior.
        std_error_kind: Kind of the standard errors, such as generalised least squares or observed information; may be
            empty.
        p_direction: Probability of direction, the larger of the posterior probabilities of the two signs; None without
            a posterior.
        unbounded: Directions d of the coefficients along which the likelihood has no maximum, shape (m, p): functions
            c'beta with c'd != 0 have infinite standard errors and no Wald test. Empty for most fits.
        cross_covariance: Covariances of the coefficients of the mean, p of them, with these of the zero inflation
            or the thresholds, shape (p, k); empty for other parts, and if the engine has none.
    """

    terms: tuple[str, ...]
    estimate: Array
    std_error: Array
    df: Array
    statistic: Array
    p_value: Array
    lower: Array
    upper: Array
    covariance: Array
    interval: Literal["confidence", "credible"]
    level: Probability
    df_method: str
    std_error_kind: str = ""
    p_direction: Array | None = None
    unbounded: Array = Field(default_factory=lambda: np.empty((0, 0)))
    cross_covariance: Array = Field(default_factory=lambda: np.empty((0, 0)))

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        p = len(self.terms)
        tests = ("df", "statistic", "p_value", "p_direction")
        self._require_shape((p,), "estimate", "std_error", "lower", "upper", *tests)
        self._require_shape((p, p), "covariance")
        return self

    def reported_covariance(self) -> npt.NDArray[np.float64]:
        """Covariance matrix, shape (p, p); coefficients that tend to infinity have infinite variances."""
        matrix = np.array(self.covariance)
        endless = np.isinf(self.std_error)
        matrix[endless, :] = matrix[:, endless] = np.nan
        matrix[endless, endless] = np.inf
        return matrix

    def is_unbounded(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether functions c'beta, given by rows c of shape (m, p), have no finite estimate and no variance, (m,)."""
        return is_unbounded(weights, self.unbounded, np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))


class RandomPartResult(Part):
    """One block of random effects with its levels.

    Attributes:
        group: Grouping factor.
        terms: Names of the q effects.
        unit: Root mean square of the effects' columns, shape (q,): sd * unit is an SD in units of the response.
        sd: Standard deviations of the effects, shape (q,).
        correlation: Correlations of the effects, shape (q, q); NaN where a variance is zero.
        covariance: Covariance matrix of the effects, shape (q, q).
        levels: Labels of the L levels.
        modes: Conditional modes or posterior means, shape (L, q).
        mode_sd: Conditional (posterior) standard deviations of the modes, shape (L, q).
        mode_covariance: Conditional (posterior) covariance matrices of the modes, shape (L, q, q).
    """

    group: str
    terms: tuple[str, ...]
    unit: Array
    sd: Array
    correlation: Array
    covariance: Array
    levels: tuple[JsonLevel, ...]
    modes: Array
    mode_sd: Array
    mode_covariance: Array

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        n, q = len(self.levels), len(self.terms)
        self._require_shape((q,), "unit", "sd")
        self._require_shape((q, q), "correlation", "covariance")
        self._require_shape((n, q), "modes", "mode_sd")
        self._require_shape((n, q, q), "mode_covariance")
        return self


class SmoothPartResult(Part):
    """One smooth ``s(x)``, whose coefficients are among the fixed effects.

    Attributes:
        term: Name of the term.
        basis: Kind of basis: tp, cr or ps.
        k: Number of functions of the basis.
        range: Smallest and largest value that was fitted.
        columns: Names of its fixed effects: that of the straight line, unless it was left out, and those of the curve.
        edf: Effective degrees of freedom of the line and the curve: one for a straight line, k - 1 without a penalty.
        curve: The coefficients of the curve as effects of one level. Their standard deviation is the root mean square,
            over the rows, of the standard deviation of the curve about a straight line.
    """

    term: str
    basis: Literal["tp", "cr", "ps"]
    k: Count
    range: tuple[Real, Real]
    columns: tuple[str, ...]
    edf: Real
    curve: RandomPartResult

    @model_validator(mode="after")
    def _one_curve(self) -> Self:
        if len(self.curve.levels) != 1 or self.columns[-len(self.curve.terms) :] != self.curve.terms:
            raise ValueError("a smooth has one curve, whose coefficients are fixed effects")
        return self

    @property
    def sd(self) -> float:
        """Standard deviation of the curve about a straight line, in units of the linear predictor."""
        return float(self.curve.sd[0])

    @property
    def component(self) -> RandomPartResult:
        """The smooth as one row of a table of standard deviations."""
        block, one = self.curve, np.ones((1, 1))
        first = {name: getattr(block, name)[:1] for name in ("unit", "sd")}
        first |= {"covariance": block.covariance[:1, :1], "mode_covariance": block.mode_covariance[:, :1, :1]}
        first |= {"modes": block.modes[:, :1], "mode_sd": block.mode_sd[:, :1], "correlation": one}
        return block.model_copy(update={"terms": (CURVE,), **first})


def is_curve(block: RandomPartResult) -> bool:
    """Whether a block holds the coefficients of a smooth's curve; a grouping factor has two levels at least."""
    return block.levels == (CURVE,)


class ResidualPartResult(Part):
    """Covariance of residuals that are correlated within groups, or have several variances.

    Attributes:
        text: The structure as it was read, such as ``ar1(time | id)``.
        group: Grouping factor within which residuals are correlated.
        n_groups: Number of its levels.
        structure: Name of the structure.
        times: The T times as text, in order.
        coordinates: Numbers of the times, shape (T,), if the structure depends on their distances; else empty.
        sd: Standard deviations of the residuals: one, or one for each time.
        parameters: Names of the parameters of the correlations.
        estimates: Their estimates.
        relative: Whether the dispersion has a formula: ``sd`` are then ratios to the standard deviations that it gives.
    """

    text: str
    group: str
    n_groups: Count
    structure: str
    times: tuple[str, ...]
    coordinates: tuple[Real, ...]
    sd: Array
    parameters: tuple[str, ...]
    estimates: Array
    relative: bool = False

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        form = self.form
        if self.structure not in STRUCTURES or self.parameters != form.parameter_names:
            raise ValueError(f"a structure {self.structure} of {len(self.times)} times has no such parameters")
        if len(self.coordinates) != (len(self.times) if form.form in BY_DISTANCE else 0):
            raise ValueError(f"{len(self.times)} times have {len(self.coordinates)} coordinates")
        self._require_shape((1 if form.homogeneous else len(self.times),), "sd")
        self._require_shape((len(self.parameters),), "estimates")
        return self

    @property
    def form(self) -> ResidualStructure:
        """Form of the covariance matrix."""
        return ResidualStructure(self.structure, self.times, self.coordinates)

    @property
    def sd_word(self) -> str:
        """Word for ``sd`` in tables."""
        return "sd ratio" if self.relative else "sd"

    @property
    def covariance(self) -> FloatArray:
        """Covariance matrix of the residuals of one group at all times, shape (T, T)."""
        return self.form.covariance(np.asarray(self.sd), np.asarray(self.estimates))

    @property
    def reference_sd(self) -> float:
        """Standard deviation at the first time, to which the likelihood's other parameters are relative."""
        return float(self.sd[0])


class Criteria(Part):
    """Likelihood, information criteria and dispersion of a fit.

    Attributes:
        log_likelihood: Maximised log-likelihood l with all constants; NaN for a posterior.
        criterion: REML, ML, Laplace, AGQ(25), posterior ...; log-likelihoods of different criteria are not comparable.
        n_parameters: Number k of fixed effects, covariance parameters and dispersion parameters.
        aic: Akaike's information criterion, -2 l + 2 k.
        bic: Bayesian information criterion, -2 l + k log n for n rows; if weights stand for copies of rows, n is the
            sum of the weights.
        deviance: -2 l (the REML criterion under REML).
        sigma: Residual standard deviation; square root of the dispersion (gamma, inverse Gaussian); 1 without a scale;
            NaN if it differs by row (dispformula, or residual= with several variances).
        df_residual: Number of rows minus fixed effects; with group effects, minus all parameters, as in lme4.
        parameters: Dispersion parameters of the family by name.
        pearson_dispersion: Pearson chi-squared divided by its degrees of freedom (weights that stand for copies of rows
            count there too); NaN for the Gaussian linear model.
        evidence: Log evidence of a posterior with its error, or None; ``fit.log_evidence`` says why there is none.
    """

    log_likelihood: Real
    criterion: str
    n_parameters: Count
    aic: Real
    bic: Real
    deviance: Real
    sigma: Scale
    df_residual: int
    parameters: dict[str, Real] = {}
    pearson_dispersion: Real = float("nan")
    evidence: Evidence | None = None


class Status(Part):
    """Whether the fit converged and can be used.

    Attributes:
        state: converged, singular (converged on the boundary), not_identified (the likelihood is the same along a
            ridge, and the estimates are one of its points), not_converged or failed.
        messages: Messages of the engine about convergence.
        gradient: Largest scaled gradient, if known.
        rhat: Largest R-hat of a sampler.
        ess_bulk: Smallest bulk effective sample size of a sampler.
        ess_tail: Smallest tail effective sample size of a sampler.
        divergences: Number of divergent transitions of a sampler.
        n_draws: Number of posterior draws kept, over all chains.
        n_chains: Number of chains.
    """

    state: State
    messages: tuple[str, ...]
    gradient: Real | None = None
    rhat: Real | None = None
    ess_bulk: Real | None = None
    ess_tail: Real | None = None
    divergences: Count | None = None
    n_draws: Count | None = None
    n_chains: Count | None = None

    @model_validator(mode="after")
    def _sampler_whole(self) -> Self:
        sampler = (self.rhat, self.ess_bulk, self.ess_tail, self.divergences, self.n_chains)
        if self.n_draws is not None and None in sampler:
            raise ValueError("draws have an R-hat, effective sample sizes, and numbers of divergences and chains")
        return self


class Rows(Part):
    """The rows used: position in the data as given, observed response, fitted values, offset and weight.

    Attributes:
        index: Position of each row in the data as given, shape (n,).
        observed: Response, shape (n,); the proportion of successes for a binomial family.
        linear_predictor: Linear predictor with the group effects and the offset, on the link scale, shape (n,).
        population_predictor: Linear predictor without the group effects, shape (n,).
        weights: Weights of the rows, shape (n,), or None.
        trials: Numbers of trials of a binomial family, shape (n,); else None.
        zero_probability: Probability of a structural zero under zero inflation, shape (n,); else None.
        dispersion: Dispersion parameter of each row where it has a formula, shape (n,), the residual standard deviation
            of a row of weight 1 in a linear model; else None.
        expected: Posterior mean of the expected response with the group effects, shape (n,), of a posterior under a
            curved link, where it is not the inverse link of ``linear_predictor``; else None.
        population_expected: The same without the group effects, shape (n,), or None.
        offset: Offset, which is part of both predictors, shape (n,), or None.
        labels: Index of the rows in the pandas frame that was fitted, unless it is 0, 1, 2 ...; else None.
    """

    index: Array
    observed: Array
    linear_predictor: Array
    population_predictor: Array
    weights: Array | None = None
    trials: Array | None = None
    zero_probability: Array | None = None
    dispersion: Array | None = None
    expected: Array | None = None
    population_expected: Array | None = None
    offset: Array | None = None
    labels: RowLabels | None = None

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        n = self.index.size
        names = (name for name in type(self).model_fields if name != "labels")
        self._require_shape((n,), *names)
        if self.labels is not None and len(self.labels.values[0]) != n:
            raise ValueError(f"labels has {len(self.labels.values[0])} rows, not {n}")
        return self
