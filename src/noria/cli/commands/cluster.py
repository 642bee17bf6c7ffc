"""noria cluster"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.hardware.network import Report


@click.group(cls=Group)
def command() -> None:
    """What a cluster is like: measured by jobs on it."""


@command.command("network")
@click.option("--on", "scheduler", default="local", show_default=True, help="Where: slurm, pbs, sge, or this machine alone.")
@click.option("--nodes", default=2, type=click.IntRange(2, 64), show_default=True, help="Nodes to measure between.")
@click.option("--time", "limit", default="10m", show_default=True, help="Time limit of the job.")
@json_option
def network(scheduler: str, nodes: int, limit: str, as_json: bool) -> None:
    """Measure the network between nodes, and say what to change.

    Submits a job with one task on each node: messages of each size between each two of them, an all-reduce over all (with torch), and how MTU, TCP and InfiniBand are set.
    """
    import sys
    from pathlib import Path

    from noria.cli import show
    from noria.cli.asks import asked
    from noria.cli.commands.submit import submit
    from noria.cli.commands.wait import wait
    from noria.cli.local import connect
    from noria.errors import Unavailable
    from noria.hardware.network import read
    from noria.jobs.folder import Folder
    from noria.jobs.launch import SCHEDULERS

    # On this machine the tasks are neighbours, which tells what the software costs.
    size = {"tasks_per_node": nodes} if scheduler == "local" else {"nodes": nodes}
    wanted = asked((sys.executable, "-m", "noria.hardware.network"), scheduler, {"name": "network", "time": limit, **size}, "")
    SCHEDULERS.get(scheduler).check(wanted.spec)
    server = connect()
    job = submit(server, wanted)
    click.echo(f"noria: job {job.id[:8]} waits for {nodes} nodes; Ctrl-C leaves it in the queue", err=True)
    (ended,) = wait(server, job.id)
    log = Folder(Path(ended.folder)).logs / "rank0.log"
    report = read(log.read_text(errors="replace")) if ended.exit_code == 0 and log.exists() else None
    if report is None:
        raise Unavailable(
            f"The job measured nothing: {ended.reason or 'its log is empty'}", f"`noria logs {ended.id[:8]}` shows more."
        )
    if as_json:
        from noria.hardware.network import advise

        show.as_json({"report": report, "advice": advise(report)})
    else:
        _print(report)


def _print(report: Report) -> None:
    from noria.cli import show
    from noria.hardware.network import advise, bus

    show.table(
        ("FROM", "TO", "LATENCY", *(_bytes(time.size) for time in report.links[0].times[2:])),
        [(link.source, link.target, f"{link.latency * 1e6:,.1f} us", *(_speed(time.size / time.typical) for time in link.times[2:]))
         for link in report.links],
        "There is one node.",
    )  # fmt: skip
    if report.sums:
        click.echo(f"\nAll-reduce over {len(report.hosts)} nodes, by {report.backend}:")
        rows = [
            (_bytes(time.size), f"{time.typical * 1e3:,.2f} ms", _speed(bus(time.size, time.typical, len(report.hosts))))
            for time in report.sums
        ]
        show.table(("SIZE", "TIME", "ON EACH LINK"), rows, "")
    else:
        click.echo("\nNo all-reduce was measured: torch is not installed there.")
    click.echo()
    shown = [(host.name, host.used, str(next((it.mtu for it in host.interfaces if it.name == host.used), "")),
              ", ".join(f"{port.device} {port.state} {port.rate}" for port in host.ports) or "none",
              host.settings.get("net/ipv4/tcp_congestion_control", "")) for host in report.hosts]  # fmt: skip
    show.table(("NODE", "BY", "MTU", "INFINIBAND, ROCE", "TCP"), shown, "")
    advice = advise(report)
    click.echo("" if advice else "\nNothing is to be changed.")
    for each in advice:
        click.echo(f"! {each.what}\n  {each.change}\n  {each.why}")


def _bytes(size: int) -> str:
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


def _speed(rate: float) -> str:
    return f"{rate / 1e9:,.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:,.1f} MB/s"
