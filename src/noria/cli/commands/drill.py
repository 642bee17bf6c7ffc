"""noria drill"""

from __future__ import annotations

import click

from noria.cli.show import json_option

_KINDS = ("preempt", "timeout", "node-failure", "hang", "oom")


@click.command()
@click.argument("job")
@click.argument("trouble", type=click.Choice(_KINDS))
@json_option
def command(job: str, trouble: str, as_json: bool) -> None:
    """Fake a trouble for a job that runs, to see what it makes of it.

    preempt: told to stop, as for a job of higher priority. timeout: its time limit is near. node-failure: a node dies without a word.
    hang: a task stands still. oom: a task is killed for want of memory.

    A script that calls noria.checkpoint and noria.resume survives all but the last, which would only happen again. Watch it with:
    noria logs -f JOB; afterwards ask: noria why JOB.
    """
    from noria.cli import verbs
    from noria.wire import jobs as wire

    verbs.each(
        (job,),
        lambda server, name: server.call(wire.DRILL, wire.Drill(name, trouble)).jobs,
        lambda found: f"gets its drill: {trouble}",
        as_json,
    )
