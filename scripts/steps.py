"""Steps of a script: a line each, with its seconds, and the words with which it stops."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HEARTBEAT = 15.0
"""Seconds after which a long step says how far it is, where no terminal shows a program's own progress."""


class Stop(Exception):  # noqa: N818  it is not always an error
    """The script cannot go on; the text says what happened, why, and the line to type.

    Attributes:
        about_rpy2: Whether rpy2 was the reason, so that everything else can still be installed.
    """

    def __init__(self, message: str, *, about_rpy2: bool = False) -> None:
        self.about_rpy2 = about_rpy2
        super().__init__(message)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


@contextmanager
def step(label: str) -> Iterator[Callable[[str], None]]:
    """Say what is being done and, when it is done, how many seconds it took and what the step had to tell."""
    told: list[str] = []
    started = time.monotonic()
    on_terminal = sys.stdout.isatty()
    say(f"{label} ...")
    try:
        yield told.append
    except BaseException:
        say(f"{label}: failed after {time.monotonic() - started:.0f} s")
        raise
    say(f"{'  ' if on_terminal else ''}done, {time.monotonic() - started:.0f} s{''.join(f', {text}' for text in told)}")


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    counted: str = "",
    unit: str = "lines",
    *,
    folder: Path | None = None,
    captured: bool = False,
) -> tuple[int, str]:
    """Run a program: with its own progress on a terminal, else with a line now and then that says how far it is.

    Args:
        command: Program and arguments.
        environment: Environment variables, or None for this process's.
        counted: Pattern of the lines that are counted as progress.
        unit: What these lines stand for.
        folder: Where it runs, or None for this process's folder.
        captured: Keep what it says from a terminal, too.

    Returns:
        Exit code, and what it said; nothing on a terminal, where the user has read it, unless it was captured.
    """
    if sys.stdout.isatty() and not captured:
        return subprocess.run(list(command), env=environment, cwd=folder, check=False).returncode, ""
    said: list[str] = []
    started = time.monotonic()
    with subprocess.Popen(
        list(command),
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        reader = threading.Thread(target=said.extend, args=(process.stdout or (),), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(HEARTBEAT)
                    break
                count = sum(bool(re.match(counted, line)) for line in said) if counted else len(said)
                now = f"; now: {line[:80]}" if (line := _last_words(said)) else ""
                say(f"  {time.monotonic() - started:.0f} s, {count} {unit}{now}")
        except BaseException:
            process.terminate()  # it must not go on in a folder that is being removed
            raise
        reader.join()
    return process.returncode, "".join(said)


def _last_words(said: Sequence[str]) -> str:
    """The last line that is neither a bar of progress nor a warning."""
    return next((line.strip() for line in reversed(said) if re.match(r"\s*(?!WARNING)\w", line)), "")
