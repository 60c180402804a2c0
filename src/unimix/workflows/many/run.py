"""``fit_many``: every formula to every data set by every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Unpack

from unimix import api
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.errors import WorkerError, listing
from unimix.estimation.arguments import FitArguments, FitOptions, takes_arguments_of
from unimix.formula.allowed import REGISTERED
from unimix.parallel.jobs import jobs_fault, run_jobs, stream_jobs
from unimix.workflows.many.digests import digest_value
from unimix.workflows.many.fits import ManyFits, plural
from unimix.workflows.many.plan import (
    Fit,
    Formulas,
    datasets_of,
    engines_of,
    fits_of,
    formulas_of,
    path_of,
    versions_of,
)
from unimix.workflows.many.store import Journal, Names, StoredFit
from unimix.workflows.many.work import DataSet, Fitted, failure, identify


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
    parts = arguments.get("ziformula"), arguments.get("dispformula")
    texts = formulas_of(formulas, *parts, faults)
    sources = datasets_of(data, faults)
    engines = engines_of(backends, arguments.get("options"), faults)
    file = path_of(path, faults)
    named = versions_of(versions, sources, faults)
    faults += filter(None, [jobs_fault(n_jobs)])
    asked = FitArguments.read(fit_many, formulas, data, arguments, faults=faults)
    # what belongs to the whole run, or to the engines, is no part of a single fit
    shared = replace(asked, options=None, seed=None, progress=False)
    everything = " ".join(filter(None, (*texts.values(), *parts)))
    dataset = DataSet(
        "",
        None,
        shared,
        as_text=file is not None,
        formulas=tuple(texts.values()),
        engines=tuple(engines.values()),
        functions={name: function for name, function in REGISTERED.items() if f"{name}(" in everything},
    )
    datasets = {name: replace(dataset, name=name, source=source) for name, source in sources.items()}
    fits = fits_of(texts, sources, engines, asked.seed)
    run = _Run(datasets, n_jobs, asked.progress)
    if file is None:
        return _in_order(run.stored(fits, {}, None))
    digest = digest_value(replace(shared, time_limit=None, memory_limit=None))
    with Journal(file) as journal:
        identities = run.identities(named)
        keys = {f.names: f.key(identities[f.names[1]][f.formula], digest) for f in fits}
        found, done, left = journal.found, [], []
        for fit in fits:
            known, last = found.known.get(keys[fit.names]), found.fits.get(fit.names)
            if known is None or (known.place is None and retry_failed):
                left.append(fit)
                continue
            done.append(replace(known, names=fit.names, position=fit.position))
            if last is None or last.key != known.key:  # a copy under these names: the last line of a name counts
                done[-1] = journal.add(done[-1], known.text())
        notes = list(found.notes)
        if done:
            notes.append(f"{len(done)} of {len(fits)} fits were in the file already.")
        if others := len(found.known.keys() - set(keys.values())):
            notes.append(
                f"The file also holds {others} {plural('fit', others)} of other data, formulas or arguments: kept, and "
                "left out here."
            )
        made = run.stored(left, keys, journal)
        return _in_order([*done, *made], file, notes)


def _in_order(stored: Sequence[StoredFit], path: Path | None = None, notes: Sequence[str] = ()) -> ManyFits:
    return ManyFits(path, tuple(notes), tuple(sorted(stored, key=lambda s: s.position)))


@dataclass(frozen=True)
class _Run:
    """The data sets of one call, and where they are fitted."""

    datasets: dict[str, DataSet]
    n_jobs: int | None
    progress: bool | None

    def identities(self, versions: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """What stands for every data set in keys, per formula; functions are called where fits will run."""
        found = {n: dict.fromkeys(self.datasets[n].formulas, f"version {v} of {n}") for n, v in versions.items()}
        asked = [d for name, d in self.datasets.items() if name not in found]
        loaded = [d for d in asked if callable(d.source)]
        found |= {d.name: identify(d) for d in asked if not callable(d.source)}
        if loaded:
            made = run_jobs(
                identify, loaded, n_jobs=self.n_jobs, progress=self.progress, title="reading data", unit="data sets"
            )
            found |= {d.name: identities for d, identities in zip(loaded, made, strict=True)}
        return found

    def stored(self, fits: Sequence[Fit], keys: Mapping[Names, str], journal: Journal | None) -> list[StoredFit]:
        """Fit, and keep every answer as it comes.

        Raises:
            WorkerError: With the fits that were in hand.
        """
        made: list[StoredFit] = []
        stream = stream_jobs(
            self._tasks(fits), len(fits), n_jobs=self.n_jobs, progress=self.progress, title="fit_many", alike=False
        )
        try:
            with contextlib.closing(stream):
                for number, answer in stream:
                    if isinstance(answer, WorkerError):
                        answer = Fitted(failure("WorkerError", str(answer), None))  # noqa: PLW2901
                    fit = fits[number]
                    stored = StoredFit(
                        fit.names, fit.formula, answer.summary, keys.get(fit.names, ""), fit.position, answer.result
                    )
                    made.append(stored if journal is None else journal.add(stored, answer.text))
        except WorkerError as error:
            hand = listing((" | ".join(fits[i].names) for i in error.unfinished), 6)
            raise WorkerError(
                f"{error}\n{_kept(len(made), len(fits), journal)} In hand: {hand}.", error.unfinished
            ) from error
        except KeyboardInterrupt as error:
            error.add_note(_kept(len(made), len(fits), journal))
            raise
        return made

    def _tasks(self, fits: Sequence[Fit]) -> Iterator[tuple[DataSet, Fit]]:
        for name, own in groupby(fits, key=lambda fit: fit.names[1]):
            dataset = replace(self.datasets[name])  # what it loads goes with it
            for fit in own:
                yield dataset, fit


def _kept(done: int, total: int, journal: Journal | None) -> str:
    if journal is None:
        return f"{done} of {total} fits were done, and are lost: path='fits.jsonl' keeps them as they come."
    return f"{done} of {total} fits were done in this run and are in {journal.path}: the same call goes on from there."


__all__ = ["fit_many"]
