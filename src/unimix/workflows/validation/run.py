"""``cross_validate``: folds, models and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from unimix.api import fit
from unimix.backends import registry
from unimix.backends.base import Backend
from unimix.backends.registry import DEFAULT_BACKEND, BackendLike
from unimix.design.arrays import Design
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.estimation.arguments import FitArguments, ModelOptions, takes_arguments_of
from unimix.estimation.run import fit_problem, refuse_unsupported
from unimix.estimation.subset_data import SubsettableData, arguments_without_groups, bind_columns
from unimix.formula.parser import render
from unimix.parallel.jobs import jobs_fault, run_jobs
from unimix.result import FitResult
from unimix.workflows.validation.crossvalidation import CrossValidation, Loss, checked_metrics, loo_table
from unimix.workflows.validation.folds import Job, Model, Scored, run
from unimix.workflows.validation.splits import Split, make_splits

KINDS = ("complete", "none", "partial")


@dataclass(frozen=True)
class _Scorer:
    """What a process needs to fit and score any model of any fold."""

    used: pd.DataFrame
    splits: Sequence[Split]
    factor: str | None
    weights: Any
    trials: npt.NDArray[np.float64] | None
    ci_level: float
    seeds: Sequence[int]

    def __call__(self, at: tuple[Model, int]) -> Scored:
        model, fold = at
        train, test = self.splits[fold]
        return run(
            Job(
                model=model,
                fold=fold,
                train=self.used.iloc[train],
                test=self.used.iloc[test],
                position=test,
                group=self.factor,
                weights=self.weights,
                trials=None if self.trials is None else self.trials[test],
                ci_level=self.ci_level,
                seed=self.seeds[fold],
            )
        )


@takes_arguments_of(fit, ModelOptions, df_method="normal")
def cross_validate(
    formula: str,
    data: Any,
    backends: Sequence[BackendLike] | BackendLike = DEFAULT_BACKEND,
    *,
    backend: BackendLike | None = None,
    split: Any = "rows",
    folds: int | None = None,
    group: str | None = None,
    pooling: Sequence[str] = KINDS,
    metrics: Sequence[str] | Mapping[str, Loss] | None = None,
    ci_level: float = 0.95,
    loo: bool = True,
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
    restart: bool = False,
    **arguments: Unpack[ModelOptions],
) -> CrossValidation:
    """Predict rows, or whole levels, that the fit has not seen, by every engine and by all kinds of pooling.

    Every model sees the same folds and is scored on the same rows. Scores are those of predictive distributions: of a
    linear model normal, with the uncertainty of fixed effects, group effects and residual joined; of a sampler the
    mixture over its draws. The effects of a level that was not fitted are integrated out.

    Args:
        formula: As for :func:`unimix.fit`.
        data: As for :func:`unimix.fit`.
        backends: Engines of partial pooling; the first also fits complete pooling. No pooling is a regression per
            level, by least squares (maximum likelihood for generalised models).
        backend: A single engine, instead of ``backends``.
        split: ``rows`` leaves rows out within levels, ``groups`` leaves whole levels out; or a scikit-learn splitter
            (given the rows used, the response and the levels), or pairs (training, test) of positions in the data.
        folds: Number of folds of the named splits; 10, or fewer where there are fewer levels, if left out.
        group: The grouping factor; may be left out where there is one.
        pooling: Which kinds: complete, none, partial.
        metrics: Names among rmse, mae, log_score, crps, coverage; or functions of (observed, predicted mean) by name,
            which give a loss per row and are added to these.
        ci_level: Probability of the prediction intervals whose coverage is counted.
        loo: Give PSIS-LOO of the engines that sample beside (one more fit, to all rows).
        seed: Seed of folds and draws: the same seed gives the same numbers, whatever ``n_jobs``.
        n_jobs: Processes, by joblib; -1 for all cores. None: this process, or what a surrounding
            ``joblib.parallel_config`` says.
        progress: Show a progress bar; None means on a terminal.
        restart: As for :func:`unimix.fit`, of partial pooling.
        arguments: Arguments of :func:`unimix.fit`, but for ``options`` (give configured backends). ``method`` is for
            partial pooling by engines that maximise a likelihood, samplers give their posterior; ``priors`` go to the
            engines that have priors; ``df_method`` is normal if left out, which is the quickest: no score depends on
            it.

    Returns:
        The scores: ``.table``, ``.differences()``, ``.folds``, ``.rows``, ``.why``, ``.loo``, ``.plot()``. A fit that
        fails is a line in ``.fits`` with its error, not the end of the run.

    Raises:
        DataError: If the data do not allow the model or the split.
        OptionError: For wrong arguments, all of them at once.
        EngineNotInstalledError: If scikit-learn or joblib is missing.
    """
    engines, errors = registry.resolve_all(backends if backend is None else backend)
    faults = [] if engines or errors else ["backends: name one engine at least."]
    if isinstance(pooling, str):
        faults.append(f"pooling={pooling!r}: give a list, pooling=[{pooling!r}].")
    else:
        faults += [f"pooling: {k!r} is none of {listing(KINDS)}." for k in pooling if k not in KINDS]
    faults += filter(None, [jobs_fault(n_jobs)])
    try:
        names, own = checked_metrics(metrics)
    except OptionError as error:
        errors.append(error)
    own_arguments = {"ci_level": ci_level, "seed": seed, "progress": progress, "restart": restart}
    given = {"df_method": "normal", **arguments, **own_arguments}
    asked = FitArguments.read(cross_validate, formula, data, given, faults=faults, errors=errors)
    at = bind_columns(formula, data, asked)
    codes, levels, factor = _levels(at.design, group, split)
    used = at.used
    splits = make_splits(split, folds, used, at.design, codes, seed)
    _same_response(at, splits[0][0])
    models, why = _models(at, engines, pooling, factor, split)
    for model in models:
        if model.engine is not None:
            refuse_unsupported(model.engine, model.arguments.problem(model.formula, used))
    seeds = np.random.SeedSequence(seed).generate_state(len(splits)).astype(np.int64) % 2**31
    scorer = _Scorer(used, splits, factor, at.arguments.weights, at.design.trials, ci_level, seeds.tolist())
    jobs = [(model, fold) for model in models for fold in range(len(splits))]
    found = run_jobs(scorer, jobs, n_jobs=n_jobs, progress=progress, title="cross-validation")
    whole = _fits_of_samplers(models, used, seed) if loo else {}
    return CrossValidation(
        formula=formula,
        split=_in_words(split, factor),
        n_folds=len(splits),
        rows=_rows(found, at.design, codes, levels),
        fits=pd.DataFrame(
            [
                {"model": s.label, "fold": s.fold, "state": s.state, "seconds": s.seconds, "error": s.error}
                for s in found
            ]
        ),
        why={**why, **_reasons(found)},
        metrics=names,
        own_metrics=own,
        ci_level=ci_level,
        loo=loo_table(whole),
        clusters=f"rows of one {factor} as one cluster" if factor else "rows taken as independent",
    )


def _fits_of_samplers(models: Sequence[Model], used: pd.DataFrame, seed: int) -> dict[str, FitResult]:
    """Fits to all rows of the models whose engine samples, by label."""
    sampled = [(m, e) for m in models if m.kind == "partial" and (e := m.engine) and e.info.samples]
    return {m.label: fit_problem(e, replace(m.arguments, seed=seed).problem(m.formula, used)) for m, e in sampled}


def _levels(
    design: Design, group: str | None, split: Any
) -> tuple[npt.NDArray[np.int64] | None, list[Any], str | None]:
    known = list(dict.fromkeys(b.group for b in design.blocks))
    if group is not None and group not in known:
        hint = did_you_mean(group, known)
        raise DataError(f"{group!r} is not a grouping factor of this model.{hint} Known: {listing(known) or 'none'}.")
    if group is None and len(known) > 1:
        raise OptionError(
            f"The model has several grouping factors: name one of {listing(map(repr, known))} as group=. It decides "
            "which rows are spread over folds or left out together, which levels no pooling fits, and by which rows "
            "standard errors are clustered."
        )
    factor = group or (known[0] if known else None)
    if factor is None:
        if split == "groups":
            raise DataError(
                "split='groups' leaves whole levels out, and the formula has no grouping factor: use split='rows'."
            )
        return None, [], None
    block = next(b for b in design.blocks if b.group == factor)
    return block.codes, list(block.levels), factor


def _same_response(at: SubsettableData, train: npt.NDArray[np.int64]) -> None:
    """Refuse a response that every training set would measure in a unit of its own.

    Raises:
        DataError: With the way out.
    """
    plain = replace(at.arguments, offset=None, ziformula=None, dispformula=None)
    try:
        own = plain.problem(at.formula, at.used.iloc[train]).design
    except DataError:  # a fold that cannot be fitted is told where it fails
        return
    if own.n == len(train) and not np.allclose(own.y, at.design.y[train], rtol=1e-9, atol=0.0):
        raise DataError(
            f"The response {render(at.design.spec.response)} learns from the data: every training set would measure it "
            "in a unit of its own, and scores could not be averaged. Make it a column of the data first."
        )


def _models(
    at: SubsettableData, engines: list[Backend], pooling: Sequence[str], factor: str | None, split: Any
) -> tuple[list[Model], dict[str, str]]:
    formula, asked = at.formula, replace(at.arguments, progress=False)
    models: list[Model] = []
    why: dict[str, str] = {}
    first = engines[0]
    if "complete" in pooling and factor is not None:
        label = f"complete pooling ({first.info.name})"
        models.append(Model(label, "complete", at.without_groups, first, arguments_without_groups(asked, first)))
    if "none" in pooling and factor is not None:
        if split == "groups":
            why["no pooling"] = f"no pooling cannot predict a new {factor}: it has no regression for it."
        else:
            models.append(Model("no pooling", "none", formula, None, asked))
    if "partial" in pooling or factor is None:
        labels = registry.numbered([e.info.name for e in engines])
        for name, engine in zip(labels, engines, strict=True):
            label = f"partial pooling ({name})" if factor is not None else name
            models.append(Model(label, "partial", formula, engine, asked.adapted(engine)))
    if not models:
        raise OptionError(f"Nothing to validate: {' '.join(why.values())}")
    return models, why


def _rows(found: list[Scored], design: Design, codes: npt.NDArray[np.int64] | None, levels: list[Any]) -> pd.DataFrame:
    parts = [s.rows.assign(model=s.label, fold=s.fold) for s in found]
    frame = pd.concat(parts, ignore_index=True)
    at = frame["position"].to_numpy()
    frame["level"] = at if codes is None else [levels[c] for c in codes[at]]
    frame["position"] = design.rows[at]
    first = ["model", "fold", "position", "level"]
    return frame[[*first, *(c for c in frame.columns if c not in first)]]


def _reasons(found: list[Scored]) -> dict[str, str]:
    told: dict[str, str] = {}
    for label in dict.fromkeys(s.label for s in found):
        mine = [s for s in found if s.label == label]
        counts: dict[str, int] = {}
        for s in mine:
            for reason, count in s.unpredicted.items():
                counts[reason] = counts.get(reason, 0) + count
        words = [f"{n} row{'s' * (n != 1)} without a prediction ({reason})" for reason, n in counts.items()]
        failed = [s for s in mine if s.error]
        if failed:
            words.append(f"{len(failed)} of {len(mine)} folds failed ({' '.join(failed[0].error.split())})")
        astray = sum(s.state == "not_converged" for s in mine)
        if astray:
            words.append(f"{astray} of {len(mine)} fits not converged")
        if words:
            told[label] = "; ".join(words) + "."
    return told


def _in_words(split: Any, factor: str | None) -> str:
    if split == "rows":
        return f"rows left out within levels of {factor}" if factor else "rows left out"
    if split == "groups":
        return f"whole levels of {factor} left out"
    return f"split by {type(split).__name__}" if hasattr(split, "split") else "split as given"
