"""Effective draws per second: unimix's two samplers against bambi and against a model written by hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from benchmarks.cases import case
from benchmarks.measure import Row, Timing, fresh

RIVALS = {
    "pymc": (("bambi", 0.1), ("bambi with nutpie", 0.2), ("written by hand", None)),
    "bayes": (("bambi", 0.01), ("bambi with nutpie", None), ("written by hand", None)),
}


def posterior(*, quick: bool) -> Iterator[Row]:
    """Seconds per 1,000 effective draws of whole calls in fresh processes, compilation included; and of sampling.

    PyTensor's cache of compiled code is warm: every sampler has run once before, as on its user's second day.
    """
    repeats = 1 if quick else 2
    for key in ("dietox",) if quick else ("dietox", "school"):
        case(key)  # data that cannot be fetched end it here
        with tempfile.TemporaryDirectory() as cache:
            os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={cache}"
            cold, warm = {}, {}
            for sampler in ("pymc", "bayes", "bambi", "bambi with nutpie", "written by hand"):
                cold[sampler] = fresh("benchmarks.posterior_run", sampler, key, "1")
                warm[sampler] = [fresh("benchmarks.posterior_run", sampler, key, str(2 + i)) for i in range(repeats)]
            del os.environ["PYTENSOR_FLAGS"]
        yield from _rows(key, cold, warm)


def _rows(key: str, cold: dict[str, dict], warm: dict[str, list[dict]]) -> Iterator[Row]:
    name = case(key).name

    def per_thousand(runs: list[dict], kind: str) -> tuple[float, ...]:
        return tuple(1000 * r[kind] / r["ess"] for r in runs)

    def ess(sampler: str) -> str:
        return f"{sum(r['ess'] for r in warm[sampler]) / len(warm[sampler]):.0f}"

    for own, rivals in RIVALS.items():
        for rival, reach in rivals:
            timing = Timing(per_thousand(warm[own], "whole"), per_thousand(warm[rival], "whole"))
            seconds = [r["whole"] for r in (cold[own], cold[rival])]
            told = f"cold cache {seconds[0]:.1f} s and {seconds[1]:.1f} s; smallest ESS {ess(own)} and {ess(rival)}"
            note = f"seconds per 1,000 effective draws, whole call; {told}"
            yield Row(f'{rival}, by backend="{own}"', name, timing, reach, note=note)
        alone = per_thousand(warm["bambi"], "sampling")
        note = "sampling alone, tuning included, on both sides"
        yield Row(
            f'bambi, by backend="{own}"', name, Timing(per_thousand(warm[own], "sampling"), alone), 0.02, note=note
        )
        note = "bambi's sampling alone; unimix's whole second call of a process"
        yield Row(f'bambi, by backend="{own}"', name, Timing(per_thousand(warm[own], "again"), alone), note=note)
