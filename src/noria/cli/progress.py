"""A bar for work that takes long: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total); a total of 0 is one that is not known yet. It may be called by any thread."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    words = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*words, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield tell


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """A function to call with what is being done now, which is shown beside a title and how long it has taken."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(stderr=True)
    now = TextColumn("[dim]{task.fields[now]}", markup=True, table_column=Column(no_wrap=True, ratio=1))
    words = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), now)
    with Progress(*words, console=console, transient=True, expand=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None, now="")

        def tell(line: str) -> None:
            from rich.markup import escape

            progress.update(task, now=escape(line))

        yield tell
