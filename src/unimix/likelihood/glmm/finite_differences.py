"""Derivatives by finite differences with adaptive step sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVELS = 16
"""Number of steps tried, each an eighth of the one before: from 1e-3 of the range down to 3e-17 of it."""
AGREED = 1e-9
"""Relative difference between two steps at which the search stops; the error is about 8^4 times smaller."""
BOUND = 1e-6
"""Largest relative difference between the two best steps for which a derivative is returned."""
ROUNDING = 64 * float(np.finfo(np.float64).eps)
FINEST = 1024
"""Smallest step, in units of the last digit of x."""
CENTRAL, ONE_SIDED = np.array([1.0, -8.0, 0.0, 8.0, -1.0]), np.array([-25.0, 48.0, -36.0, 16.0, -3.0])


def differentiate(
    function: Callable[[FloatArray, IntArray], FloatArray | None], x: FloatArray, low: float, high: float
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Differentiate k functions of one variable, at one value per row.

    The formulas have five points and fourth order (Fornberg 1988, Math. Comput. 51:699); they are one-sided where a
    central formula would cross ``low`` or ``high``. The step starts small relative to the range and shrinks until two
    steps agree or rounding error dominates, so that it is also small relative to the scale on which the functions vary.

    Args:
        function: Function of points (m,) and row indices (m,) that returns values, shape (m, k); None where it is not
            defined.
        x: Values at which to differentiate, shape (n,).
        low: Lower end of the domain of the functions, inclusive.
        high: Upper end of the domain of the functions, inclusive.

    Returns:
        Derivatives, shape (n, k), and a mask of the rows without a derivative, shape (n,).
    """
    span = high - low if high > low else float(np.abs(x).max(initial=0.0)) or 1.0
    step = 2.0 ** np.floor(np.log2(1e-3 * span))  # a power of two, so that x + step is exact
    ends = (low, high) if high > low else (-np.inf, np.inf)
    todo = np.arange(len(x))
    last = best = least = noise = np.empty(0)
    column = np.empty(0)
    for level in range(LEVELS):
        todo = todo[step / 8.0**level > FINEST * np.spacing(np.abs(x[todo]))]
        if not len(todo):
            break
        estimate = _stencil(function, x[todo], todo, step / 8.0**level, ends)
        if estimate is None:
            continue
        value, size = estimate
        rounding = ROUNDING * size * 8.0**level / step
        if not best.size:
            best, last = np.full((len(x), value.shape[1]), np.nan), np.full((len(x), value.shape[1]), np.nan)
            least, noise = np.full_like(best, np.inf), np.zeros_like(best)
            column = size.max(axis=0)
        apart = np.abs(value - last[todo])
        apart[np.isnan(apart)] = np.inf
        # Where two steps differ only by rounding error, the longer step has less of it.
        value, last[todo] = np.where(apart <= rounding, last[todo], value), value
        agreed = least[todo] <= np.maximum(AGREED * np.abs(best[todo]), noise[todo])
        better = (apart < least[todo]) & ~agreed
        best[todo] = np.where(better, value, best[todo])
        noise[todo] = np.where(better, rounding, noise[todo])
        least[todo] = np.where(better, apart, least[todo])
        open_ = (least[todo] > np.maximum(AGREED * np.abs(best[todo]), noise[todo])).any(axis=1)
        todo = todo[open_ | np.isnan(best[todo]).any(axis=1)]
    if not best.size:
        return np.full((len(x), 0), np.nan), np.ones(len(x), dtype=bool)
    bound = np.maximum(np.maximum(BOUND * np.abs(best), 10 * noise), AGREED * column / span)
    lost: npt.NDArray[np.bool_] = np.any(~(least <= bound), axis=1)
    return best, lost


def _stencil(
    function: Callable[[FloatArray, IntArray], FloatArray | None],
    x: FloatArray,
    rows: IntArray,
    step: float,
    ends: tuple[float, float],
) -> tuple[FloatArray, FloatArray] | None:
    """Derivatives with one step, and the size of the functions, shapes (m, k); None if points are not defined."""
    way = np.zeros(len(x))  # 0 both sides, 1 to the right, -1 to the left
    for end, inside in ((ends[0], 1.0), (ends[1], -1.0)):
        near = np.abs(x - end) < 2 * step
        outside = (x < end) if inside > 0 else (x > end)
        way[near] = np.where(outside[near], -inside, inside)
    offsets = np.where(way[:, None] == 0, np.arange(-2.0, 3.0), way[:, None] * np.arange(5.0))
    weights = np.where(way[:, None] == 0, CENTRAL, way[:, None] * ONE_SIDED)
    values = []
    for j in range(5):
        columns = function(x + step * offsets[:, j], rows)
        if columns is None:
            return None
        values.append(columns)
    total = np.sum([weights[:, [j]] * columns for j, columns in enumerate(values)], axis=0)
    flat = np.all([columns == values[0] for columns in values[1:]], axis=0)  # a constant function has no rounding error
    return np.where(flat, 0.0, total / (12 * step)), np.max(np.abs(values), axis=0)


__all__ = ["differentiate"]
