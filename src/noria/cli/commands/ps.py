"""noria ps"""

from __future__ import annotations

import time

import click

from noria.cli.show import json_option

_DAY_MS = 86_400_000


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also jobs that ended more than a day ago.")
@json_option
def command(everything: bool, as_json: bool) -> None:
    """List jobs, newest first."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import jobs

    found = connect().call(jobs.LIST, jobs.List()).jobs
    recent = time.time() * 1000 - _DAY_MS
    shown = [job for job in found if everything or job.ended is None or job.ended > recent]
    if as_json:
        show.as_json({"jobs": shown})
        return
    show.table(
        ("JOB", "NAME", "ON", "STATE", "CODE", "CREATED", "RUN", "WHY"),
        [
            (job.id[:8], job.spec.name or job.spec.command[0].rpartition("/")[2], job.spec.scheduler, job.state,
             "" if job.exit_code is None else str(job.exit_code), show.ago(job.created), job.run_id[:8], job.reason)
            for job in shown
        ],
        "No jobs yet: noria submit -- python train.py",
    )  # fmt: skip
