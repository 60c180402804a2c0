"""Ctrl-C during work that must not be interrupted, and during work that may drop it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def keep_interrupts(instead: type[BaseException] = KeyboardInterrupt) -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at the end of the block if Ctrl-C raised it in the block and it was dropped.

    Python drops an exception in a callback of a weak reference or in ``__del__``. numba has such callbacks, and Ctrl-C
    may fall into one, above all during a compilation.

    Args:
        instead: Exception that Ctrl-C raises in the block, for packages that catch KeyboardInterrupt; the block ends in
            KeyboardInterrupt all the same.

    Yields:
        Function that raises KeyboardInterrupt earlier, for blocks that wait.
    """
    heard: list[bool] = []

    def raise_dropped() -> None:
        if heard:
            raise KeyboardInterrupt

    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield raise_dropped
        return

    def note(number: int, frame: Any) -> None:
        try:
            former(number, frame)
        except KeyboardInterrupt:
            heard.append(True)
            raise instead from None

    signal.signal(signal.SIGINT, note)
    try:
        yield raise_dropped
    except instead:
        if instead is KeyboardInterrupt:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, former)
    raise_dropped()


__all__ = ["keep_interrupts", "shield_interrupts"]
