"""Pickling of objects for other processes, and functions that are sent to each process only once."""

from __future__ import annotations

import pickle
import secrets
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from unimix.errors import OptionError

Job = TypeVar("Job")
Done = TypeVar("Done")

_lock = threading.Lock()
_one_at_a_time = threading.Lock()
_opened: dict[str, SentOnce[Any, Any]] = {}


def to_bytes(content: object, advice: str) -> bytes:
    """Pickle an object; cloudpickle, if installed, also handles lambdas and the functions of a script or notebook.

    Args:
        content: The object to send.
        advice: Advice for an object that cannot be sent, with which the message ends.

    Raises:
        OptionError: If a part of the object cannot be sent to another process.
    """
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
    try:
        pickled: bytes = pickler.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise OptionError(f"Something given here cannot be sent to another process ({error}): {advice}") from error
    return pickled


class SentOnce(Generic[Job, Done]):
    """A function that is pickled once and loaded once in every process, however many jobs it does there.

    A process keeps the function that it loaded last. It does one job at a time, because the state of an engine belongs
    to the process.

    Args:
        work: Function of a job. If it has a method ``prepare``, the method is called when the function is loaded.
    """

    def __init__(self, work: Callable[[Job], Done]) -> None:
        content = to_bytes(work, "use n_jobs=1, or a function of a module that opens it there.")
        self.token = secrets.token_hex(8)
        # An array, because joblib writes large arrays to a file that its processes share.
        self._content: npt.NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8)
        self._work = work

    def __call__(self, job: Job) -> Done:
        """Do one job."""
        with _one_at_a_time:
            return self._work(job)

    def __reduce__(self) -> tuple[Callable[..., SentOnce[Any, Any]], tuple[str, npt.NDArray[np.uint8]]]:
        return _open, (self.token, self._content)


def _open(token: str, content: npt.NDArray[np.uint8]) -> SentOnce[Any, Any]:
    with _lock:
        if token not in _opened:
            _opened.clear()
            function: SentOnce[Any, Any] = SentOnce.__new__(SentOnce)
            function.token, function._content = token, content
            function._work = pickle.loads(content.data)  # noqa: S301  made by SentOnce()
            if hasattr(function._work, "prepare"):
                function._work.prepare()
            _opened[token] = function
        return _opened[token]


__all__ = ["SentOnce", "to_bytes"]
