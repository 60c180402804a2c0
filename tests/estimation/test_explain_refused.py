"""um.explain answers for every engine and every kind of model, refused ones too, without an error of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.registry import built_in

RNG = np.random.default_rng(0)
DATA = pd.DataFrame(
    {
        "y": RNG.normal(size=60),
        "k": RNG.poisson(2, 60),
        "r": RNG.integers(1, 5, 60),
        "x": RNG.normal(size=60),
        "f": np.tile(["a", "b"], 30),
        "g": np.repeat([f"g{i}" for i in range(12)], 5),
        "t": np.tile(np.arange(5), 12),
        "w": RNG.uniform(1, 2, 60),
    }
)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("y ~ x + (x | g)", {}),
    "no groups": ("y ~ x", {}),
    "counts": ("k ~ x + (1 | g)", {"family": "poisson"}),
    "zeros": ("k ~ x + (1 | g)", {"family": "poisson", "ziformula": "~ 1"}),
    "ratings": ("r ~ x + (1 | g)", {"family": "cumulative"}),
    "residual": ("y ~ x", {"residual": "ar1(t | g)"}),
    "dispersion": ("y ~ x + (1 | g)", {"dispformula": "~ f"}),
    "curve": ("y ~ s(x) + (1 | g)", {}),
    "structure": ("y ~ x + ar1(0 + C(t) | g)", {}),
    "known": ("y ~ x + (1 | g)", {"sigma": 1.0, "weights": "w"}),
}


@pytest.mark.parametrize("engine", built_in())
@pytest.mark.parametrize("model", MODELS)
def test_a_refused_model_is_explained_in_words(engine: str, model: str) -> None:
    formula, arguments = MODELS[model]
    explained = um.explain(formula, DATA, engine, **arguments)
    assert explained.refusals or explained.engine_call
    assert str(explained)
