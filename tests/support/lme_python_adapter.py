"""lme-python, which is no backend of unimix: it shows in the conformance table what a certificate is for."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pandas as pd

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
    Problem,
    Yes,
    laplace_at_estimates,
    linear_at,
)

_NOT_HERE = NotYet("the adapter is for measuring lme-python's optima, and passes no more on")
_NO_POSTERIOR = Never("lme-python maximises a likelihood; it has no posterior")
_FAMILIES: dict[str, Answer] = {
    **dict.fromkeys(("gaussian(identity)", "binomial(logit)", "poisson(log)"), Yes()),
}


class LmePython(Backend):
    """lme-python's own numbers on our columns, without conditioning: what its user gets."""

    info: ClassVar[BackendInfo] = BackendInfo(
        name="lme-python",
        engine="lme-python",
        title="lme-python, in Rust",
        packages=("lme_python",),
        distributions=("lme-python",),
        install="pip install lme-python==0.2.7",
        url="https://github.com/x4g4p3x/lme-rs",
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=_NOT_HERE,
        group_effects=Yes(),
        weights=Yes("rows scaled by sqrt(w)"),
        offset=Yes("subtracted from the response and added back"),
        likelihood=Yes(),
        agq=_NOT_HERE,
        bayesian=_NO_POSTERIOR,
        degrees_of_freedom=Yes("by unimix"),
        structures=_NOT_HERE,
        parts=_NOT_HERE,
    )
    families: ClassVar[FamilySheet] = FamilySheet(_FAMILIES, {}, others=_NOT_HERE)

    conditioning: bool = False

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Trials and offsets of generalised models are not passed on."""
        more = design.trials is not None and bool((design.trials != 1).any())
        odd = not design.is_linear and (more or design.offset is not None)
        return ["the adapter passes on neither trials nor offsets of generalised models"] if odd else []

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        library: Any = engine
        design = problem.design
        formula, frame = f"y ~ {right_side(design)}", columns_of(design)
        if design.is_linear:
            found = library.lmer(formula, frame, reml=problem.request.reml)
        else:
            found = library.glmer(formula, frame, design.family.name)
        call = f"lme_python.{'lmer' if design.is_linear else 'glmer'}('{formula}', data)"
        return estimates(found, design, call, reml=problem.request.reml)


def right_side(design: Design) -> str:
    """Our numeric columns as a formula."""
    bars = [f"(0 + {' + '.join(f'z{k}_{j}' for j in range(b.q))} | g{k})" for k, b in enumerate(design.blocks)]
    return " + ".join(["0", *(f"x{j}" for j in range(design.p)), *bars])


def columns_of(design: Design) -> pd.DataFrame:
    """The columns of :func:`right_side`."""
    columns: dict[str, Any] = {"y": design.y} | {f"x{j}": c for j, c in enumerate(design.x.T)}
    for k, block in enumerate(design.blocks):
        columns |= {f"z{k}_{j}": c for j, c in enumerate(block.z.T)}
        columns[f"g{k}"] = [f"l{c:07d}" for c in block.codes]
    return pd.DataFrame(columns)


def estimates(found: Any, design: Design, call: str, *, reml: bool) -> Estimates:
    """Its answer in our order."""
    sigma = float(np.sqrt(found.sigma2)) if design.is_linear else 1.0
    table = {(g, a, b): v for g, a, b, v, _ in found.var_corr}
    covariances, modes = [], []
    effects = {(g, level, term): v for g, level, term, v in found.ranef}
    for k, block in enumerate(design.blocks):
        names, group = [f"z{k}_{j}" for j in range(block.q)], f"g{k}"
        pairs = [[table.get((group, a, b), table.get((group, b, a), 0.0)) for b in names] for a in names]
        covariances.append(np.array(pairs, dtype=float))
        levels = [f"l{i:07d}" for i in range(block.n_levels)]
        modes.append(np.array([[effects[group, level, a] for a in names] for level in levels]))
    errors = np.array(found.beta_se if found.beta_se is not None else found.std_errors, dtype=float)
    unscaled = found.v_beta_unscaled
    cov = np.diag(errors**2) if unscaled is None else np.array(unscaled) * (sigma**2 if design.is_linear else 1.0)
    beta = np.array(found.coefficients, dtype=float)
    # It has no conditional covariances of its own: they are unimix's at its estimates.
    at = (
        linear_at(design, covariances, sigma, reml=reml)
        if design.is_linear
        else laplace_at_estimates(design, beta, covariances, np.empty(0))
    )
    return Estimates(
        beta=beta,
        beta_cov=cov,
        covariances=tuple(covariances),
        sigma=sigma,
        modes=tuple(modes),
        mode_covs=at.mode_covs,
        log_likelihood=float(found.log_likelihood),
        converged=bool(found.converged),
        engine_call=call,
        native=found,
    )
