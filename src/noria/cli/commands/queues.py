"""noria queues"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.jobs.dialect import Dialect, Queue

T = TypeVar("T")


@click.command()
@click.option("--on", "scheduler", help="Of this scheduler alone: local, slurm, pbs or sge.")
@json_option
def command(scheduler: str | None, as_json: bool) -> None:
    """List the queues that jobs can be sent to from here.

    FREE is so many of so many; a * marks the default.
    """
    from noria import process
    from noria.cli import show

    found = asked(scheduler, lambda dialect: dialect.queues(process.run(dialect.QUEUES)))
    if as_json:
        show.as_json({"queues": [{"scheduler": name, **show.plain(queue)} for name, queue in found]})
        return
    show.table(
        ("QUEUE", "ON", "STATE", "LIMIT", "FREE NODES", "FREE CPUS", "RUNNING", "WAITING"),
        [(queue.name + "*" * queue.is_default, name, queue.state, _limit(queue), of(queue.free_nodes, queue.nodes),
          of(queue.free_cpus, queue.cpus), show.count(queue.running), show.count(queue.waiting)) for name, queue in found],
        "No queues.",
    )  # fmt: skip


def asked(scheduler: str | None, ask: Callable[[Dialect], list[T]]) -> list[tuple[str, T]]:
    """What the schedulers that are installed here say, or the one that was named. One that does not answer is told of."""
    from noria import process
    from noria.errors import NoriaError
    from noria.jobs.launch import SCHEDULERS

    if scheduler:
        return [(scheduler, each) for each in ask(SCHEDULERS.get(scheduler))]
    found = []
    for name in SCHEDULERS.names():
        dialect = SCHEDULERS.get(name)
        if process.run(dialect.PROBE, timeout=10).code == 0:
            try:
                found += [(name, each) for each in ask(dialect)]
            except NoriaError as error:
                click.echo(f"noria: {error.message}", err=True)
    return found


def of(free: int | None, all_: int | None) -> str:
    """So many of so many."""
    if free is None and all_ is None:
        return "-"
    return f"{free}" if all_ is None else f"{free}/{all_}"


def _limit(queue: Queue) -> str:
    from noria.cli import show

    return "-" if queue.limit is None else show.span(queue.limit * 1000)
