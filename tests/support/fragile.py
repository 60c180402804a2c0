"""An engine that kills its process, and data sets and engines that write down where they were loaded."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from unimix.backends.base import Problem
from unimix.backends.pls import Pls
from unimix.backends.r.bridge import RBridge
from unimix.backends.r.lme4 import Lme4
from unimix.design.estimates import Estimates

INTERCEPT = "y ~ x + (1 | g)"
FORMULAS = {"intercept": INTERCEPT, "slope": "y ~ x + (1 + x | g)", "wrong": "y ~ x + z + (1 | g)"}


def lines(path: Path) -> list[str]:
    """The lines of a file."""
    return path.read_text().splitlines()


def make(seed: int, n: int = 120) -> pd.DataFrame:
    """Rows of groups of six, with a random intercept."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n // 6), 6)
    x = rng.normal(size=n)
    y = 1 + 0.5 * x + rng.normal(size=n // 6)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g]})


class Fragile(Pls):
    """Kills its process at its ``after``-th fit there, if ``folder`` does not say that it has done so often enough."""

    folder: str
    after: int = 3
    times: int = 1

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        folder = Path(self.folder)
        with (folder / f"fits-{os.getpid()}").open("a") as file:
            file.write(".")
        done = len(list(folder.glob("killed-*")))
        if done < self.times and (folder / f"fits-{os.getpid()}").stat().st_size >= self.after:
            (folder / f"killed-{done}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._fit(engine, problem)


class CountedR(Lme4):
    """lme4 that writes the process of every fit, and of every start of R, into a file."""

    log: str

    def load(self) -> ModuleType:
        start = RBridge.__init__
        if start.__name__ == "__init__":

            def counted(bridge: RBridge, rinterface: object) -> None:
                self._note("start")
                start(bridge, rinterface)

            RBridge.__init__ = counted  # type: ignore[method-assign]
        return super().load()

    def _fit(self, engine: ModuleType, problem: Problem) -> Estimates:
        self._note("fit")
        return super()._fit(engine, problem)

    def _note(self, what: str) -> None:
        with Path(self.log).open("a") as file:
            file.write(f"{what} {os.getpid()}\n")


@dataclass(frozen=True)
class Loader:
    """Loads a data set and writes the process into a file."""

    seed: int
    log: str

    def __call__(self) -> pd.DataFrame:
        with Path(self.log).open("a") as file:
            file.write(f"{self.seed} {os.getpid()}\n")
        return make(self.seed)
