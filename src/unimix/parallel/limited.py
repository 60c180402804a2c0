"""Work in a process of its own, which can be stopped at a limit of time or memory whatever it computes.

The process is a fresh Python. A fork would copy R, the threads of the linear algebra and the locks of other threads in
whatever state they are, and ``multiprocessing`` would run the user's script again unless the script is guarded. A start
takes a second; a process therefore waits a minute for more work before it ends.
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
"""Seconds for which an idle process waits for more work."""
_GLANCE = 0.05
_ADVICE = (
    "leave out time_limit= and memory_limit=, which run the fit in a process of its own, or move your own functions "
    "and classes into a module."
)
_idle: list[_Process] = []
_lock = threading.Lock()


def run_limited(
    prepare: Callable[[], object], work: Callable[[], Done], seconds: float | None, memory: float | None
) -> tuple[Done, float]:
    """Call a function in another process, and stop that process at a limit.

    Args:
        prepare: Function that is called in the process first, without limits.
        work: Function that is called within the limits. It is pickled, and so is its answer.
        seconds: Limit of the time in seconds, which counts from the end of ``prepare``; None for no limit.
        memory: Limit of the growth in bytes of the process and of the processes that it starts; None for no limit.

    Returns:
        The answer of ``work``, and the seconds until ``work`` began.

    Raises:
        LimitError: If the process was stopped at a limit.
        FitError: If the process ended by itself, for instance for lack of memory.
        OptionError: If an object cannot be sent to another process.
        Exception: Any error that ``work`` raises.
    """
    message, started = to_bytes((prepare, work), _ADVICE), time.perf_counter()
    process = _take()
    try:
        kind, content = process.begin(message)
        if kind == "ended" and process.used:  # the process reached the end of its waiting time
            process.end()
            process = _Process()
            kind, content = process.begin(message)
        waited = time.perf_counter() - started
        if kind == "ready":
            kind, content = process.watch(seconds, memory)
    except BaseException:  # mostly Ctrl-C
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
            f"The process of the fit ended before the fit was done (exit code {code}): it was killed, ran out of "
            "memory, or crashed in the engine."
        )
    raise LimitError(f"The work was stopped at its limit of {kind}.", kind)


def _take() -> _Process:
    with _lock:
        usable = [p for p in _idle if p.owner == os.getpid()]
        if usable:
            _idle.remove(usable[-1])
            return usable[-1]
    return _Process()


def _give_back(process: _Process) -> None:
    process.used = True
    with _lock:
        _idle.append(process)


@atexit.register
def end_idle() -> None:
    """End all idle processes."""
    with _lock:
        processes = [p for p in _idle if p.owner == os.getpid()]
        _idle.clear()
    for process in processes:
        process.end()


class _Process:
    """A process that does work.

    Attributes:
        owner: Id of the process that started it; a fork of that process has a copy of this object.
        used: Whether the process has done work before.
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
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends the child
        )
        self._answers: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="unimix-limits", daemon=True)
        self._listener.start()

    def begin(self, message: bytes) -> tuple[str, bytes]:
        """Send the work, and wait until its preparation has ended."""
        assert self._child.stdin is not None  # noqa: S101  for the types
        try:
            pickle.dump((sys.path, message), self._child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._child.stdin.flush()
        except OSError:
            return "ended", b""
        return self._answers.get()

    def watch(self, seconds: float | None, memory: float | None) -> tuple[str, bytes]:
        """Wait until the answer is there or a limit is reached."""
        deadline = time.monotonic() + (seconds if seconds is not None else float("inf"))
        grown = _growth(self._child.pid) if memory is not None else None
        while (rest := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=min(rest, _GLANCE if grown else 3600.0))
            if grown and memory is not None and grown() > memory:
                return "memory", b""
        return "time", b""

    def end(self) -> int:
        """End the process and all processes that it started.

        Returns:
            Exit code of the process.
        """
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._child.pid)
            for victim in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.Error):
                    victim.kill()
        self._listener.join(10)
        return self._clear()

    def _clear(self) -> int:
        """Remove the pipe and the temporary folder of a process that has ended."""
        code = self._child.wait()
        with contextlib.suppress(OSError):  # the child has ended, so that nothing can be flushed
            if self._child.stdin is not None:
                self._child.stdin.close()
        self._folder.cleanup()
        return code

    def _listen(self) -> None:
        assert self._child.stdout is not None  # noqa: S101  for the types
        with self._child.stdout as pipe, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._answers.put(pickle.load(pipe))  # noqa: S301  made by serve()
        self._answers.put(("ended", b""))
        with _lock:
            waiting = self in _idle
            if waiting:
                _idle.remove(self)
        if waiting:
            self._clear()


def _growth(pid: int) -> Callable[[], float]:
    """Make a function that returns the growth of a process since this call, in bytes, child processes included."""
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
    """Do the work that :func:`run_limited` sends, until none has come for :data:`IDLE` seconds; runs in the child."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # output of an engine must not mix with the answers
    tasks: queue.SimpleQueue[tuple[list[str], bytes]] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(pickle.load(requests))  # noqa: S301  made by _Process.begin()
        os._exit(0)  # the parent has ended

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
            except BaseException as error:  # noqa: BLE001  run_limited() raises it in the parent
                kind, content = "raised", _error_bytes(error)
            say(kind, content)


def _error_bytes(error: BaseException) -> bytes:
    """Pickle an error; one that cannot be pickled becomes a FitError with the same message."""
    try:
        content = to_bytes(error, "")
        pickle.loads(content)  # noqa: S301  just made
    except Exception:  # noqa: BLE001  errors of engines may be anything
        return pickle.dumps(FitError(f"{type(error).__name__}: {error}"))
    return content


__all__ = ["end_idle", "run_limited", "serve"]
