"""noria cancel"""

from __future__ import annotations

import click


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
def command(jobs: tuple[str, ...]) -> None:
    """End jobs, waiting or running.

    Tasks get TERM, and ten seconds later KILL.
    """
    from noria.cli.local import connect
    from noria.wire import jobs as wire

    server = connect()
    for job in jobs:
        found = server.call(wire.CANCEL, wire.Cancel(job)).job
        done = (
            "had ended already"
            if found.ended and found.state != "CANCELLED"
            else "is cancelled"
            if found.ended
            else "is being cancelled"
        )
        click.echo(f"noria: job {found.id[:8]} {done}", err=True)
