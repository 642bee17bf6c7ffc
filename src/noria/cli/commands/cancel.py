"""noria cancel"""

from __future__ import annotations

import click

from noria.cli.show import json_option


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@json_option
def command(jobs: tuple[str, ...], as_json: bool) -> None:
    """End jobs, waiting or running.

    Tasks get TERM, and ten seconds later KILL.
    """
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import jobs as wire

    server = connect()
    cancelled = []
    for job in jobs:
        found = server.call(wire.CANCEL, wire.Cancel(job)).job
        cancelled.append(found)
        gone = "is cancelled" if found.state == "CANCELLED" else "had ended already"
        click.echo(f"noria: job {found.id[:8]} {gone if found.ended else 'is being cancelled'}", err=True)
    if as_json:
        show.as_json({"jobs": cancelled})
