"""Jobs on a Dask cluster, whose workers may come, go and be killed.

``distributed`` itself gives the jobs of a dead worker to another one. It does not pass the test with a job that kills
every worker: all jobs that waited on a worker are blamed for its death, and with the deadly job innocent ones are given
up, whatever ``retries=`` says. joblib's Dask backend, of which only the client is used, waits for ever for a job that
was given up.
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
"""Jobs handed to the scheduler at least, so that it sees that more workers are of use."""

Task = tuple[int, Callable[[Any], Any], Any]


def on_dask(client: Any, tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
    """Do jobs on a cluster; the answers as they come, each with its number.

    A job that was given up is done once more while nothing else runs. What fails alone, too, is answered with a
    :class:`unimix.WorkerError`.

    Args:
        client: The ``dask.distributed.Client``.
        tasks: Number, work and job; jobs of one work in a row.
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
                raise WorkerError(f"The cluster gave up a job ({future.status}): was it closed?")
            elif not isinstance(answer[1], KilledWorker):
                raise answer[1].with_traceback(answer[2])
            elif future.key.endswith("-alone"):
                yield (
                    task[0],
                    WorkerError(
                        "Every worker process that tried it ended before it was done (killed, out of memory, or "
                        f"crashed): {answer[1]}"
                    ),
                )
            else:
                given_up.append(task)
            fill()
    finally:
        client.cancel(list(queue.futures))


class _Sender:
    """Sends work as a task of its own, which opens it: what is lost with a worker is opened again on another one."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._work: Callable[[Any], Any] | None = None
        self._future: Any = None

    def submit(self, task: Task, suffix: str) -> Any:
        """A future of the answer."""
        import dask

        number, work, job = task
        if work is not self._work:
            self._work, self._sent, self._future, self._times = work, SentOnce(work), None, 0
        if self._future is None or self._future.status not in ("pending", "finished"):
            self._times += 1
            key = f"unimix-{self._sent.token}-work-{self._times}"
            function, arguments = self._sent.__reduce__()  # not itself: the scheduler would open it, too
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                self._future = self._client.submit(function, *arguments, key=key, pure=False)
        return self._client.submit(
            operator.call, self._future, job, key=f"unimix-{self._sent.token}-{number}{suffix}", pure=False
        )


__all__ = ["on_dask"]
