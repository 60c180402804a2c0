"""Make certificates: find the optimum once for all results of a design, then compare every result with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from unimix.analysis.certificate.certificate import Certificate, Check
from unimix.analysis.certificate.curves import with_curves
from unimix.analysis.certificate.generalised import GeneralisedGround
from unimix.analysis.certificate.linear import LinearGround
from unimix.analysis.certificate.supported_models import out_of_reach
from unimix.analysis.certificate.verdicts import not_checkable
from unimix.design.arrays import Design
from unimix.design.smooths import mixed_design
from unimix.fitted.criterion import likelihood_arrays
from unimix.fitted.smooth_parts import mixed_form
from unimix.parallel.blas_threads import one_thread

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel


def certify(fits: Sequence[FittedModel], design: Design) -> list[Certificate]:
    """Certify results of one design; the search for the optimum starts from the estimates of all of them.

    Args:
        fits: The results.
        design: The design that all of them were fitted to.

    Returns:
        One certificate per result, in order. Results with smooths are checked as the mixed models that they stand for.
    """
    whole, mixed, design = design, [mixed_form(fit) for fit in fits], mixed_design(design)
    reason = out_of_reach(design)
    if reason:
        return [_not_checkable(fit, reason) for fit in mixed]
    with one_thread(when=design.is_small):
        found = _certified(mixed, design)
        return [with_curves(one, fit, form, whole) for one, fit, form in zip(found, fits, mixed, strict=True)]


def _certified(fits: Sequence[FittedModel], design: Design) -> list[Certificate]:
    ground = LinearGround(design, fits) if design.family.is_linear else GeneralisedGround(design, fits)
    certificates = []
    for fit in fits:
        try:
            certificates.append(ground.certify(fit))
        except (np.linalg.LinAlgError, FloatingPointError) as error:
            certificates.append(_not_checkable(fit, f"the criterion cannot be computed at its estimates ({error})"))
    return certificates


def best_covariances(fit: FittedModel, design: Design) -> tuple[tuple[npt.NDArray[np.float64], ...], float]:
    """Covariances (q, q) per block and residual standard deviation at the best known optimum, in the user's units.

    Args:
        fit: A linear mixed model fitted by REML or ML.
        design: The design that was fitted.
    """
    return LinearGround(design, [fit]).best_covariances(reml=fit.criteria.criterion == "REML")


def _not_checkable(fit: FittedModel, reason: str) -> Certificate:
    check = Check(name="same model", passed=None, said=reason)
    return not_checkable(fit, check, f"This result cannot be checked: {reason}.")


def certificate(fit: FittedModel) -> Certificate:
    """Check the result against unimix's own criterion: same model, optimum, standard errors, degrees of freedom.

    Everything that follows from the data and the estimates is computed again and compared field by field. The
    log-likelihood is evaluated at the engine's estimates and maximised from there and from other likely starting values
    (linear mixed models by penalised least squares, generalised ones by Laplace's approximation or quadrature). A
    posterior is compared with its draws, and the draws with the likelihood and the priors.
    The certificate is computed once and kept with the result.

    Returns:
        The verdict (certified, certified at the boundary, wrong inference, not identified, not at the optimum, a
        different model, not checkable) with a sentence, and the checks that it rests on.

    Raises:
        DataError: If the data are needed and the result does not hold them.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> certificate = fit.certificate()
        >>> certificate.verdict
        'certified'
        >>> certificate.check("optimum").passed
        True
        >>> print(certificate.sentence)
        These are the numbers of this model, at its optimum.
    """
    return fit._keep("certificate", lambda: certify([fit], likelihood_arrays(fit))[0])
