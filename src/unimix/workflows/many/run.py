"""``fit_many``: fit every formula to every data set by every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Unpack

from unimix import api
from unimix.backends.interrupts import shield_interrupts
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

    A fit that fails does not end the run; it becomes a row of the table with its error. With ``path`` every result is
    written to disk as soon as it is known, and the same call continues where an earlier run was stopped.

    Args:
        formulas: One formula, a list of formulas, or a dict of formulas by name.
        data: One data set as for :func:`unimix.fit`, a list, or a dict by name. A data set can be replaced by a
            function without arguments that loads it; every process that fits it calls the function once.
        backends: The engines: one or several names, classes or instances; None for all installed engines.
        path: A file of JSON lines that keeps the results. Results are then read from the file when they are used. A
            stored fit is recognised by its formula, the content of its data, its engine with options, all arguments and
            its seed.
        retry_failed: Whether to repeat fits that failed in an earlier run.
        versions: Texts that identify the content of data sets, by name of the data set, or one text for all. Data
            without a version are read to compute a digest of their content; a function is called once more for that.
        n_jobs: Number of processes (joblib); -1 uses all cores. None uses this process, or the number of a surrounding
            ``joblib.parallel_config``.
        arguments: Arguments of :func:`unimix.fit`. ``options`` apply to all backends given by name or class, ``method``
            to engines that maximise a likelihood, and ``priors`` to samplers. An engine without Kenward and Roger's
            degrees of freedom gives Satterthwaite's. Limits of time and memory apply to each fit, and do not matter
            when a stored fit is recognised. From ``seed`` every fit gets a seed of its own by its position, so that
            numbers do not depend on ``n_jobs``. ``progress`` shows one bar for all fits.

    Returns:
        The results: ``.table``, ``.failed``, ``many["formula", "data", "backend"]``, ``.tidy()``, ``.compare()``.

    Raises:
        OptionError: If arguments are wrong, all faults at once, before anything is fitted.
        DataError: If the file cannot be written, or another run is writing it.
        EngineNotInstalledError: If joblib is needed and missing.
        WorkerError: If a process on this machine was killed; finished fits are in the file.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> small, large = "Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)"
        >>> many = um.fit_many({"intercepts": small, "slopes": large}, sleep, progress=False)
        >>> many.table[["formula", "state", "aic"]].round(1)
              formula      state     aic
        0  intercepts  converged  1794.5
        1      slopes  converged  1755.6
    """
    faults: list[str] = []
    parts = arguments.get("ziformula"), arguments.get("dispformula")
    texts = formulas_of(formulas, *parts, faults)
    sources = datasets_of(data, faults)
    engines = engines_of(backends, arguments.get("options"), faults)
    file = path_of(path, faults)
    named = versions_of(versions, sources, faults)
    faults += filter(None, [jobs_fault(n_jobs)])
    fit_arguments = FitArguments.read(fit_many, formulas, data, arguments, faults=faults)
    # arguments of the whole run, or of the engines, are not part of a single fit
    shared = replace(fit_arguments, options=None, seed=None, progress=False)
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
    fits = fits_of(texts, sources, engines, fit_arguments.seed)
    run = _Run(datasets, n_jobs, fit_arguments.progress)
    if file is None:
        return _in_order(run.stored(fits, {}, None))
    digest = digest_value(replace(shared, time_limit=None, memory_limit=None))
    with Journal(file) as journal:
        identities = run.identities(named)
        keys = {f.names: f.key(identities[f.names[1]][f.formula], digest) for f in fits}
        content, done, unfinished = journal.content, [], []
        for fit in fits:
            known, last = content.known.get(keys[fit.names]), content.fits.get(fit.names)
            if known is None or (known.place is None and retry_failed):
                unfinished.append(fit)
                continue
            done.append(replace(known, names=fit.names, position=fit.position))
            if last is None or last.key != known.key:  # a copy under these names: the last line of a name counts
                done[-1] = journal.add(done[-1], known.text())
        notes = list(content.notes)
        if done:
            notes.append(f"{len(done)} of {len(fits)} fits were in the file already.")
        if others := len(content.known.keys() - set(keys.values())):
            notes.append(
                f"The file also holds {others} {plural('fit', others)} of other data, formulas or arguments: kept, and "
                "left out here."
            )
        fresh = run.stored(unfinished, keys, journal)
        return _in_order([*done, *fresh], file, notes)


def _in_order(stored: Sequence[StoredFit], path: Path | None = None, notes: Sequence[str] = ()) -> ManyFits:
    return ManyFits(path, tuple(notes), tuple(sorted(stored, key=lambda s: s.position)))


@dataclass(frozen=True)
class _Run:
    """The data sets of one call, with the number of processes that fit them."""

    datasets: dict[str, DataSet]
    n_jobs: int | None
    progress: bool | None

    def identities(self, versions: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Texts that identify each data set in the keys of fits, by name and formula.

        Functions that load data are called in the processes that fit them.
        """
        identities = {n: dict.fromkeys(self.datasets[n].formulas, f"version {v} of {n}") for n, v in versions.items()}
        unidentified = [d for name, d in self.datasets.items() if name not in identities]
        loaded = [d for d in unidentified if callable(d.source)]
        identities |= {d.name: identify(d) for d in unidentified if not callable(d.source)}
        if loaded:
            answers = run_jobs(
                identify, loaded, n_jobs=self.n_jobs, progress=self.progress, title="reading data", unit="data sets"
            )
            identities |= {d.name: answer for d, answer in zip(loaded, answers, strict=True)}
        return identities

    def stored(self, fits: Sequence[Fit], keys: Mapping[Names, str], journal: Journal | None) -> list[StoredFit]:
        """Run the fits, and store every answer as soon as it is known.

        Raises:
            WorkerError: If a process was killed; the message names the fits that were running.
        """
        stored_fits: list[StoredFit] = []
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
                    with shield_interrupts():  # a line in the file is always counted
                        stored_fits.append(stored if journal is None else journal.add(stored, answer.text))
        except WorkerError as error:
            hand = listing((" | ".join(fits[i].names) for i in error.unfinished), 6)
            raise WorkerError(
                f"{error}\n{_progress(len(stored_fits), len(fits), journal)} Running: {hand}.", error.unfinished
            ) from error
        except KeyboardInterrupt as error:
            error.add_note(_progress(len(stored_fits), len(fits), journal))
            raise
        return stored_fits

    def _tasks(self, fits: Sequence[Fit]) -> Iterator[tuple[DataSet, Fit]]:
        for name, own_fits in groupby(fits, key=lambda fit: fit.names[1]):
            dataset = replace(self.datasets[name])  # the data that it loads are released with it
            for fit in own_fits:
                yield dataset, fit


def _progress(done: int, total: int, journal: Journal | None) -> str:
    if journal is None:
        return (
            f"{done} of {total} fits were done, and are lost: path='fits.jsonl' keeps every fit as soon as it is done."
        )
    return (
        f"{done} of {total} fits were done in this run and are in {journal.path}: the same call continues from there."
    )


__all__ = ["fit_many"]
