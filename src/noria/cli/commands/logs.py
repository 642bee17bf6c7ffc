"""noria logs"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Job

_TICK = 0.2


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.argument("job")
def command(follow: bool, job: str) -> None:
    """Print what a job has printed.

    With several tasks each line begins with the rank of its task.
    """
    from noria.cli import show
    from noria.cli.local import connect

    server = connect()
    positions: dict[Path, int] = {}
    while True:
        found = _get(server, job)
        for line in _fresh(found, positions):
            sys.stdout.write(line)
        sys.stdout.flush()
        if not follow or found.exit_code is not None or found.state == "CANCELLED":
            break
        time.sleep(_TICK)
    if not positions:
        click.echo(
            f"noria: job {show.job_id(found.id)} is {found.state} and has printed nothing{': ' + found.reason if found.reason else ''}",
            err=True,
        )


def _get(server: Server, job: str) -> Job:
    from noria.wire import jobs

    return server.call(jobs.GET, jobs.Key(job)).job


def _fresh(job: Job, positions: dict[Path, int]) -> Iterator[str]:
    """Whole lines that came since the last look; the rest of a file once its job has ended."""
    from noria.jobs.folder import Folder

    folder = Folder(Path(job.folder)) if job.folder else None
    for rank, path in folder.rank_logs() if folder else []:
        with path.open("rb") as file:
            file.seek(positions.get(path, 0))
            data = file.read()
        end = len(data) if job.ended else data.rfind(b"\n") + 1
        positions[path] = positions.get(path, 0) + end
        prefix = f"[{rank}] " if job.spec.world_size > 1 else ""
        for line in data[:end].decode(errors="replace").splitlines(keepends=True):
            yield prefix + (line if line.endswith("\n") else line + "\n")
