"""Functions that formulas may call: elementwise functions, and functions that learn a state from the data.

formulaic computes the bases except ``ns``, which follows R's ``splines::ns`` (a B-spline basis whose second derivative
vanishes at the boundary knots); formulaic's ``cr`` spans the same space with other coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unimix.formula.smooths import SMOOTH, USAGE, smooth_columns

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray = npt.NDArray[np.float64]
State = dict[str, Any]

ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "logit": lambda p: np.log(p) - np.log1p(-p),
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
}


@dataclass(frozen=True)
class Transform:
    """A function that learns a state from the data it is first applied to.

    Attributes:
        apply: ``(x, state, options) -> values`` (n,) or (n, k); fills an empty state, reuses a filled one.
        positional: Names of the arguments that may be given by position after the first.
        options: Names of all arguments after the first.
        usage: Example of a call, for messages.
    """

    apply: Callable[[FloatArray, State, dict[str, Any]], FloatArray]
    positional: tuple[str, ...]
    options: tuple[str, ...]
    usage: str


def _whole(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Convert the named options to integers; numbers in a formula are floats, but degrees and dimensions are whole."""
    changed = dict(options)
    for name in names:
        value = changed.get(name)
        if value is None:
            changed.pop(name, None)
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != int(value)
            or not 0 <= value <= 100
        ):
            raise ValueError(f"{name} must be a whole number up to 100, not {value}.")
        changed[name] = int(value)
    return changed


def _poly(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
    from formulaic.transforms import poly

    options = {"degree": 1, **_whole(options, "degree")}
    if options["degree"] < 1:
        raise ValueError("degree must be at least 1.")
    if not options.get("raw") and len(np.unique(x)) <= options["degree"] and not state:
        raise ValueError(f"degree {options['degree']} needs more than {options['degree']} different values.")
    return np.asarray(poly(x, _state=state, **options), dtype=np.float64)


def _scale(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
    from formulaic.transforms import scale

    if not state and np.ptp(x) == 0:
        raise ValueError("the column is constant.")
    return np.asarray(scale(x, _state=state, **options), dtype=np.float64)


def _center(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
    from formulaic.transforms import center

    return np.asarray(center(x, _state=state, **options), dtype=np.float64)


def _formulaic_spline(name: str) -> Callable[[FloatArray, State, dict[str, Any]], FloatArray]:
    def apply(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
        from formulaic import transforms

        function = {
            "bs": transforms.basis_spline,
            "cr": transforms.natural_cubic_spline,
            "cc": transforms.cyclic_cubic_spline,
        }[name]
        options = _whole(options, "df", "degree")
        if name == "bs":  # beyond its bounds the polynomials go on, as R's predict has it
            options.setdefault("extrapolation", "extend")
        boundary = options.pop("boundary_knots", None)
        if boundary is not None:
            options["lower_bound"], options["upper_bound"] = (float(b) for b in boundary)
        basis = function(x, _state=state, **options)
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in basis.values()])

    return apply


def _ns(x: FloatArray, state: State, options: dict[str, Any]) -> FloatArray:
    options = _whole(options, "df")
    with_intercept = bool(options.get("include_intercept", False))
    if not state:
        boundary = options.get("boundary_knots") or [float(x.min()), float(x.max())]
        knots = options.get("knots")
        if knots is None:
            n_inner = options.get("df", 1 + with_intercept) - 1 - with_intercept
            if n_inner < 0:
                raise ValueError("df is too small.")
            inside = x[(x >= boundary[0]) & (x <= boundary[1])]
            knots = np.quantile(inside, np.linspace(0, 1, n_inner + 2)[1:-1]).tolist()
        if not boundary[0] < boundary[1] or any(not boundary[0] < k < boundary[1] for k in knots):
            raise ValueError("the knots must lie inside the boundary knots.")
        state.update(knots=[float(k) for k in knots], boundary=[float(b) for b in boundary], intercept=with_intercept)
    return natural_spline(x, state["knots"], state["boundary"], include_intercept=state["intercept"])


def natural_spline(x: FloatArray, knots: list[float], boundary: list[float], *, include_intercept: bool) -> FloatArray:
    """Natural cubic B-spline basis, as in R's ``splines::ns``.

    Args:
        x: Points, shape (n,). The basis is linear outside the boundary knots.
        knots: Inner knots.
        boundary: The two boundary knots.
        include_intercept: Whether to keep the first B-spline.

    Returns:
        Values of the basis, shape (n, len(knots) + 1 + include_intercept).
    """
    from scipy.interpolate import BSpline

    full = np.array([boundary[0]] * 4 + sorted(knots) + [boundary[1]] * 4)
    size = len(full) - 4
    splines = BSpline(full, np.eye(size), 3)
    inside = np.clip(x, boundary[0], boundary[1])
    basis = splines(inside) + splines(inside, 1) * (x - inside)[:, None]
    curvature = splines(np.array(boundary), 2)
    first = 0 if include_intercept else 1
    q, _ = np.linalg.qr(curvature[:, first:].T, mode="complete")
    return np.asarray((basis[:, first:] @ q)[:, 2:], dtype=np.float64)


_SPLINE = (
    "df",
    "knots",
    "degree",
    "include_intercept",
    "lower_bound",
    "upper_bound",
    "boundary_knots",
    "extrapolation",
)
_CUBIC = ("df", "knots", "lower_bound", "upper_bound", "boundary_knots", "constraints", "extrapolation")

_USAGE_BS = "Usage: bs(x, df=5). extrapolation= is 'extend' (as R), 'clip', 'zero', 'na' or 'raise'."

STATEFUL: dict[str, Transform] = {
    "poly": Transform(_poly, ("degree", "raw"), ("degree", "raw"), "Usage: poly(x, 2) or poly(x, 2, raw=TRUE)."),
    "scale": Transform(_scale, ("center", "scale"), ("center", "scale", "ddof"), "Usage: scale(x)."),
    "center": Transform(_center, (), (), "Usage: center(x)."),
    "bs": Transform(
        _formulaic_spline("bs"),
        ("df", "knots", "degree"),
        _SPLINE,
        _USAGE_BS,
    ),
    "cr": Transform(_formulaic_spline("cr"), ("df", "knots"), _CUBIC, "Usage: cr(x, df=4, constraints='center')."),
    "cc": Transform(_formulaic_spline("cc"), ("df", "knots"), _CUBIC, "Usage: cc(x, df=4, constraints='center')."),
    "ns": Transform(
        _ns, ("df", "knots"), ("df", "knots", "include_intercept", "boundary_knots"), "Usage: ns(x, df=3)."
    ),
    SMOOTH: Transform(smooth_columns, (), ("k", "bs"), USAGE),
}


def fitted_range(function: str, state: State) -> tuple[float, float, str] | None:
    """Range of the values from which ``bs()`` or ``s()`` learnt its state, and how the function goes on beyond it.

    None for any other function.
    """
    if function == SMOOTH:
        return float(state["range"][0]), float(state["range"][1]), " as a straight line"
    if function != "bs" or not {"lower_bound", "upper_bound"} <= set(state):
        return None
    return float(state["lower_bound"]), float(state["upper_bound"]), ", as R does"


def encode_state(value: Any) -> Any:
    """Convert a learnt state, which may hold arrays and integer keys, to plain JSON values."""
    if isinstance(value, dict):
        return {"map": [[encode_state(k), encode_state(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, list | tuple):
        return {"list": [encode_state(v) for v in value]}
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "name") and hasattr(value, "value"):
        return {"text": str(value.value)}
    return value


def decode_state(value: Any) -> Any:
    """Rebuild a state from the result of :func:`encode_state`.

    Raises:
        ValueError: If the value is no result of :func:`encode_state`.
    """
    match value:
        case {"map": list(pairs)}:
            return dict(map(_decode_pair, pairs))
        case {"array": list(numbers)}:
            return np.array(numbers, dtype=np.float64)
        case {"text": str(text)}:
            return text
        case {"list": list(values)}:
            return [decode_state(v) for v in values]
        case dict() | list():
            raise ValueError("this is not the state of a function")
        case _:
            return value


def _decode_pair(pair: Any) -> tuple[Any, Any]:
    match pair:
        case [str() | int() as key, value]:
            return key, decode_state(value)
        case _:
            raise ValueError("this is not the state of a function")
