"""noria requeue"""

from __future__ import annotations

import click

from noria.cli.show import json_option


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@json_option
def command(jobs: tuple[str, ...], as_json: bool) -> None:
    """End the try of running jobs, and submit them anew: same job, same run, same folder.

    A script goes on from its checkpoints, if it looks for them.
    """
    from noria.cli import verbs
    from noria.wire import jobs as wire

    verbs.each(
        jobs, lambda server, name: server.call(wire.REQUEUE, wire.Key(name)).jobs, lambda job: "is being requeued", as_json
    )
