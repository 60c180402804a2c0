"""Warnings of the compilers of samplers that say nothing about a fit."""

from __future__ import annotations

import warnings

UNRELATED = (
    "PyTensor could not link to a BLAS",  # of matrices that are larger than those of a model here
    "Cannot cache compiled function",  # numba compiles it in the next process, too
)


def ignore_compiler_warnings() -> None:
    """Add filters for these warnings, until the filters of the surrounding block are restored."""
    for message in UNRELATED:
        warnings.filterwarnings("ignore", message)


__all__ = ["ignore_compiler_warnings"]
