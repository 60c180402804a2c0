"""Keep README.md true: the ratios, the output of the comparison and the picture are made by the code.

python docs/readme.py            writes the ratios
python docs/readme.py --run      writes the ratios, runs the comparison again and draws the picture (about a minute)
python docs/readme.py --check    changes nothing; fails if the ratios are stale
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

import unimix as um

README = Path(__file__).resolve().parent.parent / "README.md"
PICTURE = Path(__file__).resolve().parent / "images" / "groups.png"
BENCHMARKS = Path(__file__).resolve().parent / "benchmarks.json"
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


def ratios() -> str:
    """The benchmarks that have a goal, from the run that docs/benchmarks.json holds, the first of each kind."""
    lines = ["| unimix against | data | time, ours / theirs |", "|---|---|---:|"]
    shown: set[str] = set()
    for row in json.loads(BENCHMARKS.read_text(encoding="utf-8"))["rows"]:
        if row["reach"] is not None and row["what"] not in shown:
            shown.add(row["what"])
            lines.append(f"| {row['what']} | {row['data']} | {row['ratio']:.2g} |")
    return "\n".join(lines)


def comparison() -> str:
    """The comparison of the first screen."""
    pigs = um.load_dataset("dietox")
    for _ in range(2):  # the second run does not count the loading of engines
        found = um.compare("Weight ~ Time + (1 + Time | Pig)", pigs, backends=SHOWN, seed=1)
    return f"```text\n{found}\n```"


def draw() -> None:
    """Draw the picture of the quick start."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    fit = um.fit("Weight ~ Time + (1 + Time | Pig)", um.load_dataset("dietox"))
    np.ravel(fit.plot.groups(levels=8))[0].figure.savefig(PICTURE, dpi=80)


def main(arguments: list[str] | None = None) -> int:
    """Write or check.

    Args:
        arguments: Instead of the command line's.

    Returns:
        1 if the ratios are stale and was only checked.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the ratios are stale")
    parser.add_argument("--run", action="store_true", help="run the comparison and draw the picture again, too")
    chosen = parser.parse_args(arguments)
    before = README.read_text(encoding="utf-8")
    after = between(before, "ratios", ratios())
    if chosen.check:
        if after == before:
            return 0
        print("README.md is stale; type: python docs/readme.py", file=sys.stderr)
        print(*difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""), sep="\n", file=sys.stderr)
        return 1
    if chosen.run:
        after = between(after, "output", comparison())
        draw()
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
