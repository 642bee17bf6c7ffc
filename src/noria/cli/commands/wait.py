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
@click.argument("job")
@json_option
def command(job: str, as_json: bool) -> None:
    """Wait for a job, and exit with its code.

    All that the job has logged can be read then.
    """
    from noria.cli import show
    from noria.cli.local import connect

    ended = wait(connect(), job)
    if as_json:
        show.as_json(ended)
    if ended.exit_code:
        click.echo(f"noria: job {ended.id[:8]} {ended.state.lower()}: {ended.reason}", err=True)
    sys.exit(ended.exit_code if ended.exit_code is not None else 1)


def wait(server: Server, job: str) -> Job:
    """The job once it has ended. A server that is restarted meanwhile is waited for too."""
    from noria.errors import Unavailable
    from noria.types import ENDED
    from noria.wire import jobs

    patience = 60.0
    while True:
        try:
            found = server.call(jobs.GET, jobs.Key(job)).job
            patience = 60.0
        except Unavailable:
            patience -= 1.0
            if patience <= 0:
                raise
            time.sleep(1.0)
            continue
        if found.state in ENDED:
            return found
        time.sleep(_TICK)
