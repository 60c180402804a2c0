"""Messages about arguments of the wrong type, which are made when a call fails because of them.

The annotations of a public function say what its arguments are. They are read when a call has failed with an error that
unimix did not raise on purpose; a call that works costs nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import numbers
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from unimix.errors import OptionError, UnimixError, listing

LARGEST = 2**63
"""Size from which a whole number is too large for an array."""


MOST = 1_000_000
"""Largest number of draws, refits, levels or rows that an argument can ask for."""


def count_fault(name: str, value: object, least: int, what: str, most: int = MOST) -> str:
    """Fault of a number of things in words, or an empty text.

    Args:
        name: Name of the argument.
        value: Value of the argument.
        least: Smallest number.
        what: The things that are counted, and advice, such as ``refits (1000 for intervals)``.
        most: Largest number.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and least <= int(value) <= most:  # type: ignore[call-overload]
        return ""
    limits = f"at least {least}" if not whole or int(value) < least else f"{least} to {most:,}"  # type: ignore[call-overload]
    thing, _, advice = what.partition(" (")
    return f"{name}={_shown(value)}: give a whole number of {thing}, {limits}{' (' + advice if advice else ''}."


def call(
    function: Callable[..., Any], arguments: Sequence[Any], given: Mapping[str, Any], *, method: bool = False
) -> Any:
    """Call a function; where it fails and arguments are of the wrong type, the error names these arguments.

    Args:
        function: The function.
        arguments: Arguments by position.
        given: Arguments by name.
        method: Whether the first argument is the object that has the method.

    Raises:
        OptionError: If the call fails with an error that is none of unimix, and arguments are too many, missing, or of
            the wrong type.
    """
    try:
        return function(*arguments, **given)
    except UnimixError:
        raise
    except Exception as error:
        count_faults = count_of_arguments_faults(function, arguments, given, method=method)
        if faults := count_faults or type_faults(function, arguments, given):
            raise OptionError("\n".join(faults)) from error
        raise


def count_of_arguments_faults(
    function: Callable[..., Any], arguments: Sequence[Any], given: Mapping[str, Any], *, method: bool
) -> list[str]:
    """Faults of a call with too many arguments by position, one given twice, or without one that is needed."""
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments, **given)
    except TypeError:
        pass
    else:
        return []
    method = method or "self" in signature.parameters
    own = list(signature.parameters.values())[method:]
    placed = [p.name for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    n_given = len(arguments) - method
    missing = [
        f"{p.name}="
        for p in own
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in given
        and p.name not in placed[:n_given]
    ]
    faults = [f"{function.__name__} needs {listing(missing)}."] if missing else []
    twice = [name for name in placed[:n_given] if name in given]
    faults += [f"{name} is given twice, by position and by name." for name in twice]
    if n_given > len(placed) and not any(p.kind is p.VAR_POSITIONAL for p in own):
        named = [f"{p.name}=" for p in own if p.kind is p.KEYWORD_ONLY]
        by_name = f" These are given by name: {listing(named)}." if named else ""
        be = "was" if n_given == 1 else "were"
        at_most = f"at most {len(placed)} ({listing(placed)})" if placed else "no argument"
        faults.append(f"{function.__name__} takes {at_most} by position; {n_given} {be} given.{by_name}")
    return faults


def type_faults(function: Callable[..., Any], arguments: Sequence[Any], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the types of the arguments of a call, one sentence per argument.

    Args:
        function: The function.
        arguments: Arguments by position.
        given: Arguments by name.
    """
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*arguments, **given).arguments
    except TypeError:
        return []
    faults = []
    for name, value in bound.items():
        parameter = signature.parameters[name]
        values = value if parameter.kind is parameter.VAR_POSITIONAL else [value]
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        expected = _annotation(function, parameter.annotation)
        wrong = [v for v in values if not fits(v, expected)]
        if wrong:
            faults.append(f"{name}={_shown(wrong[0])}: give {' or '.join(dict.fromkeys(_words(expected)))}.")
    return faults


def _shown(value: object) -> str:
    """A value as a message shows it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  a foreign object may raise anything
        text = type(value).__name__
    return text if len(text) <= 60 and "\n" not in text else f"<{type(value).__name__}>"


class _Names(dict[str, Any]):
    """Names in the annotations of a module; one that it imports for types only is found where it is defined."""

    def __missing__(self, name: str) -> Any:
        own = (vars(module) for at, module in list(sys.modules.items()) if at.startswith("unimix."))
        return next((names[name] for names in own if name in names), getattr(builtins, name, Any))


@functools.lru_cache(maxsize=1000)
def _evaluated(annotation: str, module: str) -> Any:
    try:
        return eval(annotation, _Names(vars(sys.modules[module])))  # noqa: S307  an annotation of unimix's own source
    except Exception:  # noqa: BLE001  an annotation that cannot be evaluated excludes nothing
        return Any


def _annotation(function: Callable[..., Any], annotation: Any) -> Any:
    """The type that an annotation means."""
    return _evaluated(annotation, function.__module__) if isinstance(annotation, str) else annotation


def _members(expected: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)


def fits(value: Any, expected: Any) -> bool:
    """Whether a value is of a type, as far as its annotation shows.

    Args:
        value: The value.
        expected: The type, a union, a literal or a generic alias; a class of another package excludes nothing.
    """
    return any(_fits(value, member) for member in _members(expected))


def _fits(value: Any, expected: Any) -> bool:
    origin, parts = get_origin(expected), get_args(expected)
    if expected is None or expected is types.NoneType:
        return value is None
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if expected is str:
        return isinstance(value, str)
    if expected is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if expected in (int, float):
        kind = numbers.Integral if expected is int else numbers.Real
        too_large = isinstance(value, int) and abs(value) >= LARGEST
        return isinstance(value, kind) and not isinstance(value, bool) and not too_large
    if expected is Path:
        return isinstance(value, Path)
    if isinstance(expected, type) and expected.__module__.startswith("unimix."):
        return isinstance(value, expected)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if origin is tuple:
        return isinstance(value, tuple | list)
    if origin is Callable or expected is Callable:
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return _is_list(value) and all(fits(v, parts[0]) for v in value)
    return True


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


_WORDS: dict[Any, str] = {
    None: "None",
    types.NoneType: "None",
    str: "a string",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}


def _words(expected: Any) -> list[str]:
    """The types of an annotation in words."""
    words = []
    for member in _members(expected):
        origin, parts = get_origin(member), get_args(member)
        if origin is Literal:
            words.append(listing(map(repr, parts)))
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            words.append("a dict")
        elif isinstance(origin, type) and issubclass(origin, Iterable) and origin is not tuple:
            words.append(f"a list ({_words(parts[0])[0]} each)" if parts and parts[0] is not Any else "a list")
        elif origin is tuple:
            words.append(f"{len(parts)} values")
        elif origin is Callable:
            words.append("a function")
        else:
            words.append(_WORDS.get(member, getattr(member, "__name__", str(member))))
    return words


def file_at(path: object) -> Path:
    """The path of a file.

    Args:
        path: Path as the user gave it.

    Raises:
        OptionError: If it is not a path.
    """
    with contextlib.suppress(OSError, UnicodeError):  # it is too long, or has characters that no path has
        if isinstance(path, str | Path) and str(path) and "\0" not in str(path):
            os.fsencode(path)
            Path(path).exists()
            return Path(path)
    raise OptionError(f"{path!r:.200} is not the path of a file; give one such as 'fit.json'.")


__all__ = ["call", "count_fault", "file_at", "fits", "type_faults"]
