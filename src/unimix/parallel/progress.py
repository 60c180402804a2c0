"""A progress bar with the number of finished items, the rate and the remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

T = TypeVar("T")


def rate(speed: float | None, unit: str) -> str:
    """Text of a rate per second, or per minute if it is below one per second; empty while it is unknown."""
    if not speed:
        return ""
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{60 * speed:.1f} {unit}/min"


def is_shown(progress: bool | None) -> bool:
    """Whether to show a progress bar: as ``progress`` says, and on a terminal only if it is None."""
    return sys.stderr.isatty() if progress is None else progress


def shown(items: Iterable[T], total: int, title: str, unit: str, *, progress: bool | None) -> Iterator[T]:
    """Yield items and count them in a progress bar on standard error.

    Args:
        items: The items.
        total: Number of items.
        title: Text beside the bar.
        unit: Name of the items in the plural.
        progress: Whether to show the bar; None shows it on a terminal.
    """
    if not is_shown(progress):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _rate_column(unit))
    # The stream is bound here: engines' own streams are swapped while they fit.
    console = Console(file=sys.stderr)
    with Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=600) as bar:
        task = bar.add_task(title, total=total)
        for item in items:
            bar.advance(task)
            yield item


def _rate_column(unit: str) -> ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.finished_speed or task.speed, unit), style="progress.data.speed")

    return Rate()


__all__ = ["is_shown", "rate", "shown"]
