"""noria cluster"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from pathlib import Path

    from noria.config import Profile
    from noria.hardware.network import Report
    from noria.hardware.site import Site
    from noria.types import Job


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
    from noria.cli import show
    from noria.hardware.network import read

    # On this machine the tasks are neighbours, which tells what the software costs.
    size = {"tasks_per_node": nodes} if scheduler == "local" else {"nodes": nodes}
    job, said = _asked("noria.hardware.network", scheduler, {"name": "network", "time": limit, **size})
    report = read(said)
    if report is None:
        raise _nothing(job)
    if as_json:
        from noria.hardware.network import advise

        show.as_json({"report": report, "advice": advise(report)})
    else:
        _print(report)


@command.command("probe")
@click.option("--on", "scheduler", default="local", show_default=True, help="Where: slurm, pbs, sge, or this machine.")
@click.option("--queue", help="The queue whose nodes are looked at.")
@click.option("--gpus", help="GPUs to ask for, such as 1 or a100:1; else none are seen.")
@click.option("--time", "limit", default="10m", show_default=True, help="Time limit of the job.")
@json_option
def probe(scheduler: str, queue: str | None, gpus: str | None, limit: str, as_json: bool) -> None:
    """Look at a cluster once, from inside of a job, and keep what is learned.

    What the scheduler calls things and how large its GPUs are, submissions know from then on; [profiles.NAME] in noria.toml goes before it. The rest is for people: storage, imports, limits, MPI, and whether nodes reach the internet.
    """
    from noria import config, process
    from noria.cli import show
    from noria.cli.local import connect
    from noria.hardware.site import read
    from noria.jobs.launch import SCHEDULERS

    dialect = SCHEDULERS.get(scheduler)
    connect()  # So that there is a home, which the job looks at.
    home = config.load().folder
    flags = {"name": "probe", "time": limit, **({"queue": queue} if queue else {}), **({"gpus": gpus} if gpus else {})}
    job, said = _asked("noria.hardware.site", scheduler, flags, str(home))
    seen = read(said)
    if seen is None:
        raise _nothing(job)
    nodes = dialect.nodes(process.run(dialect.NODES))
    types = {kind for node in nodes if node.name == seen.host or len(nodes) == 1 for kind in node.gpu_types}
    memory = {kind: f"{seen.gpus[0].memory // 2**20}MB" for kind in types if seen.gpus and len(types) == 1}
    profile = config.Profile(memory, {name: value for name, value in dialect.learn(process.run).items() if value})
    kept = config.learned_of(scheduler, home)
    _keep(kept, profile)
    if as_json:
        show.as_json({"site": seen, "profile": profile, "kept": str(kept)})
        return
    _show(seen)
    click.echo(f"noria: kept in {kept}", err=True)


def _keep(path: Path, profile: Profile) -> None:
    import os

    import msgspec

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2))
    os.replace(beside, path)


def _show(site: Site) -> None:
    from noria.cli import show

    gpus = ", ".join(f"{gpu.name} ({gpu.memory / 2**30:.0f} GiB)" for gpu in site.gpus) or "none seen"
    rows = [
        ("node", f"{site.host}: {site.cpus} CPUs, {site.memory / 2**30:.0f} GiB, Python {site.python}"),
        ("GPUs", gpus),
        ("MPI by srun", ", ".join(site.mpi) or "none"),
        ("modules", "yes" if site.modules else "no"),
        ("containers", ", ".join(site.containers) or "none"),
        ("internet", "reached from nodes" if site.outside else f"not reached ({site.why})"),
        *((f"import {each.module}", "cannot" if each.seconds is None else f"{each.seconds:.2f} s") for each in site.imports),
        *((f"limit of {name}", value) for name, value in site.limits.items()),
    ]
    show.table(("WHAT", "IS"), rows, "")
    click.echo()
    show.table(
        ("FOLDER", "KIND", "FREE", "WRITE", "READ", "SMALL FILES"),
        [(each.path, each.kind, f"{each.free / 2**30:,.0f} GiB", _speed(each.write), _speed(each.read), f"{each.files:,.0f}/s")
         for each in site.storage],
        "",
    )  # fmt: skip


def _asked(module: str, scheduler: str, flags: dict[str, Any], *words: str) -> tuple[Job, str]:
    """A job that runs a module of ours, once it has ended, and what its first task printed."""
    import sys
    from pathlib import Path

    from noria.cli.asks import asked
    from noria.cli.commands.submit import submit
    from noria.cli.commands.wait import wait
    from noria.cli.local import connect
    from noria.jobs.folder import Folder
    from noria.jobs.launch import SCHEDULERS

    wanted = asked((sys.executable, "-m", module, *words), scheduler, flags, "")
    SCHEDULERS.get(scheduler).check(wanted.spec)
    server = connect()
    job = submit(server, wanted)
    click.echo(f"noria: job {job.id[:8]} measures; Ctrl-C leaves it in the queue", err=True)
    (ended,) = wait(server, job.id)
    log = Folder(Path(ended.folder)).logs / "rank0.log"
    return ended, log.read_text(errors="replace") if ended.folder and ended.exit_code == 0 and log.exists() else ""


def _nothing(job: Job) -> Exception:
    from noria.errors import Unavailable

    return Unavailable(f"The job measured nothing: {job.reason or 'its log is empty'}", f"`noria logs {job.id[:8]}` shows more.")


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
