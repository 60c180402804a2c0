"""Run the code of the documentation's pages, and keep what each printed until something that it depends on changes.

python docs/page_runner.py                    runs the pages whose records are stale, two at a time
python docs/page_runner.py docs/effects.md    the same for the pages that are named
python docs/page_runner.py --list             says which pages are stale and what each took

A page is run in a process of its own. Its record in .cache/pages/ holds what every block printed and the digests of
the code, of the versions of the installed packages, and of every file of the project that was read on the way: the
modules of unimix, its data sets, the page's own helpers. `make docs` builds the site from the records (docs/hooks.py).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RECORDS = ROOT / ".cache" / "pages"
FENCE = re.compile(
    r'^(?P<indent> *)```python exec="on"(?P<options>.*)\n(?P<code>(?:.*\n)*?)(?P=indent)```$', re.MULTILINE
)

PRELUDE = """
import sys, warnings
sys.path.insert(0, "docs")
import pandas as pd
pd.set_option("display.width", 110, "display.max_columns", 20, "display.max_colwidth", 60)
warnings.filterwarnings("ignore", category=FutureWarning)
from figures import show
"""
"""What every page starts with, unseen: the width of tables, and ``show``, which puts a figure into the page."""


@dataclass(frozen=True)
class Block:
    """A block of code that a page runs.

    Attributes:
        code: Its lines.
        options: What stands behind ``exec="on"``, by name.
    """

    code: str
    options: dict[str, str]

    @property
    def session(self) -> str:
        """Blocks of one session share their variables."""
        return self.options.get("session", "")

    @property
    def shown(self) -> bool:
        """Whether the reader sees the code."""
        return "source" in self.options


def blocks(text: str) -> list[Block]:
    """The blocks of a page that are run, in order."""
    found = []
    for match in FENCE.finditer(text):
        lines = match["code"].splitlines()
        code = "\n".join(line.removeprefix(match["indent"]) for line in lines)
        found.append(Block(code, dict(re.findall(r'(\w+)="([^"]*)"', match["options"]))))
    return found


def pages() -> list[Path]:
    """All pages with code that is run."""
    return [path for path in sorted(DOCS.rglob("*.md")) if blocks(path.read_text(encoding="utf-8"))]


def digest(data: bytes | str) -> str:
    """A short digest."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


@cache
def digest_of(path: Path) -> str | None:
    """The digest of a file; None if there is none."""
    return digest(path.read_bytes()) if path.is_file() else None


@cache
def versions() -> str:
    """The digest of Python's version and those of all installed packages but unimix."""
    found = {f"{d.name} {d.version}" for d in metadata.distributions() if d.name and d.name != "unimix"}
    return digest("\n".join([sys.version, *sorted(found)]))


def digest_of_code(page: Path) -> str:
    """The digest of what a page runs."""
    found = blocks(page.read_text(encoding="utf-8"))
    return digest(json.dumps([PRELUDE, *([b.code, b.session] for b in found)]))


def record_of(page: Path) -> Path:
    """Where the record of a page is."""
    return RECORDS / page.relative_to(DOCS).with_suffix(".json")


def fresh(page: Path) -> dict[str, Any] | None:
    """The record of a page if nothing that it depends on has changed since."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found: dict[str, Any] = json.loads(record_of(page).read_text(encoding="utf-8"))
        same = found["code"] == digest_of_code(page) and found["versions"] == versions()
        if same and all(digest_of(ROOT / name) == value for name, value in found["files"].items()):
            return found
    return None


class Reading:
    """Notes which files of the project are read, and whether another Python was started, which reads others unseen."""

    def __init__(self) -> None:
        self.files: set[Path] = set()
        self.other_python = False
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[1] and "r" in arguments[1]:
            self.files.add(Path(arguments[0]))
        elif event == "subprocess.Popen" and "python" in Path(os.fsdecode(arguments[0] or "")).name:
            self.other_python = True

    def found(self) -> dict[str, str | None]:
        """Digests of the files of the project, by their paths."""
        modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        read = {path for path in self.files | {Path(m) for m in modules if m} if path.suffix != ".pyc"}
        if self.other_python:
            read |= set((ROOT / "src").rglob("*.py"))
        inside = {path.absolute() for path in read if path.absolute().is_relative_to(ROOT)}
        kept = {path.relative_to(ROOT) for path in inside if path.is_file()}
        return {
            str(path): digest_of(ROOT / path)
            for path in sorted(kept)
            if path.suffix != ".md" and not path.parts[0].startswith(".") and path.name != "page_runner.py"
        }


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def outputs(page: Path) -> Iterator[str]:
    """Run the blocks of a page; what each prints.

    Raises:
        RuntimeError: If a block fails, with its code and the traceback.
    """
    sessions: dict[str, dict[str, Any]] = {}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8")), start=1):
        names = sessions.get(block.session) if block.session else None
        if names is None:
            names = {"__name__": "__page__"}
            exec(PRELUDE, names)
            if block.session:
                sessions[block.session] = names
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, f"{page.name}, block {number}", "exec"), names)
        except BaseException as error:
            raise RuntimeError(f"{page}, block {number}:\n\n{block.code}\n\n{traceback.format_exc()}") from error
        yield printed.getvalue()


def run(page: Path) -> None:
    """Run a page in this process and write its record."""
    os.chdir(ROOT)
    reading = Reading()
    code = digest_of_code(page)  # before the page is run: it may be edited meanwhile
    printed = list(outputs(page))
    path = record_of(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "code": code,
        "versions": versions(),
        "files": reading.found(),
        "cpu_seconds": round(cpu_seconds(), 1),
        "outputs": printed,
    }
    path.write_text(json.dumps(record), encoding="utf-8")


def run_apart(page: Path) -> subprocess.CompletedProcess[str]:
    """Run a page in a process of its own."""
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--here", str(page)]
    return subprocess.run(command, cwd=ROOT, env=quiet | os.environ, capture_output=True, text=True, check=False)


def bring_up_to_date(chosen: Iterable[Path], workers: int) -> list[str]:
    """Run the pages whose records are stale, and print a line for each.

    Returns:
        The messages of those that failed.
    """
    chosen = list(chosen)
    stale = [page for page in chosen if fresh(page) is None]
    print(f"pages: {len(chosen) - len(stale)} unchanged, {len(stale)} to run", flush=True)
    # those that took longest start first, so that none of them is left alone at the end
    stale.sort(key=known_seconds, reverse=True)
    failed = []
    with ThreadPoolExecutor(workers) as pool:
        begun = {pool.submit(run_apart, page): page for page in stale}
        started = time.perf_counter()
        for number, done in enumerate(as_completed(begun), start=1):
            page, result = begun[done], done.result()
            said = f"{known_seconds(page):6.1f} CPU s" if result.returncode == 0 else "FAILED"
            at = time.perf_counter() - started
            print(f"  [{number:2}/{len(stale)}] {at:5.0f} s  {page.relative_to(DOCS)!s:40} {said}", flush=True)
            if result.returncode:
                failed.append(result.stderr.strip())
    return failed


def known_seconds(page: Path) -> float:
    """CPU seconds that a page took last; infinite if it was never run."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return float(json.loads(record_of(page).read_text(encoding="utf-8"))["cpu_seconds"])
    return float("inf")


def main(arguments: list[str] | None = None) -> int:
    """Run pages.

    Args:
        arguments: Instead of the command line's.

    Returns:
        1 if a page failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: all")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--here", action="store_true", help="run the pages in this process, whether stale or not")
    parser.add_argument("--list", action="store_true", help="run nothing; say which pages are stale")
    given = parser.parse_args(arguments)
    chosen = [page.resolve() for page in given.pages] or pages()
    if given.list:
        for page in sorted(chosen, key=known_seconds):
            state = "fresh" if fresh(page) else "stale"
            print(f"{state}  {known_seconds(page):6.1f} CPU s  {page.relative_to(DOCS)}")
        return 0
    if given.here:
        for page in chosen:
            run(page)
        return 0
    failed = bring_up_to_date(chosen, given.workers)
    print("\n\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
