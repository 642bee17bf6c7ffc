"""How things are printed: JSON for programs, aligned columns for people."""

from __future__ import annotations

import math
import shutil
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
    builtins = msgspec.to_builtins(value, str_keys=True)
    click.echo(msgspec.json.format(msgspec.json.encode(_finite(builtins)), indent=2))


def plain(value: Any) -> Any:
    """A Struct as JSON's types."""
    return msgspec.to_builtins(value)


def job_id(whole: str) -> str:
    """A job's id as lists show it: its beginning, and the number of an array's member."""
    stem, under, number = whole.partition("_")
    return f"{stem[:8]}{under}{number}"


def count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _finite(value: Any) -> Any:
    from noria.types import number

    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Aligned columns on stdout, cut to a terminal's width; the sentence `empty` on stderr if there is nothing."""
    if not rows:
        click.echo(empty, err=True)
        return
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if sys.stdout.isatty():
        widths = fit(widths, columns())
    for index, row in enumerate((head, *rows)):
        line = "  ".join(_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if index == 0 and sys.stdout.isatty() else line)


def columns() -> int:
    """The width to print in: the terminal's, or 80."""
    return shutil.get_terminal_size((80, 24)).columns


def fit(widths: Sequence[int], limit: int, least: int = 8) -> list[int]:
    """The widths of columns, two spaces apart, the widest taken from until all is at most `limit` wide."""
    result = list(widths)
    while sum(result) + 2 * (len(result) - 1) > limit and max(result) > least:
        result[result.index(max(result))] -= 1
    return result


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def figure(value: object) -> str:
    """A number as a list shows it; `value` as it stands on the wire, None for none."""
    return "-" if value is None else f"{float(str(value)):.6g}"


_BARS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float]) -> str:
    """A curve in one line; a gap where there is no finite value."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    top = len(_BARS) - 1
    return "".join(
        _BARS[round((value - low) / span * top) if span else top // 2] if math.isfinite(value) else " " for value in values
    )


def ago(milliseconds: int | None) -> str:
    """How long ago, in the largest unit alone: a list has no room for more."""
    return f"{span(time.time() * 1000 - milliseconds).split()[0]} ago" if milliseconds else "-"


def span(milliseconds: float) -> str:
    """A duration in the two largest units."""
    seconds = max(0, round(milliseconds / 1000))
    for size, unit, lower, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // lower}{name}"
    return f"{seconds}s"


def size(count: float) -> str:
    """Bytes in the largest unit that there is one of."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"


def curve(points: Sequence[tuple[int, float]], title: str, *, height: int = 12, err: bool = True) -> None:
    """A learning curve in the terminal; what is no number is left out."""
    import plotext

    finite = [point for point in points if math.isfinite(point[1])]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(min(columns(), 100), height)
    plotext.plot([step for step, _ in finite], [value for _, value in finite], marker="braille")
    plotext.title(title)
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    click.echo(plotext.build() if is_terminal else plotext.uncolorize(plotext.build()), err=err)
