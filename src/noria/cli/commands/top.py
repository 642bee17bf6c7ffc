"""noria top"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from noria.jobs.dialect import Node
    from noria.types import Job

_WIDTH = 16


@click.command()
@click.option("--on", "scheduler", help="Of this one alone: slurm, pbs, sge, local, or a cluster that noria.toml names.")
@click.option("--every", default=3.0, type=click.FloatRange(1), show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print it once; the default where the output is no terminal.")
def command(scheduler: str | None, every: float, once: bool) -> None:
    """Watch nodes, their CPUs and GPUs, and your jobs on them.

    Ctrl-C ends it. Nodes that are full with others' jobs are shown as such, without whose they are.
    """
    import time

    from rich.console import Console
    from rich.live import Live

    console = Console()
    if once or not console.is_terminal:
        console.print(_look(scheduler))
        return
    try:
        with Live(_look(scheduler), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(_look(scheduler), refresh=True)
    except KeyboardInterrupt:
        pass


def _look(scheduler: str | None) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    from noria.cli import show
    from noria.cli.commands.ps import idling
    from noria.cli.commands.queues import asked
    from noria.cli.local import connect
    from noria.wire import jobs as wire

    found = asked(scheduler, lambda cluster: cluster.dialect.nodes(cluster.run(cluster.dialect.NODES)))
    server = connect()
    jobs = [job for job in server.call(wire.LIST, wire.List(open=True, limit=10_000)).jobs if scheduler in (None, job.spec.place)]
    where, idle = _where(jobs), idling(server, jobs)
    nodes = Table("NODE", "ON", "STATE", "CPUS", "MEMORY", "GPUS", "YOUR JOBS", box=None, header_style="bold", pad_edge=False)
    for name, node in found:
        nodes.add_row(node.name, name, node.state, *_bars(node), ", ".join(where.get(node.name, [])))
    open_ = Table("JOB", "NAME", "ON", "STATE", "SINCE", "WHY", box=None, header_style="bold", pad_edge=False)
    for job in sorted(jobs, key=lambda job: (job.state != "RUNNING", job.created))[:40]:
        since = show.ago(job.started or job.created)
        open_.add_row(
            show.job_id(job.id),
            job.spec.name or " ".join(job.spec.command)[:30],
            job.spec.place,
            job.state,
            since,
            job.reason or idle.get(job.id, ""),
        )
    running = sum(job.state == "RUNNING" for job in jobs)
    return Group(nodes, "", open_ if jobs else "No jobs of yours.", f"\n{running} running, {len(jobs) - running} waiting")


def _where(jobs: list[Job]) -> dict[str, list[str]]:
    """The jobs on each node, as their launchers have written it down."""
    from pathlib import Path

    from noria.cli import show
    from noria.jobs.folder import Folder

    found: dict[str, list[str]] = {}
    for job in jobs:
        for node in Folder(Path(job.folder)).nodes() if job.folder and job.state == "RUNNING" else ():
            found.setdefault(node.host, []).append(show.job_id(job.id))
    return found


def _bars(node: Node) -> tuple[str, str, str]:
    memory = f"{(node.mem - node.free_mem) / 2**30:.0f}/{node.mem / 2**30:.0f} GiB"
    gpus = "-" if not node.gpus else f"{_bar(node.gpus - node.free_gpus, node.gpus)} {','.join(node.gpu_types)}".rstrip()
    return _bar(node.cpus - node.free_cpus, node.cpus), memory, gpus


def _bar(used: int, whole: int) -> str:
    """What is used of all, a sign for each as long as there is room."""
    width = min(whole, _WIDTH)
    filled = round(used / whole * width) if whole else 0
    return f"{'█' * filled}{'·' * (width - filled)} {used}/{whole}"
