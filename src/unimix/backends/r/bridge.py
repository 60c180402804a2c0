"""The only file that talks to rpy2: numbers into R, plain vectors out, R's noise captured.

R is single-threaded and lives in this process: one lock is held around every call. Only rpy2's low-level
interface is used, so that no converter can be lost in another thread, and console callbacks are put back.
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
_HINT = "unimix.doctor() says what is there, what fits together and the line that mends it."


class RBridge:
    """R with the functions of our ``*.R`` files loaded; made once per process by :func:`connect`."""

    def __init__(self, rinterface: Any) -> None:
        self._ri = rinterface
        # Ours live in an environment of their own: nothing in the user's workspace is touched.
        sources = [
            (Path(__file__).parent / f"{n}.R").read_text(encoding="utf-8") for n in ("bridge", "lme4", "glmmtmb")
        ]
        made = rinterface.evalr("local({\n" + "\n".join(sources) + "\nas.list(environment())\n})")
        self._functions = dict(zip(made.names, made, strict=True))
        self._versions: dict[str, str] = {}
        self._prepared: set[str] = set()

    def call(self, function: str, *arguments: Any) -> dict[str, Any]:
        """Call one of our R functions.

        Args:
            function: Its name in one of our ``*.R`` files.
            arguments: Arrays, numbers, texts, lists and dicts of these, R objects, None.

        Returns:
            The named values, as arrays or nested lists; R objects stay R objects; ``notes`` holds R's words.

        Raises:
            FitError: With R's message.
        """
        with at_work():
            answer = self._to_dict(self._functions[function](*[self._to_r(a) for a in arguments]))
            notes = [str(n) for n in answer["notes"]]
            error = str(answer["error"][0])
            if error == "interrupted":
                raise KeyboardInterrupt
            if error:
                raise FitError(f"R stopped: {error}" + (f" It said before: {' | '.join(notes)}" if notes else ""))
            return {**self._to_dict(answer["value"]), "notes": notes}

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """Versions of R and of R packages; "" where a package is absent."""
        absent = [p for p in packages if p not in self._versions]
        if absent:
            with LOCK:
                found = self._functions["versions"](self._to_r(list(absent)))
                self._versions.update(zip(absent, (str(v) for v in found), strict=True))
                self._versions["R"] = str(self._ri.evalr("paste(R.version$major, R.version$minor, sep = '.')")[0])
        return {"R": self._versions["R"], **{p: self._versions[p] for p in packages}}

    def require(self, packages: Sequence[str], backend: str) -> None:
        """Check that R packages are installed.

        Raises:
            EngineNotInstalledError: With the lines to type.
        """
        absent = [p for p, version in self.versions(packages).items() if not version]
        if absent:
            lines = install_lines(absent, find_r().home)
            raise EngineNotInstalledError(
                f"backend={backend!r} needs the R packages {', '.join(absent)}. {to_type(lines)}"
            )

    def prepare(self, packages: Sequence[str]) -> None:
        """Load R packages, once."""
        absent = [p for p in packages if p not in self._prepared]
        if absent:
            self.call("prepare", absent)
            self._prepared.update(absent)

    def named_list(self, values: Mapping[str, float]) -> Any:
        """A named R list of numbers, as an R object."""
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
                made = ri.ListSexpVector([self._to_r(v) for v in value.values()])
                if value:
                    made.names = ri.StrSexpVector([str(k) for k in value])
                return made
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
            made = ri.FloatSexpVector([])
        elif np.issubdtype(array.dtype, np.integer):
            made = ri.IntSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.int32).data)
        else:
            made = ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.float64).data)
        if array.ndim == 2:
            made.do_slot_assign("dim", ri.IntSexpVector(list(array.shape)))
        return made

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
    """Start R, once per process.

    Args:
        backend: Who asks, for messages.
        install: Makes the lines to type when rpy2 is missing.

    Raises:
        EngineNotInstalledError: If rpy2 is missing.
        EngineBrokenError: If rpy2 does not fit the R that is there.
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
                f"Most often rpy2 was built for another R, or R is missing. {_HINT}"
            ) from error
        _bridge = RBridge(rinterface)
        return _bridge


@contextlib.contextmanager
def _library_path_kept() -> Iterator[None]:
    """Take back the library path that R leaves in the environment: a Python that is started with it may not load."""
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
    """Let rpy2.robjects convert here: its rules are a context variable, which other contexts and threads lack."""
    from rpy2 import robjects
    from rpy2.robjects import conversion

    with conversion.localconverter(robjects.default_converter):
        yield


@contextlib.contextmanager
def quiet_console() -> Iterator[list[str]]:
    """Take what R prints into a list; the process's console callbacks are put back, whoever replaced them."""
    from rpy2.rinterface_lib import callbacks

    said: list[str] = []
    kept = callbacks.consolewrite_print, callbacks.consolewrite_warnerror
    callbacks.consolewrite_print = callbacks.consolewrite_warnerror = said.append
    try:
        yield said
    finally:
        callbacks.consolewrite_print, callbacks.consolewrite_warnerror = kept


@contextlib.contextmanager
def at_work(*, warns: bool = False) -> Iterator[list[str]]:
    """Hold R for a piece of work: what it prints is taken, and Ctrl-C ends it.

    Python's own handler of Ctrl-C waits for the end of the block (:func:`shield_interrupts`): an exception that it
    raises in a callback of R or in a finalizer is lost, and one on the way into a clean-up leaves things as they are.

    Args:
        warns: Let R say its warnings at once.
    """
    loud = immediate_warnings() if warns else contextlib.nullcontext()
    with LOCK, shield_interrupts(), quiet_console() as said, loud, interruptible():
        yield said


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach R."""
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
    """A global variable of R's library. rpy2 declares these only where it was compiled, not in its ABI mode."""
    import rpy2.situation
    from rpy2.rinterface_lib import openrlib

    path = rpy2.situation.get_rlib_path(str(openrlib.R_HOME), platform.system())
    return kind.in_dll(ctypes.CDLL(path), name)


@functools.cache
def _interruption() -> Any:
    """What R calls where it looks for interruptions: it interrupts R if that is within an evaluation that can be left.

    Set from another thread, or where rpy2 calls R without R_tryEval, R's flag makes it jump into a frame that is gone.
    """
    pending = r_variable("R_interrupts_pending", ctypes.c_int)

    def interrupt_here() -> None:
        if _tries(sys._getframe(1)):
            pending.value = 1

    return ctypes.CFUNCTYPE(None)(interrupt_here)


def _tries(frame: FrameType) -> bool:
    """Whether a frame's own call of R is R_tryEval."""
    from rpy2 import rinterface

    return frame.f_code.co_filename == rinterface.__file__ and frame.f_code.co_name in ("__call__", "rcall")


@contextlib.contextmanager
def _on_ctrl_c(interrupt: Callable[[], object]) -> Iterator[None]:
    """Python cannot run its handler of Ctrl-C while R computes, but it can wake another thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    former = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    cut = threading.Event()

    def listen() -> None:
        while heard := ear.recv(1):
            if former >= 0:  # an event loop listens too
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
        if cut.is_set():  # R's words for it
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
    """Let R say its warnings at once, while somebody listens, and not when the process ends."""
    from rpy2 import rinterface

    option = rinterface.evalr("options(warn = 1)")
    try:
        yield
    finally:
        rinterface.baseenv["options"](option)


@contextlib.contextmanager
def placeholders(packages: Container[str], backend: str) -> Iterator[None]:
    """Let ``importr`` succeed while the block runs, for packages that R lacks or cannot load.

    Args:
        packages: Which of them may be absent; ``importr`` fails for the others as it always does.
        backend: Who imports them, for messages.
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
    """In the place of an R package that cannot be loaded: whoever asks for one of its functions is told so."""

    def __init__(self, package: str, backend: str, fault: str) -> None:
        super().__init__(package)
        self._told = f"backend={backend!r} needs the R package {package} for this. R says: {fault.strip()}\n{_HINT}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks every module for some
            raise AttributeError(name)
        raise EngineNotInstalledError(self._told)
