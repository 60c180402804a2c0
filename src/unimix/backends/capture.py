"""Capture of the output and the warnings of an engine as notes, with global state restored."""

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
    """Non-empty lines in order, without repetitions."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


@contextlib.contextmanager
def captured(*, streams: bool = True) -> Iterator[list[str]]:
    """Collect warnings and printed lines; restore random state, warning filters, working folder and error state.

    Args:
        streams: Whether to capture printed output too; False leaves the terminal to a progress bar.

    Yields:
        List that holds the notes after the end of the block.
    """
    # Streams and filters belong to the process, so that two threads must not replace them at the same time.
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
            warned = [
                f"{w.category.__name__}: {w.message}" for w in caught if not issubclass(w.category, DeprecationWarning)
            ]
            notes += dict.fromkeys([*warned, *unique_lines(out.getvalue()), *unique_lines(err.getvalue())])


@contextlib.contextmanager
def same_error_state() -> Iterator[None]:
    """Restore NumPy's error state, which an exception during the entry of ``np.errstate`` would leave changed."""
    before = np.geterr()
    try:
        yield
    finally:
        np.seterr(**before)
