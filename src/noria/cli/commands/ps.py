"""noria ps"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noria.client.http import Server
    from noria.types import Job

_DAY_MS = 86_400_000


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also jobs that ended more than a day ago.")
@json_option
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
def command(everything: bool, as_json: bool, jobs: tuple[str, ...]) -> None:
    """List jobs, newest first; an array is one line.

    With ids these jobs, and the members of these arrays.
    """
    from msgspec.structs import replace

    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import jobs as wire

    server = connect()
    named = [job for name in jobs for job in server.call(wire.LIST, wire.List(id=name)).jobs]
    found = named if jobs else server.call(wire.LIST, wire.List(limit=10_000)).jobs
    recent = time.time() * 1000 - _DAY_MS
    shown = [job for job in found if jobs or everything or job.ended is None or job.ended > recent]
    if as_json:
        show.as_json({"jobs": shown})
        return
    idle = idling(server, shown)
    shown = [replace(job, reason=job.reason or idle.get(job.id, "")) for job in shown]
    groups: dict[str, list[Job]] = {}
    for job in shown:
        groups.setdefault(job.id if jobs else job.id.partition("_")[0], []).append(job)
    show.table(
        ("JOB", "NAME", "ON", "STATE", "CODE", "CREATED", "RUN", "WHY"),
        [_row(group[0]) if len(group) == 1 else _array(stem, group) for stem, group in groups.items()],
        "No jobs yet: noria submit -- python train.py",
    )


def _row(job: Job) -> tuple[str, ...]:
    from noria.cli import show

    code = "" if job.exit_code is None else str(job.exit_code)
    return (
        show.job_id(job.id),
        name(job),
        job.spec.place,
        state(job),
        code,
        show.ago(job.created),
        job.run_id[:8],
        job.reason,
    )


def _array(stem: str, jobs: list[Job]) -> tuple[str, ...]:
    """One line for all members: how many are in which state, and what holds up the first that waits."""
    from noria.cli import show

    counts = Counter(state(job) for job in jobs)
    states = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    why = next((job.reason for job in jobs if not job.ended and job.reason), "")
    worst = max((job.exit_code for job in jobs if job.exit_code is not None), default=None)
    called = name(jobs[0]).removesuffix(f"_{jobs[0].id.partition('_')[2]}")
    return (
        f"{stem[:8]}[{len(jobs)}]",
        called,
        jobs[0].spec.place,
        states,
        show.count(worst).replace("-", ""),
        show.ago(jobs[0].created),
        "",
        why,
    )


def idling(server: Server, jobs: Sequence[Job]) -> dict[str, str]:
    """Of those that have GPUs and leave them idle: a sentence."""
    from noria.wire.receipts import IDLE, Idle

    return server.call(IDLE, Idle()).jobs if any(job.state == "RUNNING" and job.spec.gpus for job in jobs) else {}


def name(job: Job) -> str:
    return job.spec.name or job.spec.command[0].rpartition("/")[2]


def state(job: Job) -> str:
    return "HELD" if job.hold == "user" and job.ended is None else job.state
