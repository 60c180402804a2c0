"""Penalised regression splines ``s(x, k=10, bs="tp")``, in the form of a mixed model.

A smooth is a basis of k functions with a penalty b'Sb, whose null space are the straight lines. The sum of the curve
over the rows is zero, which the intercept takes the place of. Of the k - 1 functions that are left, one is the straight
line; the others are turned so that the penalty is the sum of their squared coefficients, which then are independent
normal effects with one variance (Wood 2017, Generalized Additive Models, 2nd ed., section 5.8).

The bases are those of R's mgcv: ``tp``, thin plate regression splines (Wood 2003, J. R. Statist. Soc. B 65:95-114),
``cr``, natural cubic splines with knots at quantiles, and ``ps``, P-splines (Eilers & Marx 1996, Statist. Sci.
11:89-121). All of them go on as straight lines beyond the range of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.interpolate import BSpline, CubicSpline

FloatArray = npt.NDArray[np.float64]
State = dict[str, Any]

SMOOTH = "s"
"""Name of the function in formulas."""
BASES = ("tp", "cr", "ps")
DEFAULT_SIZE = 10
SMALLEST = {"tp": 3, "cr": 3, "ps": 4}
"""Smallest number of basis functions."""
LARGEST = 100
MOST_KNOTS, DENSE = 2000, 300
"""Largest number of different values from which a thin plate basis is made, as in mgcv; and that up to which all
eigenvalues are computed."""
USAGE = "Usage: s(x), s(x, k=10) or s(x, k=10, bs='cr'), with bs= 'tp', 'cr' or 'ps'."


def smooth_columns(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
    """Columns of a smooth: the straight line, and k - 2 columns whose coefficients are penalised alike.

    The straight line is x less its mean. The penalised columns are scaled so that their squares sum to one in the
    average row: the standard deviation of the coefficients is then the root mean square, over the rows, of the standard
    deviation of the curve about its straight line.

    Args:
        x: Values, shape (n,).
        state: Empty, or what was learnt from the data that were fitted.
        options: ``k``, the number of basis functions before the constraint, and ``bs``, the kind of basis.

    Returns:
        Columns, shape (n, k - 1).

    Raises:
        ValueError: If the options are wrong, or x has fewer different values than the basis has functions.
    """
    if not state:
        state.update(_learn(x, *_read(options)))
    t = (x - state["mean"]) / state["unit"]
    line = x - state["mean"]
    return np.column_stack([line, _basis(t, state) @ state["turn"]])


def _read(options: dict[str, Any]) -> tuple[int, str, bool]:
    """Number of functions, kind of basis, and whether the number was given."""
    bs, k = options.get("bs", "tp"), options.get("k")
    if bs not in BASES:
        raise ValueError(f"bs={bs!r} is not a basis of s(): choose 'tp', 'cr' or 'ps'.")
    if k is None:
        return DEFAULT_SIZE, bs, False
    if isinstance(k, bool) or not isinstance(k, int | float) or k != int(k) or not SMALLEST[bs] <= k <= LARGEST:
        raise ValueError(f"k={k} must be a whole number from {SMALLEST[bs]} to {LARGEST}.")
    return int(k), bs, True


def _learn(x: FloatArray, k: int, bs: str, given: bool) -> State:
    """Learn a basis from data, and turn it into the straight line and penalised columns."""
    values = np.unique(x)
    if len(values) < k:
        least = SMALLEST[bs]
        if len(values) < least:
            instead = f"a smooth needs {least} of them at least. Leave it out, or use the column as it is."
        else:
            instead = f"write k={len(values)} or fewer."
        chosen = f"k={k}" if given else f"a basis of {k} functions, the default,"
        some = "1 different value" if len(values) == 1 else f"{len(values)} different values"
        raise ValueError(f"{chosen} needs as many different values, and there are {some} in the rows used: {instead}")
    mean = float(x.mean())
    unit = float(np.sqrt(np.mean((x - mean) ** 2)))
    state: State = {"bs": bs, "mean": mean, "unit": unit, "range": [float(values[0]), float(values[-1])]}
    t, knots = (x - mean) / unit, (values - mean) / unit
    penalty = {"tp": _learn_tp, "cr": _learn_cr, "ps": _learn_ps}[bs](knots, k, state)
    basis = _basis(t, state)
    # The rows' sum of the curve is zero: coefficients orthogonal to the means of the columns.
    free = np.linalg.qr(basis.mean(axis=0)[:, None], mode="complete")[0][:, 1:]
    sizes, vectors = np.linalg.eigh(free.T @ penalty @ free)
    turn = free @ (vectors[:, 1:] / np.sqrt(sizes[1:]))  # the smallest eigenvalue, zero, is that of the straight line
    columns = basis @ turn
    state["turn"] = turn / np.sqrt(np.mean(np.sum(columns**2, axis=1)))
    return state


def _basis(t: FloatArray, state: State) -> FloatArray:
    """All k functions at standardised values t (n,), before the constraint, shape (n, k)."""
    first, last = state["ends"]
    inside = np.clip(t, first, last)
    function = _function(state)
    return np.asarray(function(inside) + function(inside, 1) * (t - inside)[:, None])


def _function(state: State) -> CubicSpline | BSpline:
    from scipy.interpolate import BSpline, CubicSpline

    knots = np.asarray(state["knots"])
    if state["bs"] == "ps":
        return BSpline(knots, np.eye(len(knots) - 4), 3)
    return CubicSpline(knots, np.asarray(state["values"]), bc_type="natural")


def _learn_tp(knots: FloatArray, k: int, state: State) -> FloatArray:
    """Thin plate basis: the k largest eigenvectors of the radial functions, less straight lines; return the penalty.

    Its functions are natural cubic splines, and are kept by their values at the knots.
    """
    if len(knots) > MOST_KNOTS:
        knots = knots[np.linspace(0, len(knots) - 1, MOST_KNOTS).round().astype(int)]
    radial = np.abs(knots[:, None] - knots[None, :]) ** 3 / 12.0
    sizes, vectors = _largest(radial, k)
    lines = np.column_stack([np.ones_like(knots), knots])
    orthogonal = np.linalg.qr((lines.T @ vectors).T, mode="complete")[0][:, 2:]
    penalty = np.zeros((k, k))
    penalty[:-2, :-2] = orthogonal.T @ (sizes[:, None] * orthogonal)
    state.update(knots=knots, values=np.hstack([(vectors * sizes) @ orthogonal, lines]))
    state["ends"] = [float(knots[0]), float(knots[-1])]
    return penalty


def _largest(matrix: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """The k eigenvalues of largest size of a symmetric matrix (m, m), and their eigenvectors (m, k)."""
    if len(matrix) > DENSE and k < len(matrix) // 4:
        from scipy.sparse.linalg import eigsh

        start = np.cos(np.arange(len(matrix), dtype=np.float64) ** 2)  # without the symmetries of the knots
        sizes, vectors = eigsh(matrix, k, which="LM", v0=start, tol=0)
    else:
        sizes, vectors = np.linalg.eigh(matrix)
    chosen = np.argsort(-np.abs(sizes), kind="stable")[:k]
    return np.asarray(sizes[chosen]), np.asarray(vectors[:, chosen])


def _learn_cr(values: FloatArray, k: int, state: State) -> FloatArray:
    """Natural cubic splines by their values at quantiles of the different values; return the penalty."""
    knots = np.quantile(values, np.linspace(0, 1, k))
    state.update(knots=knots, values=np.eye(k), ends=[float(knots[0]), float(knots[-1])])
    # second derivatives at the knots are linear between them
    bend = _function(state)(knots, 2)
    width = np.diff(knots)
    weight = np.zeros((k, k))
    for j, h in enumerate(width):
        weight[j : j + 2, j : j + 2] += h * np.array([[2.0, 1.0], [1.0, 2.0]]) / 6.0
    return np.asarray(bend.T @ weight @ bend)


def _learn_ps(values: FloatArray, k: int, state: State) -> FloatArray:
    """Cubic B-splines at equal distances, with a penalty on second differences; return the penalty."""
    margin = 0.001 * (values[-1] - values[0])
    low, high = values[0] - margin, values[-1] + margin
    step = (high - low) / (k - 3)
    state.update(knots=np.linspace(low - 3 * step, high + 3 * step, k + 4), ends=[float(low), float(high)])
    second = np.diff(np.eye(k), 2, axis=0)
    return np.asarray(second.T @ second)


__all__ = ["BASES", "SMOOTH", "USAGE", "smooth_columns"]
