"""A job is a folder: everything that it is told and everything that it says lies there, each file written beside and renamed.

job.json      the job, as the server knew it        env.json      its environment, readable by its owner alone
job.sh        the script that the scheduler got      submitting, submitted  that it was handed over, and the scheduler's id
state.json    what the launcher of node 0 does now   exit.json     how it ended
logs/         scheduler.log, and rank<N>.log for each task
spool/        what the tasks say                     checkpoints/  what they go on from
failed-<N>    why try N ended early, written by whichever launcher saw it first
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


class Exit(Struct, frozen=True):
    """How a job, or one try of it, ended. `rank` is the first that failed; None if none did."""

    code: int
    ended: int
    attempt: int
    rank: int | None = None
    reason: str = ""


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

    def _write(self, name: str, body: bytes, mode: int = 0o600) -> None:
        beside = self.path / f".{name}.{os.getpid()}"
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path / name)

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
