"""Whether a job goes on after a try has ended: a policy of values alone. On the node the launcher asks it, and beside the cluster the agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Literal

from noria.client.interval import estimate
from noria.types import Cause, JobSpec, Try

Verdict = Literal["over", "here", "again"]
"""The end; another try where the last one was; or a new submission, which may lead elsewhere."""

FRUITLESS = 3
"""So many tries in a row that save nothing are enough."""

_HOPELESS: set[Cause] = {
    "done", "cancelled", "user_error", "missing_module", "missing_file", "out_of_memory", "gpu_memory", "disk_full", "licence", "cannot_start",
}  # fmt: skip
_LOST_ITS_PLACE: set[Cause] = {"preempted", "node_failure", "bad_node"}
_BAD_LUCK: set[Cause] = {"killed", "communication", "hang"}


def verdict(spec: JobSpec, tries: Sequence[Try], *, resumes: bool, stays: bool, cost: float = 0.0) -> Verdict:
    """tries: all that are over, the last of which is judged. resumes: the program keeps checkpoints in the job's folder, by
    `noria.checkpoint` or our trainer. stays: the nodes are still the job's own. cost: seconds that a checkpoint takes.

    What would fail anywhere is never tried again. What the program cannot help is: at once after a preemption, elsewhere after its node
    failed, where it was after bad luck; but only while something is saved from time to time.
    """
    here: Verdict = "here" if stays else "again"
    last = tries[-1]
    fruitless = len([*takewhile(lambda each: not each.saved, reversed(tries))])
    failed = [each for each in tries if each.cause not in _LOST_ITS_PLACE and each.cause != "time_limit"]
    if last.cause in _HOPELESS or spec.retry == "never" or spent(spec, tries, cost):
        return "over"
    if last.cause == "preempted":
        return here if last.saved or fruitless <= spec.max_restarts + 10 * FRUITLESS else "over"
    if last.cause == "time_limit":
        return "again" if last.saved or (fruitless < FRUITLESS and (spec.total or fruitless < len(tries))) else "over"
    if last.cause == "bad_node" and _follows(tries):
        return "over"
    if last.cause in _LOST_ITS_PLACE:
        return "again" if fruitless < FRUITLESS + spec.max_restarts else "over"
    may = (
        len(failed) <= spec.max_restarts
        or (resumes and last.cause in _BAD_LUCK and fruitless < FRUITLESS)
        or (resumes and last.saved)
    )
    if not may:
        return "over"
    return "again" if len(tries) > 1 and last.host and _same_place(last, tries[-2]) and last.cause in _BAD_LUCK else here


def _follows(tries: Sequence[Try]) -> bool:
    """Whether the second node in a row is accused by a log, and nothing came of either try: the program takes the trouble with it."""
    two = [each for each in tries[-2:] if each.cause == "bad_node" and each.started is not None and not each.saved]
    return len(two) == 2 and two[0].host != two[1].host


def _same_place(last: Try, before: Try) -> bool:
    """Whether bad luck has a place: the second time the same node is to blame, another one may be had."""
    return len(last.nodes) > 0 and last.host == before.host and before.cause in _BAD_LUCK


def used(tries: Sequence[Try]) -> float:
    """Seconds that tasks ran, over all tries."""
    return sum(each.ended - each.started for each in tries if each.started) / 1000


def spent(spec: JobSpec, tries: Sequence[Try], cost: float) -> bool:
    """Whether a job's total time is used up: what is left is no more than the time at the end in which it would only save."""
    return spec.total > 0 and used(tries) >= spec.total - lead(spec.total, cost, spec.warn)


def lead(limit: float, cost: float, warn: float = 0.0) -> float:
    """Seconds before a time limit at which tasks are told to save: what somebody has said (`warn`), or three times what a checkpoint has
    cost, and 30 s if that is less; of a short limit a quarter."""
    return min(warn or max(30.0, 3 * cost), limit / 4)


def mtbf(tries: Sequence[Try], nodes: int, running: float = 0.0) -> float:
    """The mean time between failures of a job, in seconds: what such jobs see (one in 1,000 hours of a node, and a preemption or so a day),
    moved by what this one has seen in so many seconds."""
    guess = min(86_400.0, 3_600_000 / nodes)
    return estimate(guess, used(tries) + running, sum(each.cause not in ("done", "time_limit") for each in tries))


def blamed(tries: Sequence[Try]) -> list[str]:
    """Nodes that the next try of this job had better avoid, the worst first: a few of those. `health.parted` says which of them it can do
    without."""
    found: set[Cause] = {"node_failure", "bad_node", "hang"}
    once = [each.host for each in tries if each.host and each.cause in found]
    twice = [a.host for a, b in pairwise(tries) if a.host and a.host == b.host and {a.cause, b.cause} <= _BAD_LUCK]
    latest = list(dict.fromkeys(reversed([*twice, *once])))
    times = Counter([*once, *twice])
    return sorted(latest, key=lambda host: -times[host])[: max(2, len(tries[-1].nodes) // 32) if tries else 0]
