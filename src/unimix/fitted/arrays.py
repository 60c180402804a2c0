"""NumPy arrays as fields of pydantic models, written to JSON without losing a digit."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import GetPydanticSchema
from pydantic_core import core_schema

_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}


def _encode(value: Any) -> Any:
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _number(value: Any) -> float:
    """One number of a JSON text: null is not-a-number."""
    if value is None:
        return math.nan
    if isinstance(value, str) and value in _INFINITE:
        return _INFINITE[value]
    if type(value) not in (int, float):
        raise ValueError(f"{value!r:.40} is not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("a number has too many digits") from error


def _read_only(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    array.flags.writeable = False
    return array


def _from_json(value: Any) -> npt.NDArray[np.float64]:
    if not isinstance(value, dict) or value.keys() != {"shape", "values"}:
        raise ValueError("an array has a shape and values")
    shape, values = value["shape"], value["values"]
    if not isinstance(shape, list) or any(type(k) is not int or k < 0 for k in shape) or not isinstance(values, list):
        raise ValueError("an array has a list of lengths and a list of values")
    if math.prod(shape) != len(values) or len(shape) > 3:
        raise ValueError(f"the shape {shape!r:.40} does not hold {len(values)} values")
    return _read_only(np.array([_number(v) for v in values], dtype=np.float64).reshape(shape))


def _from_python(value: Any) -> npt.NDArray[np.float64]:
    return _read_only(np.array(value, dtype=np.float64))


def _serialize(array: npt.NDArray[np.float64]) -> dict[str, Any]:
    flat = array.ravel().tolist()
    return {"shape": list(array.shape), "values": flat if np.isfinite(array).all() else _encode(flat)}


def _schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_plain_validator_function(_from_json),
        python_schema=core_schema.no_info_plain_validator_function(_from_python),
        serialization=core_schema.plain_serializer_function_ser_schema(_serialize),
    )


Array = Annotated[
    npt.NDArray[np.float64],
    GetPydanticSchema(
        _schema,
        lambda _s, _h: {
            "type": "object",
            "properties": {"shape": {"type": "array"}, "values": {"type": "array"}},
            "description": "Shape, and values row by row; null is not-a-number.",
        },
    ),
]
"""A read-only float array."""


def _float_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_plain_validator_function(_number),
        python_schema=core_schema.no_info_plain_validator_function(float),
        serialization=core_schema.plain_serializer_function_ser_schema(_encode),
    )


Real = Annotated[float, GetPydanticSchema(_float_schema, lambda _s, _h: {"type": ["number", "null", "string"]})]
"""A float that may be infinite or not a number."""
