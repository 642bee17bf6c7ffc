"""Why a job waits: what its scheduler says of it, who has what it wants, and what of it would fit now. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from noria.jobs.dialect import Node, Other, Wait
from noria.jobs.idioms import HELD
from noria.jobs.why.answer import Why
from noria.types import Job, JobSpec

_SHOWN = 5


def unsent(job: Job) -> Why:
    """A job that no scheduler has yet."""
    if job.hold == "user":
        return Why("held", "Its owner holds it.", f"Let it go: noria release {job.id[:8]}")
    if job.hold == "after":
        return Why("held", f"It comes after {_several(job.spec.after)}, which must succeed first.", "See how they go: noria ps")
    if job.hold == "array":
        return Why(
            "held",
            f"As many members of its array are under way as may be at once, {job.spec.at_once}.",
            "Give a larger number after % in --array.",
        )
    if job.reason:
        return Why("waiting", job.reason, "It is tried again until it is taken.")
    return Why(
        "waiting",
        f"No agent has taken it to {job.spec.place} yet.",
        "Start one where that can be reached: noria agent, or noria cluster connect.",
    )


def _several(ids: Sequence[str]) -> str:
    return ", ".join(each[:8] for each in ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} others" if len(ids) > _SHOWN else "")


def explain(job: Job, wait: Wait, nodes: Sequence[Node] = (), start: int | None = None) -> Why:
    """nodes: all of its cluster's, [] if they are not known. start: when it may start, by whoever estimates that; else the scheduler's word."""
    if wait.reason == HELD:
        return Why("held", "Its owner holds it.", f"Let it go: noria release {job.id[:8]}", evidence=wait.words)
    nodes = [node for node in nodes if node.serves(job.spec)]
    cure = _cure(job, wait, nodes) or "Nothing is wrong with it: it starts when its turn comes."
    evidence = [*wait.words, *_room(job.spec, nodes), *_crowd(wait.others)]
    start = wait.at if start is None else start
    return Why("waiting", wait.reason or "It waits for its turn.", cure, evidence=evidence, others=wait.others, start=start)


def _cure(job: Job, wait: Wait, nodes: Sequence[Node]) -> str:
    """The smallest change of what it asks for that would let it start, or start sooner."""
    spec = job.spec
    largest = _beyond(spec, nodes)
    if largest:
        return f"Cancel it and ask for less: {largest}."
    if wait.is_never:
        return "Cancel it, and submit it with what the line above allows."
    usable = [node for node in nodes if node.is_up]
    free = sum(node.has_room(spec) for node in usable)
    if 0 < free < spec.nodes:
        return f"With --nodes {free} it would fit now."
    for fewer in range(spec.gpus - 1, 0, -1) if free < spec.nodes else ():
        less = structs.replace(spec, gpus=fewer)
        if sum(node.has_room(less) for node in usable) >= spec.nodes:
            return f"With --gpus {fewer} it would fit now."
    if usable and free >= spec.nodes and not spec.time and spec.scheduler != "local":
        return "It would fit now: say with --time how long it needs, so that it can go before larger ones."
    if usable and free >= spec.nodes and spec.time and any(not each.is_running for each in wait.others):
        return "It would fit now, but others come first: a shorter --time may let it go between them."
    return ""


def _beyond(spec: JobSpec, nodes: Sequence[Node]) -> str:
    """What no node has, whoever else runs."""
    usable = [node for node in nodes if node.is_up]
    if not usable or spec.as_is:
        return ""
    cpus = spec.tasks_per_node * spec.cpus
    if cpus > (most := max(node.cpus for node in usable)):
        return f"no node that is up has {cpus} CPUs, the largest has {most}"
    if spec.mem > (room := max(node.mem for node in usable)):
        return f"no node that is up has {spec.mem / 2**30:.1f} GiB, the largest has {room / 2**30:.1f}"
    counted = [node.gpus for node in usable if node.gpus is not None]
    if len(counted) == len(usable) and spec.gpus > max(counted):
        return f"no node that is up has {spec.gpus} GPUs, the largest has {max(counted)}"
    if spec.gpu_type and not any(spec.gpu_type in node.gpu_types for node in usable) and any(node.gpu_types for node in usable):
        return f"no node that is up has a GPU of type {spec.gpu_type}"
    return f"it wants {spec.nodes} nodes, and {len(usable)} are up" if spec.nodes > len(usable) else ""


def _room(spec: JobSpec, nodes: Sequence[Node]) -> list[str]:
    if not nodes or spec.as_is:
        return []
    up = [node for node in nodes if node.is_up]
    wants = [_count(spec.tasks_per_node * spec.cpus, "CPU")]
    wants += [f"{spec.mem / 2**30:.1f} GiB"] if spec.mem else []
    wants += [_count(spec.gpus, "GPU")] if spec.gpus else []
    where = "on one node" if spec.nodes == 1 else f"on each of {spec.nodes} nodes"
    free = sum(node.has_room(spec) for node in up)
    down = [f"{node.name} is {node.state}{f': {node.reason}' if node.reason else ''}" for node in nodes if not node.is_up]
    return [f"it asks for {', '.join(wants)} {where}: {free} of {_count(len(nodes), 'node')} has that free now", *down[:_SHOWN]]


def _crowd(others: Sequence[Other]) -> list[str]:
    """Who has it now, the largest first, and how many wait before it."""
    running = sorted((each for each in others if each.is_running), key=lambda each: (-each.gpus, -each.cpus))
    waiting = [each for each in others if not each.is_running]
    lines = [f"runs now: {_job(each)}" for each in running[:_SHOWN]]
    lines += [f"and {len(running) - _SHOWN} others run"] if len(running) > _SHOWN else []
    users = sorted({each.user for each in waiting if each.user})
    return lines + (
        [f"before it in the queue: {_count(len(waiting), 'job')} of {', '.join(users[:_SHOWN]) or 'others'}"] if waiting else []
    )


def _job(each: Other) -> str:
    takes = [_count(each.nodes, "node")] if each.nodes > 1 else []
    takes += [_count(each.cpus, "CPU")] + ([_count(each.gpus, "GPU")] if each.gpus else [])
    left = f", for at most another {_span(each.left)}" if each.left is not None else ""
    return f"{each.user or 'somebody'}'s {each.name or 'job'} ({each.id[:8]}) with {', '.join(takes)}{left}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _span(seconds: int) -> str:
    for size, unit, lower, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // lower}{name}"
    return f"{seconds}s"
