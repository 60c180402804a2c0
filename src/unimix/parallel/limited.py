"""Work that is ended at a limit of time or memory, whatever it computes, because a process of its own does it.

The process is a fresh Python. A fork would carry over R, the threads of the linear algebra and locks of other threads
in whatever state they are; ``multiprocessing`` would run the user's script again, unless it is guarded. Starting takes
a second, so that a process waits a minute for more work before it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from unimix.errors import FitError, LimitError
from unimix.parallel.pickling import to_bytes

Done = TypeVar("Done")

IDLE = 60.0
"""Seconds for which a process without work waits for more."""
_GLANCE = 0.05
_ADVICE = (
    "leave out time_limit= and memory_limit=, which run the fit in a process of its own, or move what you define "
    "yourself into a module."
)
_idle: list[_Process] = []
_lock = threading.Lock()


def run_limited(
    prepare: Callable[[], object], work: Callable[[], Done], seconds: float | None, memory: float | None
) -> tuple[Done, float]:
    """Do some work in another process, and end that process at a limit.

    Args:
        prepare: Done there first, without limits.
        work: What is done there within the limits. It is pickled, and so is its answer.
        seconds: Limit of the time, which begins when ``prepare`` has ended; None for none.
        memory: Limit of the bytes by which the process, and those that it starts, may grow; None for none.

    Returns:
        The answer, and the seconds until the work began.

    Raises:
        LimitError: If the process was ended.
        FitError: If it ended by itself, for want of memory, say.
        OptionError: If something cannot be sent to another process.
        Exception: What the work raises.
    """
    message, started = to_bytes((prepare, work), _ADVICE), time.perf_counter()
    process = _take()
    try:
        kind, content = process.begin(message)
        if kind == "ended" and process.used:  # its time had come while it waited
            process.end()
            process = _Process()
            kind, content = process.begin(message)
        waited = time.perf_counter() - started
        if kind == "ready":
            kind, content = process.watch(seconds, memory)
    except BaseException:  # Ctrl-C, above all
        process.end()
        raise
    if kind in {"done", "raised"}:
        _give_back(process)
        answer = pickle.loads(content)  # noqa: S301  made by serve()
        if kind == "raised":
            raise answer
        return answer, waited
    code = process.end()
    if kind == "ended":
        raise FitError(
            f"The process in which the fit ran ended before it was done (exit code {code}): it was killed, ran out of "
            "memory, or crashed in the engine."
        )
    raise LimitError(f"The work was ended at its limit of {kind}.", kind)


def _take() -> _Process:
    with _lock:
        own = [p for p in _idle if p.owner == os.getpid()]
        if own:
            _idle.remove(own[-1])
            return own[-1]
    return _Process()


def _give_back(process: _Process) -> None:
    process.used = True
    with _lock:
        _idle.append(process)


@atexit.register
def end_idle() -> None:
    """End the processes that wait for work."""
    with _lock:
        own = [p for p in _idle if p.owner == os.getpid()]
        _idle.clear()
    for process in own:
        process.end()


class _Process:
    """A process that does work.

    Attributes:
        owner: The process that started it; a fork of that has the same object.
        used: Whether it has done work.
    """

    def __init__(self) -> None:
        self.owner, self.used = os.getpid(), False
        # R leaves its temporary folder behind when it is killed.
        self._folder = tempfile.TemporaryDirectory(prefix="unimix-", ignore_cleanup_errors=True)
        places = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), self._folder.name)
        code = f"import sys; sys.path[:] = {sys.path!r}; from unimix.parallel.limited import serve; serve()"
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **places},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        self._said: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="unimix-limits", daemon=True)
        self._listener.start()

    def begin(self, message: bytes) -> tuple[str, bytes]:
        """Send work, and wait until it is prepared."""
        assert self._child.stdin is not None  # noqa: S101  for the types
        try:
            pickle.dump((sys.path, message), self._child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._child.stdin.flush()
        except OSError:
            return "ended", b""
        return self._said.get()

    def watch(self, seconds: float | None, memory: float | None) -> tuple[str, bytes]:
        """Wait for the answer, or a limit."""
        deadline = time.monotonic() + (seconds if seconds is not None else float("inf"))
        grown = _growth(self._child.pid) if memory is not None else None
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                return self._said.get(timeout=min(left, _GLANCE if grown else 3600.0))
            if grown and memory is not None and grown() > memory:
                return "memory", b""
        return "time", b""

    def end(self) -> int:
        """End the process and all that it started.

        Returns:
            Its exit code.
        """
        import psutil

        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self._child.pid)
            for victim in (*own.children(recursive=True), own):
                with contextlib.suppress(psutil.Error):
                    victim.kill()
        self._listener.join(10)
        return self._clear()

    def _clear(self) -> int:
        """Remove what an ended process leaves behind: its pipe and its folder."""
        code = self._child.wait()
        with contextlib.suppress(OSError):  # the other end is gone, so that nothing can be flushed
            if self._child.stdin is not None:
                self._child.stdin.close()
        self._folder.cleanup()
        return code

    def _listen(self) -> None:
        assert self._child.stdout is not None  # noqa: S101  for the types
        with self._child.stdout as pipe, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._said.put(pickle.load(pipe))  # noqa: S301  made by serve()
        self._said.put(("ended", b""))
        with _lock:
            waiting = self in _idle
            if waiting:
                _idle.remove(self)
        if waiting:
            self._clear()


def _growth(pid: int) -> Callable[[], float]:
    """Bytes by which a process has grown since now, with the processes that it starts."""
    import psutil

    process = psutil.Process(pid)
    start = process.memory_info().rss

    def grown() -> float:
        size = 0.0
        with contextlib.suppress(psutil.Error):
            size = float(process.memory_info().rss - start)
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    size += float(child.memory_full_info().uss)
        return size

    return grown


def serve() -> None:
    """Do work as it comes, in the process that :func:`run_limited` started, until there is none for a while."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what engines print must not stand between the answers
    tasks: queue.SimpleQueue[tuple[list[str], bytes]] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(pickle.load(requests))  # noqa: S301  made by _Process.begin()
        os._exit(0)  # whoever asked is gone

    def say(kind: str, content: bytes = b"") -> None:
        pickle.dump((kind, content), answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()

    threading.Thread(target=read, name="unimix-limits", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        while True:
            sys.path[:], message = tasks.get(timeout=IDLE)
            try:
                prepare, work = pickle.loads(message)  # noqa: S301  made by run_limited()
                prepare()
                say("ready")
                kind, content = "done", to_bytes(work(), _ADVICE)
            except BaseException as error:  # noqa: BLE001  it is raised where the work was asked for
                kind, content = "raised", _error_bytes(error)
            say(kind, content)


def _error_bytes(error: BaseException) -> bytes:
    """An error as bytes; one that cannot be sent as a plain one with its words."""
    try:
        made = to_bytes(error, "")
        pickle.loads(made)  # noqa: S301  just made
    except Exception:  # noqa: BLE001  errors of engines may be anything
        return pickle.dumps(FitError(f"{type(error).__name__}: {error}"))
    return made


__all__ = ["end_idle", "run_limited", "serve"]
