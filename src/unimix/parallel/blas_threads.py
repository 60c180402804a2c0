"""Number of threads of the linear algebra in NumPy and SciPy, which wait for each other on small matrices."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


@functools.cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextlib.contextmanager
def one_thread(*, when: bool) -> Iterator[None]:
    """Limit the BLAS of NumPy and SciPy to one thread inside the ``with`` block.

    Args:
        when: Whether the matrices are small enough for that; otherwise nothing is changed.
    """
    if not when:
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield
