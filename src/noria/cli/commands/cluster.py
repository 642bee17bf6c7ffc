"""noria cluster"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria import atomic
from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from pathlib import Path

    from noria.config import Profile
    from noria.hardware.network import Report
    from noria.hardware.nodecheck import Measured
    from noria.hardware.nodecheck import Report as Checked
    from noria.hardware.site import Site
    from noria.jobs.clusters import Cluster
    from noria.types import Job


@click.group(cls=Group)
def command() -> None:
    """The way to a cluster, and what it is like."""


@command.command("network")
@click.option(
    "--on",
    "on",
    help="Where: slurm, pbs, sge, local, or a cluster that noria.toml names.  [default: the scheduler that answers here]",
)
@click.option("--nodes", default=2, type=click.IntRange(2, 64), show_default=True, help="Nodes to measure between.")
@click.option("--time", "limit", default="10m", show_default=True, help="Time limit of the job.")
@json_option
def network(on: str | None, nodes: int, limit: str, as_json: bool) -> None:
    """Measure the network between nodes, and say what to change.

    Submits a job with one task on each node: messages of each size between each two of them, an all-reduce over all (with torch), and how MTU, TCP and InfiniBand are set.
    """
    from noria.cli import show
    from noria.hardware.network import read
    from noria.jobs import clusters

    # On this machine the tasks are neighbours, which tells what the software costs.
    cluster = clusters.chosen(on)
    size = {"tasks_per_node": nodes} if cluster.scheduler == clusters.LOCAL else {"nodes": nodes}
    job, said = _asked("noria.hardware.network", cluster, {"name": "network", "time": limit, **size})
    report = read(said)
    if report is None:
        raise _nothing(job)
    if as_json:
        from noria.hardware.advice import advise

        show.as_json({"report": report, "advice": advise(report)})
    else:
        _print(report)


@command.command("check")
@click.option(
    "--on",
    "on",
    help="Where: slurm, pbs, sge, local, or a cluster that noria.toml names.  [default: the scheduler that answers here]",
)
@click.option("--nodes", default=1, type=click.IntRange(1, 256), show_default=True, help="Nodes to check, and to compare.")
@click.option("--queue", help="The queue whose nodes are checked.")
@click.option("--gpus", help="GPUs on each node, such as 8 or a100:4; else none are tried.")
@click.option("--exclude", help="Not these nodes: n1,n2 or n[1-3].")
@click.option("--time", "limit", default="10m", show_default=True, help="Time limit of the job.")
@json_option
def check(
    on: str | None, nodes: int, queue: str | None, gpus: str | None, exclude: str | None, limit: str, as_json: bool
) -> None:
    """Find out by a job of ten seconds whether nodes are sound. Exit code 1 if one is not.

    `noria submit --check-nodes` does the same before the tasks of a job. Processors and GPUs compute what is known, memory, PCIe and network are timed beside those of the other nodes, drivers tell of errors and of throttling, and /tmp and /dev/shm must have room.
    """
    from noria import units
    from noria.cli import show
    from noria.hardware.nodecheck import read
    from noria.jobs import clusters

    cluster = clusters.chosen(on)
    size = {"tasks_per_node": nodes} if cluster.scheduler == clusters.LOCAL else {"nodes": nodes}
    asked = {"queue": queue, "gpus": gpus, "exclude": exclude, **size}
    flags = {"name": "check", "time": limit, **{name: value for name, value in asked.items() if value}}
    count = units.gpus(gpus, cluster.profile.gpus)[0] if gpus else 0
    job, said = _asked("noria.hardware.nodecheck", cluster, flags, str(count))
    report = read(said)
    if report is None:
        raise _nothing(job)
    if as_json:
        show.as_json(report)
    else:
        _print_checked(report)
    if report.faults:
        raise SystemExit(1)


@command.command("connect")
@click.argument("name")
def connect(name: str) -> None:
    """Run an agent for a cluster behind a login node, until `noria cluster disconnect`.

    The cluster is [profiles.NAME] in noria.toml, with ssh = "LOGIN" and scheduler = "slurm", "pbs" or "sge". One ssh connection, which asks here for what it needs, carries everything; nothing is installed there by hand. `noria submit --on NAME` does this by itself.
    """
    from noria.cli.reach import connect

    reach = connect(name)
    click.echo(f"noria: connected to {reach.connection.address}; what its agent says is in {reach.log}", err=True)


@command.command("disconnect")
@click.argument("name")
def disconnect(name: str) -> None:
    """End the connection to a cluster. Its jobs go on, and are caught up with at the next one."""
    from noria.cli.reach import disconnect

    disconnect(name)


@command.command("keep", hidden=True)
@click.argument("name")
def keep(name: str) -> None:
    """What `connect` leaves in the background."""
    from noria.cli.local import connect
    from noria.cli.reach import reach

    reach(name).keep(lambda: connect(start=False))


@command.command("suspects")
@click.option("--on", "place", default="", help="Of this one alone: slurm, pbs, sge, local, or a cluster that noria.toml names.")
@json_option
def suspects(place: str, as_json: bool) -> None:
    """List the nodes that jobs of all users may have failed for, with the evidence.

    New jobs are kept from those marked with a *, where enough others are left. Doubts fade within days, and sooner on nodes that carry jobs well; `noria cluster forgive NODE` ends them when somebody has mended it.
    """
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import nodes as wire

    found = connect().call(wire.SUSPECTS, wire.List(place)).nodes
    if as_json:
        show.as_json({"nodes": found})
        return
    rows = []
    for each in found:
        first = (each.node + "*" * each.avoided, each.place, f"{each.score:.0%}", str(each.well))
        for told in each.evidence:
            why = told.reason or "-"
            rows.append((*first, show.job_id(told.job), told.user, show.ago(told.ended), told.cause.replace("_", " "), why))
            first = ("", "", "", "")
    show.table(
        ("NODE", "ON", "DOUBT", "WELL SINCE", "JOB", "USER", "WHEN", "CAUSE", "WHY"), rows, "No job speaks against a node."
    )


@command.command("forgive")
@click.option("--on", "place", default="", help="At this one alone: slurm, pbs, sge, or a cluster that noria.toml names.")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def forgive(place: str, nodes: tuple[str, ...]) -> None:
    """Let what happened on a node until now count no more: somebody has mended it."""
    from noria.cli.local import connect
    from noria.errors import NotFound
    from noria.wire import nodes as wire

    server = connect()
    known = {each.node for each in server.call(wire.SUSPECTS, wire.List(place)).nodes}
    for node in nodes:
        if node not in known:
            raise NotFound(f"No job speaks against a node '{node}'.", "`noria cluster suspects` lists those that some do.")
    for node in nodes:
        server.call(wire.FORGIVE, wire.Forgive(node, place))
    click.echo(f"noria: forgiven: {', '.join(nodes)}", err=True)


@command.command("probe")
@click.option(
    "--on",
    "on",
    help="Where: slurm, pbs, sge, local, or a cluster that noria.toml names.  [default: the scheduler that answers here]",
)
@click.option("--queue", help="The queue whose nodes are looked at.")
@click.option("--gpus", help="GPUs to ask for, such as 1 or a100:1; else none are seen.")
@click.option("--time", "limit", default="10m", show_default=True, help="Time limit of the job.")
@json_option
def probe(on: str | None, queue: str | None, gpus: str | None, limit: str, as_json: bool) -> None:
    """Look at a cluster once, from inside of a job, and keep what is learned.

    What the scheduler calls things and how large its GPUs are, submissions know from then on; [profiles.NAME] in noria.toml goes before it. The rest is for people: storage, imports, limits, MPI, and whether nodes reach the internet.
    """
    from noria import config
    from noria.cli import show
    from noria.cli.local import connect
    from noria.hardware.site import own_disk, read
    from noria.jobs import clusters

    cluster = clusters.chosen(on)
    dialect = cluster.dialect
    connect()  # So that there is a home, which the job looks at.
    home = config.load().folder
    flags = {"name": "probe", "time": limit, **({"queue": queue} if queue else {}), **({"gpus": gpus} if gpus else {})}
    job, said = _asked(
        "noria.hardware.site", cluster, flags, cluster.profile.home or ("~/.noria" if cluster.is_elsewhere else str(home))
    )
    seen = read(said)
    if seen is None:
        raise _nothing(job)
    nodes = dialect.nodes(cluster.run(dialect.NODES))
    types = {kind for node in nodes if node.name == seen.host or len(nodes) == 1 for kind in node.gpu_types}
    memory = {kind: f"{seen.gpus[0].memory // 2**20}MB" for kind in types if seen.gpus and len(types) == 1}
    names = {**dialect.learn(cluster.run), "scratch": own_disk(seen.storage)}
    profile = config.Profile(gpus=memory, site={name: value for name, value in names.items() if value})
    kept = config.learned_of(cluster.name, home)
    _keep(kept, profile)
    if as_json:
        show.as_json({"site": seen, "profile": profile, "kept": str(kept)})
        return
    _show(seen)
    click.echo(f"noria: kept in {kept}", err=True)


def _keep(path: Path, profile: Profile) -> None:
    import msgspec

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, msgspec.json.format(msgspec.json.encode(profile), indent=2))


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


def _asked(module: str, cluster: Cluster, flags: dict[str, Any], *words: str) -> tuple[Job, str]:
    """A job that runs a module of ours, once it has ended, and what its first task printed."""
    import sys

    from noria.cli.commands.submit import submit
    from noria.cli.commands.wait import wait
    from noria.cli.local import connect
    from noria.jobs import printed
    from noria.projects.asks import asked

    python = cluster.profile.python if cluster.is_elsewhere else sys.executable
    wanted = asked((python, "-m", module, *words), cluster.name, flags, "")
    server = connect()
    job = submit(server, wanted).job
    click.echo(f"noria: job {job.id[:8]} measures; Ctrl-C leaves it in the queue", err=True)
    (ended,) = wait(server, job.id)
    said = b"".join(text for _, text in printed.since(ended, {}, 0)) if ended.exit_code == 0 else b""
    return ended, said.decode(errors="replace")


def _nothing(job: Job) -> Exception:
    from noria.errors import Unavailable

    return Unavailable(f"The job measured nothing: {job.reason or 'its log is empty'}", f"`noria logs {job.id[:8]}` shows more.")


def _print(report: Report) -> None:
    from noria.cli import show
    from noria.hardware.advice import advise
    from noria.hardware.network import bus

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


def _print_checked(report: Checked) -> None:
    from noria.cli import show

    def fastest(each: Measured, name: str) -> str:
        rates = [rate for gpu in each.gpus if (rate := getattr(gpu, name)) is not None]
        return "-" if not rates else f"{min(rates) / 1e12:.1f} T/s" if name == "flops" else _speed(min(rates))

    show.table(
        ("NODE", "CPU", "MEMORY", "NETWORK", "GPUS", "SLOWEST GPU", "TO IT", "FROM IT", "TOOK"),
        [(each.node, _speed(each.hash or 0), _speed(each.copy or 0), _speed(report.checked[0].links.get(each.rank, 0)) if each.rank else "-",
          str(len(each.gpus)), *(fastest(each, name) for name in ("flops", "to", "back")), f"{each.seconds:.1f} s") for each in report.checked],
        "",
    )  # fmt: skip
    for skipped in sorted({says for each in report.checked for says in each.skipped}):
        click.echo(f"- {skipped}")
    for fault in report.faults:
        click.echo(f"! {fault.node}: {fault.says}")


def _bytes(size: int) -> str:
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


def _speed(rate: float) -> str:
    return f"{rate / 1e9:,.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:,.1f} MB/s"
