"""Independent jobs: in this process, in several by joblib, or on a cluster that joblib is told of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from numbers import Integral
from typing import Any, TypeVar

from unimix.errors import OptionError, WorkerError
from unimix.parallel.pickling import SentOnce
from unimix.parallel.progress import shown
from unimix.versions import import_for

Job = TypeVar("Job")
Done = TypeVar("Done")


def run_jobs(
    work: Callable[[Job], Done],
    jobs: Sequence[Job],
    *,
    n_jobs: int | None,
    progress: bool | None,
    title: str,
    unit: str = "fits",
) -> list[Done]:
    """Do all jobs, in joblib's processes where more than one is asked for; the answers in the order of the jobs.

    Args:
        work: What is done with each; sent to every process once.
        jobs: What it is done with.
        n_jobs: Processes, as joblib counts them (-1: all cores). None: this one, or what a surrounding
            ``joblib.parallel_config`` says. 1: this one.
        progress: Whether to show a bar; None shows it on terminals.
        title: Beside the bar.
        unit: What the jobs are, in the plural.

    Raises:
        OptionError: If ``n_jobs`` is no number of processes.
        EngineNotInstalledError: If joblib is needed and missing.
        WorkerError: If a process was killed.
    """
    found: dict[int, Done] = {}
    for number, done in stream_jobs(
        [(work, job) for job in jobs], len(jobs), n_jobs=n_jobs, progress=progress, title=title, unit=unit
    ):
        if isinstance(done, WorkerError):
            raise done
        found[number] = done
    return [found[i] for i in range(len(jobs))]


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
    """Do jobs and give every answer as it comes, with the position of its job.

    Args:
        tasks: Work and job; tasks with the same work stand in a row, and it is sent to every process once.
        total: How many there are.
        n_jobs: As for :func:`run_jobs`.
        progress: As for :func:`run_jobs`.
        title: Beside the bar.
        unit: What the jobs are, in the plural.
        alike: Whether jobs take about the same time; short ones are then sent together.

    Yields:
        Position and answer; a :class:`unimix.WorkerError` in place of one whose workers on a cluster were killed.

    Raises:
        OptionError, EngineNotInstalledError: As for :func:`run_jobs`.
        WorkerError: If a process on this machine was killed; ``unfinished`` has the positions in hand.
    """
    fault = jobs_fault(n_jobs)
    if fault:
        raise OptionError(fault)
    numbered = ((i, work, job) for i, (work, job) in enumerate(tasks))
    yield from shown(_answers(numbered, n_jobs, alike=alike), total, title, unit, progress=progress)


def jobs_fault(n_jobs: object) -> str:
    """What is wrong with a number of processes, or an empty text."""
    if n_jobs is None or (isinstance(n_jobs, Integral) and not isinstance(n_jobs, bool) and n_jobs != 0):
        return ""
    return f"n_jobs={n_jobs!r}: a number of processes, or -1 for all cores."


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
    """The client of joblib's Dask backend; None of another."""
    distributed = sys.modules.get("distributed")
    client = getattr(backend, "client", None)
    return client if distributed and isinstance(client, distributed.Client) else None


def _in_processes(
    joblib: Any, backend: Any, tasks: Iterable[tuple[int, Any, Any]], n_jobs: int | None, *, alike: bool
) -> Iterator[tuple[int, Any]]:
    shared = getattr(backend, "supports_sharedmem", False)
    in_hand: set[int] = set()

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
    # multiprocessing, and Ray, which is built on it, answer when all is done: they are given a part at a time
    with joblib.Parallel(n_jobs=n_jobs) as parallel:
        size = 8 * joblib.effective_n_jobs(n_jobs)
        while part := list(islice(calls, size)):
            yield from parallel(part)


def _numbered(number: int, work: Callable[[Any], Any], job: Any) -> tuple[int, Any]:
    return number, work(job)


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        OptionError: If it is not a whole number that is not negative, or None.
    """
    fault = seed_fault(seed)
    if fault:
        raise OptionError(fault)


def seed_fault(seed: object) -> str:
    """What is wrong with a seed, or an empty text."""
    if seed is None or (isinstance(seed, Integral) and not isinstance(seed, bool) and int(seed) >= 0):
        return ""
    return f"seed={seed!r}: a whole number that is not negative."


def _joblib() -> Any:
    # cloudpickle is a package of its own since joblib 1.6
    return import_for("Several processes run on joblib.", "cloudpickle", "joblib", extra="parallel")


__all__ = ["check_seed", "jobs_fault", "run_jobs", "seed_fault", "stream_jobs"]
