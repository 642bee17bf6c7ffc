"""Jobs at Databricks, for `noria run --on databricks` and for those commands that are given databricks://PROFILE/JOB."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from noria.errors import Invalid

if TYPE_CHECKING:
    from noria.databricks.workspace import Workspace
    from noria.projects.databricks import Seen, Submitted
    from noria.projects.start import Request

ON = "databricks"
SCHEME = "databricks://"
TAKES = ("time", "env")
"""Asks of a job that Databricks is told too."""


def find(uri: str) -> tuple[Workspace, int]:
    """The workspace and the number that databricks://PROFILE/JOB means."""
    from noria.databricks import names
    from noria.databricks.workspace import Workspace

    place = names.place(uri)
    if not place.path.isdecimal():
        raise Invalid(f"'{uri}' is no job.", "Write databricks://PROFILE/NUMBER, as `noria run` prints it.")
    return Workspace(place.profile), int(place.path)


def run(request: Request, profile: str, cluster: str, file: str, seconds: int, waits: bool, as_json: bool) -> None:
    """Submit, say so, and if asked wait and bring the run here."""
    from msgspec.structs import replace

    from noria.cli import show
    from noria.databricks.workspace import Workspace
    from noria.projects import databricks

    chosen = databricks.settings(cluster, file)
    chosen = replace(chosen, timeout_seconds=seconds) if seconds else chosen
    workspace = Workspace(profile)
    done = databricks.submit(workspace, request, chosen, lambda line: click.echo(f"noria: {line}", err=True))
    for note in done.notes:
        click.echo(f"noria: {note}", err=True)
    click.echo(f"noria: {'started before with this key' if done.known else 'submitted'}: {done.uri}, {done.url}", err=True)
    if not waits:
        show.as_json(_told(done)) if as_json else click.echo(done.uri)
        return
    seen = _waited(workspace, done)
    databricks.end(workspace, done.run_id, seen)
    _bring(done)
    if as_json:
        show.as_json(_told(done) | {"job": seen})
    else:
        click.echo(databricks.output(workspace, seen.task), nl=False)
    _finish(done.uri, seen)


def _waited(workspace: Workspace, done: Submitted) -> Seen:
    try:
        return follow(workspace, done.job)
    except KeyboardInterrupt:
        click.echo(f"noria: it goes on; `noria cancel {done.uri}` ends it, and `noria wait {done.uri}` waits again", err=True)
        sys.exit(130)


def follow(workspace: Workspace, job: int) -> Seen:
    """Say each state of a job; the last one."""
    from noria.projects import databricks

    seen = None
    for seen in databricks.watch(workspace, job):
        click.echo(f"noria: {seen.state.lower()}", err=True)
    assert seen is not None
    return seen


def _bring(done: Submitted) -> None:
    """The run, with all that it has by now, into the server here."""
    from noria import bridges
    from noria.cli.local import connect
    from noria.cli.progress import bar

    with bar("bringing the run here") as progress:
        brought = bridges.run_import(connect(), "databricks", f"{SCHEME}{done.profile}/{done.run_id}", progress=progress)
    for line in (*brought.notes, *brought.failed):
        click.echo(f"noria: {line}", err=True)
    click.echo(f"noria: run {done.run_id[:8]} is here too", err=True)


def _finish(uri: str, seen: Seen) -> None:
    """Say how it ended, and exit so."""
    if seen.state == "COMPLETED":
        click.echo(f"noria: {uri} succeeded", err=True)
        return
    click.echo(f"noria: {uri} {seen.state.lower()}{f': {seen.reason}' if seen.reason else ''}", err=True)
    sys.exit(1)


def wait(uri: str, as_json: bool) -> None:
    from noria.cli import show

    seen = follow(*find(uri))
    if as_json:
        show.as_json(seen)
    _finish(uri, seen)


def logs(uri: str) -> None:
    from noria.projects import databricks

    workspace, job = find(uri)
    seen = databricks.seen(workspace, job)
    if seen.state in ("QUEUED", "RUNNING"):
        click.echo(
            f"noria: {uri} is {seen.state.lower()}; Databricks tells what it prints when it has ended: {seen.url}", err=True
        )
        return
    click.echo(databricks.output(workspace, seen.task), nl=False)


def cancel(uris: tuple[str, ...], as_json: bool) -> None:
    from noria.cli import show
    from noria.projects import databricks

    found = [databricks.cancel(*find(uri)) for uri in uris]
    for uri, seen in zip(uris, found, strict=True):
        click.echo(f"noria: {uri} {'is cancelled' if seen.state == 'CANCELLED' else 'had ended already'}", err=True)
    if as_json:
        show.as_json({"jobs": found})


def _told(done: Submitted) -> dict[str, Any]:
    return {"uri": done.uri, "job": done.job, "run_id": done.run_id, "url": done.url, "experiment": done.experiment,
            "command": done.command, "known": done.known, "notes": done.notes}  # fmt: skip
