"""The schema of all results: frozen, versioned, exact in JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from unimix.design.encoding import Encoding, JsonLevel
from unimix.design.row_labels import RowLabels
from unimix.fitted.arrays import Array, Real

DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]

SCHEMA_VERSION = 3
PRIORS = "priors given by the user"
"""Key of ``provenance`` under which the user's priors are listed."""
State = Literal["converged", "singular", "not_identified", "not_converged", "failed"]
UNSURE: dict[str, str] = {"not_converged": "did not converge", "not_identified": "is not identified"}
"""States of fits with numbers that should not be relied on, in words."""


class Part(BaseModel):
    """Base of all parts of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


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
    """

    formula: str
    reading: str
    response: str
    family: str
    link: str
    method: str
    n_obs: int
    n_dropped: int
    missing: dict[str, int]
    groups: dict[str, int]
    aliased: tuple[str, ...]
    fingerprint: str
    encoding: Encoding
    weighted: bool


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
    seed: int | None
    call: str
    seconds: dict[str, float]
    priors: dict[str, str]


class FixedPartResult(Part):
    """Fixed effects; all arrays have shape (p,), ``covariance`` (p, p).

    Attributes:
        interval: Kind of the intervals: confidence or credible.
        level: Probability of the intervals, between 0 and 1.
        df_method: Degrees of freedom: satterthwaite, kenward-roger, residual, normal, or posterior.
        std_error_kind: Kind of the standard errors, such as generalised least squares or observed information; may be
            empty.
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
    level: float
    df_method: str
    std_error_kind: str = ""


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
            NaN if it differs by row (dispformula).
        df_residual: Number of rows minus fixed effects; with group effects, minus all parameters, as in lme4.
        parameters: Dispersion parameters of the family by name.
        pearson_dispersion: Pearson chi-squared divided by its degrees of freedom (weights that stand for copies of rows
            count there too); NaN for the Gaussian linear model.
    """

    log_likelihood: Real
    criterion: str
    n_parameters: int
    aic: Real
    bic: Real
    deviance: Real
    sigma: Real
    df_residual: int
    parameters: dict[str, float] = {}
    pearson_dispersion: Real = float("nan")


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
    divergences: int | None = None
    n_draws: int | None = None
    n_chains: int | None = None


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
    offset: Array | None = None
    labels: RowLabels | None = None


class SavedFit(Part):
    """A fit as saved in JSON; :class:`unimix.fitted.model.FittedModel` describes the fields.

    Attributes:
        schema_version: Version number of this layout.
    """

    model: ModelInfo
    engine: EngineInfo
    fixed: FixedPartResult
    random: tuple[RandomPartResult, ...]
    criteria: Criteria
    status: Status
    rows: Rows
    parts: dict[str, FixedPartResult] = {}
    provenance: dict[str, str]
    notes: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @model_validator(mode="before")
    @classmethod
    def _known_version(cls, content: Any) -> Any:
        """Refuse other versions before their fields are read."""
        version = content.get("schema_version", SCHEMA_VERSION) if isinstance(content, dict) else SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            do = "Update unimix" if newer else "Fit the model again"
            raise ValueError(f"it has schema version {version}; this unimix reads {SCHEMA_VERSION}. {do}")
        return content
