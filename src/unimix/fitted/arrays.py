"""NumPy arrays as fields of pydantic models, written to JSON without losing a digit."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import GetPydanticSchema
from pydantic_core import core_schema


def _encode(value: Any) -> Any:
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return (
        {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)
        if value is None or isinstance(value, str)
        else value
    )


def _validate(value: Any) -> npt.NDArray[np.float64]:
    if isinstance(value, dict):
        array = np.array(_decode(value["values"]), dtype=np.float64).reshape(value["shape"])
    else:
        array = np.array(value, dtype=np.float64)
    array.flags.writeable = False
    return array


def _serialize(array: npt.NDArray[np.float64]) -> dict[str, Any]:
    flat = array.ravel().tolist()
    return {"shape": list(array.shape), "values": flat if np.isfinite(array).all() else _encode(flat)}


def _schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.no_info_plain_validator_function(
        _validate, serialization=core_schema.plain_serializer_function_ser_schema(_serialize)
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
    def validate(value: Any) -> float:
        return float(_decode(value))

    return core_schema.no_info_plain_validator_function(
        validate, serialization=core_schema.plain_serializer_function_ser_schema(_encode)
    )


Real = Annotated[float, GetPydanticSchema(_float_schema, lambda _s, _h: {"type": ["number", "null", "string"]})]
"""A float that may be infinite or not a number."""
