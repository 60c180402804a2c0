"""Starting values: fixed effects of a generalised linear model without group effects, by Fisher scoring."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unimix.design.arrays import Design
from unimix.distributions.family import Family
from unimix.distributions.links import LINKS
from unimix.likelihood.response import row_log_likelihood

FloatArray = npt.NDArray[np.float64]
START = {"gaussian": 1.0, "gamma": 0.5, "inverse_gaussian": 0.5, "negative_binomial": 2.0, "negative_binomial_1": 0.5,
          "beta": 5.0}  # fmt: skip


def fisher_scoring(design: Design, rounds: int = 30) -> FloatArray:
    """Coefficients of the model without group effects at a moderate dispersion.

    The method is that of McCullagh & Nelder (1989), section 2.5. A step that leaves the range of the link or lowers the
    likelihood is halved.

    Args:
        design: Design of a generalised model, of full rank.
        rounds: Maximum number of iterations.

    Returns:
        Coefficients, shape (p,). They are finite; for separated data, which have no maximum, they are not the optimum.
    """
    family = design.family
    parameters = moderate_dispersion(family)
    offset = np.zeros(design.n) if design.offset is None else design.offset
    link, y = LINKS[family.link], design.y
    if family.response in ("binomial", "unit"):
        trials = np.ones(design.n) if design.trials is None else design.trials
        guess = (y * trials + 0.5) / (trials + 1.0)
    elif family.response == "real" and family.link == "identity":
        guess = y
    else:
        floor = 0.1 * float(np.abs(y).mean() or 1.0)
        guess = np.maximum(y, floor)
    candidates = [
        _regress(design.x, link.forward(guess) - offset),
        _regress(design.x, link.forward(np.full(design.n, float(guess.mean()))) - offset),
    ]

    def value(at: FloatArray) -> float:
        return float(row_log_likelihood(design, parameters, design.x @ at + offset).value.sum())

    beta = max(candidates, key=value)
    here = value(beta)
    if not np.isfinite(here):
        return candidates[1]
    for _ in range(rounds):
        rows = row_log_likelihood(design, parameters, design.x @ beta + offset)
        root = np.sqrt(np.maximum(rows.expected, 1e-12))
        if not np.isfinite(np.append(root, rows.score)).all():
            break
        step = _regress(root[:, None] * design.x, rows.score / root)
        size = 1.0
        while size > 1e-6 and not value(beta + size * step) >= here:
            size /= 2
        if size <= 1e-6:
            break
        beta = beta + size * step
        there = value(beta)
        if there - here < 1e-10 * (abs(here) + 1):
            break
        here = there
    return beta


def moderate_dispersion(family: Family) -> FloatArray:
    """Moderate values of the dispersion parameters, at which coefficients are looked for, shape (k,)."""
    phi = START.get(family.label, 1.0)
    return np.array([phi, 5.0] if family.label == "student_t" else [phi])[: len(family.parameters)]


def _regress(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(x, y)[0])
