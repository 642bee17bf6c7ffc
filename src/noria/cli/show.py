"""How things are printed: JSON for programs, aligned columns for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def as_json(value: Any) -> None:
    """One JSON document on stdout, NaN and infinities as text."""
    plain = msgspec.to_builtins(value, str_keys=True)
    click.echo(msgspec.json.format(msgspec.json.encode(_finite(plain)), indent=2))


def _finite(value: Any) -> Any:
    from noria.types import number

    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Aligned columns on stdout; the sentence `empty` on stderr if there is nothing."""
    if not rows:
        click.echo(empty, err=True)
        return
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for index, row in enumerate((head, *rows)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if index == 0 and sys.stdout.isatty() else line)


def ago(milliseconds: int | None) -> str:
    return f"{span(time.time() * 1000 - milliseconds)} ago" if milliseconds else "-"


def span(milliseconds: float) -> str:
    """A duration in the two largest units."""
    seconds = max(0, round(milliseconds / 1000))
    for size, unit, lower, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // lower}{name}"
    return f"{seconds}s"


def curve(points: Sequence[tuple[int, float]], title: str, *, height: int = 12) -> None:
    """A learning curve in the terminal, on stderr."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(plotext.terminal_width() or 80, 100), height)
    plotext.plot([step for step, _ in points], [value for _, value in points], marker="braille")
    plotext.title(title)
    click.echo(plotext.build() if sys.stderr.isatty() else plotext.uncolorize(plotext.build()), err=True)
