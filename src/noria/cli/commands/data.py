"""noria data"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.content import Content
    from noria.client.http import Server

_ADDED = "Data sets"
"""The experiment of the runs that tell of data sets."""

_INSTEAD = {
    "log": 'noria.log_dataset(path, "NAME") in a script',
    "create": "noria data add PATH --name NAME",
    "new": "noria data add PATH --name NAME",
    "ls": "noria data list",
    "digest": "noria data hash PATH",
}


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """Data sets, by the hash of their content.

    The same data under two names or on two machines are one data set. Runs name theirs with noria.log_dataset(path, "NAME"); `noria data add`
    names what no run has read yet, so that rules hear of it.
    """


@command.command()
@click.argument("path", type=click.Path(exists=True))
@click.option("--name", help="What it is called; its versions have one name.  [default: that of the file or folder]")
@json_option
def add(path: str, name: str | None, as_json: bool) -> None:
    """Tell the server of a new version of a data set: noria data add /srv/digits --name digits

    Its files are hashed and stay where they are, so put them where the nodes see them. Rules that wait for the data set begin. Content that
    the server knows by this name is no new version, and nothing happens.
    """
    from pathlib import Path

    from noria.cli import show
    from noria.cli.local import connect
    from noria.cli.paths import hashed

    found = hashed(path)
    called = name or Path(found.source).name
    made = _told(connect(), called, found)
    if as_json:
        show.as_json({"name": called, "digest": found.digest, "source": found.source, "new": made})
    else:
        click.echo(found.digest)
    said = "is a new version" if made else "is known already"
    click.echo(f"noria: {called} {found.digest} {said}. See it with: noria data show {found.digest[:12]}", err=True)


def _told(server: Server, name: str, found: Content) -> bool:
    """Whether the server had not known it. It is told by a run that reads it and does nothing else."""
    import time

    from noria.errors import NotFound
    from noria.process import whoami
    from noria.types import Dataset, DatasetInput, Tag
    from noria.wire import experiments, lineage, runs

    known = server.call(lineage.LIST_DATA, lineage.ListData(name, 10_000)).data
    if any(each.digest == found.digest for each in known):
        return False
    try:
        number = server.call(experiments.GET_BY_NAME, experiments.GetByName(_ADDED)).experiment.experiment_id
    except NotFound:
        number = server.call(experiments.CREATE, experiments.Create(_ADDED)).experiment_id
    now = int(time.time() * 1000)
    run = server.call(runs.CREATE, runs.Create(number, whoami(), f"{name} {found.digest[:8]}", now)).run.info.run_id
    inputs = [DatasetInput(Dataset(name, found.digest, "local", found.source), [Tag("mlflow.data.context", "added")])]
    server.call(runs.LOG_INPUTS, runs.LogInputs(run, inputs))
    server.call(runs.UPDATE, runs.Update(run, status="FINISHED", end_time=now))
    return True


@command.command("hash")
@click.argument("path", type=click.Path(exists=True))
@json_option
def hash_(path: str, as_json: bool) -> None:
    """Print the digest of a file or a folder.

    What was read once is read again only when its size, its times or its inode have changed.
    """
    from noria.cli import show
    from noria.cli.paths import hashed

    found = hashed(path)
    if as_json:
        show.as_json(found)
    else:
        click.echo(found.digest)


@command.command("list")
@click.option("--name", default="", help="Only data sets that a run called so.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True, help="Data sets at most.")
@json_option
def list_(name: str, limit: int, as_json: bool) -> None:
    """List data sets, those that were read last first."""
    from noria.cli import show
    from noria.cli.local import connect, settle
    from noria.wire import lineage

    server = connect()
    settle(server)
    found = server.call(lineage.LIST_DATA, lineage.ListData(name, limit)).data
    if as_json:
        show.as_json({"data": found})
        return
    show.table(
        ("DIGEST", "NAME", "RUNS", "FIRST READ", "LAST READ", "SOURCE"),
        [
            (each.digest, ", ".join(each.names), str(each.runs), show.ago(each.first), show.ago(each.last), each.source)
            for each in found
        ],
        'No data sets yet: noria.log_dataset(path, "NAME") in a script names one.',
    )


@command.command()
@click.argument("digest")
@click.option("--limit", default=200, type=click.IntRange(1, 2000), show_default=True, help="Things to list at most.")
@json_option
def show(digest: str, limit: int, as_json: bool) -> None:
    """Show who uses a data set, and what models came of it.

    DIGEST is a digest or its beginning, the name of a data set, or a file or folder, which is hashed.
    """
    from noria.cli import show
    from noria.cli.local import connect, settle
    from noria.cli.paths import trace
    from noria.wire import lineage

    server = connect()
    settle(server)
    graph = trace(server, lineage.Trace(digest, "data", "down", max_nodes=limit))
    if as_json:
        show.as_json(graph)
        return
    data = graph.nodes[0]
    read = "1 run has" if data.facts["runs"] == "1" else f"{data.facts['runs']} runs have"
    click.echo(f"{data.title}  {data.id}\n{read} read it, the first {show.ago(data.time)}, from {data.where or '-'}")
    for kind, head in (("run", "RUN"), ("model", "MODEL"), ("version", "VERSION"), ("endpoint", "ENDPOINT")):
        rows = [
            (each.title, each.id, each.state.lower() or "-", show.ago(each.time)) for each in graph.nodes if each.kind == kind
        ]
        if rows:
            click.echo()
            show.table((head, "ID", "STATE", "SINCE"), rows, "")
    if graph.truncated:
        click.echo(f"noria: there is more than these {len(graph.nodes)}; --limit shows more", err=True)
