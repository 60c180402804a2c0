"""Effective draws per second: unimix's two samplers against bambi and against a model written by hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from benchmarks.cases import case
from benchmarks.measure import Row, Timing, fresh

RIVALS = {
    "pymc": (("bambi", None), ("bambi with nutpie", None), ("written by hand", None), ("by hand with nutpie", 1.1)),
    "bayes": (("bambi", 0.01), ("bambi with nutpie", None), ("written by hand", None)),
}


def posterior(*, quick: bool) -> Iterator[Row]:
    """Seconds per 1,000 effective draws of whole calls in fresh processes, compilation included; and of sampling.

    PyTensor's cache of compiled code is warm: every sampler has run once before, as on its user's second day.
    """
    for key in ("dietox",) if quick else ("dietox", "school"):
        samplers = ("pymc", "bayes", "bambi", "bambi with nutpie", "written by hand", "by hand with nutpie")
        yield from _rows(key, *_runs(samplers, key, 1 if quick else 2))


def bambi(*, quick: bool) -> Iterator[Row]:
    """backend="bambi" against bambi itself, independent effects, its priors and sampler: what the adapter costs."""
    cold, warm = _runs(("bambi by unimix", "bambi"), "dietox", 1 if quick else 2)
    ours, bare = warm["bambi by unimix"], warm["bambi"]
    seconds = f"cold cache {cold['bambi by unimix']['whole']:.1f} s and {cold['bambi']['whole']:.1f} s"
    effective = Timing(per_thousand(ours, "whole"), per_thousand(bare, "whole"))
    note = f"seconds per 1,000 effective draws, whole call; {seconds}; four chains, and as many as there are CPUs"
    yield Row('bambi, by backend="bambi"', case("dietox").name, effective, note=note)


def _runs(samplers: tuple[str, ...], key: str, repeats: int) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Every sampler with a cold cache of compiled code, and then with a warm one."""
    case(key)  # data that cannot be fetched end it here
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={cache}"
        cold, warm = {}, {}
        for sampler in samplers:
            cold[sampler] = fresh("benchmarks.posterior_run", sampler, key, "1")
            warm[sampler] = [fresh("benchmarks.posterior_run", sampler, key, str(2 + i)) for i in range(repeats)]
        del os.environ["PYTENSOR_FLAGS"]
    return cold, warm


def per_thousand(runs: list[dict], kind: str) -> tuple[float, ...]:
    """Seconds per 1,000 effective draws."""
    return tuple(1000 * r[kind] / r["ess"] for r in runs)


def _rows(key: str, cold: dict[str, dict], warm: dict[str, list[dict]]) -> Iterator[Row]:
    name = case(key).name

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
