"""Work that is sent to every worker process once, however many jobs it does there."""

from __future__ import annotations

import io
import pickle
import secrets
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from unimix.errors import OptionError

Job = TypeVar("Job")
Done = TypeVar("Done")

MOST_KEPT = 2
"""Pieces of work that a worker keeps: the one in hand and the next."""
ENGINES_SIZE = 4_000_000_000
"""Bytes by which a process may grow: R, PyMC and a large data set are no leak."""
_opened: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Parcel:
    """A pickled function.

    Attributes:
        token: Of this parcel alone.
        content: Its bytes, as an array of uint8: joblib writes large arrays to a file that its processes share.
    """

    token: str
    content: Any


def pack(work: Callable[[Job], Done]) -> Parcel:
    """Pickle a function with all it holds; lambdas and functions of a notebook too.

    Raises:
        OptionError: If it holds what cannot be sent to another process.
    """
    import cloudpickle

    buffer = io.BytesIO()
    try:
        cloudpickle.dump(work, buffer, protocol=pickle.HIGHEST_PROTOCOL)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise OptionError(
            f"Something given here cannot be sent to another process ({error}): use n_jobs=1, or a function of a "
            "module that opens it there."
        ) from error
    return Parcel(secrets.token_hex(8), np.frombuffer(buffer.getbuffer(), dtype=np.uint8))


def do(token: str, content: Any, job: Any) -> Any:
    """Do one job of a parcel in the process that it was sent to; the parcel is opened there once.

    Args:
        token: Of the parcel.
        content: Its bytes.
        job: What to do.
    """
    with _lock:
        if token not in _opened:
            _let_grow()
            _opened[token] = pickle.loads(memoryview(content))  # noqa: S301  made by pack()
            while len(_opened) > MOST_KEPT:
                _opened.popitem(last=False)
        _opened.move_to_end(token)
        work = _opened[token]
    with _one_at_a_time:
        return work(job)


def _let_grow() -> None:
    """Keep this process although it grows.

    Where psutil is installed, which Dask brings, joblib 1.6 ends a worker that has grown by 300 MB since its first job:
    every engine would start again and again.
    """
    loky = sys.modules.get("joblib.externals.loky.process_executor")
    if loky is not None and getattr(loky, "_MAX_MEMORY_LEAK_SIZE", ENGINES_SIZE) < ENGINES_SIZE:
        loky._MAX_MEMORY_LEAK_SIZE = ENGINES_SIZE  # type: ignore[attr-defined]


__all__ = ["Parcel", "do", "pack"]
