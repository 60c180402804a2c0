"""``cross_validate``: make the folds and models, and fit them in processes."""

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
from unimix.distributions.ordered import refuse_categories
from unimix.errors import DataError, OptionError, did_you_mean, listing
from unimix.estimation.arguments import FitArguments, ModelOptions, takes_arguments_of
from unimix.estimation.run import fit_problem, refuse_unsupported
from unimix.estimation.subset_data import SubsettableData, arguments_without_groups, bind_columns
from unimix.fitted.schema import UNSURE
from unimix.formula.parser import render
from unimix.parallel.jobs import jobs_fault, run_jobs
from unimix.result import FitResult
from unimix.workflows.validation.crossvalidation import CrossValidation, Loss, checked_metrics, loo_table
from unimix.workflows.validation.folds import Job, Model, Scored, run
from unimix.workflows.validation.splits import Split, make_splits

KINDS = ("complete", "none", "partial")


@dataclass(frozen=True)
class _Scorer:
    """Fit and score one model of one fold. It is sent to worker processes with the data."""

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
    """Measure how well engines and kinds of pooling predict rows, or whole levels, that they were not fitted to.

    Every model sees the same folds and is scored on the same rows. The scores are those of predictive distributions.
    For a linear model they are normal, with the joint uncertainty of fixed effects, group effects and residual; for a
    sampler they are mixtures over its draws. The effects of a level that was not fitted are integrated out.

    Args:
        formula: The model in lme4's language, as in :func:`unimix.fit`.
        data: A table or a dict of arrays, as in :func:`unimix.fit`.
        backends: The engines of partial pooling; the first one also fits complete pooling. No pooling is one regression
            per level, by least squares (maximum likelihood for generalised models).
        backend: A single engine, instead of ``backends``.
        split: ``"rows"`` leaves rows out within levels, ``"groups"`` leaves whole levels out. It can also be a
            scikit-learn splitter, which is given the rows without missing values, the response and the levels; or pairs
            (training, test) of positions in the data.
        folds: Number of folds of the named splits; 10, or fewer if there are fewer rows or levels, if left out.
        group: Name of the grouping factor; may be left out if the model has only one.
        pooling: Kinds of pooling, among complete, none and partial.
        metrics: Names among rmse, mae, log_score, crps, coverage; or a dict of functions of (observed, predicted mean),
            each of which gives one loss per row, shape (n,), and is added to the named metrics.
        ci_level: Probability of the prediction intervals whose coverage is counted.
        loo: Whether to compute PSIS-LOO of the samplers, too, from one more fit to all rows.
        seed: Seed of folds and draws; the same seed gives the same numbers with any ``n_jobs``.
        n_jobs: Number of processes (joblib); -1 uses all cores. None uses this process, or the number of a surrounding
            ``joblib.parallel_config``.
        progress: Whether to show a progress bar; None shows it on a terminal.
        restart: Whether an engine of partial pooling that ends below the best known optimum starts again from there;
            see :func:`unimix.fit`.
        arguments: Arguments of :func:`unimix.fit`, except ``options`` (give configured backends). ``method`` applies to
            partial pooling by engines that maximise a likelihood, and ``priors`` to samplers. The default of
            ``df_method`` is ``"normal"``, the fastest, because no score depends on it.

    Returns:
        The scores: ``.table``, ``.differences()``, ``.folds``, ``.rows``, ``.why``, ``.loo``, ``.plot()``. A fit that
        fails does not end the run; ``.fits`` shows its error.

    Raises:
        FormulaError: If the formula cannot be read.
        DataError: If the data do not allow the model or the split.
        OptionError: If arguments are wrong; the message lists every fault.
        UnsupportedModelError: If a named engine cannot express the model.
        EngineNotInstalledError: If scikit-learn or joblib is missing.

    Example:
        >>> import unimix as um
        >>> sleep = um.load_dataset("sleepstudy")
        >>> cv = um.cross_validate("Reaction ~ Days + (Days | Subject)", sleep, folds=3, progress=False)
        >>> cv.best("crps")
        'partial pooling (pls)'
        >>> cv.table["rmse"].round(1)
        model
        complete pooling (pls)    48.5
        no pooling                29.8
        partial pooling (pls)     29.2
        Name: rmse, dtype: float64
    """
    engines, errors = registry.resolve_all(backends if backend is None else backend)
    faults = [] if engines or errors else ["backends: name at least one engine."]
    if isinstance(pooling, str):
        faults.append(f"pooling={pooling!r}: give a list, pooling=[{pooling!r}].")
    else:
        faults += [f"pooling: {k!r} is not one of {listing(KINDS)}." for k in pooling if k not in KINDS]
    faults += filter(None, [jobs_fault(n_jobs)])
    try:
        names, losses = checked_metrics(metrics)
    except OptionError as error:
        errors.append(error)
    own_arguments = {"ci_level": ci_level, "seed": seed, "progress": progress, "restart": restart}
    given = {"df_method": "normal", **arguments, **own_arguments}
    fit_arguments = FitArguments.read(cross_validate, formula, data, given, faults=faults, errors=errors)
    at = bind_columns(formula, data, fit_arguments)
    refuse_categories(at.design.family, "Cross-validation, whose metrics compare numbers,")
    codes, levels, factor = _levels(at.design, group, split)
    used = at.used
    splits = make_splits(split, folds, used, at.design, codes, seed)
    _same_response(at, splits[0][0])
    models, reasons = _models(at, engines, pooling, factor, split)
    for model in models:
        if model.engine is not None:
            refuse_unsupported(model.engine, model.arguments.problem(model.formula, used))
    seeds = np.random.SeedSequence(seed).generate_state(len(splits)).astype(np.int64) % 2**31
    scorer = _Scorer(used, splits, factor, at.arguments.weights, at.design.trials, ci_level, seeds.tolist())
    jobs = [(model, fold) for model in models for fold in range(len(splits))]
    scored = run_jobs(scorer, jobs, n_jobs=n_jobs, progress=progress, title="cross-validation")
    whole = _fits_of_samplers(models, used, seed) if loo else {}
    return CrossValidation(
        formula=formula,
        split=_in_words(split, factor),
        n_folds=len(splits),
        rows=_rows(scored, at.design, codes, levels),
        fits=pd.DataFrame(
            [
                {"model": s.label, "fold": s.fold, "state": s.state, "seconds": s.seconds, "error": s.error}
                for s in scored
            ]
        ),
        why={**reasons, **_reasons(scored)},
        metrics=names,
        own_metrics=losses,
        ci_level=ci_level,
        loo=loo_table(whole),
        clusters=f"rows of one {factor} as one cluster" if factor else "rows taken as independent",
    )


def _fits_of_samplers(models: Sequence[Model], used: pd.DataFrame, seed: int) -> dict[str, FitResult]:
    """Fits of the samplers to all rows, by label of the model."""
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
    """Refuse a response such as ``scale(y)``, whose values depend on the rows of the training set.

    Raises:
        DataError: If the response depends on the training rows; the message says what to do instead.
    """
    plain = replace(at.arguments, offset=None, ziformula=None, dispformula=None)
    try:
        training = plain.problem(at.formula, at.used.iloc[train]).design
    except DataError:  # a fold that cannot be fitted is reported when it is fitted
        return
    if training.n == len(train) and not np.allclose(training.y, at.design.y[train], rtol=1e-9, atol=0.0):
        raise DataError(
            f"The response {render(at.design.spec.response)} depends on the data: every training set would measure it "
            "in other units, and scores could not be averaged. Make it a column of the data first."
        )


def _models(
    at: SubsettableData, engines: list[Backend], pooling: Sequence[str], factor: str | None, split: Any
) -> tuple[list[Model], dict[str, str]]:
    formula, arguments = at.formula, replace(at.arguments, progress=False)
    models: list[Model] = []
    reasons: dict[str, str] = {}
    first = engines[0]
    if "complete" in pooling and factor is not None:
        label = f"complete pooling ({first.info.name})"
        models.append(Model(label, "complete", at.without_groups, first, arguments_without_groups(arguments, first)))
    if "none" in pooling and factor is not None:
        if split == "groups":
            reasons["no pooling"] = f"no pooling cannot predict a new {factor}: it has no regression for it."
        elif at.design.smooths:
            reasons["no pooling"] = "no pooling would fit a curve without a penalty to the rows of each level."
        else:
            models.append(Model("no pooling", "none", formula, None, arguments))
    if "partial" in pooling or factor is None:
        labels = registry.numbered([e.info.name for e in engines])
        for name, engine in zip(labels, engines, strict=True):
            label = f"partial pooling ({name})" if factor is not None else name
            models.append(Model(label, "partial", formula, engine, arguments.adapted(engine)))
    if not models:
        raise OptionError(f"Nothing to validate: {' '.join(reasons.values())}")
    return models, reasons


def _rows(scored: list[Scored], design: Design, codes: npt.NDArray[np.int64] | None, levels: list[Any]) -> pd.DataFrame:
    parts = [s.rows.assign(model=s.label, fold=s.fold) for s in scored]
    frame = pd.concat(parts, ignore_index=True)
    at = frame["position"].to_numpy()
    frame["level"] = at if codes is None else [levels[c] for c in codes[at]]
    frame["position"] = design.rows[at]
    first = ["model", "fold", "position", "level"]
    return frame[[*first, *(c for c in frame.columns if c not in first)]]


def _reasons(scored: list[Scored]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for label in dict.fromkeys(s.label for s in scored):
        scores = [s for s in scored if s.label == label]
        counts: dict[str, int] = {}
        for s in scores:
            for reason, count in s.unpredicted.items():
                counts[reason] = counts.get(reason, 0) + count
        words = [f"{n} row{'s' * (n != 1)} without a prediction ({reason})" for reason, n in counts.items()]
        failed = [s for s in scores if s.error]
        if failed:
            words.append(f"{len(failed)} of {len(scores)} folds failed ({' '.join(failed[0].error.split())})")
        for state in UNSURE:
            unfinished = sum(s.state == state for s in scores)
            if unfinished:
                words.append(f"{unfinished} of {len(scores)} fits {state.replace('_', ' ')}")
        if words:
            reasons[label] = "; ".join(words) + "."
    return reasons


def _in_words(split: Any, factor: str | None) -> str:
    if split == "rows":
        return f"rows left out within levels of {factor}" if factor else "rows left out"
    if split == "groups":
        return f"whole levels of {factor} left out"
    return f"split by {type(split).__name__}" if hasattr(split, "split") else "split as given"
