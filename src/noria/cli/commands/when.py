"""noria when"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from noria.jobs.clusters import Cluster
    from noria.jobs.dialect import Node, Other, Queue
    from noria.jobs.estimate import Guess, Past
    from noria.types import Job

_DAY = 86_400.0


class Wish(NamedTuple):
    """What is asked about: devices of all nodes, and seconds."""

    gpus: bool
    devices: int
    time: float


class Answer(NamedTuple):
    """Of one queue. `free` and `all` are devices, as its nodes say; accuracy as `estimate.accuracy` says it."""

    on: str
    queue: str
    free: int
    all: int
    guess: Guess
    accuracy: tuple[float, float, int]


@click.command()
@click.option("--gpus", default=0, type=click.IntRange(0), help="GPUs of each node.")
@click.option("--nodes", default=1, type=click.IntRange(1), show_default=True)
@click.option("--cpus", default=1, type=click.IntRange(1), show_default=True, help="CPUs of each node, without --gpus.")
@click.option("--time", "limit", default="1h", show_default=True, help="The time limit: 90m, 4h, 2d.")
@click.option("--on", help="Of this one alone: slurm, pbs, sge, local, or a cluster that noria.toml names.")
@json_option
def command(gpus: int, nodes: int, cpus: int, limit: str, on: str | None, as_json: bool) -> None:
    """Say when a job would start, by cluster and queue.

    It is as likely to start later as earlier than MEDIAN, and four times of five within RANGE.
    """
    from noria import units
    from noria.cli import show
    from noria.cli.commands.queues import asked
    from noria.cli.local import connect
    from noria.errors import Invalid
    from noria.wire import jobs as wire

    wish = Wish(gpus > 0, nodes * (gpus or cpus), units.seconds(limit))
    if not wish.time:
        raise Invalid(f"A job of {limit} is over before it starts.", "Write how long it runs at most, as in --time 90m.")
    record = connect().call(wire.LIST, wire.List(limit=10_000)).jobs
    found = [answer for _, answer in asked(on, lambda cluster: [*_answers(cluster, record, wish)])]
    if as_json:
        show.as_json({"queues": [{**each._asdict(), "guess": show.plain(each.guess)} for each in found]})
        return
    devices = "GPUS" if gpus else "CPUS"
    rows = [(each.queue, each.on, f"{each.free}/{each.all}", *_told(each.guess), trust(each)) for each in found]
    show.table(("QUEUE", "ON", f"FREE {devices}", "MEDIAN", "RANGE", "BY"), rows, "No queue here is known to have that many.")


def of(cluster: Cluster, job: Job, record: Sequence[Job]) -> Answer | None:
    """Of a job that waits there already: of its queue, or of the first one that could take it. None if none is known to."""
    spec = job.spec
    wish = Wish(spec.gpus > 0, spec.nodes * (spec.gpus or spec.tasks_per_node * spec.cpus), spec.time or _DAY)
    others = [each for each in record if each.id != job.id]
    return next(_answers(cluster, others, wish, job.scheduler_id, spec.queue), None)


def trust(each: Answer) -> str:
    """What a guess is made of, and how good such guesses were."""
    from noria.cli import show

    share, error, count = each.accuracy
    if not each.guess.like:
        return "what is free and who waits; too few jobs have been here to know better"
    said = f"{each.guess.like} jobs like it"
    return f"{said}; of the last {count}, {share:.0%} were in the range, half within {show.span(error * 1000)}" if count else said


def _answers(cluster: Cluster, record: Sequence[Job], wish: Wish, waits: str = "", only: str = "") -> Iterator[Answer]:
    """Of each queue of a cluster that could take it, or of one. waits: its id, if it stands in the queue; who came later does not count then."""
    dialect = cluster.dialect
    queues, nodes = dialect.queues(cluster.run(dialect.QUEUES)), dialect.nodes(cluster.run(dialect.NODES))
    crowd = dialect.crowd(cluster.run(dialect.CROWD))
    place = next((number for number, each in enumerate(crowd) if each.id == waits), len(crowd))
    crowd = [each for number, each in enumerate(crowd) if each.is_running or number < place]
    usual = {queue.name for queue in queues if queue.is_default} or {queue.name for queue in queues}
    for queue in queues if not only else [each for each in queues if each.name == only]:
        own = [node for node in nodes if queue.name in node.queues or not node.queues]
        if (queue.limit is None or queue.limit >= wish.time) and sum(_devices(node, wish)[1] for node in own) >= wish.devices:
            same = {name for node in own for name in node.queues}  # Queues that share nodes share what is free.
            there = [each for each in crowd if not each.queue or not same or same & {*each.queue.split(",")}]
            jobs = [job for job in record if job.spec.place == cluster.name and bool(job.spec.gpus) == wish.gpus
                    and (job.spec.queue == queue.name if job.spec.queue else queue.name in usual)]  # fmt: skip
            yield _answer(cluster, queue, own, there, jobs, wish)


def _devices(node: Node, wish: Wish) -> tuple[int, int]:
    """Free ones, and all."""
    return (node.free_gpus, node.gpus or 0) if wish.gpus else (node.free_cpus, node.cpus)


def _answer(
    cluster: Cluster, queue: Queue, nodes: Sequence[Node], crowd: Sequence[Other], jobs: Sequence[Job], wish: Wish
) -> Answer:
    import time

    from noria.jobs import estimate

    free, whole = (sum(each) for each in zip(*(_devices(node, wish) for node in nodes), strict=True))
    record = sorted((estimate.past(job, queue.limit or _DAY) for job in jobs), key=lambda each: each.submitted)
    now = time.time()
    capacity, others = _capacity(record, free, whole, max(wish.devices, 1), now)
    known, share = estimate.history(record, capacity), estimate.usual_share(record, now)
    if crowd:
        plan = estimate.among(crowd, free, (wish.devices, wish.time), share, queue.limit or _DAY, gpus=wish.gpus)
    else:
        hidden = [estimate.Past(now - 1, now - 1, None, others, 2 * wish.time)] if others else []
        alive = [each for each in record if each.ended is None]
        plan = estimate.planned([*hidden, *alive], capacity, now, wish.devices, wish.time, share)
    return Answer(
        cluster.name, queue.name, free, whole, estimate.guess(known, plan, wish.devices, wish.time), estimate.accuracy(known)
    )


def _capacity(record: Sequence[Past], free: int, whole: int, least: int, now: float) -> tuple[int, int]:
    """Devices that the jobs of the record can have together: as many as they once had, or could have now; and how many of these somebody
    else has at the moment."""
    changes = sorted(
        change
        for each in record
        if each.started is not None
        for change in ((each.started, each.devices), (each.ended if each.ended is not None else now + 1, -each.devices))
    )
    had = most = 0
    for _, devices in changes:
        had += devices
        most = max(most, had)
    running = sum(each.devices for each in record if each.started is not None and each.ended is None)
    capacity = min(whole, max(most, free + running, least))
    return capacity, max(0, capacity - running - free)


def _told(guess: Guess) -> tuple[str, str]:
    low, high = _in(guess.low), _in(guess.high)
    return _in(guess.median), "?" if not guess.like else low if low == high else f"{low} – {high}"


def _in(seconds: float) -> str:
    from noria.cli import show

    return "now" if seconds < 60 else f"in {show.span(seconds * 1000)}"
