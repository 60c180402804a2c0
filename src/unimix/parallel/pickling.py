"""What is sent to other processes: as bytes, and work for many jobs only once."""

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


def to_bytes(thing: object, advice: str) -> bytes:
    """Pickle something with all it holds; with cloudpickle, lambdas and whatever a script or a notebook defines, too.

    Args:
        thing: What is to be sent.
        advice: What to do where it cannot be sent; ends the message.

    Raises:
        OptionError: If it holds what cannot be sent to another process.
    """
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
    try:
        made: bytes = pickler.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise OptionError(f"Something given here cannot be sent to another process ({error}): {advice}") from error
    return made


class SentOnce(Generic[Job, Done]):
    """Work that is pickled once, and opened once in every process, however many jobs it does there.

    A process keeps the work that it opened last. Jobs of one process are done one at a time: engines have state that
    belongs to the process.

    Args:
        work: A function of a job. Where it has a method ``prepare``, that is called when it is opened.
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
            made: SentOnce[Any, Any] = SentOnce.__new__(SentOnce)
            made.token, made._content = token, content
            made._work = pickle.loads(content.data)  # noqa: S301  made by SentOnce()
            if hasattr(made._work, "prepare"):
                made._work.prepare()
            _opened[token] = made
        return _opened[token]


__all__ = ["SentOnce", "to_bytes"]
