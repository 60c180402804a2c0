"""Delay of Ctrl-C during work that must not be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def shield_interrupts() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended; a package whose import is interrupted cannot be imported again."""
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    heard: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if heard:
            former(*heard[0])


__all__ = ["shield_interrupts"]
