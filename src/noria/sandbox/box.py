"""A cluster in a box: emulated nodes, a queue, and jobs that really run, all of them on this machine.

A box is a folder: `box.json` says what there is, and whoever changes it holds `lock`. There is no daemon: whoever submits, ends,
asks or cancels also starts what fits. Each running job has a runner, `python -m noria.sandbox run FOLDER KEY`, which keeps its
clock and writes down how it ended. What the commands of a scheduler make of this is in slurm.py, pbs.py and sge.py.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

import msgspec
from msgspec import Struct

from noria import atomic, process

FOLDER, KEY = "NORIA_SANDBOX", "NORIA_SANDBOX_JOB"
"""Variables: where the box is, and which job a process belongs to, however far it has gone from its parents."""
State = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]
OPEN = ("PENDING", "RUNNING")
_TICK = 0.05
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "PATH")


class Node(Struct, frozen=True):
    """Memory in MiB."""

    name: str
    cpus: int
    mem: int
    gpus: int


class Room(Struct):
    """What is free on a node."""

    cpus: int
    mem: int
    gpus: set[int]

    def holds(self, ask: Ask) -> bool:
        return self.cpus >= ask.cpus and self.mem >= ask.mem and len(self.gpus) >= ask.gpus

    def take(self, ask: Ask, gpus: Iterable[int]) -> None:
        self.cpus, self.mem = self.cpus - ask.cpus, self.mem - ask.mem
        self.gpus.difference_update(gpus)


class Ask(Struct, frozen=True):
    """What a job asks for, of each node. Memory in MiB, time in seconds (0: no limit), begin in seconds since 1970.

    after: numbers of jobs, each with how it must have ended: ok, notok or any. without: nodes it must not have. extra: what the scheduler says of the job again.
    """

    script: list[str]
    cwd: str
    out: str
    name: str = ""
    nodes: int = 1
    tasks: int = 1
    cpus: int = 1
    mem: int = 0
    gpus: int = 0
    time: int = 0
    begin: float = 0.0
    after: list[tuple[str, int]] = []
    held: bool = False
    requeue: bool = False
    env: dict[str, str] = {}
    without: list[str] = []
    append: bool = True
    extra: dict[str, str] = {}


class Job(Struct):
    """One job, or one member of an array. Times in seconds since 1970; signal: what ended it, 0 if it ended by itself."""

    number: int
    ask: Ask
    user: str
    submitted: float
    member: int | None = None
    state: State = "PENDING"
    held: bool = False
    hosts: list[str] = []
    gpus: list[list[int]] = []
    pid: int = 0
    born: str = ""
    started: float = 0.0
    ended: float = 0.0
    code: int = 0
    signal: int = 0
    tries: int = 0
    again: bool = False

    @property
    def key(self) -> str:
        return str(self.number) if self.member is None else f"{self.number}_{self.member}"

    @property
    def last(self) -> float:
        """When something last happened to it."""
        return max(self.submitted, self.started, self.ended)


class Content(Struct):
    flavor: str
    nodes: list[Node]
    jobs: list[Job] = []
    number: int = 0


class Flavor(Protocol):
    """A module that speaks as one scheduler does."""

    COMMANDS: dict[str, Callable[[Box, list[str]], int]]
    """The programs, and what each does with its words."""

    def environment(self, job: Job, box: Box) -> dict[str, str]:
        """What the scheduler sets in a job."""

    def log(self, job: Job) -> str:
        """Where a job's log goes: its `out` with what it is called."""

    def ending(self, job: Job) -> tuple[int, float]:
        """The signal by which a job is told to end, and seconds until it is killed."""


def waits_for(job: Job, jobs: Iterable[Job], now: float) -> str:
    """Why a job may not start yet, in Slurm's words; "" if it may."""
    if job.held:
        return "JobHeldUser"
    if job.ask.begin > now:
        return "BeginTime"
    for how, number in job.ask.after:
        others = [each for each in jobs if each.number == number]
        if any(each.state in OPEN for each in others):
            return "Dependency"
        fine = all(each.state == "COMPLETED" for each in others)
        if (how == "ok" and not fine) or (how == "notok" and fine):
            return "DependencyNeverSatisfied"
    return ""


def fit(content: Content, now: float) -> list[tuple[Job, list[str], list[list[int]]]]:
    """Who starts now and where: in order of submission, and nobody overtakes one that could start if there were room."""
    free = {node.name: Room(node.cpus, node.mem, set(range(node.gpus))) for node in content.nodes}
    for job in content.jobs:
        if job.state == "RUNNING":
            for host, gpus in zip(job.hosts, job.gpus, strict=True):
                free[host].take(job.ask, gpus)
    chosen = []
    for job in content.jobs:
        if job.state != "PENDING" or waits_for(job, content.jobs, now):
            continue
        hosts = [name for name, room in free.items() if name not in job.ask.without and room.holds(job.ask)][: job.ask.nodes]
        if len(hosts) < job.ask.nodes:
            break
        given = [sorted(free[host].gpus)[: job.ask.gpus] for host in hosts]
        for host, gpus in zip(hosts, given, strict=True):
            free[host].take(job.ask, gpus)
        chosen.append((job, hosts, given))
    return chosen


class Box:
    """The box in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "scripts"

    @classmethod
    def make(cls, folder: Path, flavor: str, nodes: list[Node]) -> Box:
        box = cls(folder)
        box.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        box._save(Content(flavor, nodes))
        return box

    def is_there(self) -> bool:
        return (self.folder / "box.json").exists()

    @contextmanager
    def opened(self) -> Iterator[Content]:
        """What is in the box, to be changed; on the way out, what fits is started."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = msgspec.json.decode((self.folder / "box.json").read_bytes(), type=Content)
            yield content
            self._advance(content)
            self._save(content)

    def look(self) -> Content:
        with self.opened() as content:
            return content

    def _save(self, content: Content) -> None:
        atomic.write(self.folder / "box.json", msgspec.json.encode(content))

    def _advance(self, content: Content) -> None:
        for job in content.jobs:
            if job.state == "RUNNING" and job.pid and not process.alive(job.pid, job.born):
                job.state, job.signal, job.ended = "FAILED", signal.SIGKILL, time.time()  # Its runner was killed.
        for job, hosts, gpus in fit(content, time.time()):
            job.state, job.hosts, job.gpus, job.started, job.tries = "RUNNING", hosts, gpus, time.time(), job.tries + 1
            env = {name: os.environ[name] for name in _KEPT if name in os.environ}
            env |= {FOLDER: str(self.folder), KEY: self.mark(job.key)}
            child = process.start(
                process.python("noria.sandbox", "run", str(self.folder), job.key),
                log=self.folder / "runners.log",
                env=env,
                cwd=str(self.folder),
            )
            job.pid, job.born = child.pid, process.born(child.pid)

    def mark(self, key: str) -> str:
        """What the processes of a job carry."""
        return f"{self.folder}/{key}"

    def submit(self, ask: Ask, members: Iterable[int] | None = None) -> int:
        """The number of a new job, or of an array of jobs."""
        with self.opened() as content:
            content.number += 1
            for member in [None] if members is None else members:
                job = Job(content.number, ask, process.whoami(), time.time(), member, held=ask.held)
                content.jobs.append(job)
            return content.number

    def possible(self, ask: Ask) -> bool:
        """Whether an empty box could run it."""
        nodes = [node for node in self.look().nodes if node.name not in ask.without]
        rooms = [Room(node.cpus, node.mem, set(range(node.gpus))) for node in nodes]
        return sum(room.holds(ask) for room in rooms) >= ask.nodes

    def cancel(self, jobs: list[Job]) -> None:
        """Of those that are open: drop what waits, tell the runners of the others."""
        keys = {job.key for job in jobs}
        with self.opened() as content:
            for job in content.jobs:
                if job.key in keys and job.state == "PENDING":
                    job.state, job.ended = "CANCELLED", time.time()
                elif job.key in keys and job.state == "RUNNING":
                    process.send(job.pid, signal.SIGTERM)

    def hold(self, keys: set[str], *, held: bool) -> None:
        with self.opened() as content:
            for job in content.jobs:
                if job.key in keys and job.state == "PENDING":
                    job.held = held

    def requeue(self, keys: set[str]) -> None:
        """Run these from the beginning, once they have ended."""
        with self.opened() as content:
            for job in content.jobs:
                if job.key in keys and job.state == "RUNNING":
                    job.again = True
                    process.send(job.pid, signal.SIGTERM)
                elif job.key in keys and job.state != "PENDING":
                    job.state = "PENDING"


def flavor(name: str) -> Flavor:
    return cast(Flavor, import_module(f"noria.sandbox.{name}"))


class Runner:
    """One try of one job."""

    def __init__(self, box: Box, key: str) -> None:
        content = msgspec.json.decode((box.folder / "box.json").read_bytes(), type=Content)
        self.box, self.flavor = box, flavor(content.flavor)
        self.job = next(job for job in content.jobs if job.key == key)
        self.stopped = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))
        state, code, number = self._run()
        with self.box.opened() as content:
            job = next(job for job in content.jobs if job.key == self.job.key)
            job.state, job.code, job.signal, job.ended = state, code, number, time.time()
            if job.again:
                job.state, job.again = "PENDING", False

    def _run(self) -> tuple[State, int, int]:
        ask = self.job.ask
        env = {**os.environ, **ask.env, **self.flavor.environment(self.job, self.box)}
        log = Path(self.flavor.log(self.job))
        try:
            if not ask.append:
                log.write_bytes(b"")
            cwd = ask.cwd if Path(ask.cwd).is_dir() else tempfile.gettempdir()  # As the real ones do.
            child = process.start(ask.script, log=log, env=env, cwd=cwd)
        except OSError:
            return "FAILED", 0, 53  # As Slurm says it.
        limit = time.monotonic() + ask.time if ask.time else None
        late = False
        while child.poll() is None:
            time.sleep(_TICK)
            late = limit is not None and time.monotonic() > limit
            if self.stopped or late:
                self._end(child)
        _kill_all(self.box.mark(self.job.key))
        status = child.returncode
        if late or self.stopped:
            return ("TIMEOUT" if late else "CANCELLED"), max(status, 0), max(-status, 0)
        return ("COMPLETED" if status == 0 else "FAILED"), max(status, 0), max(-status, 0)

    def _end(self, child: process.Popen[bytes]) -> None:
        """Tell all of the job's processes, wait, and kill them."""
        first, grace = self.flavor.ending(self.job)
        for pid in members(self.box.mark(self.job.key)):
            _signal(pid, first)
        until = time.monotonic() + grace
        while child.poll() is None and time.monotonic() < until:
            time.sleep(_TICK)
        _kill_all(self.box.mark(self.job.key))
        child.wait()


def members(mark: str) -> list[int]:
    """The processes of a job but for its runner, as Linux knows them by the environment that they were started with (proc(5))."""
    line, found = f"{KEY}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if line in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass  # It has ended, or is another user's.
    return found


def _kill_all(mark: str) -> None:
    while found := members(mark):
        for pid in found:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
