"""One model per feature that an engine may claim."""

from __future__ import annotations

from typing import Any

import numpy as np

from unimix.design.features import Feature
from unimix.design.relationships import Relationship

_NAMES = [f"g{k:02d}" for k in range(100)]
_RELATED = Relationship(0.5 ** np.abs(np.subtract.outer(np.arange(100), np.arange(100))), _NAMES)

EXAMPLES: dict[Feature, tuple[str, dict[str, Any]]] = {
    Feature.NO_RANDOM_PART: ("y ~ x + f", {}),
    Feature.RANDOM_INTERCEPT: ("y ~ x + (1 | g)", {}),
    Feature.CORRELATED_TERMS: ("y ~ x + f + (1 + x | g)", {}),
    Feature.INDEPENDENT_TERMS: ("y ~ x + (1 + x || g)", {}),
    Feature.SEVERAL_CORRELATED_BLOCKS: ("y ~ x + (1 + x | g) + (0 + u + v | g)", {}),
    Feature.NESTED_FACTORS: ("y ~ x + (1 | g/sub)", {}),
    Feature.CROSSED_FACTORS: ("y ~ x + (1 | g) + (1 | h)", {}),
    Feature.CORRELATED_CROSSED: ("y ~ x + (1 + x | g) + (1 | h)", {}),
    Feature.WEIGHTS: ("y ~ x + (1 + x | g)", {"weights": "w"}),
    Feature.OFFSET: ("y ~ x + (1 | g)", {"offset": "off"}),
    Feature.REML: ("y ~ x + (1 | g)", {"method": "REML"}),
    Feature.ML: ("y ~ x + (1 + x | g)", {"method": "ML"}),
    Feature.POSTERIOR: ("y ~ x + (1 | g)", {"method": "posterior"}),
    Feature.PRIORS: ("y ~ x + (1 | g)", {"priors": True}),
    Feature.SATTERTHWAITE: ("y ~ x + (1 | g)", {"df_method": "satterthwaite"}),
    Feature.KENWARD_ROGER: ("y ~ x + (1 | g)", {"df_method": "kenward-roger"}),
    Feature.LAPLACE: ("success ~ x + (1 | g)", {"family": "binomial", "method": "Laplace"}),
    Feature.AGQ: ("success ~ x + (1 | g)", {"family": "binomial", "method": "AGQ"}),
    Feature.APPROXIMATE_POSTERIOR: ("success ~ x + (1 | g)", {"family": "binomial", "method": "variational"}),
    Feature.COMPOUND_SYMMETRY: ("series ~ x + cs(0 + t | g)", {}),
    Feature.AUTOREGRESSIVE: ("series ~ x + ar1(0 + t | g)", {}),
    Feature.TOEPLITZ: ("series ~ x + toep(0 + t | g)", {}),
    Feature.DECAY: ("series ~ x + car1(0 + t | g)", {}),
    Feature.HOMOGENEITY: ("series ~ x + cs(0 + t | g, hom=TRUE)", {}),
    Feature.ZERO_INFLATION: ("count ~ x + (1 | g)", {"family": "poisson", "ziformula": "~ 1"}),
    Feature.RESIDUAL_COVARIANCE: ("series ~ x", {"residual": "ar1(t | g:sub)"}),
    Feature.DISPERSION_FORMULA: ("count ~ x + (1 | g)", {"family": "negative_binomial", "dispformula": "~ x"}),
    Feature.KNOWN_SIGMA: ("y ~ x + (1 | g)", {"sigma": 1.0}),
    Feature.SMOOTH: ("y ~ s(x, k=6) + (1 | g)", {}),
    Feature.RELATIONSHIP: ("y ~ x + (1 | g)", {"relationship": {"g": _RELATED}}),
}
"""Formula and arguments of one model per feature, with the columns of :func:`unimix.testing.simulate_rich`."""
