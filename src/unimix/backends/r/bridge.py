"""The connection to R, and the only file that imports rpy2: numbers go to R, plain vectors come back.

R is single-threaded and runs in this process, so that a lock is held during every call. The output of R is captured,
and the console callbacks are restored. Only rpy2's low-level interface is used, whose conversions are the same in
every thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unimix.backends.interrupts import shield_interrupts
from unimix.errors import EngineBrokenError, EngineNotInstalledError, FitError, to_type
from unimix.r_installation import find_r, install_lines

LOCK = threading.RLock()
Variable = TypeVar("Variable", ctypes.c_int, ctypes.c_void_p)
_HINT = "unimix.doctor() shows what is installed, which versions fit together, and the line that repairs it."


class RBridge:
    """R with the functions of unimix's ``*.R`` files; :func:`connect` makes it once per process."""

    def __init__(self, rinterface: Any) -> None:
        self._ri = rinterface
        # The functions have an environment of their own, so that the user's workspace does not change.
        names = ("bridge", "lme4", "glmmtmb", "nlme", "ordinal")
        sources = [(Path(__file__).parent / f"{n}.R").read_text(encoding="utf-8") for n in names]
        functions = rinterface.evalr("local({\n" + "\n".join(sources) + "\nas.list(environment())\n})")
        self._functions = dict(zip(functions.names, functions, strict=True))
        self._versions: dict[str, str] = {}
        self._prepared: set[str] = set()

    def call(self, function: str, *arguments: Any) -> dict[str, Any]:
        """Call a function of unimix's ``*.R`` files.

        Args:
            function: Name of the function.
            arguments: Arrays, numbers, texts, lists and dicts of these, R objects, or None.

        Returns:
            Values by name, as arrays or nested lists. Objects of R are not converted. ``notes`` holds the output of R.

        Raises:
            FitError: If R stops with an error; the message contains that of R.
        """
        with at_work():
            answer = self._to_dict(self._functions[function](*[self._to_r(a) for a in arguments]))
            notes = [str(n) for n in answer["notes"]]
            error = str(answer["error"][0])
            if error == "interrupted":
                raise KeyboardInterrupt
            if error:
                raise FitError(f"R stopped: {error}" + (f" Its earlier output: {' | '.join(notes)}" if notes else ""))
            return {**self._to_dict(answer["value"]), "notes": notes}

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """Versions of R and of R packages; empty for a package that is not installed."""
        absent = [p for p in packages if p not in self._versions]
        if absent:
            with LOCK:
                answers = self._functions["versions"](self._to_r(list(absent)))
                self._versions.update(zip(absent, (str(v) for v in answers), strict=True))
                self._versions["R"] = str(self._ri.evalr("paste(R.version$major, R.version$minor, sep = '.')")[0])
        return {"R": self._versions["R"], **{p: self._versions[p] for p in packages}}

    def require(self, packages: Sequence[str], backend: str) -> None:
        """Check that R packages are installed.

        Raises:
            EngineNotInstalledError: If a package is missing; the message has the lines to type.
        """
        absent = [p for p, version in self.versions(packages).items() if not version]
        if absent:
            lines = install_lines(absent, find_r().home)
            raise EngineNotInstalledError(
                f"backend={backend!r} needs the R packages {', '.join(absent)}. {to_type(lines)}"
            )

    def prepare(self, packages: Sequence[str]) -> None:
        """Load R packages that have not been loaded before."""
        absent = [p for p in packages if p not in self._prepared]
        if absent:
            self.call("prepare", absent)
            self._prepared.update(absent)

    def named_list(self, values: Mapping[str, float]) -> Any:
        """Named list of numbers as an object of R."""
        return self._to_r(dict(values))

    def _to_r(self, value: Any) -> Any:
        ri = self._ri
        match value:
            case None:
                return ri.NULL
            case np.ndarray():
                return self._array_to_r(value)
            case bool():
                return ri.BoolSexpVector([value])
            case int():
                return ri.IntSexpVector([value])
            case float():
                return ri.FloatSexpVector([value])
            case str():
                return ri.StrSexpVector([value])
            case Mapping():
                vector = ri.ListSexpVector([self._to_r(v) for v in value.values()])
                if value:
                    vector.names = ri.StrSexpVector([str(k) for k in value])
                return vector
            case list() | tuple() if value and all(isinstance(v, str) for v in value):
                return ri.StrSexpVector(value)
            case list() | tuple():
                return ri.ListSexpVector([self._to_r(v) for v in value])
            case _:
                return value

    def _array_to_r(self, array: npt.NDArray[Any]) -> Any:
        ri = self._ri
        flat = np.ravel(array, order="F")
        if array.size == 0:
            vector = ri.FloatSexpVector([])
        elif np.issubdtype(array.dtype, np.integer):
            vector = ri.IntSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.int32).data)
        else:
            vector = ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.float64).data)
        if array.ndim == 2:
            vector.do_slot_assign("dim", ri.IntSexpVector(list(array.shape)))
        return vector

    def _to_dict(self, value: Any) -> dict[str, Any]:
        return {str(k): self._from_r(v) for k, v in zip(value.names, value, strict=True)}

    def _from_r(self, value: Any) -> Any:
        ri = self._ri
        if isinstance(value, ri.FloatSexpVector | ri.IntSexpVector | ri.BoolSexpVector):
            if isinstance(value, ri.BoolSexpVector):
                return [bool(v) for v in value]
            return np.array(value.memoryview()) if len(value) else np.empty(0)
        if isinstance(value, ri.StrSexpVector):
            return [str(v) for v in value]
        if isinstance(value, ri.ListSexpVector) and value.names is ri.NULL:
            return [self._from_r(v) for v in value]
        return value


_bridge: RBridge | None = None


def installed() -> bool:
    """Whether rpy2 can be found; R is not started."""
    return importlib.util.find_spec("rpy2") is not None


def connect(backend: str, install: Callable[[], str]) -> RBridge:
    """Return the connection to R, which is started at the first call.

    Args:
        backend: Name of the backend that needs R, for messages.
        install: Function that returns the lines to type if rpy2 is missing.

    Raises:
        EngineNotInstalledError: If rpy2 is missing.
        EngineBrokenError: If rpy2 does not work with the installed R.
    """
    global _bridge  # noqa: PLW0603  R exists once per process
    with LOCK:
        if _bridge is not None:
            return _bridge
        if not installed():
            raise EngineNotInstalledError(
                f"backend={backend!r} needs rpy2, which is not installed. {to_type(install())}\n{_HINT}"
            )
        try:
            from rpy2 import rinterface

            with _library_path_kept():
                rinterface.initr()
        except Exception as error:
            version = importlib.metadata.version("rpy2-rinterface")
            raise EngineBrokenError(
                f"rpy2 is installed (rpy2-rinterface {version}) but cannot start R: {type(error).__name__}: {error}. "
                f"The usual cause is that rpy2 was built for another R, or that R is missing. {_HINT}"
            ) from error
        _bridge = RBridge(rinterface)
        return _bridge


@contextlib.contextmanager
def _library_path_kept() -> Iterator[None]:
    """Restore the library path that R changes in the environment; a Python that inherits R's path may fail to start."""
    name, before = "LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH")
    try:
        yield
    finally:
        os.environ.pop(name, None)
        os.unsetenv(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def conversions() -> Iterator[None]:
    """Set the conversion rules of rpy2.robjects, a context variable that is not set in other contexts and threads."""
    from rpy2 import robjects
    from rpy2.robjects import conversion

    with conversion.localconverter(robjects.default_converter):
        yield


@contextlib.contextmanager
def quiet_console() -> Iterator[list[str]]:
    """Collect the output of R in a list; the former console callbacks of the process are restored afterwards."""
    from rpy2.rinterface_lib import callbacks

    output: list[str] = []
    kept = callbacks.consolewrite_print, callbacks.consolewrite_warnerror
    callbacks.consolewrite_print = callbacks.consolewrite_warnerror = output.append
    try:
        yield output
    finally:
        callbacks.consolewrite_print, callbacks.consolewrite_warnerror = kept


@contextlib.contextmanager
def at_work(*, warns: bool = False) -> Iterator[list[str]]:
    """Lock R for a block, whose output is collected and which Ctrl-C can end.

    Python's own handler of Ctrl-C is delayed to the end of the block (:func:`shield_interrupts`). The exception that it
    raises would be lost in a callback of R or in a finalizer, and could prevent a clean-up.

    Args:
        warns: Whether R prints its warnings at once.
    """
    loud = immediate_warnings() if warns else contextlib.nullcontext()
    with LOCK, shield_interrupts(), quiet_console() as output, loud, interruptible():
        yield output


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt R inside the block."""
    polled = r_variable("R_PolledEvents", ctypes.c_void_p)
    former = polled.value

    def interrupt() -> None:
        polled.value = ctypes.cast(_interruption(), ctypes.c_void_p).value

    try:
        with _on_ctrl_c(interrupt):
            yield
    finally:
        polled.value = former


def r_variable(name: str, kind: type[Variable]) -> Variable:
    """Global variable of R's library; rpy2 declares these variables in its API mode but not in its ABI mode."""
    import rpy2.situation
    from rpy2.rinterface_lib import openrlib

    path = rpy2.situation.get_rlib_path(str(openrlib.R_HOME), platform.system())
    return kind.in_dll(ctypes.CDLL(path), name)


@functools.cache
def _interruption() -> Any:
    """Callback that R calls when it checks for interrupts, and that interrupts an evaluation by R_tryEval only.

    If the flag of R were set from another thread, or during a call without R_tryEval, R would jump to a stack frame
    that no longer exists.
    """
    pending = r_variable("R_interrupts_pending", ctypes.c_int)

    def interrupt_here() -> None:
        if _tries(sys._getframe(1)):
            pending.value = 1

    return ctypes.CFUNCTYPE(None)(interrupt_here)


def _tries(frame: FrameType) -> bool:
    """Whether a frame of rpy2 calls R by R_tryEval."""
    from rpy2 import rinterface

    return frame.f_code.co_filename == rinterface.__file__ and frame.f_code.co_name in ("__call__", "rcall")


@contextlib.contextmanager
def _on_ctrl_c(interrupt: Callable[[], object]) -> Iterator[None]:
    """Call a function at Ctrl-C, from another thread, because Python runs no signal handler while R computes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    former = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    cut = threading.Event()

    def listen() -> None:
        while heard := ear.recv(1):
            if former >= 0:  # an event loop waits for signals too
                with contextlib.suppress(OSError):
                    os.write(former, heard)
            if heard[0] == signal.SIGINT:
                cut.set()
                interrupt()

    listener = threading.Thread(target=listen, name="unimix-interrupts", daemon=True)
    listener.start()
    try:
        yield
    except Exception as error:
        if cut.is_set():  # the error by which R reports the interrupt
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.set_wakeup_fd(former)
        mouth.close()
        listener.join()
        ear.close()
    if cut.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def immediate_warnings() -> Iterator[None]:
    """Let R print its warnings at once, so that they can be collected, and not at the end of the process."""
    from rpy2 import rinterface

    option = rinterface.evalr("options(warn = 1)")
    try:
        yield
    finally:
        rinterface.baseenv["options"](option)


@contextlib.contextmanager
def placeholders(packages: Container[str], backend: str) -> Iterator[None]:
    """Let ``importr`` succeed inside the block for packages that are missing in R or cannot be loaded.

    Args:
        packages: Packages that may be missing; for others, ``importr`` raises its usual error.
        backend: Name of the backend that imports them, for messages.
    """
    from rpy2.rinterface_lib.embedded import RRuntimeError
    from rpy2.robjects import packages as library

    real = library.importr

    def importr(name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return real(name, *args, **kwargs)
        except (library.LibraryError, RRuntimeError) as error:
            if name not in packages:
                raise
            return _Absent(name, backend, str(error))

    library.importr = importr
    try:
        yield
    finally:
        library.importr = real


class _Absent(ModuleType):
    """Placeholder for an R package that cannot be loaded; the use of one of its functions raises an error."""

    def __init__(self, package: str, backend: str, fault: str) -> None:
        super().__init__(package)
        self._message = f"backend={backend!r} needs the R package {package} for this. R says: {fault.strip()}\n{_HINT}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python itself looks these up in every module
            raise AttributeError(name)
        raise EngineNotInstalledError(self._message)
