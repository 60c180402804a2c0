"""Jobs on a Dask cluster, whose workers may come, go and be killed.

``distributed`` itself moves the jobs of a dead worker to another worker. This fails if one job kills every worker that
runs it: ``distributed`` blames all jobs that were waiting on a worker for its death, and abandons other jobs together
with the one that kills, whatever the value of ``retries=``. joblib's Dask backend would wait forever for an abandoned
job; only its client is used here.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from unimix.errors import WorkerError
from unimix.parallel.pickling import SentOnce

FEWEST_WAITING = 16
"""Smallest number of jobs that the scheduler holds, so that it can see that more workers would help."""

Task = tuple[int, Callable[[Any], Any], Any]


def on_dask(client: Any, tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
    """Do jobs on a cluster and yield every answer as soon as it is there, with the number of its job.

    An abandoned job is tried once more while nothing else runs. If it fails then too, its answer is a
    :class:`unimix.WorkerError`.

    Args:
        client: The ``dask.distributed.Client``.
        tasks: Triples of a number, a function and a job. Triples with the same function follow each other.
    """
    from distributed import KilledWorker, as_completed

    queue = as_completed(with_results=True, raise_errors=False)
    sender, todo = _Sender(client), iter(tasks)
    running: dict[str, Task] = {}
    given_up: deque[Task] = deque()

    def submit(task: Task, suffix: str = "") -> None:
        future = sender.submit(task, suffix)
        running[future.key] = task
        queue.add(future)

    def fill() -> None:
        most = max(2 * sum(client.nthreads().values()), FEWEST_WAITING)
        for task in islice(todo, max(most - len(running), 0)):
            submit(task)
        if not running and given_up:
            submit(given_up.popleft(), "-alone")

    try:
        fill()
        while running:
            future, answer = next(queue)
            task = running.pop(future.key)
            if future.status == "finished":
                yield task[0], answer
            elif future.status != "error":
                raise WorkerError(f"The cluster abandoned a job ({future.status}). Was the cluster closed?")
            elif not isinstance(answer[1], KilledWorker):
                raise answer[1].with_traceback(answer[2])
            elif future.key.endswith("-alone"):
                yield (
                    task[0],
                    WorkerError(
                        "Every worker process that ran this job ended before the job was done (it was killed, ran out "
                        f"of memory, or crashed): {answer[1]}"
                    ),
                )
            else:
                given_up.append(task)
            fill()
    finally:
        client.cancel(list(queue.futures))


class _Sender:
    """Sends a function to the workers as a task of its own, so that another worker can load it if one worker dies."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._work: Callable[[Any], Any] | None = None
        self._future: Any = None

    def submit(self, task: Task, suffix: str) -> Any:
        """Submit a task and return the future of its answer."""
        import dask

        number, work, job = task
        if work is not self._work:
            self._work, self._sent, self._future, self._times = work, SentOnce(work), None, 0
        if self._future is None or self._future.status not in ("pending", "finished"):
            self._times += 1
            key = f"unimix-{self._sent.token}-work-{self._times}"
            function, arguments = (
                self._sent.__reduce__()
            )  # its parts, because the scheduler would load the function itself
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                self._future = self._client.submit(function, *arguments, key=key, pure=False)
        return self._client.submit(
            operator.call, self._future, job, key=f"unimix-{self._sent.token}-{number}{suffix}", pure=False
        )


__all__ = ["on_dask"]
