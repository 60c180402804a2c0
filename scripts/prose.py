"""Hold the documentation to the style sheet in CONTRIBUTING.md: words that have a plainer one, and long sentences.

python scripts/prose.py              checks README.md, CONTRIBUTING.md and docs/
python scripts/prose.py FILE ...     checks files
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LONGEST = 34
"""Words of a sentence; formulas and names in code count as one each."""

PLAINER = {
    r"by another road|by the same road|goes the same road": "in another way, in the same way",
    r"what is left to gain": "the remaining improvement",
    r"has its own word|own words? of the engine": "name the quantity",
    r"told apart|cannot be told from": "distinguished from",
    r"as ever": "as usual",
    r"all the same": "nevertheless, or leave it out",
    r"in order to": "to",
    r"utili[sz]e[sd]?|utili[sz]ing": "use",
    r"leverag(?:es|ed|ing)": "use",
    r"aforementioned|hereby|herein|thereof|whereby|thereby": "name the thing",
    r"simply|obviously|of course|needless to say|trivially": "leave it out",
    r"very|quite|really": "leave it out, or give a number",
    r"note that|please note|it should be noted": "say it",
    r"allows? (?:you|one) to": "name what it does: 'you can ...'",
    r"e\.g\.|i\.e\.|etc\.|cf\.": "for example, that is, and so on, compare",
    r"at this point in time|currently": "now, or leave it out",
    r"in case of": "if, for",
    r"is able to": "can",
    r"a (?:large )?number of": "many, or the number",
}
"""Pattern: what to write instead. Written for whole words, in any case."""

PATTERNS = {re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE): said for words, said in PLAINER.items()}


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """First line and text of every paragraph, list item and cell, without code, links' addresses and HTML."""
    code = re.compile(r"^( *)(```+)[^`\n]*\n(?:.*\n)*?\1\2 *$", re.MULTILINE)
    comments = re.compile(r"<!--.*?-->", re.DOTALL)
    blank = text
    for unread in (code, comments):
        blank = unread.sub(lambda match: "\n" * match[0].count("\n"), blank)
    held: list[str] = []
    start = 1
    for number, line in enumerate([*blank.splitlines(), ""], start=1):
        apart = re.match(r"\s*($|[-*#|>]|\d+\. |!!!|===|:::|--8<--)", line)
        if apart and held:
            yield start, " ".join(held)
            held = []
        if line.lstrip().startswith("|"):
            cells = re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "X", line))
            yield from ((number, cell) for cell in cells if cell.strip())
        elif line.strip() and not re.match(r"\s*(!!!|===|:::|--8<--)", line):
            start = start if held else number
            held.append(re.sub(r"^\s*([-*>]|\d+\.|#+) ", "", line).strip())


def plain(text: str) -> str:
    """A paragraph with names in code, formulas and addresses replaced by single words."""
    text = re.sub(r"`[^`]+`", "X", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"<[^>]+>|[\[\]*]", "", text)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Line and fault of everything that the style sheet forbids."""
    for line, paragraph in paragraphs(text):
        said = plain(paragraph)
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(said):
                yield line, f"{match[0]!r}: {instead}"
        for sentence in re.split(r"(?<=[.!?:;])\s+", said):
            words = len(sentence.split())
            if words > LONGEST:
                yield line, f"a sentence of {words} words: {' '.join(sentence.split()[:8])} ..."


def main(arguments: list[str] | None = None) -> int:
    """Check files.

    Args:
        arguments: Instead of the command line's.

    Returns:
        1 if there is a fault.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args(arguments).files
    files = given or [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [(file, line, said) for file in files for line, said in faults(file.read_text(encoding="utf-8"))]
    for file, line, said in found:
        print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{line}: {said}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
