"""Independent jobs: in this process, in several processes by joblib, or on a cluster that joblib uses."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from numbers import Integral
from typing import Any, TypeVar

from unimix.errors import OptionError, WorkerError
from unimix.installation import import_for
from unimix.parallel.pickling import SentOnce
from unimix.parallel.progress import shown

Job = TypeVar("Job")
Done = TypeVar("Done")

MOST_JOBS = 10_000
"""Largest number of processes."""


def run_jobs(
    work: Callable[[Job], Done],
    jobs: Sequence[Job],
    *,
    n_jobs: int | None,
    progress: bool | None,
    title: str,
    unit: str = "fits",
) -> list[Done]:
    """Do all jobs and return their answers in the order of the jobs.

    Args:
        work: Function of a job, which is sent to every process once.
        jobs: Arguments of the function.
        n_jobs: Number of processes (joblib); -1 uses all cores, and 1 uses this process. None uses this process, or
            the number of a surrounding ``joblib.parallel_config``.
        progress: Whether to show a progress bar; None shows it on a terminal.
        title: Text beside the bar.
        unit: Name of the jobs in the plural.

    Raises:
        OptionError: If ``n_jobs`` is not a number of processes.
        EngineNotInstalledError: If joblib is needed and missing.
        WorkerError: If a process was killed.
    """
    answers: dict[int, Done] = {}
    for number, done in stream_jobs(
        [(work, job) for job in jobs], len(jobs), n_jobs=n_jobs, progress=progress, title=title, unit=unit
    ):
        if isinstance(done, WorkerError):
            raise done
        answers[number] = done
    return [answers[i] for i in range(len(jobs))]


def run_batches(
    work: Callable[[Sequence[Job]], Sequence[Done]],
    jobs: Sequence[Job],
    size: int,
    *,
    n_jobs: int | None,
    progress: bool | None,
    title: str,
) -> list[Done]:
    """Do jobs several at a time and return their answers in the order of the jobs.

    The batches do not depend on the number of processes, so that the answers do not either.

    Args:
        work: Function of a batch of jobs, which returns an answer for each; it is sent to every process once.
        jobs: The jobs.
        size: Number of jobs of a batch.
        n_jobs: As for :func:`run_jobs`.
        progress: As for :func:`run_jobs`.
        title: Text beside the bar.

    Raises:
        OptionError, EngineNotInstalledError, WorkerError: As for :func:`run_jobs`.
    """
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    unit = "fits" if size == 1 else f"batches of {size} fits"
    done = run_jobs(work, batches, n_jobs=n_jobs, progress=progress, title=title, unit=unit)
    return list(chain.from_iterable(done))


def stream_jobs(
    tasks: Iterable[tuple[Callable[[Job], Done], Job]],
    total: int,
    *,
    n_jobs: int | None,
    progress: bool | None,
    title: str,
    unit: str = "fits",
    alike: bool = True,
) -> Generator[tuple[int, Done | WorkerError], None, None]:
    """Do jobs and yield every answer as soon as it is there, with the position of its job.

    Args:
        tasks: Pairs of a function and a job. Pairs with the same function follow each other, and it is sent to every
            process once.
        total: Number of tasks.
        n_jobs: As for :func:`run_jobs`.
        progress: As for :func:`run_jobs`.
        title: Text beside the bar.
        unit: Name of the jobs in the plural.
        alike: Whether the jobs take about the same time; short ones are then sent together.

    Yields:
        Position and answer. A :class:`unimix.WorkerError` stands for the answer of a job whose workers on a cluster
        were killed.

    Raises:
        OptionError, EngineNotInstalledError: As for :func:`run_jobs`.
        WorkerError: If a process on this machine was killed; ``unfinished`` has the positions of its jobs.
    """
    fault = jobs_fault(n_jobs)
    if fault:
        raise OptionError(fault)
    numbered = ((i, work, job) for i, (work, job) in enumerate(tasks))
    yield from shown(_answers(numbered, n_jobs, alike=alike), total, title, unit, progress=progress)


def jobs_fault(n_jobs: object) -> str:
    """Message about a wrong number of processes; empty if the number can be used."""
    if n_jobs is None or (
        isinstance(n_jobs, Integral) and not isinstance(n_jobs, bool) and 0 < abs(int(n_jobs)) <= MOST_JOBS
    ):
        return ""
    return f"n_jobs={n_jobs!r}: give a number of processes, or -1 for all cores."


def _answers(
    tasks: Iterable[tuple[int, Callable[[Any], Any], Any]], n_jobs: int | None, *, alike: bool
) -> Iterator[tuple[int, Any]]:
    if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
        return _here(tasks)
    joblib = _joblib()
    backend, _ = joblib.parallel.get_active_backend()
    client = _client_of(backend)
    if client is not None:
        from unimix.parallel.cluster import on_dask

        return on_dask(client, tasks)
    if n_jobs is None and joblib.effective_n_jobs() == 1:
        return _here(tasks)
    return _in_processes(joblib, backend, tasks, n_jobs, alike=alike)


def _here(tasks: Iterable[tuple[int, Callable[[Any], Any], Any]]) -> Iterator[tuple[int, Any]]:
    return ((number, work(job)) for number, work, job in tasks)


def _client_of(backend: Any) -> Any:
    """Client of joblib's Dask backend; None for another backend."""
    distributed = sys.modules.get("distributed")
    client = getattr(backend, "client", None)
    return client if distributed and isinstance(client, distributed.Client) else None


def _in_processes(
    joblib: Any, backend: Any, tasks: Iterable[tuple[int, Any, Any]], n_jobs: int | None, *, alike: bool
) -> Iterator[tuple[int, Any]]:
    shared = getattr(backend, "supports_sharedmem", False)
    in_hand: set[int] = set()
    # loky replaces a process that has grown or was idle for long, and warns. The warning comes in the thread that
    # receives the answers: where warnings are errors it would end the thread, and everybody would wait for ever.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)

    def calls() -> Iterator[Any]:
        last, sent = None, None
        for number, work, job in tasks:
            in_hand.add(number)
            if work is not last:
                last, sent = work, work if shared else SentOnce(work)
            yield joblib.delayed(_numbered)(number, sent, job)

    batch = "auto" if alike else 1
    try:
        for number, done in _streamed(joblib, backend, calls(), n_jobs, batch):
            in_hand.discard(number)
            yield number, done
    except BrokenProcessPool as error:
        raise WorkerError(
            "A worker process ended before its work was done: it was killed, ran out of memory, or crashed in an "
            "engine. Run again with fewer processes (n_jobs=).",
            sorted(in_hand),
        ) from error


def _streamed(joblib: Any, backend: Any, calls: Iterator[Any], n_jobs: int | None, batch: Any) -> Iterator[Any]:
    if getattr(backend, "supports_return_generator", False):
        yield from joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=batch)(calls)
        return
    # multiprocessing, and Ray, which is built on it, return all answers at the end: they get some jobs at a time
    with joblib.Parallel(n_jobs=n_jobs) as parallel:
        size = 8 * joblib.effective_n_jobs(n_jobs)
        while part := list(islice(calls, size)):
            yield from parallel(part)


def _numbered(number: int, work: Callable[[Any], Any], job: Any) -> tuple[int, Any]:
    return number, work(job)


def check_seed(seed: object) -> None:
    """Check a seed of random numbers.

    Raises:
        OptionError: If it is neither None nor a whole number that is not negative.
    """
    fault = seed_fault(seed)
    if fault:
        raise OptionError(fault)


def seed_fault(seed: object) -> str:
    """Message about a wrong seed; empty if the seed can be used."""
    if seed is None or (isinstance(seed, Integral) and not isinstance(seed, bool) and int(seed) >= 0):
        return ""
    return f"seed={seed!r}: give a whole number that is not negative."


def _joblib() -> Any:
    # cloudpickle is a package of its own since joblib 1.6
    return import_for("Several processes run on joblib.", "cloudpickle", "joblib", extra="parallel")


__all__ = ["check_seed", "jobs_fault", "run_batches", "run_jobs", "seed_fault", "stream_jobs"]
