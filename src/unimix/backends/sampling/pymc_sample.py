"""Whitening of a log density at its mode, and NUTS for a NumPy function, by nutpie or by PyMC."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from unimix.backends.sampling.draws import RawDraws

FloatArray = npt.NDArray[np.float64]
LogDensity = Callable[[FloatArray], tuple[float, FloatArray]]

_WIDEST = 4.0
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


@dataclass(frozen=True)
class Whitening:
    """Affine map theta = mode + root x under which the posterior is approximately standard normal.

    Attributes:
        mode: Mode of the density, shape (size,).
        root: Root of the inverse Hessian, shape (low, low); coordinates after the first ``low`` are only shifted.
    """

    mode: FloatArray
    root: FloatArray

    def turn(self, x: FloatArray) -> FloatArray:
        """Compute root x, shape (..., size)."""
        low = len(self.root)
        if low == x.shape[-1]:
            return x @ self.root.T
        return np.concatenate([x[..., :low] @ self.root.T, x[..., low:]], axis=-1)

    def density(self, function: LogDensity) -> LogDensity:
        """Log density as a function of x; minus infinity where it cannot be computed."""
        mode, root, nothing = self.mode, self.root, np.zeros_like(self.mode)
        low = len(root)

        def whitened(x: FloatArray) -> tuple[float, FloatArray]:
            with np.errstate(all="ignore"):
                try:
                    value, gradient = function(mode + self.turn(x))
                except np.linalg.LinAlgError:
                    return -np.inf, nothing
                gradient = np.concatenate([gradient[:low] @ root, gradient[low:]])
            return (value, gradient) if np.isfinite(value) and np.isfinite(gradient).all() else (-np.inf, nothing)

        return whitened

    def points(self, x: FloatArray) -> FloatArray:
        """Map draws of x to theta, shape (..., size)."""
        return self.mode + self.turn(x)


def whiten(function: LogDensity, start: FloatArray) -> Whitening:
    """Find the mode, and a root of the inverse Hessian at the mode.

    Directions in which the density is flat get a standard deviation of at most 4.

    Args:
        function: Function that returns the log density and its gradient.
        start: Starting point, shape (size,).
    """
    negative = guarded(function)
    best = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "maxcor": 20}).x
    for _ in range(20):
        values, vectors = np.linalg.eigh(_hessian(negative, best))
        here, gradient = negative(best)
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), _WIDEST**-2))
        step *= min(1.0, 5.0 / float(np.linalg.norm(step) + 1e-300))
        if negative(best + step)[0] > here - 1e-8:
            break
        best = best + step
    return Whitening(best, vectors / np.sqrt(np.maximum(values, _WIDEST**-2)))


def guarded(function: LogDensity) -> LogDensity:
    """Negative log density and its gradient; a very large number where it cannot be computed."""

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        with np.errstate(all="ignore"):
            try:
                value, gradient = function(theta)
            except np.linalg.LinAlgError:
                value, gradient = -np.inf, np.zeros_like(theta)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e300, np.zeros_like(theta)
        return -value, -gradient

    return negative


def whiten_leading(function: LogDensity, mode: FloatArray, low: int) -> Whitening:
    """Root of the inverse Hessian of the leading coordinates, with the others held fixed.

    Args:
        function: Function that returns the log density and its gradient.
        mode: Mode of the density, shape (size,).
        low: Number of leading coordinates.
    """
    negative, rest = guarded(function), mode[low:]

    def leading(theta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = negative(np.concatenate([theta, rest]))
        return value, gradient[:low]

    values, vectors = np.linalg.eigh(_hessian(leading, mode[:low]))
    return Whitening(mode, vectors / np.sqrt(np.maximum(values, _WIDEST**-2)))


def _hessian(negative: LogDensity, at: FloatArray) -> FloatArray:
    size = len(at)
    step = 1e-4
    rows = np.empty((size, size))
    for j in range(size):
        move = np.zeros(size)
        move[j] = step
        rows[j] = (negative(at + move)[1] - negative(at - move)[1]) / (2 * step)
    return 0.5 * (rows + rows.T)


def samplerun_nutpie(density: LogDensity, size: int, options: SamplerOptions) -> RawDraws:
    """Draw with nutpie from a Python function, without compilation.

    Args:
        density: Function of a vector of length ``size`` that returns the log density and its gradient.
        size: Length of the vector.
        options: Options of the sampler.
    """
    from nutpie.compiled_pyfunc import from_pyfunc

    model = from_pyfunc(
        size,
        lambda: density,
        lambda *_: lambda x: {"x": x},
        [np.dtype(np.float64)],
        [(size,)],
        ["x"],
        make_initial_point_fn=lambda seed: np.random.default_rng(seed).standard_normal(size),
    )
    # several threads would compete for Python and take twice the time
    return read_draws(run_nutpie(model, options, cores=options.cores or 1), ["x"])


def sample_pymc(density: LogDensity, size: int, options: SamplerOptions) -> RawDraws:
    """Draw with PyMC's own NUTS from a Python function, which PyTensor calls with its gradient.

    Args:
        density: Function of a vector of length ``size`` that returns the log density and its gradient.
        size: Length of the vector.
        options: Options of the sampler.
    """
    import pymc as pm

    from unimix.backends.sampling.pymc_op import density_op

    rng = np.random.default_rng(options.seed)
    with pm.Model() as model:
        pm.Potential("density", density_op(density)(pm.Flat("x", shape=size)))
    starts = [{"x": rng.standard_normal(size)} for _ in range(options.chains)]
    more = {"initvals": starts, "compile_kwargs": {"mode": "FAST_COMPILE"}, "target_accept": options.target_accept}
    return read_draws(run_pymc(model, options, **more), ["x"])


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
        with ctrl_c_ends_it():
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
        while True:
            with contextlib.suppress(TimeoutError):
                return sampler.wait(timeout=_GLANCE)
    except BaseException:
        sampler.cancel()
        raise


class _CtrlC(BaseException):
    """Replacement for KeyboardInterrupt, which PyMC does not catch."""


@contextlib.contextmanager
def ctrl_c_ends_it() -> Iterator[None]:
    """Pass Ctrl-C on as another exception, because PyMC ends sampling early at KeyboardInterrupt and returns draws."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def renamed(*_: object) -> None:
        raise _CtrlC

    signal.signal(signal.SIGINT, renamed)
    try:
        yield
    except _CtrlC:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def read_draws(trace: Any, names: list[str]) -> RawDraws:
    """Read draws and statistics of an ArviZ object, with the named variables flattened and joined."""
    posterior = trace.posterior
    parts = [np.asarray(posterior[n].transpose("chain", "draw", ...).values, dtype=np.float64) for n in names]
    points = np.concatenate([p.reshape(*p.shape[:2], -1) for p in parts], axis=2)
    wanted = ("energy", "n_steps", "step_size", "depth", "tree_depth", "logp", "lp", "acceptance_rate")
    stats = {n: np.asarray(trace.sample_stats[n].values) for n in wanted if n in trace.sample_stats}
    diverging = np.asarray(trace.sample_stats["diverging"].values, dtype=bool)
    return RawDraws(points, diverging, stats, float(posterior.attrs["sampling_time"]))
