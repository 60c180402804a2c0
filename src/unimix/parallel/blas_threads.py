"""Threads of the linear algebra beneath NumPy and SciPy: on small matrices they wait for each other."""

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
    """Hold NumPy's and SciPy's BLAS to one thread; as many as there were go on afterwards.

    Args:
        when: Whether the matrices are small enough for that; else nothing is changed.
    """
    if not when:
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield
