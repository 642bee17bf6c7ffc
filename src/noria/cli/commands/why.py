"""noria why"""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noria.client.http import Server
    from noria.jobs.clusters import Cluster
    from noria.jobs.dialect import Node
    from noria.jobs.why.answer import Why
    from noria.jobs.why.gather import Found
    from noria.types import Job, Try
    from noria.wire.runs import Summary


@click.command()
@json_option
@click.argument("job", metavar="JOB")
def command(as_json: bool, job: str) -> None:
    """Say why a job failed, waits, stands still or is slow, and what to change.

    \b
    failed   what ended it, the first rank that failed and its node, and the lines that show it
    waiting  what it waits for, who has that, and what would fit now
    running  which rank the others wait for if it stands still; else where the time of a step goes

    Programs that log time/data, time/compute and time/communication, in seconds a step, and time/checkpoint, in seconds a save,
    get exact shares.
    """
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import jobs as wire

    server = connect()
    found = server.call(wire.GET, wire.Key(job)).job
    why = explained(server, found)
    if as_json:
        show.as_json({"job": found.id, "state": found.state, **show.plain(why)})
        return
    for line in _lines(found, why):
        click.echo(line)


def explained(server: Server, job: Job) -> Why:
    """What there is to say of a job in its state, and of each of its tries that is over."""
    from msgspec import structs

    from noria.jobs.why import ended, pending
    from noria.types import ENDED
    from noria.wire import jobs as wire

    tries = server.call(wire.TRIES, wire.Key(job.id)).tries
    if job.state in ENDED:
        why = ended.explain(job, tries)
    elif job.state == "RUNNING":
        why = _running(server, job)
    else:
        why = _waiting(server, job) if job.scheduler_id else pending.unsent(job)
    return structs.replace(why, tries=tries)


def _waiting(server: Server, job: Job) -> Why:
    from msgspec import structs

    from noria.jobs import clusters
    from noria.jobs.why import pending

    cluster = clusters.named(job.spec.place)
    answers = [cluster.run(argv) for argv in cluster.dialect.inquiry(job.scheduler_id, job.user)]
    wait = cluster.dialect.wait(job.scheduler_id, answers)
    start, said = (None, []) if wait.is_never or wait.at is not None or job.hold else _start(server, cluster, job)
    why = pending.explain(job, wait, _nodes(job), start)
    return structs.replace(why, evidence=[*said, *why.evidence])


def _start(server: Server, cluster: Cluster, job: Job) -> tuple[int | None, list[str]]:
    """When it may start by our own estimate, and what that is worth."""
    from noria.cli.commands import when
    from noria.errors import NoriaError
    from noria.wire import jobs as wire

    try:
        found = when.of(cluster, job, server.call(wire.LIST, wire.List(limit=10_000)).jobs)
    except NoriaError:
        return None, []
    if found is None:
        return None, []
    return int((time.time() + found.guess.median) * 1000), [f"noria when: {when.trust(found)}"]


def _nodes(job: Job) -> list[Node]:
    from noria.errors import NoriaError
    from noria.jobs import clusters

    cluster = clusters.named(job.spec.place)
    try:
        return cluster.dialect.nodes(cluster.run(cluster.dialect.NODES))
    except NoriaError:
        return []


def _running(server: Server, job: Job) -> Why:
    from noria.jobs.why import gather, slow, stuck
    from noria.jobs.why.answer import Why

    found = gather.gather(job)
    still = stuck.explain(job, found.nodes, gather.paces(found), found.ranks("stacks/rankRANK.txt"), time.time())
    told = still or slow.explain(job, *_metrics(server, job.run_id))
    return told or Why("running", _moves(found), "Ask again in a minute: the first figures of its machine are not there yet.")


def _moves(found: Found) -> str:
    from noria.jobs.why import gather

    steps = [pace.step for pace in gather.paces(found).values()]
    return f"It runs, and is at step {max(steps)}." if steps else "It runs, and has logged no steps."


def _metrics(server: Server, run_id: str) -> tuple[dict[str, list[tuple[int, float]]], int]:
    """The last points of what says where time goes, and the first step of the run that does: of its machine, only if it logs no times."""
    from noria.jobs.why import slow
    from noria.wire import runs

    known = {each.key: each for each in server.call(runs.SUMMARY, runs.Summarise(run_id)).metrics}
    wanted = [key for key in slow.TIMES.values() if key in known]
    for pattern in slow.MACHINE if not wanted else ():
        alike = [key for key in known if pattern.fullmatch(key)]
        wanted += alike[:: len(alike) // _ALIKE + 1]
    return {key: _recent(server, run_id, known[key]) for key in wanted}, min((known[key].first_step for key in wanted), default=0)


def _recent(server: Server, run_id: str, known: Summary) -> list[tuple[int, float]]:
    """The last points of a metric. What is logged seldom is looked for ever further back."""
    from noria.wire import runs

    wide = _LAST
    while True:
        begin = known.step - wide
        found = server.call(runs.CURVE, runs.Curve(run_id, known.key, start_step=begin))
        if len(found.values) >= _LAST or begin <= known.first_step:
            return [(step, float(value)) for step, value in zip(found.steps, found.values, strict=True)][-_LAST:]
        wide *= _LAST


_LAST = 20
"""Points of a metric that count: what was slow an hour ago may not be now."""
_ALIKE = 32
"""GPUs, or nodes, that are enough to know how busy all of them are."""


def _lines(job: Job, why: Why) -> Iterator[str]:
    """For people: the answer first, then what shows it."""
    from noria.cli import show
    from noria.cli.commands.ps import name

    what = why.cause.replace("_", " ") if why.cause and why.kind in ("failed", "stuck") else ""
    head = f"{show.job_id(job.id)} {name(job)}: {why.kind}{f' ({what})' if what else ''}"
    yield click.style(head, bold=True)
    width = min(show.columns(), 110)
    yield from textwrap.wrap(why.reason, width)
    if why.cure:
        yield from textwrap.wrap(click.style("→ ", fg="green") + why.cure, width, subsequent_indent="  ")
    if why.start is not None:
        yield f"It may start in {show.span(why.start - time.time() * 1000)}."
    if why.evidence:
        yield ""
        yield from (f"  {line}" for line in why.evidence)
    if len(why.tries) > 1:
        yield ""
        yield from (f"  try {each.number}: {_tried(each)}" for each in why.tries)


def _tried(each: Try) -> str:
    """What became of one try."""
    from noria.cli import show

    took = f" after {show.span(each.ended - each.started)}" if each.started else ""
    on = f" on {', '.join(each.nodes[:4])}{' and others' if len(each.nodes) > 4 else ''}" if each.nodes else ""
    saved = "; left a checkpoint" if each.saved else ""
    return f"{each.cause.replace('_', ' ')}{took}{on}{saved}{f': {each.reason}' if each.reason else ''}"
