"""noria wait"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Job

_TICK = 0.1


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@json_option
def command(jobs: tuple[str, ...], as_json: bool) -> None:
    """Wait for jobs, and exit with the code of the first one that failed.

    All that they have logged can be read then. An array's id means all its members.
    """
    from noria.cli import databricks, show
    from noria.cli.local import connect

    if jobs[0].startswith(databricks.SCHEME):
        for each in jobs:
            databricks.wait(each, as_json)
        return
    server = connect()
    ended = [job for name in jobs for job in wait(server, name)]
    if as_json:
        show.as_json(ended[0] if len(ended) == 1 else {"jobs": ended})
    failed = [job for job in ended if job.exit_code != 0]
    for job in failed:
        click.echo(f"noria: job {show.job_id(job.id)} {job.state.lower()}: {job.reason}", err=True)
    sys.exit(next((1 if job.exit_code is None else job.exit_code for job in failed), 0))


def wait(server: Server, name: str) -> list[Job]:
    """The job, or the members of the array, once all have ended. A server that is restarted meanwhile is waited for too."""
    from noria.errors import Unavailable
    from noria.types import ENDED
    from noria.wire import jobs

    patience = 60.0
    while True:
        try:
            found = server.call(jobs.LIST, jobs.List(id=name)).jobs
            patience = 60.0
        except Unavailable:
            patience -= 1.0
            if patience <= 0:
                raise
            time.sleep(1.0)
            continue
        if all(job.state in ENDED for job in found):
            return found
        time.sleep(_TICK * (1 + len(found) // 20))
