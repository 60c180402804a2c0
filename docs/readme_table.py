"""Keep README.md true: the capability tables, the ratios and the output of the comparison are made from the code.

python docs/readme_table.py            writes the capability table
python docs/readme_table.py --run      writes the table and runs the comparison again (about a minute)
python docs/readme_table.py --check    changes nothing; fails if the capability table is stale
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import replace
from pathlib import Path

import unimix as um
from unimix.backends import backend_table
from unimix.backends.registry import built_in

README = Path(__file__).resolve().parent.parent / "README.md"
BENCHMARKS = Path(__file__).resolve().parent / "benchmarks.json"
BACKENDS = built_in()
SHOWN = ["statsmodels", "lme4", "pymer4", "pymc"]


def between(text: str, mark: str, new: str) -> str:
    """Put ``new`` between ``<!-- mark -->`` and ``<!-- /mark -->``.

    Raises:
        ValueError: If a mark is missing.
    """
    start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, found, rest = text.partition(start)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md lacks {start.strip()} ... {end}.")
    return f"{head}{start}{new}\n{end}{tail}"


def table() -> str:
    """The capability table of the built-in backends, whatever else is installed."""
    whole = backend_table()
    return replace(whole, marks=whole.marks[BACKENDS]).to_markdown()


def families() -> str:
    """The table of families of the built-in backends."""
    whole = backend_table()
    return replace(whole, families=whole.families[BACKENDS]).families_to_markdown()


def ratios() -> str:
    """The benchmarks that have a goal, from the run that docs/benchmarks.json holds."""
    found = json.loads(BENCHMARKS.read_text(encoding="utf-8"))["rows"]
    lines = ["| unimix against | data | time, ours / theirs | goal |", "|---|---|---:|---:|"]
    for row in found:
        if row["reach"] is not None:
            missed = "" if row["ratio"] <= row["reach"] else ", missed"
            lines.append(f"| {row['what']} | {row['data']} | {row['ratio']:.2g} | {row['reach']:g}{missed} |")
    return "\n".join(lines)


def comparison() -> str:
    """The comparison of the first screen."""
    pigs = um.load_dataset("dietox")
    for _ in range(2):  # the second run does not count the loading of engines
        found = um.compare("Weight ~ Time + (1 + Time | Pig)", pigs, backends=SHOWN, seed=1)
    return f"```text\n{found}\n```"


def main(arguments: list[str] | None = None) -> int:
    """Write or check.

    Args:
        arguments: Instead of the command line's.

    Returns:
        1 if the table is stale and was only checked.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the table is stale")
    parser.add_argument("--run", action="store_true", help="run the comparison again, too")
    chosen = parser.parse_args(arguments)
    before = README.read_text(encoding="utf-8")
    after = between(between(before, "capabilities", table()), "families", families())
    after = between(after, "ratios", ratios())
    if chosen.check:
        if after == before:
            return 0
        print("README.md is stale; type: python docs/readme_table.py", file=sys.stderr)
        print(*difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""), sep="\n", file=sys.stderr)
        return 1
    if chosen.run:
        after = between(after, "output", comparison())
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
