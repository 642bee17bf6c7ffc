"""A job is a folder: everything that it is told and everything that it says lies there, each file written beside and renamed.

job.json      the job, as the server knew it        env.json      its environment, readable by its owner alone
job.sh        the script that the scheduler got      submitting, submitted  that it was handed over, and the scheduler's id
state.json    what the launcher of node 0 does now   exit.json     how it ended
node-<N>.json what the launcher of node N sees of its tasks, and that it still looks
try           the number of the first try of this submission: who is of an earlier one has been replaced, and writes nothing more
try-<N>.json  how try N ended, what caused it, and what comes next, as the launcher of node 0 sees it
logs/         scheduler.log, and rank<N>.log for each task
spool/        what the tasks say                     checkpoints/  what they go on from
failed-<N>    why try N ended early, written by whichever launcher saw it first
ready-<N>     that node N has copied what its tasks need
stacks/       where each task was when no steps were made
stop-<N>      that the scheduler wants try N to stop, for nodes that it did not tell
drill         a trouble that somebody wants to see it survive
orders/       what mpirun wants started on which node
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from noria import atomic
from noria.jobs.recover import Verdict
from noria.types import Cause, Job, Try

T = TypeVar("T")


class Task(Struct, frozen=True):
    """One process of a job, as `process.alive` knows it."""

    rank: int
    pid: int
    born: str


class Started(Struct, frozen=True):
    """What the launcher of node 0 does: which try, since when, with which processes. Times in milliseconds since 1970."""

    attempt: int
    host: str
    pid: int
    born: str
    started: int
    tasks: list[Task]


class Rank(Struct):
    """One task, as its launcher sees it: `peak` is the most memory that it or a child of its had, in bytes; `last` are its last lines,
    and `begins` is where in its log, in bytes, this try begins.

    Times in milliseconds since 1970; what has no value yet is None.
    """

    rank: int
    pid: int
    started: int
    ended: int | None = None
    code: int | None = None
    peak: int | None = None
    last: list[str] = []
    begins: int = 0


class Node(Struct):
    """One node's launcher and its tasks; `seen` is its heartbeat. `over`: all tasks of this try have ended here. `oom_kills`: processes
    that the kernel has killed for want of memory meanwhile."""

    node: int
    host: str
    attempt: int
    seen: int
    ranks: list[Rank]
    over: bool = False
    oom_kills: int = 0


class Exit(Struct, frozen=True):
    """How a job, or one try of it, ended. `rank` is the first that failed, with the `host` where it ran and its `last` lines; None if none
    did. `cause` is why, with the lines that show it as `evidence`; `stopped` is the signal by which the scheduler wanted an end, and only the
    scheduler knows why. `started`, `nodes` and `saved` are as `Try` has them, and `next` is what comes now. `spools` are the sizes of what was logged, by which another host knows that it sees all of it; None if that is not known."""

    code: int
    ended: int
    attempt: int
    rank: int | None = None
    reason: str = ""
    host: str = ""
    last: list[str] = []
    spools: dict[str, int] | None = None
    cause: Cause = "unknown"
    evidence: list[str] = []
    stopped: int = 0
    started: int | None = None
    nodes: list[str] = []
    saved: bool = False
    next: Verdict = "over"

    def told(self) -> Try:
        """As the server records it."""
        return Try(
            self.attempt, self.cause, self.ended, self.started, self.code, self.nodes, self.rank, self.host, self.reason, self.saved
        )  # fmt: skip


def said(one: Try) -> Exit:
    """The record of a try whose launcher could not write one."""
    return Exit(one.code, one.ended, one.number, one.rank, one.reason, one.host, cause=one.cause, started=one.started, nodes=one.nodes,
                saved=one.saved)  # fmt: skip


class Mark(Struct, frozen=True):
    """The newest checkpoint, in `checkpoints/last.json`: which try wrote it, its step, the seconds that it took, and when."""

    attempt: int
    step: int
    cost: float
    at: int


class Order(Struct, frozen=True):
    """A command that mpirun wants run on a node, as ssh would take it."""

    host: str
    command: str


class Folder:
    """The paths of one job's folder, and its small files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs, self.spool, self.checkpoints = path / "logs", path / "spool", path / "checkpoints"
        self.script, self.env, self.stacks = path / "job.sh", path / "env.json", path / "stacks"

    def make(self, job: Job, env: dict[str, str], script: str) -> None:
        """Write all that the job is told; again is harmless."""
        for folder in (self.path, self.logs, self.spool):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write("env.json", msgspec.json.encode(env), 0o600)
        self._write("job.json", msgspec.json.encode(job))
        self._write("job.sh", script.encode(), 0o700)

    def write(self, name: str, text: str, mode: int = 0o600) -> None:
        """A file that others read while it lasts, and that a power cut may take."""
        self._write(name, text.encode(), mode, sync=False)

    def _write(self, name: str, body: bytes, mode: int = 0o600, *, sync: bool = True) -> None:
        atomic.write(self.path / name, body, mode=mode, sync=sync)

    def reserve(self, size: int) -> None:
        """Take the room that the last word needs, which must find some on a full disk too."""
        self._reserved.write_bytes(bytes(size))

    @property
    def _reserved(self) -> Path:
        return self.path / f".reserved.{socket.gethostname()}.{os.getpid()}"

    def _write_last(self, name: str, body: bytes) -> None:
        """Where there is no room any more, in that which was reserved."""
        try:
            self._write(name, body)
            self._reserved.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            with self._reserved.open("r+b") as file:
                file.write(body)
                file.truncate()
            os.replace(self._reserved, self.path / name)

    def purged(self) -> bool:
        """Whether somebody has removed it, or what lies in it: sites do that with what is old in scratch space."""
        return not (self.path / "job.json").exists()

    def current(self) -> int:
        """The number of the first try of this submission."""
        try:
            return int((self.path / "try").read_text() or 1)
        except (FileNotFoundError, ValueError):
            return 1

    def replace(self, number: int) -> None:
        """From now on, what comes of tries before this one does not count, and their processes stop when they see it."""
        self._write("try", str(number).encode())

    def tries(self) -> list[Exit]:
        """Those that are over, over all submissions, as far as launchers could say it."""
        found = [self._read(path.name, Exit) for path in self.path.glob("try-*.json")]
        return sorted((each for each in found if each is not None), key=lambda each: each.attempt)

    def tried(self, attempt: int) -> Exit | None:
        return self._read(f"try-{attempt}.json", Exit)

    def write_tried(self, exit: Exit) -> None:
        self._write(f"try-{exit.attempt}.json", msgspec.json.encode(exit))

    def mark(self) -> Mark | None:
        """Of the newest checkpoint; None if none was made."""
        return self._read("checkpoints/last.json", Mark)

    def cost(self) -> float:
        """Seconds that the newest checkpoint took; 0 if none was made."""
        return mark.cost if (mark := self.mark()) else 0.0

    def saved(self, attempt: int) -> bool:
        """Whether this try has left a checkpoint."""
        mark = self.mark()
        return mark is not None and mark.attempt == attempt

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError):  # A power cut leaves some that are not synced empty.
            return None

    def job(self) -> Job:
        job = self._read("job.json", Job)
        if job is None:
            raise FileNotFoundError(self.path / "job.json")
        return job

    def environment(self) -> dict[str, str]:
        return self._read("env.json", dict[str, str]) or {}

    def submitted(self) -> str:
        """The scheduler's id; "" while there is none."""
        path = self.path / "submitted"
        return path.read_text() if path.exists() else ""

    def submitting(self) -> bool:
        """Whether a submission was tried: its answer may have been lost."""
        return (self.path / "submitting").exists()

    def write_submitting(self) -> None:
        self._write("submitting", b"")

    def write_submitted(self, scheduler_id: str) -> None:
        self._write("submitted", scheduler_id.encode())

    def handed(self) -> float | None:
        """Since when its scheduler says that it runs, in seconds since 1970, though its launcher has not been heard; None if it never did."""
        return self._read("handed", float)

    def write_handed(self, since: float | None) -> None:
        if since is None:
            (self.path / "handed").unlink(missing_ok=True)
        else:
            self.write("handed", repr(since))

    def started(self) -> Started | None:
        found = self._read("state.json", Started)
        return found if found is not None and found.attempt >= self.current() else None

    def write_started(self, state: Started) -> None:
        self._write("state.json", msgspec.json.encode(state))

    def nodes(self) -> list[Node]:
        """What the launchers wrote last, in the order of nodes."""
        found, first = [self._read(path.name, Node) for path in self.path.glob("node-*.json")], self.current()
        return sorted((each for each in found if each is not None and each.attempt >= first), key=lambda each: each.node)

    def write_node(self, node: Node) -> None:
        self._write(f"node-{node.node}.json", msgspec.json.encode(node), sync=False)

    def failed(self, attempt: int) -> Exit | None:
        return self._read(f"failed-{attempt}", Exit)

    def write_failed(self, exit: Exit) -> None:
        """The first word stands: a later one of the same try is dropped."""
        beside = self.path / f".failed-{exit.attempt}.{os.getpid()}"
        beside.write_bytes(msgspec.json.encode(exit))
        try:
            os.link(beside, self.path / f"failed-{exit.attempt}")
        except FileExistsError:
            pass
        beside.unlink()

    def node_exit(self, node: int) -> Exit | None:
        return self._of_now(self._read(f"exit-{node}.json", Exit))

    def write_node_exit(self, node: int, exit: Exit) -> None:
        self._write_last(f"exit-{node}.json", msgspec.json.encode(exit))

    def exit(self) -> Exit | None:
        return self._of_now(self._read("exit.json", Exit))

    def _of_now(self, exit: Exit | None) -> Exit | None:
        """A word of a try that was replaced, and has not noticed, comes too late."""
        return exit if exit is not None and exit.attempt >= self.current() else None

    def write_exit(self, exit: Exit) -> None:
        self._write_last("exit.json", msgspec.json.encode(exit))

    def rank_logs(self) -> list[tuple[int, Path]]:
        """The log of each task, by rank."""
        return sorted((int(path.stem.removeprefix("rank")), path) for path in self.logs.glob("rank*.log"))
