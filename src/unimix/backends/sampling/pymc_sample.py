"""How nutpie and PyMC are called, and how their draws are read."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unimix.backends.interrupts import keep_interrupts
from unimix.backends.sampling.draws import RawDraws, is_long_enough
from unimix.design.estimates import Sampling

FloatArray = npt.NDArray[np.float64]

CAREFUL = 0.99
"""Target acceptance rate of a run after divergences."""
_GLANCE = 0.1
"""Seconds between two checks of a running sampler."""


@dataclass(frozen=True)
class SamplerOptions:
    """Options of both samplers.

    Attributes:
        draws: Number of draws kept per chain.
        tune: Number of tuning steps per chain.
        chains: Number of chains.
        cores: Number of chains that run at the same time; None for the fastest choice.
        target_accept: Target acceptance rate of the tuning of the step size.
        seed: Seed of the random numbers.
        progress: Whether to show a progress bar.
    """

    draws: int
    tune: int
    chains: int
    cores: int | None
    target_accept: float
    seed: int | None
    progress: bool

    def for_second_run(self, first: Sampling) -> SamplerOptions:
        """Options of a run after a first one whose diagnostics were out of bounds.

        Tuning is twice as long and the seed another. After divergences steps are smaller. Draws are four times as many
        where the first were too few, which halves the error of R-hat and of every estimate, and else twice as many.

        Args:
            first: Diagnostics of the first run.
        """
        return replace(
            self,
            draws=(2 if is_long_enough(first) else 4) * self.draws,
            tune=2 * self.tune,
            target_accept=max(CAREFUL if first.divergences else 0.0, self.target_accept),
            seed=None if self.seed is None else self.seed + 1,
        )


def run_nutpie(model: Any, options: SamplerOptions, *, cores: int | None, **more: Any) -> Any:
    """Draw from a compiled model with nutpie; Ctrl-C ends it.

    Args:
        model: The compiled model.
        options: Options of the sampler.
        cores: Number of chains that run at the same time.
        more: Further arguments of ``nutpie.sample``.
    """
    import nutpie

    started = time.perf_counter()
    running = nutpie.sample(
        model,
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        cores=cores,
        seed=options.seed,
        save_warmup=False,
        progress_bar=options.progress,
        blocking=False,
        target_accept=options.target_accept,
        **more,
    )
    trace = wait_for(running)
    trace.posterior.attrs["sampling_time"] = time.perf_counter() - started  # the attribute that PyMC uses
    return trace


def run_pymc(model: Any, options: SamplerOptions, **more: Any) -> Any:
    """Draw from a model with ``pymc.sample``, without its messages; Ctrl-C ends it.

    Args:
        model: Model of type ``pymc.Model``.
        options: Options of the sampler.
        more: Further arguments of ``pymc.sample``.
    """
    import logging

    import pymc as pm

    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with keep_interrupts(_CtrlC):
            return pm.sample(
                model=model,
                draws=options.draws,
                tune=options.tune,
                chains=options.chains,
                cores=options.cores,
                random_seed=options.seed,
                progressbar=options.progress,
                compute_convergence_checks=False,
                **more,
            )
    finally:
        logger.setLevel(level)


def wait_for(sampler: Any) -> Any:
    """Wait for nutpie; in contrast to its blocking call, Ctrl-C discards the draws and is passed on."""
    try:
        with keep_interrupts() as raise_dropped:
            while True:
                with contextlib.suppress(TimeoutError):
                    return sampler.wait(timeout=_GLANCE)
                raise_dropped()
    except BaseException:
        sampler.cancel()
        raise


class _CtrlC(BaseException):
    """Replacement for KeyboardInterrupt, at which PyMC ends sampling early and returns the draws so far."""


def read_draws(trace: Any, names: list[str]) -> RawDraws:
    """Read draws and statistics of an ArviZ object, with the named variables flattened and joined."""
    posterior = trace.posterior
    parts = [np.asarray(posterior[n].transpose("chain", "draw", ...).values, dtype=np.float64) for n in names]
    points = np.concatenate([p.reshape(*p.shape[:2], -1) for p in parts], axis=2)
    wanted = ("energy", "n_steps", "step_size", "depth", "tree_depth", "logp", "lp", "acceptance_rate")
    stats = {n: np.asarray(trace.sample_stats[n].values) for n in wanted if n in trace.sample_stats}
    diverging = np.asarray(trace.sample_stats["diverging"].values, dtype=bool)
    return RawDraws(points, diverging, stats, float(posterior.attrs["sampling_time"]))
