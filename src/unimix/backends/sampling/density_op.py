"""A NumPy log density as a PyTensor operation with a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

FloatArray = npt.NDArray[np.float64]
LogDensity = Callable[[FloatArray], tuple[float, FloatArray]]


class _Gradient(Op):  # type: ignore[misc]
    """Gradient of the log density, in the shape of x."""

    def __init__(self, function: LogDensity) -> None:
        self.function = function

    def make_node(self, *inputs: Any) -> Any:
        return Apply(self, [pt.as_tensor(inputs[0])], [pt.dvector()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        del node
        output_storage[0][0] = self.function(inputs[0])[1]

    def infer_shape(self, fgraph: Any, node: Any, input_shapes: Any) -> Any:
        del fgraph, node
        return input_shapes


class _Value(Op):  # type: ignore[misc]
    """Log density, a scalar."""

    def __init__(self, function: LogDensity) -> None:
        self.function = function
        self.by_x = _Gradient(function)

    def make_node(self, *inputs: Any) -> Any:
        return Apply(self, [pt.as_tensor(inputs[0])], [pt.dscalar()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        del node
        output_storage[0][0] = np.asarray(self.function(inputs[0])[0])

    def grad(self, inputs: Any, output_grads: Any) -> Any:
        return [output_grads[0] * self.by_x(inputs[0])]


def density_op(function: LogDensity) -> Any:
    """Make an operation whose value and gradient share one evaluation of a function.

    Args:
        function: Function of a vector that returns the log density and its gradient.
    """
    last: list[tuple[FloatArray, tuple[float, FloatArray]]] = []

    def remembered(x: FloatArray) -> tuple[float, FloatArray]:
        if not last or not np.array_equal(last[0][0], x):
            last[:] = [(np.array(x), function(x))]
        return last[0][1]

    return _Value(remembered)
