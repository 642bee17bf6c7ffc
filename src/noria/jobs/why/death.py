"""What is known of the end of one try and of its ranks, and what is made of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from msgspec import Struct

from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Node, Rank
from noria.jobs.why.reading import Word, read
from noria.jobs.why.signs import ECHO, WHY
from noria.types import Cause, Job

KILL, TERM = 128 + signal.SIGKILL, 128 + signal.SIGTERM
LATE = 7000
"""Milliseconds after the first end from which a KILL is the launcher's: it waits ten seconds, and clocks of nodes differ."""
_LINES = 25
"""Of the log of a task that somebody ended: it says nothing of its own end, and what it said before was survived."""


class Death(Struct, frozen=True):
    """What is known of the end of one try.

    exit: None if the launcher left no word. word: the scheduler's last. logs: the end of each rank's log, of this try alone, at most
    64 KiB each. lost: hosts that are not heard any more. oom_kills: processes that the nodes' control groups killed. asked_stop: a
    person wanted it to end.
    """

    job: Job
    exit: Exit | None = None
    word: Seen | None = None
    logs: Mapping[int, str] = {}
    scheduler_log: str = ""
    nodes: list[Node] = []
    lost: list[str] = []
    oom_kills: int = 0
    asked_stop: bool = False

    def record(self, rank: int) -> Rank | None:
        return next((each for node in self.nodes for each in node.ranks if each.rank == rank), None)

    def host(self, rank: int | None) -> str:
        return next((node.host for node in self.nodes if any(each.rank == rank for each in node.ranks)), "")

    def node_file(self, rank: int) -> str:
        return next(
            (f"node-{node.node}.json" for node in self.nodes if any(each.rank == rank for each in node.ranks)), "exit.json"
        )

    def on(self, host: str) -> str:
        return f" on {host}" if host and self.job.spec.nodes > 1 else ""

    def said(self, end: End, says: str) -> str:
        """With the rank before it, where there are several."""
        return f"Rank {end.rank}{self.on(end.host)}: {says}" if self.job.spec.world_size > 1 else says


class Diagnosis(Struct, frozen=True):
    """reason and cure: one sentence each, the cure being the smallest change that helps. rank, host: the first that failed, if one did.
    evidence: lines as they stand, and where."""

    cause: Cause
    reason: str
    cure: str = ""
    rank: int | None = None
    host: str = ""
    evidence: list[str] = []


class End(Struct, frozen=True):
    """How one rank ended. late: it was ended by the launcher, after another had failed."""

    rank: int
    host: str
    code: int
    ended: int
    word: Word | None
    late: bool

    @property
    def weight(self) -> int:
        """The less, the better it explains the try."""
        said = self.word
        if said is None or (self.late and not said.raised):
            return 5 if self.late else 2 if self.code == TERM else 1
        if said.cause == "communication":
            return 3 if said.worth == WHY else 4
        return 0 if said.worth == WHY else 5 if self.late else 4 if said.worth == ECHO else 1


def endings(death: Death) -> list[End]:
    """The ranks that failed."""
    records = [(node.host, each) for node in death.nodes for each in node.ranks if each.code]
    if not records and death.exit is not None and death.exit.rank is not None:
        own = death.exit
        records = [(own.host, Rank(own.rank or 0, 0, own.ended, own.ended, own.code, None, own.last))]
    first = min((each.ended or 0 for _, each in records), default=0)
    otherwise = any(each.code != TERM for _, each in records)
    return [_end(death, host, each, first, otherwise) for host, each in records]


def _end(death: Death, host: str, record: Rank, first: int, otherwise: bool) -> End:
    """first: when the first rank ended. otherwise: whether some rank ended otherwise than by TERM, so that TERM is what the others got."""
    code, ended = record.code or 0, record.ended or 0
    chosen = death.exit is not None and death.exit.rank == record.rank
    late = not chosen and ((code == TERM and (otherwise or ended > first)) or (code == KILL and ended >= first + LATE))
    text = death.logs.get(record.rank) or "\n".join(record.last)
    word = read(text, _LINES) if code in (KILL, TERM) else read(text)
    return End(record.rank, host, code, ended, word, late)


def explains(death: Death, ends: Sequence[End]) -> End | None:
    """The end that explains the others best; of two that do so alike, the first one."""
    chosen = death.exit.rank if death.exit else None
    return min(ends, key=lambda end: (end.weight, end.ended, end.rank != chosen), default=None)
