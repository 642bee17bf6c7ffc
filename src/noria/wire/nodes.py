"""Nodes, by what became of the jobs that they had."""

from __future__ import annotations

from msgspec import Struct

from noria.types import Cause
from noria.wire.endpoint import OWN, Empty, Endpoint


class Record(Struct, frozen=True):
    """One try, as far as it says something about nodes. nodes: those that it speaks of: the one where the first task failed, or all that it
    ran on. tasks: how many its job has, 0 if nobody says. Times in milliseconds since 1970."""

    job: str
    user: str
    cause: Cause
    ended: int
    nodes: list[str]
    started: int | None = None
    reason: str = ""
    tasks: int = 0


class Suspect(Struct, frozen=True):
    """A node that jobs may have failed for. score: from 0 to 1, as now. well: jobs that ended well there since the first of `evidence`, which
    is in order of time, the last first. avoided: whether new jobs are kept from it, where there are others."""

    place: str
    node: str
    score: float
    well: int
    evidence: list[Record]
    avoided: bool = False


class List(Struct, frozen=True):
    """`place`: of this one alone, as `JobSpec.place` has it."""

    place: str = ""


class Suspects(Struct, frozen=True):
    """The worst first."""

    nodes: list[Suspect]


class Forgive(Struct, frozen=True):
    """What happened on this node until now counts no more: somebody has mended it. `place` "" is every one that has such a node."""

    node: str
    place: str = ""


SUSPECTS = Endpoint("GET", f"{OWN}/nodes/suspects", List, Suspects)
FORGIVE = Endpoint("POST", f"{OWN}/nodes/forgive", Forgive, Empty)
