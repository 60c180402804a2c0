"""Independent pieces of work, in this process or in several, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, TypeVar

from unimix.errors import EngineNotInstalledError, OptionError

Job = TypeVar("Job")
Done = TypeVar("Done")


def run_jobs(
    work: Callable[[Job], Done], jobs: Sequence[Job], *, n_jobs: int, progress: bool | None, title: str
) -> list[Done]:
    """Do all jobs, in joblib's processes where more than one is asked for; the answers in the order of the jobs.

    Args:
        work: What is done with each.
        jobs: What it is done with.
        n_jobs: Processes, as joblib counts them (-1: all cores).
        progress: Whether to show a bar; None shows it on terminals.
        title: Beside the bar.

    Raises:
        OptionError: If ``n_jobs`` is no number of processes.
        EngineNotInstalledError: If joblib is needed and missing.
    """
    from rich.progress import track

    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise OptionError(f"n_jobs={n_jobs!r}: a number of processes, or -1 for all cores.")
    shown = sys.stderr.isatty() if progress is None else progress
    if n_jobs == 1:
        made: Iterable[Done] = map(work, jobs)
    else:
        made = _joblib().Parallel(n_jobs=n_jobs, return_as="generator")(_joblib().delayed(work)(job) for job in jobs)
    return list(track(made, title, total=len(jobs), disable=not shown))


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        OptionError: If it is not a whole number that is not negative, or None.
    """
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0):
        raise OptionError(f"seed={seed!r}: a whole number that is not negative.")


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise EngineNotInstalledError(
            "Several processes run on joblib. Type:\n    pip install 'unimix[sklearn]'"
        ) from error
    return joblib


__all__ = ["check_seed", "run_jobs"]
