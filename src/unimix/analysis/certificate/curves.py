"""The check of the curves of a result with smooths against its mixed model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Certificate, Check
from unimix.design.smooths import mixed_design
from unimix.likelihood.curves import curves_at
from unimix.stats.inference import wald_interval

if TYPE_CHECKING:
    from unimix.design.arrays import Design
    from unimix.fitted.model import FittedModel

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-6
"""Largest difference, in standard errors or degrees of freedom, of numbers that are computed twice in one way."""


def with_curves(certificate: Certificate, fit: FittedModel, mixed: FittedModel, design: Design) -> Certificate:
    """The certificate of a result, from that of its mixed model and the check of its curves.

    Coefficients of curves, their covariances with each other and with the fixed effects, their intervals and the
    effective degrees of freedom follow from the estimates of the mixed model.

    Args:
        certificate: Certificate of the mixed model.
        fit: The result.
        mixed: The result of its mixed model.
        design: Design that was fitted, with its smooths.
    """
    if not fit.smooths and not design.smooths:
        return certificate
    described = [
        (s.term, s.basis, s.k, tuple(s.range), tuple(map(fit.fixed.terms.index, s.columns))) for s in fit.smooths
    ]
    if described != [(s.term, s.basis, len(s.curved) + 2, tuple(s.range), s.columns) for s in design.smooths]:
        return _failed(certificate, "their terms, bases, ranges or columns are not those of the model", {})
    if fit.model.groups != design.groups or fit.model.fingerprint != design.fingerprint():
        return _failed(certificate, "the numbers of levels or the columns are not those of the model", {})
    curves = curves_at(
        mixed_design(design),
        np.asarray(mixed.fixed.estimate),
        np.asarray(mixed.fixed.covariance),
        [np.asarray(b.covariance) for b in mixed.random],
        [np.asarray(b.modes) for b in mixed.random],
        fit.sigma,
        fit.criteria.parameters,
    )
    terms = {name: i for i, name in enumerate(fit.fixed.terms)}
    curved = [terms[name] for smooth in fit.smooths for name in smooth.curve.terms]
    kept = [i for i in terms.values() if i not in set(curved)]
    covariance = np.asarray(fit.fixed.covariance)
    sd, sd_kept = (np.sqrt(np.maximum(np.diag(c), 0.0)) for c in (curves.covariance, covariance[np.ix_(kept, kept)]))
    unit, unit_kept = np.where(sd > 0, sd, 1.0), np.where(sd_kept > 0, sd_kept, 1.0)
    lower, upper = wald_interval(curves.coefficients, sd, None, fit.fixed.level)
    edf = [s.edf - (len(s.columns) - len(s.curve.terms)) for s in fit.smooths]
    centre = design.x @ np.asarray(fit.fixed.estimate) + (0.0 if design.offset is None else design.offset)
    distances = {
        "predictors without group effects": (np.asarray(fit.rows.population_predictor) - centre) / np.std(centre),
        "coefficients": (np.asarray(fit.fixed.estimate)[curved] - curves.coefficients) / unit,
        "standard errors": (np.asarray(fit.fixed.std_error)[curved] - sd) / unit,
        "intervals": np.concatenate(
            [
                (np.asarray(end)[curved] - own) / unit
                for end, own in ((fit.fixed.lower, lower), (fit.fixed.upper, upper))
            ]
        ),
        "covariances": (covariance[np.ix_(curved, curved)] - curves.covariance) / np.outer(unit, unit),
        "covariances with fixed effects": (covariance[np.ix_(kept, curved)] - curves.cross) / np.outer(unit_kept, unit),
        "effective degrees of freedom": np.asarray(edf) - np.asarray(curves.edf),
    }
    off = {name: float(np.abs(values).max(initial=0.0)) for name, values in distances.items()}
    wrong = {name: value for name, value in off.items() if not value <= TOLERANCE}
    if not wrong:
        said = f"coefficients, covariances and edf within {max(off.values()):.1e} of those of the mixed model"
        check = Check(name="curves", passed=True, said=said, numbers=off)
        return certificate.model_copy(update={"checks": (*certificate.checks, check)})
    return _failed(certificate, "; ".join(f"{name} off by {value:.1e}" for name, value in wrong.items()), off)


def _failed(certificate: Certificate, said: str, off: dict[str, float]) -> Certificate:
    """The certificate with a check of the curves that failed."""
    check = Check(name="curves", passed=False, said=said, numbers=off)
    update: dict[str, Any] = {"checks": (*certificate.checks, check)}
    if certificate.verdict.startswith("certified"):
        sentence = f"The estimates are at the optimum of the model, but its curves are not right: {said}."
        update |= {"verdict": "wrong inference", "sentence": sentence}
    return certificate.model_copy(update=update)


__all__ = ["with_curves"]
