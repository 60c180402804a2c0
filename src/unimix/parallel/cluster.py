"""Jobs on the workers of a Dask cluster, whose workers may come, go and be killed.

joblib's own Dask backend is asked for its client only: it waits for ever for a job whose workers were killed, and what
it scatters is gone with the workers that hold it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from unimix.errors import WorkerError
from unimix.parallel.task_cache import do, pack

FEWEST_WAITING = 16
"""Jobs handed to the scheduler at least, so that it sees that more workers are of use."""


def on_dask(client: Any, tasks: Iterable[tuple[int, Callable[[Any], Any], Any]]) -> Iterator[tuple[int, Any]]:
    """Do jobs on a cluster; the answers as they come, each with its number.

    A job whose workers died again and again is done once more while nothing else runs: the scheduler blames all jobs
    that waited on a worker for its death. What fails alone, too, is answered with a :class:`unimix.WorkerError`.

    Args:
        client: Of ``dask.distributed``.
        tasks: Number, work and job; jobs of one work in a row.
    """
    from distributed import KilledWorker, as_completed

    queue = as_completed(with_results=True, raise_errors=False)
    waiting: dict[str, tuple[int, _Sent, Any]] = {}
    suspects: deque[tuple[int, _Sent, Any]] = deque()
    todo = iter(_sent(client, tasks))

    def submit(task: tuple[int, _Sent, Any], suffix: str = "") -> None:
        number, work, job = task
        key = f"unimix-{work.parcel.token}-{number}{suffix}"
        future = client.submit(do, work.parcel.token, work.content(), job, key=key, pure=False)
        waiting[future.key] = task
        queue.add(future)

    def top_up() -> None:
        most = max(2 * sum(client.nthreads().values()), FEWEST_WAITING)
        while len(waiting) < most and (task := next(todo, None)) is not None:
            submit(task)
        if not waiting and suspects:
            submit(suspects.popleft(), "-alone")

    try:
        top_up()
        while waiting:
            future, found = next(queue)
            task = waiting.pop(future.key)
            if future.status == "finished":
                yield task[0], found
            elif future.status != "error":
                raise WorkerError(f"The cluster gave up a job ({future.status}): was it closed?")
            elif not isinstance(found[1], KilledWorker):
                raise found[1].with_traceback(found[2])
            elif future.key.endswith("-alone"):
                yield task[0], WorkerError(_words(found[1]))
            else:
                suspects.append(task)
            top_up()
    finally:
        left = list(queue.futures)
        if left:
            client.cancel(left)


def _words(error: Exception) -> str:
    return f"Every worker process that tried it ended before it was done (killed, out of memory, or crashed): {error}"


class _Sent:
    """Work that is on the cluster as a task of its own: a copy that is lost is made again from the scheduler's."""

    def __init__(self, client: Any, work: Callable[[Any], Any]) -> None:
        self.parcel = pack(work)
        self._client = client
        self._times = 0
        self._future: Any = None

    def content(self) -> Any:
        """A future of the parcel's bytes; a new one where the scheduler blamed them for the death of workers."""
        import dask

        if self._future is None or self._future.status not in ("pending", "finished"):
            self._times += 1
            key = f"unimix-{self.parcel.token}-work-{self._times}"
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                self._future = self._client.submit(_same, self.parcel.content.tobytes(), key=key, pure=False)
        return self._future


def _sent(client: Any, tasks: Iterable[tuple[int, Any, Any]]) -> Iterator[tuple[int, _Sent, Any]]:
    last, sent = None, None
    for number, work, job in tasks:
        if sent is None or work is not last:
            last, sent = work, _Sent(client, work)
        yield number, sent, job


def _same(content: bytes) -> bytes:
    return content


__all__ = ["on_dask"]
