"""Whatever an engine prints or warns becomes a note; global state is put back."""

from __future__ import annotations

import contextlib
import io
import os
import random
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_ONE_AT_A_TIME = threading.RLock()


def unique_lines(text: str) -> list[str]:
    """Non-empty lines in order, repetitions dropped."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


@contextlib.contextmanager
def captured(*, streams: bool = True) -> Iterator[list[str]]:
    """Collect warnings and printed lines; restore random state, filters, folder and NumPy's error state.

    Args:
        streams: Also take what is printed. False leaves the terminal to a progress bar.

    Yields:
        A list that holds the notes once the block has ended.
    """
    # Streams and filters belong to the process: two threads that swap them in turn would lose them.
    with _ONE_AT_A_TIME, _swapped(streams=streams) as notes:
        yield notes


@contextlib.contextmanager
def _swapped(*, streams: bool) -> Iterator[list[str]]:
    notes: list[str] = []
    out, err = io.StringIO(), io.StringIO()
    folder, python_state, numpy_state = Path.cwd(), random.getstate(), np.random.get_state()  # noqa: NPY002
    with contextlib.ExitStack() as stack:
        stack.enter_context(same_error_state())
        if streams:
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        try:
            yield notes
        finally:
            os.chdir(folder)
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
            told = [
                f"{w.category.__name__}: {w.message}" for w in caught if not issubclass(w.category, DeprecationWarning)
            ]
            notes += dict.fromkeys([*told, *unique_lines(out.getvalue()), *unique_lines(err.getvalue())])


@contextlib.contextmanager
def same_error_state() -> Iterator[None]:
    """Restore NumPy's error state: an exception that arrives as ``np.errstate`` is entered leaves its state behind."""
    before = np.geterr()
    try:
        yield
    finally:
        np.seterr(**before)
