"""``fit_many``: every formula to every data set by every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from unimix import api
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.errors import WorkerError, listing
from unimix.estimation.arguments import FitArguments, FitOptions, takes_arguments_of
from unimix.parallel.jobs import jobs_fault, run_jobs, stream_jobs
from unimix.workflows.many import fingerprint
from unimix.workflows.many.fits import ManyFits, plural
from unimix.workflows.many.plan import Fit, Formulas, Plan, make_plan, path_of, versions_of
from unimix.workflows.many.store import Entry, Journal, latest
from unimix.workflows.many.work import DataSet, Fitted, Job, failure, read


@takes_arguments_of(api.fit, FitOptions)
def fit_many(
    formulas: Formulas,
    data: Any,
    backends: BackendLike | Sequence[BackendLike] | None = DEFAULT_BACKEND,
    *,
    path: str | Path | None = None,
    retry_failed: bool = True,
    versions: Mapping[str, str] | str | None = None,
    n_jobs: int | None = None,
    **arguments: Unpack[FitOptions],
) -> ManyFits:
    """Fit every formula to every data set by every engine, in several processes or on a cluster.

    A fit that fails is a row with its error, not the end of the run. With ``path`` every result is on disk as soon as
    it is there, and the same call goes on where an earlier one was stopped.

    Args:
        formulas: One formula, a list, or a dict by name.
        data: One data set as for :func:`unimix.fit`, a list, or a dict by name. In place of a data set, a function
            without arguments that loads it: every process that fits it calls it once.
        backends: Names, classes or instances, one or several; None for all engines that are installed.
        path: A file of JSON lines that keeps the results; results are then read from it when they are asked for. A fit
            is known again by its formula, the content of its data, its engine with options, all arguments and its seed.
        retry_failed: Whether fits that failed in an earlier run are tried again.
        versions: Texts by the names of data sets (or one for all) that stand for their content where fits are known
            again. Without one, data are read for a digest of their content: a function is called once more for it.
        n_jobs: Processes, by joblib; -1 for all cores. None: this process, or what a surrounding
            ``joblib.parallel_config`` says.
        arguments: Arguments of :func:`unimix.fit`. ``options`` are those of all backends given by name or class;
            ``method`` is for the engines that maximise a likelihood, samplers give their posterior; ``priors`` go to
            the engines that have priors; an engine without Kenward and Roger's degrees of freedom gives those of
            Satterthwaite; limits are those of each fit, and a file that holds a fit holds it whatever they were;
            ``seed`` gives every fit a seed of its own, by its position: the same numbers whatever ``n_jobs``;
            ``progress`` shows one bar for all fits.

    Returns:
        The results: ``.table``, ``.failed``, ``many["formula", "data", "backend"]``, ``.tidy()``, ``.compare()``.

    Raises:
        OptionError: With all faults of the arguments, before anything is fitted.
        DataError: If the file cannot be written, or another run is writing it.
        EngineNotInstalledError: If joblib is needed and missing.
        WorkerError: If a process on this machine was killed; what was finished is in the file.
    """
    faults: list[str] = []
    plan = make_plan(
        formulas,
        data,
        backends,
        options=arguments.get("options"),
        ziformula=arguments.get("ziformula"),
        dispformula=arguments.get("dispformula"),
        faults=faults,
    )
    file = path_of(path, faults)
    named = versions_of(versions, plan.datasets, faults)
    faults += filter(None, [jobs_fault(n_jobs)])
    asked = FitArguments.read(fit_many, formulas, data, arguments, faults=faults)
    # what belongs to the whole run, or to the engines, is no part of a single fit
    shared = replace(asked, options=None, seed=None, progress=False)
    datasets = {name: DataSet(name, source, shared, as_text=file is not None) for name, source in plan.datasets.items()}
    run = _Run(plan, datasets, n_jobs, asked.progress)
    fits = plan.fits(asked.seed)
    if file is None:
        return ManyFits(None, (), run.entries(fits))
    digest = fingerprint.of_value(replace(shared, time_limit=None, memory_limit=None))
    with Journal(file) as journal:
        contents = run.contents(named)
        keys = {f.names: plan.key(f, contents[f.names[1]], digest) for f in fits}
        return _resumed(run, fits, keys, journal, retry_failed=retry_failed)


def _resumed(
    run: _Run, fits: list[Fit], keys: dict[tuple[str, str, str], str], journal: Journal, *, retry_failed: bool
) -> ManyFits:
    """Fit what the file does not hold."""
    held: dict[str, Entry] = {}
    for entry in journal.found.entries:
        if entry.place is not None or (not retry_failed and entry.key not in held):
            held[entry.key] = entry
    done = [replace(held[keys[f.names]], names=f.names, position=f.position) for f in fits if keys[f.names] in held]
    left = [f for f in fits if keys[f.names] not in held]
    notes = list(journal.found.notes)
    if done:
        notes.append(f"{len(done)} of {len(fits)} fits were in the file already.")
    own = set(keys.values())
    others = sum(e.key not in own for e in journal.found.entries)
    if others:
        notes.append(
            f"The file also holds {others} {plural('fit', others)} of other data, formulas or arguments: kept, and "
            "left out here."
        )
    shown = {e.names: e for e in latest(journal.found.entries)}
    for entry in done:
        if shown.get(entry.names) != entry:
            journal.repeat(entry)
    made = run.entries(left, journal, keys)
    ordered = sorted([*done, *made], key=lambda e: e.position)
    return ManyFits(journal.path, tuple(notes), tuple(ordered))


class _Run:
    """The fits of one call."""

    def __init__(self, plan: Plan, datasets: dict[str, DataSet], n_jobs: int | None, progress: bool | None) -> None:
        self.plan, self.datasets, self.n_jobs, self.progress = plan, datasets, n_jobs, progress

    def contents(self, versions: Mapping[str, str]) -> dict[str, str]:
        """What stands for the content of every data set; functions are called where fits will run."""
        found = {name: f"version {v} of {name}" for name, v in versions.items()}
        asked = [d for name, d in self.datasets.items() if name not in found]
        loaded = [d for d in asked if callable(d.source)]
        answers = {d.name: read(d) for d in asked if not callable(d.source)}
        if loaded:
            made = run_jobs(
                read, loaded, n_jobs=self.n_jobs, progress=self.progress, title="reading data", unit="data sets"
            )
            answers |= {d.name: answer for d, answer in zip(loaded, made, strict=True)}
        # a data set that cannot be read has fits that fail, which are tried again
        return found | {name: digest or f"unread: {why}" for name, (digest, why) in answers.items()}

    def entries(
        self, fits: list[Fit], journal: Journal | None = None, keys: Mapping[tuple[str, str, str], str] | None = None
    ) -> tuple[Entry, ...]:
        """Fit, and keep every answer as it comes.

        Raises:
            WorkerError: With the fits that were in hand.
        """
        made: list[Entry] = []
        stream = stream_jobs(
            self._tasks(fits), len(fits), n_jobs=self.n_jobs, progress=self.progress, title="fit_many", alike=False
        )
        try:
            with contextlib.closing(stream):
                for number, done in stream:
                    if isinstance(done, WorkerError):
                        done = Fitted(failure("WorkerError", str(done), None), None)  # noqa: PLW2901
                    made.append(self._entry(fits[number], done, journal, keys or {}))
        except WorkerError as error:
            hand = listing((" | ".join(fits[i].names) for i in error.unfinished), 6)
            raise WorkerError(
                f"{error}\n{_kept(len(made), len(fits), journal)} In hand: {hand}.", error.unfinished
            ) from error
        except KeyboardInterrupt as error:
            error.add_note(_kept(len(made), len(fits), journal))
            raise
        return tuple(sorted(made, key=lambda e: e.position))

    def _tasks(self, fits: list[Fit]) -> Iterator[tuple[DataSet, Job]]:
        last: DataSet | None = None
        for fit in fits:
            formula, name, backend = fit.names
            if last is None or last.name != name:
                last = replace(self.datasets[name])  # what it loads goes with it
            yield last, Job(self.plan.formulas[formula], self.plan.engines[backend], fit.seed)

    def _entry(
        self, fit: Fit, done: Fitted, journal: Journal | None, keys: Mapping[tuple[str, str, str], str]
    ) -> Entry:
        text = self.plan.formulas[fit.names[0]]
        entry = Entry(fit.names, text, done.summary, keys.get(fit.names, ""), fit.position)
        if journal is None:
            return replace(entry, result=None if isinstance(done.result, str) else done.result)
        return journal.add(entry, done.result if isinstance(done.result, str) else None)


def _kept(done: int, total: int, journal: Journal | None) -> str:
    if journal is None:
        return f"{done} of {total} fits were done, and are lost: path='fits.jsonl' keeps them as they come."
    return f"{done} of {total} fits were done in this run and are in {journal.path}: the same call goes on from there."


__all__ = ["fit_many"]
