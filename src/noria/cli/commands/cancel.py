"""noria cancel"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.types import Job


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@json_option
def command(jobs: tuple[str, ...], as_json: bool) -> None:
    """End jobs, waiting or running.

    Tasks get TERM, and ten seconds later KILL. An array's id means all its members.
    """
    from noria.cli import databricks, verbs
    from noria.wire import jobs as wire

    there = tuple(each for each in jobs if each.startswith(databricks.SCHEME))
    if there:
        databricks.cancel(there, as_json)
    if there == jobs:
        return
    jobs = tuple(each for each in jobs if each not in there)

    verbs.each(jobs, lambda server, name: server.call(wire.CANCEL, wire.Cancel(name)).jobs, _said, as_json)


def _said(job: Job) -> str:
    if not job.ended:
        return "is being cancelled"
    return "is cancelled" if job.state == "CANCELLED" else "had ended already"
