"""The public names of unimix with their signatures: printed, compared with the stored list, or written to it.

python scripts/public_api.py            # what differs from tests/architecture/public_api.txt
python scripts/public_api.py --write    # renew the list, after a change that is meant
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

STORED = Path(__file__).resolve().parents[1] / "tests" / "architecture" / "public_api.txt"


def public_api() -> list[str]:
    """One line per public name: functions with their signatures, classes with what they have."""
    import unimix

    lines: list[str] = []
    for name in unimix.__all__:
        value = getattr(unimix, name)
        if isinstance(value, ModuleType):
            made = name != "backends"  # users make families and priors; engines are chosen by their names
            lines += [_line(f"{name}.{inner}", getattr(value, inner), made=made) for inner in value.__all__]
        else:
            lines += _lines(name, value)
    return sorted(lines)


def _line(name: str, value: Any, *, made: bool = False) -> str:
    """A function with its signature, and a class that users make; another class or a value by its name."""
    if inspect.isclass(value):
        return f"class {name}{_signature(value) if made else ''}"
    return f"{name}{_signature(value)}" if inspect.isfunction(value) else name


def _lines(name: str, value: Any) -> Iterator[str]:
    """A name, and of a class everything that its objects have."""
    yield _line(name, value)
    if not inspect.isclass(value):
        return
    for member in sorted(n for n in dir(value) if not n.startswith(("_", "model_"))):
        found = inspect.getattr_static(value, member)
        if not _is_own(value, member):
            continue
        function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        yield f"{name}.{member}{_signature(function)}" if inspect.isfunction(function) else f"{name}.{member}"
    # Fields of dataclasses and of pydantic's models that have no default are no attributes of the class.
    fields = {**getattr(value, "__dataclass_fields__", {}), **getattr(value, "model_fields", {})}
    for field in sorted(f for f in fields if not f.startswith("_") and not hasattr(value, f)):
        yield f"{name}.{field}"


def _is_own(cls: type, member: str) -> bool:
    """Whether a member is unimix's, and not that of a library's class below it."""
    home = next(c for c in cls.__mro__ if member in c.__dict__)
    return home.__module__.partition(".")[0] == "unimix"


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    told, keyword_only = [], False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not keyword_only and not any(t.startswith("*") for t in told):
            told.append("*")
        keyword_only = keyword_only or p.kind is p.KEYWORD_ONLY
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        annotation = "" if p.annotation is empty else f": {_annotation(p.annotation)}"
        default = "" if p.default is empty else f" = {p.default!r}" if annotation else f"={p.default!r}"
        told.append(f"{stars}{p.name}{annotation}{default}")
    returned = signature.return_annotation
    return f"({', '.join(told)})" + ("" if returned is empty else f" -> {_annotation(returned)}")


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="renew the stored list")
    given = parser.parse_args()
    lines = public_api()
    before = STORED.read_text(encoding="utf-8").splitlines() if STORED.is_file() else []
    changed = list(difflib.unified_diff(before, lines, "stored", "now", lineterm="", n=0))
    print("\n".join(changed) or f"{len(lines)} public names, as stored.")
    if given.write:
        STORED.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return 0
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
