"""A computation ends at its limits: a thread watches the clock and the memory, and interrupts it.

The interruption is an exception raised in the computing thread (``PyThreadState_SetAsyncExc``), or whatever stops a
computation that is not Python's (:func:`stopped_by`). Signals are not used: SIGINT reaches the main thread only, is
ignored in background jobs, and could arrive when the computation is over. The exception is of its own kind, because
PyMC takes KeyboardInterrupt for "draws enough".
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from unimix.backends.limits import Limits

Found = TypeVar("Found")
Kind = Literal["", "time", "memory"]

_POLL = 0.05
_HERE = threading.local()


class LimitReached(BaseException):
    """A limit was reached.

    Attributes:
        kind: Of which kind, once the computation has ended.
    """

    kind: Kind = ""

    def __init__(self) -> None:
        super().__init__()
        target = getattr(_HERE, "target", None)
        if target is not None:
            target.sent, target.delivered = True, weakref.ref(self)


class _Target:
    """A thread that computes, and how it is interrupted just now.

    Attributes:
        lock: Held where ``hooks`` and a watch's ``over`` change, and while an interruption is sent.
        hooks: The last one stops what is running; where there is none, or it cannot, an exception does.
        watches: Of nested computations.
        sent: Whether the exception is on its way.
        delivered: The exception, which is gone again where an engine has swallowed it.
    """

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.lock = threading.Lock()
        self.hooks: list[Callable[[], bool]] = []
        self.watches: list[_Watch] = []
        self.delivered: weakref.ref[LimitReached] | None = None
        self.sent = False

    @property
    def reached(self) -> Kind:
        """Which limit of any watch was reached."""
        return next((w.reached for w in self.watches if w.reached), "")

    def strike(self) -> None:
        """Interrupt; the lock is held."""
        if self.hooks and self.hooks[-1]():
            return
        if not self.sent or (self.delivered is not None and self.delivered() is None):  # not yet, or swallowed
            if _importing(self.ident):
                return
            self.sent, self.delivered = True, None
            _raise_in(self.ident, LimitReached)


class _Watch:
    """The thread that watches one computation."""

    def __init__(self, limits: Limits, target: _Target) -> None:
        self.limits, self.target = limits, target
        self.reached: Kind = ""
        self.over = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unimix-limits", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.target.watches.append(self)
        self._thread.start()

    def end(self) -> None:
        """Stop watching: no interruption arrives once this has returned. May be called again."""
        held: BaseException | None = None
        target = self.target
        while True:
            try:
                with target.lock:
                    self.over = True
                    if not any(w.reached for w in target.watches if w is not self):
                        _raise_in(target.ident, None)
                        target.sent, target.delivered = False, None
                self._ended.set()
                if self._thread.is_alive():
                    self._thread.join()
                if self in target.watches:
                    target.watches.remove(self)
                break
            except LimitReached:
                continue
            except BaseException as error:  # noqa: BLE001  Ctrl-C must not leave the watch armed
                held = error
        if held is not None:
            raise held

    def _run(self) -> None:
        memory = _memory() if self.limits.memory is not None else None
        start = 0.0 if memory is None else memory()
        deadline = time.monotonic() + (self.limits.seconds if self.limits.seconds is not None else 1e9)
        while not self._ended.wait(max(min(deadline - time.monotonic(), _POLL if memory else 1e6), 0.0)):
            if time.monotonic() >= deadline:
                self.reached = "time"
            elif memory is not None and self.limits.memory is not None and memory() - start > self.limits.memory:
                self.reached = "memory"
            if self.reached:
                break
        else:
            return
        while True:
            with self.target.lock:
                if self.over:
                    return
                self.target.strike()
            if self._ended.wait(_POLL):
                return


def within(limits: Limits, work: Callable[[], Found]) -> Found:
    """Do some work within limits.

    Args:
        limits: Of time and memory.
        work: What is done, in this thread.

    Raises:
        LimitReached: With its kind, if it was stopped.
    """
    if not limits:
        return work()
    outer: _Target | None = getattr(_HERE, "target", None)
    target = outer or _Target()
    watch = _Watch(limits, target)
    try:
        try:
            _HERE.target = target
            watch.start()
            found = work()
        finally:
            watch.end()
    except BaseException as error:
        watch.end()  # again: the exception may have arrived on the way into the first
        _HERE.target = outer
        if watch.reached and not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise _reached(watch.reached) from error
        raise
    _HERE.target = outer
    if watch.reached:
        raise _reached(watch.reached)
    if outer is not None and outer.reached:
        raise LimitReached
    return found


def _reached(kind: Kind) -> LimitReached:
    made = LimitReached()
    made.kind = kind
    return made


@contextlib.contextmanager
def stopped_by(hook: Callable[[], bool]) -> Iterator[None]:
    """Let a limit call ``hook``, perhaps many times, while the block runs.

    Args:
        hook: Stops the computation from another thread; False where it cannot just now and an exception is to.

    Raises:
        LimitReached: At the end of the block, if a limit was reached in it, whatever the block raised itself.
    """
    target: _Target | None = getattr(_HERE, "target", None)
    if target is None:
        yield
        return
    depth = len(target.hooks)
    try:
        with target.lock:
            target.hooks.append(hook)
        yield
    except BaseException as error:
        if target.reached and not isinstance(error, LimitReached):
            raise LimitReached from error
        raise
    finally:
        with target.lock:
            del target.hooks[depth:]
    if target.reached:
        raise LimitReached


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """Hold a limit back until the block has ended: it puts something back at its end."""
    return stopped_by(lambda: True)


@contextlib.contextmanager
def uncut() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended: packages that are cut off while they load cannot be loaded again."""
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


def _importing(ident: int) -> bool:
    """Whether the work that a thread does within limits is loading a module."""
    frame = sys._current_frames().get(ident)
    while frame is not None and frame.f_code is not within.__code__:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _raise_in(ident: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in a thread as soon as it runs Python, or take back what has not arrived."""
    thrown = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), thrown)


def _memory() -> Callable[[], float]:
    """Resident bytes of this process and of the processes that it starts from now on."""
    import psutil

    own = psutil.Process()
    older = {p.pid for p in own.children(recursive=True)}

    def resident() -> float:
        size = float(own.memory_info().rss)
        for child in own.children(recursive=True):
            if child.pid not in older:
                with contextlib.suppress(psutil.Error):
                    size += float(child.memory_full_info().uss)
        return size

    return resident


__all__ = ["LimitReached", "stopped_by", "uncut", "undisturbed", "within"]
