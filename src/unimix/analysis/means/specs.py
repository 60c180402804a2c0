"""The argument ``specs`` of marginal means: names, or a formula as in R's emmeans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unimix.errors import OptionError

USAGE = "Write 'a', ['a', 'b'] with by='c', or '~ a * b', '~ a | c', and 'pairwise ~ a' in fit.contrasts."


@dataclass(frozen=True)
class Specs:
    """The specification of marginal means.

    Attributes:
        names: Predictors whose levels distinguish the means.
        by: Predictors within whose levels contrasts are formed.
        method: Method of the contrasts if a formula names one; else empty.
    """

    names: list[str]
    by: list[str]
    method: str


def read_specs(specs: str | Sequence[str], by: str | Sequence[str]) -> Specs:
    """Read names, or a formula: ``~ a``, ``~ a * b``, ``~ a + b``, ``~ a | b``, ``~ 1``, ``pairwise ~ a``.

    Raises:
        OptionError: If the formula cannot be read.
    """
    outer = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    if not isinstance(specs, str) or "~" not in specs:
        return Specs([specs] if isinstance(specs, str) else list(dict.fromkeys(specs)), outer, "")
    means, *right = specs.split("~")
    parts = right[0].split("|")
    if len(right) > 1 or len(parts) > 2:
        raise OptionError(f"specs={specs!r} has too many of '~' or '|'. {USAGE}")
    names, within = _names(parts[0], specs), _names(parts[1], specs) if len(parts) > 1 else []
    return Specs(names, list(dict.fromkeys([*within, *outer])), means.strip())


def _names(text: str, specs: str) -> list[str]:
    parts = [part.strip().strip("`") for part in text.replace("*", "+").replace(":", "+").split("+")]
    if parts == ["1"]:
        return []
    if not all(parts) or any(c in name for name in parts for c in "()-^"):
        raise OptionError(f"specs={specs!r} is not a list of predictors. {USAGE}")
    return list(dict.fromkeys(parts))


__all__ = ["Specs", "read_specs"]
