"""Which nodes are not to be trusted, from what became of the jobs on them. Pure: times and records are handed in.

What is said against a node fades: after `HALF_LIFE` half of it is left, and after `FORGIVEN_BY` jobs that ended well there half of that.
A try counts by its cause; a program's own error is none of them. Jobs and users are witnesses, not tries: of a job's tries on a node
the worst one speaks, a job that fails on many nodes says little about each of them, and so does a user whose jobs fail so wherever
they run. What independent witnesses say is put together as doubt: the node is fine only if all of them are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from noria.errors import BadNode
from noria.jobs.dialect import Node
from noria.types import Cause, JobSpec
from noria.wire.nodes import Record, Suspect

BLAMED: dict[Cause, float] = {"node_failure": 0.75, "bad_node": 0.45, "hang": 0.4, "killed": 0.4, "communication": 0.3}
"""How likely it is that the node was at fault. Only a node's check knows (`_checked`): a scheduler that lost a node may have lost its network
for a minute; whose log accuses the node may have hidden the GPU from itself; who hangs, is killed or no longer heard may be a victim of
others, or of its own program."""
WELL: frozenset[Cause] = frozenset({"done", "preempted"})
HALF_LIFE = 3 * 86_400_000
"""Milliseconds. A node is mostly mended or drained within days; one that is not says so again."""
FORGIVEN_BY = 4.0
LOOKED_BACK = 7 * HALF_LIFE
"""Milliseconds after which nothing is left worth reading."""
SUSPECT = 0.5
"""From this score on new jobs are kept away. One check that found a fault is enough for a half-life, two hung jobs of one user are as well."""
_LONG = 1800_000
"""Milliseconds that a job must have run to count as a whole one for its nodes."""
_SHARE = 0.1
"""Of a cluster's or a queue's nodes that are kept from jobs at most, so that a wrong suspicion costs little."""
_FEW = 3
"""Up to so many nodes none is kept from jobs; from then on, one."""


def suspects(place: str, records: Iterable[Record], now: int, forgiven: Mapping[str, int] = {}) -> list[Suspect]:
    """The nodes of one place that something is said against, the worst first.

    records: the tries of this place; what is older than LOOKED_BACK, or has another cause than BLAMED and WELL, is passed over.
    forgiven: since when, in milliseconds since 1970, the past of a node counts no more.
    """
    told = [each for each in records if now - each.ended < LOOKED_BACK]
    against = _against(told, forgiven)
    good: dict[str, list[Record]] = {node: [] for node in against}
    for each in told:
        for node in each.nodes if each.cause in WELL else ():
            if node in good:
                good[node].append(each)
    blames = Counter(job for heard in against.values() for job in heard)
    voices = _voices(told, against, now)
    found = []
    for node, heard in against.items():
        doubt = 1.0
        for each in heard.values():
            voice = 1.0 if _checked(each) else voices[node, each.user]
            weight = _weight(each) / blames[each.job] * voice
            doubt *= 1 - weight * _left(each.ended, now, good[node])
        evidence = sorted(heard.values(), key=lambda each: -each.ended)
        well = len({each.job for each in good[node] if each.ended > evidence[-1].ended})
        found.append(Suspect(place, node, 1 - doubt, well, evidence, 1 - doubt >= SUSPECT))
    return sorted(found, key=lambda each: (-each.score, each.node))


def _against(told: Iterable[Record], forgiven: Mapping[str, int]) -> dict[str, dict[str, Record]]:
    """By node and job, the worst that the job's tries say of the node; of two that are as bad, the last one."""
    against: dict[str, dict[str, Record]] = {}
    for each in sorted(told, key=lambda each: each.ended):
        for node in each.nodes if _accuses(each) else ():
            if each.ended > forgiven.get(node, 0):
                heard = against.setdefault(node, {})
                heard[each.job] = max(each, heard.get(each.job, each), key=_weight)
    return against


def _accuses(each: Record) -> bool:
    """A task that has no others to talk to fails to reach what is not the node's: a server, the internet."""
    return each.cause in BLAMED and not (each.cause == "communication" and each.tasks == 1)


def _checked(each: Record) -> bool:
    """Whether the check of its nodes said it: no task had started, whose own error it could be."""
    return each.cause == "bad_node" and each.started is None and BadNode.SAYS in each.reason


def _weight(each: Record) -> float:
    return (1.0 if _checked(each) else BLAMED[each.cause]) / len(each.nodes)


def _voices(told: Iterable[Record], against: Mapping[str, Mapping[str, Record]], now: int) -> dict[tuple[str, str], float]:
    """How far a user's jobs are believed about a node: all the less, the more of them fail so elsewhere and the fewer end well."""
    well: dict[str, set[str]] = {}
    for each in told:
        if each.cause in WELL:
            well.setdefault(each.user, set()).add(each.job)
    ill: dict[str, dict[str, float]] = {}
    here: dict[tuple[str, str], set[str]] = {}
    for node, heard in against.items():
        for each in heard.values():
            if not _checked(each):
                ill.setdefault(each.user, {})[each.job] = _left(each.ended, now)
                here.setdefault((node, each.user), set()).add(each.job)
    voices = {}
    for (node, user), jobs in here.items():
        fine, elsewhere = len(well.get(user, ())) + 1, sum(left for job, left in ill[user].items() if job not in jobs)
        voices[node, user] = fine / (fine + elsewhere)
    return voices


def _left(ended: int, now: int, good: Iterable[Record] = ()) -> float:
    """What is left of something said against a node: of the time since, and of the jobs that it has carried since, each by how long."""
    carried: dict[str, float] = {}
    for each in good:
        if each.ended > ended:
            ran = (each.ended - each.started) / _LONG if each.started is not None else 0.0
            carried[each.job] = min(1.0, max(ran, carried.get(each.job, 0.0)))
    return float(0.5 ** ((now - ended) / HALF_LIFE + sum(carried.values()) / FORGIVEN_BY))


def avoided(spec: JobSpec, found: Iterable[Suspect], nodes: Iterable[Node]) -> list[str]:
    """The suspects that this job is to be kept from, by their scheduler's names, the worst first: so few that it can start without them.

    found: the suspects of its place. nodes: those that its scheduler has now. Where a job says by other names what its nodes must be,
    nobody here knows how many are left, so it is kept from none.
    """
    if spec.constraint or spec.reservation or spec.as_is:
        return []
    able = [node for node in nodes if node.is_up and node.serves(spec) and node.carries(spec)]
    queues = {node.name: ("",) if spec.queue else ("", *node.queues) for node in able}
    left = {
        queue: _spared(count, spec.nodes) for queue, count in Counter(name for each in queues.values() for name in each).items()
    }
    named = {_host(node.name): node.name for node in able}
    kept = []
    for each in sorted(found, key=lambda each: -each.score):
        name = named.pop(_host(each.node), "") if each.score >= SUSPECT else ""
        if name and all(left[queue] > 0 for queue in queues[name]):
            left.update({queue: left[queue] - 1 for queue in queues[name]})
            kept.append(name)
    return kept


def parted(spec: JobSpec, blamed: Iterable[str], nodes: Iterable[Node]) -> list[str]:
    """Of the nodes that tries of this job blame, the worst first: those that it can do without, by their scheduler's names. Enough of what
    is up now is left for it: a node that died yesterday may be all there is today. Where it says by other names what its nodes must be,
    nobody here knows how many are left, so it parts from one alone.
    """
    nodes = list(nodes)
    named = {_host(node.name): node.name for node in nodes}
    left = {node.name for node in nodes if node.is_up and node.serves(spec) and node.carries(spec)}
    found: list[str] = []
    for name in filter(None, (named.get(_host(each)) for each in blamed)):
        unknown = spec.constraint or spec.reservation or spec.as_is
        if name not in found and len(left - {name}) >= spec.nodes and not (found and unknown):
            left.discard(name)
            found.append(name)
    return found


def _spared(count: int, wanted: int) -> int:
    """How many of so many nodes a job for `wanted` of them may be kept from."""
    return min(max(int(count * _SHARE), int(count > _FEW)), count - wanted)


def _host(name: str) -> str:
    """Schedulers and nodes say a name with and without its domain."""
    return name if name.replace(".", "").isdecimal() else name.partition(".")[0]
