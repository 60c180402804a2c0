"""Adapter for ordinal through rpy2: cumulative models of ordered responses by ``clm`` and ``clmm``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from unimix.backends.base import BackendInfo, FitRequest, Problem
from unimix.backends.capabilities import Capabilities, Never, Upstream, Yes
from unimix.backends.cost import Cost, most, sizes_of
from unimix.backends.evaluation import AtEstimates, laplace_at_estimates
from unimix.backends.family_support import FamilySheet
from unimix.backends.r.backend import RBackend, r_arguments, r_offset, read_covariances, read_modes
from unimix.backends.r.packages import REQUIRED
from unimix.design.estimates import Estimates
from unimix.errors import FitError, listing
from unimix.likelihood.glmm.separation import undetermined_categories
from unimix.likelihood.lmm.conditioning import relative_factors
from unimix.stats.covariance_distance import worst_contrast

if TYPE_CHECKING:
    from types import ModuleType

    from unimix.design.arrays import Design
    from unimix.distributions.family import Cumulative

FloatArray = npt.NDArray[np.float64]
SAME_VALUE = 1e-6
"""Largest difference of log-likelihoods for which that of ordinal is kept."""
SAME_ERRORS = 3e-4
"""Largest relative difference of the standard error of any contrast for which ordinal's covariance matrix is kept."""
LEAST_LEVELS = 3
"""Smallest number of levels of a grouping factor, below which clmm stops."""
EXCHANGED = ("cloglog", "loglog")
"""Links that the quicker code of clmm, which is the only one with quadrature, takes for each other (2022.11-16)."""
_OF_CLM = ("gradTol", "maxIter", "maxLineIter")
_TIGHT = {"gradTol": 1e-5, "iter.max": 1000.0, "eval.max": 2000.0, "rel.tol": 1e-12}
_TIGHTEST = {**_TIGHT, "gradTol": 1e-8}
"""Settings of the quicker code, whose log-likelihood is off by up to 1e-3 at clmm's own tolerance of 1e-4."""
_OTHERS = Never("ordinal fits ordered responses only.")
Setting = Literal["gradTol", "maxIter", "maxLineIter", "iter.max", "eval.max", "rel.tol", "x.tol"]


class Ordinal(RBackend):
    """ordinal's ``clm`` and ``clmm`` (R): cumulative models by maximum likelihood, Laplace's approximation, quadrature.

    Attributes:
        n_agq: Number of nodes of adaptive Gauss-Hermite quadrature for ``method="AGQ"``.
        control: Settings of the search by name: ``iter.max``, ``eval.max``, ``rel.tol`` and ``x.tol`` of ``nlminb``,
            which clmm uses, and ``gradTol``, ``maxIter`` and ``maxLineIter`` of clm and of the inner loop of clmm.
        restarts: Number of further searches after one that ended on the boundary or short of the optimum.
    """

    info: ClassVar[BackendInfo] = BackendInfo(
        name="ordinal",
        engine="ordinal",
        title="ordinal (R) through rpy2",
        packages=("rpy2",),
        distributions=("rpy2",),
        extra="ordinal",
        url="https://github.com/runehaubo/ordinal",
        reference="Christensen, R. H. B. (2022). ordinal: Regression models for ordinal data. R package.",
        strengths="ordered responses, the field's standard for them; needs R",
        rank=90,
        r_packages=REQUIRED["ordinal"],
        r_trial="ordinal::clmm(factor(y > 3) ~ 1 + (1 | g), d, control = list(useMatrix = TRUE))",
    )
    capabilities: ClassVar[Capabilities] = Capabilities(
        no_random_part=Yes("by clm"),
        group_effects=Yes("by clmm; a grouping factor has at least three levels"),
        weights=Yes(),
        offset=Yes("as a term of the formula"),
        reml=Never("An ordered response has no restricted likelihood."),
        ml=Yes(),
        laplace=Yes(),
        agq=Yes("nAGQ = n_agq (25), for (1 | g) and the links logit, probit and cauchit"),
        bayesian=Never("ordinal maximises a likelihood; it has no posterior."),
        degrees_of_freedom=Never("Tests of ordered responses are z tests, without degrees of freedom."),
        structures=Upstream("clmm has unstructured covariances only."),
        parts=Never("An ordered response has neither structural zeros nor residuals."),
    )
    families: ClassVar[FamilySheet] = FamilySheet(
        {
            "cumulative": Yes("clmm"),
            "cumulative(cauchit)": Yes("clmm, with one random intercept"),
        },
        {"cumulative": Yes("clm")},
        others=_OTHERS,
    )
    r_engine: ClassVar[tuple[str, ...]] = ("ordinal",)
    r_beneath: ClassVar[str] = "Matrix"
    refit_options: ClassVar[dict[str, object]] = {"restarts": 0}

    n_agq: Annotated[int, Field(ge=2, le=100)] = 25
    control: dict[Setting, float] = Field(default_factory=dict)
    restarts: Annotated[int, Field(ge=0, le=5)] = 2

    def limits(self, design: Design, request: FitRequest) -> list[str]:
        """Reasons to refuse models that clmm cannot fit, or fits wrongly."""
        if design.family.response != "ordered":
            return []
        few = dict.fromkeys(b.group for b in design.blocks if b.n_levels < LEAST_LEVELS)
        reasons = [f"{listing(few)}: clmm needs at least three levels of a grouping factor"] if few else []
        if design.blocks and design.family.link == "cauchit" and not _is_intercept(design):
            reasons.append(
                "the cauchit link with more than one random intercept, (1 | g): clmm takes the likelihood for zero "
                "wherever the log density of one row is not concave, and stops"
            )
        if request.method == "AGQ" and design.blocks:
            if not _is_intercept(design):
                reasons.append("clmm has quadrature for one random intercept, (1 | g), only: use method='Laplace'")
            if design.family.link in EXCHANGED:
                reasons.append(
                    "quadrature with the links cloglog and loglog: clmm takes one for the other there. Use "
                    "method='Laplace'"
                )
        strange = [] if design.blocks else [name for name in self.control if name not in _OF_CLM]
        if strange:
            reasons.append(
                f"control={{{strange[0]!r}: ...}} without group effects: clm has a search of its own, which knows "
                f"{listing(_OF_CLM)}"
            )
        return reasons

    def cost(self, design: Design, request: FitRequest) -> Cost:  # noqa: ARG002  the hook's signature
        """Estimate the memory of the rows, and of clmm's dense covariance matrix of all effects of several terms."""
        size = sizes_of(design)
        parts = {"the data": 1e7 + (30.0 + 4.0 * len(design.family.parameters)) * size.rows}
        if design.blocks and not _by_quick_code(design):
            parts["the covariances of all group effects"] = 4.0 * size.effects**2 / 8.0
        return most(parts)

    def preview(self, design: Design, request: FitRequest) -> str:
        """Text of the call in R, with generated names."""
        terms = ["1", *(f"x{j}" for j in range(design.p))]
        terms += ["offset(off)"] if design.offset is not None else []
        if _is_intercept(design):
            terms.append("(1 | g0)")
        else:
            columns = [" + ".join(f"z{k}_{j}" for j in range(b.q)) for k, b in enumerate(design.blocks)]
            terms += [f"(0 + {names} | g{k})" for k, names in enumerate(columns)]
        return self._call(f"y ~ {' + '.join(terms)}", design, request, quick=_by_quick_code(design))

    def _call(self, formula: str, design: Design, request: FitRequest, *, quick: bool) -> str:
        family = _family(design)
        more = ", weights = w" if design.weights is not None else ""
        nodes = request.nodes(design, self.n_agq)
        more += f", nAGQ = {nodes}" if nodes > 1 else ""
        more += ", useMatrix = TRUE" if _is_intercept(design) and not quick else ""
        name = "clmm" if design.blocks else "clm"
        return f'{name}({formula}, link = "{family.link}", threshold = "{family.threshold}"{more})'

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        bridge: Any = engine
        design = problem.design
        nodes = problem.request.nodes(design, self.n_agq)
        quick = _by_quick_code(design)
        best, n_starts = self._search(bridge, problem, nodes, [], quick=quick), 1
        # The quicker code has the curvature of a step before, and none where it starts at the modes.
        quick &= nodes > 1 or design.family.link == "cauchit"
        while n_starts <= self.restarts and design.blocks and best.at.complaint:
            other = self._search(bridge, problem, nodes, best.further_start(quick=quick), quick=quick)
            n_starts += 1
            if other.at.log_likelihood <= best.at.log_likelihood:
                break
            best = other
        call = self._call(best.answer["text"][0], design, problem.request, quick=best.quick)
        estimates = best.estimates(call, nodes)
        if n_starts == 1:
            return estimates
        return replace(
            estimates, provenance={**estimates.provenance, "optimum": f"the best of {n_starts} searches by clmm"}
        )

    def _search(self, bridge: Any, problem: Problem, nodes: int, start: list[FloatArray], *, quick: bool) -> _Search:
        design = problem.design
        family, lone = _family(design), _is_intercept(design)
        control: dict[str, float] = (_TIGHTEST if quick else _TIGHT) if design.blocks else {"gradTol": 1e-10}
        y, *others = r_arguments(design)
        answer = bridge.call(
            "fit_ordinal",
            y,
            len(family.categories),
            *others,
            r_offset(design),
            family.link,
            family.threshold,
            nodes,
            lone,
            lone and not quick,
            control | dict(self.control),
            start,
        )
        return _Search.of(answer, problem, nodes, quick=quick)


def _family(design: Design) -> Cumulative:
    family: Any = design.family
    return family  # type: ignore[no-any-return]


def _is_intercept(design: Design) -> bool:
    """Whether the only random term is an intercept, (1 | g)."""
    return len(design.blocks) == 1 and design.blocks[0].q == 1 and bool(np.allclose(design.blocks[0].z, 1, 0, 1e-9))


def _by_quick_code(design: Design) -> bool:
    """Whether clmm's code for one random intercept is used, which exchanges two of the links."""
    return _is_intercept(design) and design.family.link not in EXCHANGED


@dataclass(frozen=True)
class _Search:
    """The end of one search by ordinal.

    Attributes:
        design: Design that ordinal received.
        original: The model in the user's columns.
        answer: Values of ``ordinal.R``.
        parameters: Threshold parameters of unimix, shape (k,).
        covariances: Covariance matrix of each block's effects, shapes (q, q).
        at: Quantities at the end of the search, by unimix.
        quick: Whether it was clmm's quicker code.
    """

    design: Design
    original: Design
    answer: dict[str, Any]
    parameters: FloatArray
    covariances: tuple[FloatArray, ...]
    at: AtEstimates
    quick: bool

    @classmethod
    def of(cls, answer: dict[str, Any], problem: Problem, nodes: int, *, quick: bool) -> _Search:
        """Evaluate unimix's likelihood where a search ended.

        Raises:
            FitError: If ordinal left a coefficient out, or ended at thresholds that do not increase.
        """
        design = problem.design
        if len(answer["beta"]) != design.p:
            raise FitError(f"ordinal returned {len(answer['beta'])} coefficients for {design.p} columns.")
        matrix = _family(design).matrix
        parameters = np.linalg.lstsq(matrix, answer["thresholds"])[0]
        if not (np.isfinite(answer["thresholds"]).all() and (np.diff(answer["thresholds"]) > 0).all()):
            raise FitError(f"ordinal ended at thresholds that do not increase: {answer['thresholds']}.")
        covariances = read_covariances(answer, design)
        at = laplace_at_estimates(design, answer["beta"], covariances, parameters, nodes=nodes)
        return cls(design, problem.original, answer, parameters, covariances, at, quick)

    def further_start(self, *, quick: bool) -> list[FloatArray]:
        """Coefficients and covariance parameters, in clmm's order, from which another search starts."""
        above = self.at.higher or tuple(c + 0.01 * np.diag(np.diag(c) + 0.1) for c in self.covariances)
        factors = relative_factors(above, 1.0)
        if quick:
            parts = [np.log(np.maximum(factors[0][0], 1e-3))]
        else:
            ordered = [factors[int(k)] for k in self.answer["order"]]
            parts = [np.concatenate([np.diag(f), f.T[np.triu_indices(len(f), 1)]]) for f in ordered]
        return [self.answer["coefficients"], np.concatenate(parts)]

    def estimates(self, call: str, nodes: int) -> Estimates:
        """Estimates in the coordinates of the design.

        Raises:
            FitError: If the data do not determine the coefficients and thresholds.
        """
        design, answer, at = self.design, self.answer, self.at
        provenance: dict[str, str] = {}
        k = len(answer["thresholds"])
        covariance = self._covariance(provenance)
        value = float(answer["log_likelihood"][0])
        if abs(value - at.log_likelihood) > SAME_VALUE:
            provenance["log_likelihood"] = (
                f"of this criterion at ordinal's estimates, by unimix: its own value, {value:.6f}, is inexact"
            )
            value = at.log_likelihood
        modes, mode_covs = read_modes(answer, design)
        gradient = float(answer["gradient"][0])
        complaint = at.complaint
        said = [f"ordinal says: {answer['message'][0]}"] if complaint and int(answer["code"][0]) != 0 else []
        return Estimates(
            beta=answer["beta"],
            beta_cov=covariance[k:, k:],
            covariances=self.covariances,
            sigma=1.0,
            modes=modes,
            mode_covs=mode_covs,
            log_likelihood=value,
            converged=not complaint,
            parameters=dict(zip(design.family.parameters, map(float, self.parameters), strict=True)),
            parts={"thresholds": (answer["thresholds"], covariance[:k, :k])},
            threshold_cross=covariance[k:, :k],
            std_error_kind="observed information",
            criterion=f"AGQ({nodes})" if nodes > 1 else "",
            df_method="normal",
            singular=at.singular,
            messages=(*([complaint] if complaint else []), *said, *(str(n) for n in answer["notes"])),
            gradient=gradient if np.isfinite(gradient) else None,
            engine_call=call,
            provenance=provenance,
            native=answer.get("model"),
        )

    def _covariance(self, provenance: dict[str, str]) -> FloatArray:
        """Covariance matrix of the thresholds and coefficients, shape (K - 1 + p, K - 1 + p); its source is noted.

        Raises:
            FitError: If neither ordinal nor unimix has one.
        """
        size = len(self.answer["thresholds"]) + self.design.p
        own: FloatArray = self.answer["covariance"]
        usable = len(own) == size**2 and bool(np.isfinite(own).all())
        exact = self._exact_covariance()
        if exact is None:
            if usable and not self.at.complaint:
                return own.reshape(size, size)
            raise FitError(undetermined_categories("ordinal", self.at.complaint, self.original))
        if not usable:
            provenance["std_error"] = (
                "of the observed information, by unimix at ordinal's estimates: it has none itself"
            )
            return exact
        own = own.reshape(size, size)
        off = worst_contrast(own, exact)
        if off <= SAME_ERRORS:
            return own
        provenance["std_error"] = (
            "of the observed information, by unimix at ordinal's estimates: its own, from differences with one step "
            f"for all parameters, are up to {100 * off:.2g} % off for some contrast"
        )
        return exact

    def _exact_covariance(self) -> FloatArray | None:
        """Covariance matrix of the thresholds and coefficients by unimix; None if the curvature allows none."""
        if self.at.beta_cov is None or self.at.thresholds is None:
            return None
        of_thresholds, cross = self.at.thresholds
        whole = np.block([[of_thresholds, cross.T], [cross, self.at.beta_cov]])
        return whole if (np.diag(whole) > 0).all() else None
