"""Features that a model requires of an engine."""

from __future__ import annotations

from enum import Enum

from unimix.design.arrays import Design, RandomBlock
from unimix.design.covariance_structures import BY_DISTANCE
from unimix.design.grouping_factors import is_nested


class Feature(Enum):
    """A feature that an engine may or may not support; the value is its name in messages and tables."""

    NO_RANDOM_PART = "models without a random part"
    RANDOM_INTERCEPT = "a random intercept, (1 | g)"
    CORRELATED_TERMS = "correlated random effects, (1 + x | g)"
    INDEPENDENT_TERMS = "several independent terms on one factor, (1 + x || g)"
    SEVERAL_CORRELATED_BLOCKS = "two correlated terms on one factor, (1 + x | g) + (0 + u + v | g)"
    NESTED_FACTORS = "nested grouping factors, (1 | a/b)"
    CROSSED_FACTORS = "crossed grouping factors, (1 | a) + (1 | b)"
    CORRELATED_CROSSED = "correlated effects beside a crossed or outer factor, (1 + x | a) + (1 | b)"
    WEIGHTS = "precision weights"
    OFFSET = "an offset"
    REML = "REML"
    ML = "maximum likelihood"
    LAPLACE = "Laplace's approximation of a generalised model's likelihood"
    AGQ = "adaptive Gauss-Hermite quadrature, one scalar random term"
    APPROXIMATE_POSTERIOR = "an approximate posterior of a generalised model, variational or by Laplace"
    POSTERIOR = "a posterior distribution"
    PRIORS = "priors="
    SATTERTHWAITE = "Satterthwaite degrees of freedom"
    KENWARD_ROGER = "Kenward-Roger degrees of freedom"
    COMPOUND_SYMMETRY = "compound symmetry, cs(0 + f | g)"
    AUTOREGRESSIVE = "first-order autoregression, ar1(0 + f | g)"
    TOEPLITZ = "a correlation for each lag, toep(0 + f | g)"
    DECAY = "correlations that decay with time or distance, car1, exp or gau(0 + f | g)"
    HOMOGENEITY = "another choice of variances in a structure, diag or cs(0 + f | g, hom=TRUE)"
    ZERO_INFLATION = "zero inflation, ziformula="
    DISPERSION_FORMULA = "a model of the dispersion, dispformula="
    RESIDUAL_COVARIANCE = "correlated residuals or residual variances by time, residual='ar1(time | id)'"
    KNOWN_SIGMA = "a known residual standard deviation, sigma="
    RELATIONSHIP = "a known relationship matrix of the levels, relationship="
    SMOOTH = "a smooth curve, s(x)"


FEATURE_GROUPS: dict[str, tuple[Feature, ...]] = {
    "group_effects": (
        Feature.RANDOM_INTERCEPT,
        Feature.CORRELATED_TERMS,
        Feature.INDEPENDENT_TERMS,
        Feature.SEVERAL_CORRELATED_BLOCKS,
        Feature.NESTED_FACTORS,
        Feature.CROSSED_FACTORS,
        Feature.CORRELATED_CROSSED,
    ),
    "likelihood": (Feature.REML, Feature.ML, Feature.LAPLACE, Feature.AGQ),
    "bayesian": (Feature.APPROXIMATE_POSTERIOR, Feature.POSTERIOR, Feature.PRIORS),
    "degrees_of_freedom": (Feature.SATTERTHWAITE, Feature.KENWARD_ROGER),
    "structures": (
        Feature.COMPOUND_SYMMETRY,
        Feature.AUTOREGRESSIVE,
        Feature.TOEPLITZ,
        Feature.DECAY,
        Feature.HOMOGENEITY,
    ),
    "parts": (Feature.ZERO_INFLATION, Feature.DISPERSION_FORMULA, Feature.RESIDUAL_COVARIANCE),
    "known": (Feature.KNOWN_SIGMA, Feature.RELATIONSHIP),
    "smooths": (Feature.SMOOTH,),
}
"""Features for which most engines have a common entry, by the name of the group."""
METHOD_FEATURES = {
    "REML": Feature.REML,
    "ML": Feature.ML,
    "Laplace": Feature.LAPLACE,
    "AGQ": Feature.AGQ,
    "variational": Feature.APPROXIMATE_POSTERIOR,
    "MAP": Feature.APPROXIMATE_POSTERIOR,
    "posterior": Feature.POSTERIOR,
}
METHODS = tuple(METHOD_FEATURES)
_STRUCTURES = {
    "diag": Feature.HOMOGENEITY,
    "cs": Feature.COMPOUND_SYMMETRY,
    "ar1": Feature.AUTOREGRESSIVE,
    "toep": Feature.TOEPLITZ,
    **dict.fromkeys(BY_DISTANCE, Feature.DECAY),
}


def method_fault(design: Design, method: str | None, df_method: str) -> str:
    """Message that no engine can use this criterion or these degrees of freedom for the model; empty if one can."""
    if design.zero is not None and design.family.response not in ("count", "positive_count"):
        return (
            f"ziformula= is for counts (poisson, negative binomial): a {design.family.name} response has no structural "
            "zeros. Leave it out, or model zero or not as a binomial response of its own."
        )
    if design.dispersion is not None and not design.family.parameters:
        return f"dispformula= models a dispersion, and the {design.family.name} family has none: leave it out."
    if design.residual is not None and not design.family.is_linear:
        return (
            f"residual={design.residual.text!r} is the covariance of the residuals of a Gaussian model with the "
            f"identity link, and a {design.family} response has no such residuals: leave it out, or give the rows "
            f"correlated group effects in the formula, such as + ar1(0 + time | {design.residual.group})."
        )
    if design.residual is not None and (design.sigma is not None or design.related):
        what = "sigma=" if design.sigma is not None else "relationship="
        return f"residual={design.residual.text!r} and {what} are not computed together: leave one of them out."
    if design.sigma is not None and not design.is_linear:
        what = "dispformula=" if design.family.is_linear else f"family={design.family.name!r}"
        return f"sigma= is the known residual standard deviation of a Gaussian model: leave it out, or {what}."
    if design.family.is_linear:
        if method in ("Laplace", "AGQ", "variational", "MAP"):
            return f"method={method!r} is for generalised models; a Gaussian one has method='REML' or 'ML'."
        return ""
    mixed = bool(design.blocks)
    if method == "REML" or (method == "ML" and mixed):
        instead = "'Laplace' (default), 'AGQ' or 'posterior'" if mixed else "'ML' or 'posterior'"
        return (
            f"method={method!r} is for Gaussian models: the likelihood of {design.family} has no closed form "
            f"{'with group effects' if mixed else 'of that kind'}. Use method={instead}."
        )
    if df_method == "kenward-roger":
        return "df_method='kenward-roger' belongs to Gaussian models; a generalised one has z tests: leave it out."
    return ""


def requirements(design: Design, method: str | None = None, *, priors: bool = False) -> frozenset[Feature]:
    """Features that a model requires.

    Args:
        design: The model and its data.
        method: Criterion: REML, ML, Laplace, AGQ or posterior; None to leave the criterion out of the requirements.
        priors: Whether the user gave priors.
    """
    needs: set[Feature] = set()
    needs |= {Feature.SMOOTH} if design.smooths or any(b.is_smooth for b in design.blocks) else set()
    blocks = tuple(b for b in design.blocks if not b.is_smooth)
    if not design.blocks:
        needs.add(Feature.NO_RANDOM_PART)
        if method is not None and design.residual is not None:
            needs.add(METHOD_FEATURES[method])
        elif method is not None:  # without group effects no likelihood needs an approximation
            needs.add(Feature.POSTERIOR if method == "posterior" else Feature.ML)
    elif method is not None:
        needs.add(METHOD_FEATURES[method])
    per_factor: dict[str, list[RandomBlock]] = {}
    for block in blocks:
        per_factor.setdefault(block.group, []).append(block)
        needs.add(Feature.CORRELATED_TERMS if block.q > 1 else Feature.RANDOM_INTERCEPT)
        if (structure := block.covariance_structure) is not None:
            needs.add(_STRUCTURES[structure.form])
            needs |= {Feature.HOMOGENEITY} if structure.name != structure.form else set()
    if any(len(group) > 1 for group in per_factor.values()):
        needs.add(Feature.INDEPENDENT_TERMS)
    if any(sum(b.q > 1 for b in group) > 1 for group in per_factor.values()):
        needs.add(Feature.SEVERAL_CORRELATED_BLOCKS)
    needs |= _several_factors([group[0] for group in per_factor.values()], blocks)
    given = {
        Feature.ZERO_INFLATION: design.zero is not None,
        Feature.DISPERSION_FORMULA: design.dispersion is not None,
        Feature.RESIDUAL_COVARIANCE: design.residual is not None,
        Feature.KNOWN_SIGMA: design.sigma is not None,
        Feature.RELATIONSHIP: bool(design.related),
        Feature.WEIGHTS: design.weights is not None,
        Feature.OFFSET: design.offset is not None,
        Feature.PRIORS: priors,
    }
    return frozenset(needs | {feature for feature, is_given in given.items() if is_given})


def _several_factors(factors: list[RandomBlock], blocks: tuple[RandomBlock, ...]) -> set[Feature]:
    needs: set[Feature] = set()
    for i, a in enumerate(factors):
        for b in factors[i + 1 :]:
            nested = is_nested(a.codes, b.codes) or is_nested(b.codes, a.codes)
            needs.add(Feature.NESTED_FACTORS if nested else Feature.CROSSED_FACTORS)
    for block in blocks:
        if block.q > 1 and any(f.group != block.group and not is_nested(f.codes, block.codes) for f in factors):
            needs.add(Feature.CORRELATED_CROSSED)
    return needs
