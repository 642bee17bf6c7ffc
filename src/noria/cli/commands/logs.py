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

_TICK, _FAR = 0.2, 1.0
"""Seconds between two looks at files of this machine, and by ssh."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.argument("job", metavar="JOB[:RANK]")
def command(follow: bool, job: str) -> None:
    """Print what a job has printed.

    With several tasks each line begins with the rank of its task; JOB:RANK prints one task alone.
    """
    from noria.cli import databricks, show
    from noria.cli.local import connect

    if job.startswith(databricks.SCHEME):
        databricks.logs(job)
        return
    key, rank = _parsed(job)
    found, anything = printed(connect(), key, rank, follow=follow)
    if not anything:
        why = f": {found.reason}" if found.reason else ""
        click.echo(f"noria: job {show.job_id(found.id)} is {found.state} and has printed nothing{why}", err=True)
    elif rank is None:
        _blame(found)


def printed(server: Server, key: str, rank: int | None = None, *, follow: bool = True) -> tuple[Job, bool]:
    """Print what a job prints, until it ends; the job, and whether that was anything."""
    positions: dict[int, int] = {}
    while True:
        found = _get(server, key)
        for line in _fresh(found, positions, rank):
            sys.stdout.write(line)
        sys.stdout.flush()
        if not follow or found.exit_code is not None or found.state == "CANCELLED":
            return found, bool(positions)
        time.sleep(_TICK if Path(found.folder).exists() else _FAR)


def _parsed(job: str) -> tuple[str, int | None]:
    from noria.errors import Invalid

    key, colon, rank = job.partition(":")
    if not colon:
        return key, None
    if not rank.isdecimal():
        raise Invalid(f"'{rank}' is not a rank.", f"Write a number after the colon, such as {key}:0.")
    return key, int(rank)


def _get(server: Server, job: str) -> Job:
    from noria.wire import jobs

    return server.call(jobs.GET, jobs.Key(job)).job


def _fresh(job: Job, positions: dict[int, int], only: int | None) -> Iterator[str]:
    """Whole lines that came since the last look; the rest of a file once its job has ended."""
    from noria.jobs.printed import since

    for rank, data in since(job, positions, only):
        end = len(data) if job.ended else data.rfind(b"\n") + 1
        positions[rank] = positions.get(rank, 0) + end
        prefix = f"[{rank}] " if job.spec.world_size > 1 and only is None else ""
        for line in data[:end].decode(errors="replace").splitlines(keepends=True):
            yield prefix + (line if line.endswith("\n") else line + "\n")


def _blame(job: Job) -> None:
    """Of several tasks that failed, the one that failed first is the one to read."""
    from noria.jobs.folder import Folder

    exit = Folder(Path(job.folder)).exit() if job.ended and job.spec.world_size > 1 else None
    if exit is not None and exit.code and exit.rank is not None:
        alone = f"noria logs {job.id[:8]}:{exit.rank}"
        click.echo(f"noria: rank {exit.rank} failed first, on {exit.host}; it alone: {alone}", err=True)
