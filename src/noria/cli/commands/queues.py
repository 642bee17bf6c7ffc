"""noria queues"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.jobs.clusters import Cluster
    from noria.jobs.dialect import Queue

T = TypeVar("T")


@click.command()
@click.option("--on", help="Of this one alone: slurm, pbs, sge, local, or a cluster that noria.toml names.")
@json_option
def command(on: str | None, as_json: bool) -> None:
    """List the queues that jobs can be sent to from here.

    FREE is so many of so many; a * marks the default.
    """
    from noria.cli import show

    found = asked(on, lambda cluster: cluster.dialect.queues(cluster.run(cluster.dialect.QUEUES)))
    if as_json:
        show.as_json({"queues": [{"scheduler": name, **show.plain(queue)} for name, queue in found]})
        return
    show.table(
        ("QUEUE", "ON", "STATE", "LIMIT", "FREE NODES", "FREE CPUS", "RUNNING", "WAITING"),
        [(queue.name + "*" * queue.is_default, name, queue.state, _limit(queue), of(queue.free_nodes, queue.nodes),
          of(queue.free_cpus, queue.cpus), show.count(queue.running), show.count(queue.waiting)) for name, queue in found],
        "No queues.",
    )  # fmt: skip


def asked(on: str | None, ask: Callable[[Cluster], list[T]]) -> list[tuple[str, T]]:
    """What the schedulers that answer here say, or the cluster that was named. One that says nothing of use is told of."""
    from noria.errors import NoriaError
    from noria.jobs import clusters
    from noria.jobs.dialect import SCHEDULERS

    if on:
        return [(on, each) for each in ask(clusters.named(on))]
    found = []
    for name in filter(clusters.answers, SCHEDULERS.names()):
        try:
            found += [(name, each) for each in ask(clusters.named(name))]
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
