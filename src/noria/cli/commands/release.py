"""noria release"""

from __future__ import annotations

import click

from noria.cli.show import json_option


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@json_option
def command(jobs: tuple[str, ...], as_json: bool) -> None:
    """Let jobs start that are held.

    An array's id means all its members.
    """
    from noria.cli import verbs
    from noria.wire import jobs as wire

    verbs.each(jobs, lambda server, name: server.call(wire.RELEASE, wire.Key(name)).jobs, lambda job: "is held no more", as_json)
