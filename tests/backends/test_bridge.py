"""R stays a good guest: notes instead of noise, state restored, interrupts survived, threads in a queue."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import unimix as um
from unimix.backends.r.bridge import LOCK, RBridge, at_work, connect, r_variable
from unimix.testing import simulate_slopes

pytestmark = pytest.mark.r
FORMULA = "y ~ x + (1 + x | g)"


@pytest.fixture(scope="module")
def bridge() -> RBridge:
    return connect("lme4", "pip install ...")


def test_rs_errors_are_raised_in_its_words() -> None:
    with pytest.raises(um.FitError, match=r"R stopped: .*theta"):
        um.fit(FORMULA, simulate_slopes(), backend=um.backends.Lme4(start=(1.0,)))
    assert um.fit(FORMULA, simulate_slopes(), backend="lme4").converged


def test_r_packages_that_are_missing_are_named(bridge: RBridge) -> None:
    with pytest.raises(um.EngineNotInstalledError) as error:
        bridge.require(["lme4", "noSuchPackage"], "lme4")
    assert "noSuchPackage" in str(error.value).partition("Type:")[2]
    assert bridge.versions(["noSuchPackage"])["noSuchPackage"] == ""


def test_options_callbacks_and_signals_are_put_back() -> None:
    from rpy2 import rinterface
    from rpy2.rinterface_lib import callbacks

    um.fit(FORMULA, simulate_slopes(), backend="pymer4")
    handler = signal.getsignal(signal.SIGINT)
    kept = callbacks.consolewrite_print, callbacks.consolewrite_warnerror
    options = "paste(deparse(options()[c('warn', 'contrasts', 'OutDec', 'digits', 'na.action')]), collapse = '')"
    before = str(rinterface.evalr(options)[0])
    for backend in ("lme4", "pymer4"):
        um.fit(FORMULA, simulate_slopes(), backend=backend)
    assert str(rinterface.evalr(options)[0]) == before
    assert kept == (callbacks.consolewrite_print, callbacks.consolewrite_warnerror)
    assert signal.getsignal(signal.SIGINT) is handler


def test_contrasts_and_digits_of_the_user_do_not_matter() -> None:
    from rpy2 import rinterface

    data = simulate_slopes()
    plain = um.fit(FORMULA, data, backend="lme4")
    old = rinterface.evalr("options(contrasts = c('contr.sum', 'contr.helmert'), OutDec = ',', digits = 3)")
    try:
        assert um.fit(FORMULA, data, backend="lme4").log_likelihood == plain.log_likelihood
    finally:
        rinterface.baseenv["options"](old)


def test_threads_take_turns() -> None:
    def run(seed: int) -> float:
        return um.fit(FORMULA, simulate_slopes(seed), backend="lme4").log_likelihood

    out = sys.stdout
    alone = [run(s) for s in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(6)))
    assert together == alone
    assert sys.stdout is out


def test_ctrl_c_stops_a_fit_and_leaves_r_usable() -> None:
    code = """
import os, signal, threading, time
import numpy as np, unimix as um
rng = np.random.default_rng(0)
n = 60_000
d = {c: rng.normal(size=n) for c in "yxzu"}
d |= {"g": rng.integers(0, 3000, n), "h": rng.integers(0, 30, n)}
small = {k: v[:200] for k, v in d.items()}; small["g"] = small["g"] % 9
um.fit("y ~ x + (1 | g)", small, backend="lme4")
threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
started = time.time()
try:
    um.fit("y ~ x + (1 + x + z + u | g) + (1 | h)", d, backend="lme4")
    print("finished")
except KeyboardInterrupt:
    print("interrupted")
took = time.time() - started
fit = um.fit("y ~ x + (1 | g)", small, backend="lme4")
print(fit.status.state in ("converged", "singular"), took < 60)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout.split() == ["interrupted", "True", "True"], done.stdout + done.stderr


def test_hostile_names_reach_no_parser() -> None:
    data = simulate_slopes(n_groups=8)
    nasty = ["system('touch hacked')", "`); q()", 'a"b', "x\ny", "\u202e", "'; DROP", "NA", ""]
    data["g"] = np.repeat(nasty, 12)
    data = data.rename(columns={"x": "q(); x"})
    fit = um.fit("y ~ `q(); x` + (1 | g)", data, backend="lme4")
    assert sorted(fit.group_effects["g"].index) == sorted(nasty)
    assert not os.path.exists("hacked")  # noqa: PTH110


HIDDEN = """
import sys
from pathlib import Path
from unimix.backends.r import bridge

bridge.connect("pymer4", str)
from rpy2 import rinterface

library, *hidden = sys.argv[1:]
for path in rinterface.evalr(".libPaths()"):
    for package in Path(path).iterdir():
        link = Path(library) / package.name
        if package.is_dir() and package.name not in hidden and not link.exists():
            link.symlink_to(package)
rinterface.evalr(f'assign(".lib.loc", "{library}", envir = environment(.libPaths))')
"""
"""R finds its packages in one folder, where links lead to all that are installed but those that are named."""


def without(hidden: Iterable[str], library: Path, code: str) -> str:
    """What a fresh process prints whose R lacks packages."""
    command = [sys.executable, "-c", HIDDEN + textwrap.dedent(code), str(library), *hidden]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PYMER4 = [
    ("y ~ x + (1 + x | g)", "gaussian"),
    ("y ~ x", "gaussian"),
    ("b ~ x + (1 | g)", "binomial"),
    ("b ~ x", "binomial"),
]
PYMER4_FITS = f"""
import json
import unimix as um
from unimix.testing import simulate_slopes

assert um.backends.Pymer4.info.r_optional.keys() >= set(hidden)
data = simulate_slopes().assign(b=lambda d: 1 * (d["y"] > d["y"].median()))
made = []
for formula, family in {PYMER4}:
    fit = um.fit(formula, data, "pymer4", family=family)
    assert fit.native.fitted
    tables = [t for t in ("result_fit", "result_fit_stats") if getattr(fit.native, t) is not None]
    numbers = [fit.log_likelihood, *fit.fixed.estimate, *fit.fixed.std_error]
    made.append([numbers, list(fit.notes), tables, "fitted" in fit.native.data.columns])
try:
    fit.native.report()
    told = ""
except um.EngineNotInstalledError as error:
    told = str(error)
print(json.dumps([made, told]))
"""


@pytest.mark.parametrize(
    "absent", ["report performance", "report performance parameters insight broom broom.mixed emmeans"]
)
def test_pymer4_fits_without_the_packages_of_its_tables(absent: str, tmp_path: Path) -> None:
    """The same numbers without a note; what its own tables lack is told to who asks for it.

    Of its optional packages tibble stays: lmerTest needs it, through ggplot2.
    """
    made, told = json.loads(without(absent.split(), tmp_path, PYMER4_FITS))
    data = simulate_slopes().assign(b=lambda d: 1 * (d["y"] > d["y"].median()))
    for (formula, family), (numbers, notes, tables, fitted) in zip(PYMER4, made, strict=True):
        whole = um.fit(formula, data, "pymer4", family=family)
        assert numbers == [whole.log_likelihood, *whole.fixed.estimate, *whole.fixed.std_error]
        assert tuple(notes) == whole.notes
        assert (tables == ["result_fit", "result_fit_stats"]) == fitted == ("broom" not in absent)
    assert "needs the R package report" in told
    assert "doctor" in told


def test_every_r_package_that_pymer4_imports_is_named() -> None:
    """So that a pymer4 that imports another one is met here and not on a machine that lacks it."""
    root = Path(str(importlib.util.find_spec("pymer4").origin)).parent
    sources = [f.read_text(encoding="utf-8") for f in root.rglob("*.py") if "tests" not in f.parts]
    imported = {name for source in sources for name in re.findall(r"""importr\(["']([\w.]+)""", source)}
    engine = um.backends.Pymer4
    with_r, with_lme4 = {"base", "stats", "utils"}, {"boot"}
    assert imported - with_r - with_lme4 - set(engine.info.r_packages) == engine.info.r_optional.keys() - {"pbkrtest"}


def test_a_package_that_the_fit_needs_is_not_replaced(tmp_path: Path) -> None:
    code = """
    import unimix as um
    try:
        um.fit("y ~ 1 + (1 | g)", {"y": [1.0, 2.0, 4.0, 3.0], "g": [1, 1, 2, 2]}, "pymer4")
    except um.EngineNotInstalledError as error:
        print(error)
    """
    told = without(["lmerTest"], tmp_path, code)
    assert "needs the R package" in told.partition("Type:")[0]
    assert "lmertest" in told.partition("Type:")[2].lower()


def test_pymer4s_placeholders_are_taken_back() -> None:
    fit = um.fit(FORMULA, simulate_slopes(), backend="pymer4")
    from rpy2.robjects import packages

    assert packages.importr.__module__ == "rpy2.robjects.packages"
    assert type(fit.native).__module__.startswith("pymer4")
    assert fit.native.r_model is not None


def test_pymer4s_known_faults_do_not_reach_the_user() -> None:
    """REML=False ignored, singular reported as converged, NaN crash: rows of the table of engine faults."""
    data = simulate_slopes(n_groups=12)
    reml, ml = (um.fit(FORMULA, data, backend="pymer4", method=m) for m in ("REML", "ML"))
    other = um.fit(FORMULA, data, backend="lme4", method="ML")
    assert ml.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)  # pymer4's formula has an intercept
    assert ml.sigma < reml.sigma * 1.001
    rng = np.random.default_rng(0)
    flat = {"y": rng.normal(size=80), "g": np.tile(np.arange(10), 8)}
    flat["y"] -= 0.9 * np.array([flat["y"][flat["g"] == k].mean() for k in range(10)])[flat["g"]]
    assert um.fit("y ~ 1 + (1 | g)", flat, backend="pymer4").singular
    data.loc[5, "x"] = np.nan
    assert um.fit(FORMULA, data, backend="pymer4").model.n_dropped == 1


def test_lock_is_reentrant() -> None:
    with LOCK:
        done = []
        thread = threading.Thread(target=lambda: done.append(um.fit("y ~ x", simulate_slopes(), backend="lme4")))
        thread.start()
        thread.join(0.5)
        assert not done
    thread.join(20)
    assert done


def test_a_search_that_stopped_short_is_not_called_converged() -> None:
    """Badly scaled bare columns: lme4 ends on the boundary, far below the optimum, and calls it singular only."""
    data = um.load_dataset("sleepstudy").assign(M=lambda d: d["Days"] * 1e6)
    stuck = um.fit("Reaction ~ M + (1 + M | Subject)", data, um.backends.Lme4(conditioning=False, restarts=0))
    helped = um.fit("Reaction ~ M + (1 + M | Subject)", data, um.backends.Lme4(conditioning=False))
    good = um.fit("Reaction ~ M + (1 + M | Subject)", data, um.backends.Lme4())
    assert stuck.log_likelihood < good.log_likelihood - 1
    assert not stuck.converged
    assert stuck.status.messages[0].startswith("the search ")
    assert good.status.state == "converged"
    assert helped.log_likelihood == pytest.approx(good.log_likelihood, abs=1e-3)
    assert helped.status.state == "converged"  # a small slope in large units is not singular


def test_a_large_gradient_on_many_rows_is_no_failure() -> None:
    """Single derivatives grow with the number of rows: lme4's own check complains at the optimum."""
    fit = um.fit("y ~ x + (1 + x | g)", simulate_slopes(2, 3000, 30), backend="lme4", df_method="normal")
    other = um.fit("y ~ x + (1 + x | g)", simulate_slopes(2, 3000, 30), backend="statsmodels", df_method="normal")
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)


@pytest.mark.parametrize("backend", ["lme4", "pymer4"])
@pytest.mark.parametrize("seed", [14, 51])
def test_complaints_on_the_boundary_are_judged(backend: str, seed: int) -> None:
    """Beside `converged`, a bare `Model failed to converge` would be a contradiction."""
    rng = np.random.default_rng(seed)
    data = {"g": np.repeat(np.arange(8), 8), "x": rng.normal(size=64), "z": rng.normal(size=64)}
    data["y"] = data["x"] + rng.normal(size=64) + 0.1 * rng.normal(size=8)[data["g"]]
    fit = um.fit("y ~ x + (1 + x + z | g)", data, backend, df_method="normal")
    assert fit.status.state == "singular"
    told = [m for m in (*fit.status.messages, *fit.notes) if "failed to converge" in m or "scaled gradient" in m]
    assert bool(told) == (backend == "pymer4")  # unimix does not ask lme4 for its derivatives
    for message in told:
        assert "lme4's own check, which is not valid on the boundary" in message
        assert "would raise the log-likelihood by no more than" in message
    assert not any(m.startswith("Warning in ") for m in fit.status.messages)


def test_r_leaves_no_library_path_to_child_processes() -> None:
    import os

    before = os.environ.get("LD_LIBRARY_PATH")
    code = (
        "import os, subprocess, sys, unimix as um\n"
        "from unimix.testing import simulate_slopes\n"
        "um.fit('y ~ x + (1 | g)', simulate_slopes(), backend='lme4')\n"
        "print(subprocess.run([sys.executable, '-c', 'import os, ssl; print(os.environ.get(\"LD_LIBRARY_PATH\"))'],"
        " capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(before)


def test_pymer4_fits_in_any_context() -> None:
    import contextvars

    for _ in range(2):
        fit = contextvars.Context().run(um.fit, FORMULA, simulate_slopes(), backend="pymer4")
        assert fit.converged


class Interrupting:
    """Presses Ctrl-C when it is collected: what Python's handler raises there is lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_in_a_finalizer_is_not_lost() -> None:
    from rpy2 import rinterface

    um.fit(FORMULA, simulate_slopes(), backend="lme4")
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)

    def work() -> None:
        with at_work():
            Interrupting()
            rinterface.evalr("repeat {}")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.set_wakeup_fd(wakeup) == wakeup
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert rinterface.evalr("1 + 1")[0] == 2


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_an_interruption_waits_until_r_can_be_left() -> None:
    """R looks for interruptions in calls that it cannot be thrown out of, too: rpy2's own do not catch the jump."""
    from rpy2 import rinterface

    um.fit(FORMULA, simulate_slopes(), backend="lme4")
    polled = r_variable("R_PolledEvents", ctypes.c_void_p)

    def work() -> None:
        with at_work():
            before = polled.value
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # the listener has heard it
            assert polled.value
            assert polled.value != before
            ctypes.CFUNCTYPE(None)(polled.value)()
            assert r_variable("R_interrupts_pending", ctypes.c_int).value == 0
            rinterface.evalr("repeat {}")

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_rpy2_without_a_compiler_fits_and_can_be_interrupted() -> None:
    """Where there is no compiler, pip installs rpy2 in its ABI mode, which does not declare R's variables."""
    code = """
import os, signal, threading
import unimix as um
from unimix.backends.r import bridge
from rpy2 import rinterface
from rpy2.rinterface_lib import openrlib
from rpy2.situation import CFFI_MODE

fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"), backend="lme4")
assert openrlib.cffi_mode == CFFI_MODE.ABI
print(fit.certificate().certified, round(fit.sigma, 3))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    with bridge.at_work():
        rinterface.evalr("repeat {}")
except KeyboardInterrupt:
    print("interrupted", rinterface.evalr("1 + 1")[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "RPY2_CFFI_MODE": "ABI"},
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["True 25.592", "interrupted 2.0"], done.stdout + done.stderr
