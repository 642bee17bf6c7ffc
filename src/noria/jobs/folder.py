"""A job is a folder: everything that it is told and everything that it says lies there, each file written beside and renamed.

job.json      the job, as the server knew it        env.json      its environment, readable by its owner alone
job.sh        the script that the scheduler got      submitting, submitted  that it was handed over, and the scheduler's id
state.json    what the launcher of node 0 does now   exit.json     how it ended
node-<N>.json what the launcher of node N sees of its tasks, and that it still looks
logs/         scheduler.log, and rank<N>.log for each task
spool/        what the tasks say                     checkpoints/  what they go on from
failed-<N>    why try N ended early, written by whichever launcher saw it first
orders/       what mpirun wants started on which node
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from noria.types import Job

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
    """One task, as its launcher sees it: `peak` is the most memory that it or a child of its had, in bytes; `last` are its last lines.

    Times in milliseconds since 1970; what has no value yet is None.
    """

    rank: int
    pid: int
    started: int
    ended: int | None = None
    code: int | None = None
    peak: int | None = None
    last: list[str] = []


class Node(Struct):
    """One node's launcher and its tasks; `seen` is its heartbeat."""

    node: int
    host: str
    attempt: int
    seen: int
    ranks: list[Rank]


class Exit(Struct, frozen=True):
    """How a job, or one try of it, ended. `rank` is the first that failed, with the `host` where it ran and its `last` lines; None if none
    did. `spools` are the sizes of what was logged, by which another host knows that it sees all of it; None if that is not known."""

    code: int
    ended: int
    attempt: int
    rank: int | None = None
    reason: str = ""
    host: str = ""
    last: list[str] = []
    spools: dict[str, int] | None = None


class Order(Struct, frozen=True):
    """A command that mpirun wants run on a node, as ssh would take it."""

    host: str
    command: str


class Folder:
    """The paths of one job's folder, and its small files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs, self.spool, self.checkpoints = path / "logs", path / "spool", path / "checkpoints"
        self.script, self.env = path / "job.sh", path / "env.json"

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
        target = self.path / name
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(body)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, target)

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except FileNotFoundError:
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

    def started(self) -> Started | None:
        return self._read("state.json", Started)

    def write_started(self, state: Started) -> None:
        self._write("state.json", msgspec.json.encode(state))

    def nodes(self) -> list[Node]:
        """What the launchers wrote last, in the order of nodes."""
        found = [self._read(path.name, Node) for path in self.path.glob("node-*.json")]
        return sorted((each for each in found if each is not None), key=lambda each: each.node)

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
        return self._read(f"exit-{node}.json", Exit)

    def write_node_exit(self, node: int, exit: Exit) -> None:
        self._write(f"exit-{node}.json", msgspec.json.encode(exit))

    def exit(self) -> Exit | None:
        return self._read("exit.json", Exit)

    def write_exit(self, exit: Exit) -> None:
        self._write("exit.json", msgspec.json.encode(exit))

    def rank_logs(self) -> list[tuple[int, Path]]:
        """The log of each task, by rank."""
        return sorted((int(path.stem.removeprefix("rank")), path) for path in self.logs.glob("rank*.log"))
