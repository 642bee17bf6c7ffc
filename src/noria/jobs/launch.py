"""On a node: start the user's processes, pass signals on, keep the clock, try again, and say how it ended.

Started by the job's script, once for each node: `python -m noria.jobs.launch FOLDER TRY`. It imports nothing that a node
may lack, talks to nobody, and leaves everything it knows in the job's folder.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from noria import process
from noria.errors import BadNode, Invalid, NoriaError, Unavailable
from noria.jobs import capsule, drill, ending, recover, stacks
from noria.jobs.dialect import SCHEDULERS, Placement
from noria.jobs.folder import Exit, Folder, Started, Task
from noria.jobs.frameworks import CLIENT
from noria.jobs.machine import gpus
from noria.jobs.say import say
from noria.jobs.settle import settle, sound
from noria.jobs.system import oom_kills, recorded
from noria.jobs.tasks import GRACE, Tasks, now
from noria.jobs.vigil import Peers, Steps
from noria.types import SAVED, Cause, Job

T = TypeVar("T")
_BEAT = 10.0
"""Seconds between two signs that a node's launcher lives."""
_FENCE = 2.0
"""Seconds between two looks whether this try has been replaced."""
_EARLY = 5.0
"""A scheduler's order to stop that comes so shortly before the time limit means that limit."""
_PEERS = 1.0
_PEERS_LAG = 30.0
"""Seconds between looks at what other nodes wrote, and how long a shared file system may take to show it."""
_PATIENT = 60
"""Seconds that a file server may not answer when a try is over: what is read then is not asked for again."""
_LAST, _EACH = 16 << 10, 128
"""Bytes that the record of an end takes: with last lines, and for each task the name and size of what it logged."""
_CAPSULE = 5.0
"""Seconds that a job's end waits at most for its capsule, where it lies in the job's own folder."""
PURGED = "its folder was removed while it ran, and what it printed and logged since is lost"
CANNOT = "the job cannot start: "
KIND = "NORIA_LAUNCHER"
"""A job's variable: `mpi` if mpirun starts the tasks."""


class Launcher(Tasks):
    """One node's part of a job."""

    TICK = 0.5
    """Seconds between two looks at the clock and at other nodes; signals and the ends of tasks are seen at once."""

    def __init__(self, folder: Folder, job: Job, placement: Placement, stops: frozenset[int], grace: float = GRACE) -> None:
        """stops: the signals by which this scheduler says that it will kill, grace: seconds until it does."""
        self.stops, self.grace = stops, grace
        super().__init__(folder, job, placement)
        self.asked_to_stop = 0
        self._first_exit: Exit | None = None
        self._looked = self._beat = 0.0
        self.first = self.attempt
        self._said_start = True
        self._told: float | None = None
        self.warned = self.replaced = self._notified = False
        self.lost = self.dumped = ""
        self.drilled = ""
        self._capsule: process.Popen[bytes] | None = None
        self._time = job.spec.time
        self._deadline = time.monotonic() + self._time if self._time else None
        others = {rank: name for rank, name in enumerate(placement.nodes[: job.spec.nodes]) if rank != placement.node_rank}
        self._peers, self._steps = Peers(others), Steps(time.monotonic())
        self._fenced, self._lead, self.oom = 0.0, 0.0, 0

    def run(self) -> int:
        """All tries, to the exit code of the job."""
        try:
            return self._run()
        except OSError as error:  # Without a last word: whoever misses this launcher has the job go on.
            self._signal_all(signal.SIGKILL)
            say(f"the launcher cannot go on: {error}")
            return 1

    def _run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self.rung, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # Only to ring.
        with ExitStack() as taken:  # What is taken away goes after the end was said: it may take long.
            with recorded(
                self.folder, self.job, self.placement, lambda: {rank: child.pid for rank, child in dict(self.ranks).items()}
            ):
                exit = self._tries(taken)
            if self._capsule is not None:
                with suppress(process.Late):
                    self._capsule.wait(_CAPSULE)
            if self.replaced:
                say(f"try {self.attempt} has been replaced by another one, and stops")
                return SAVED
            self._end(structs.replace(exit, spools=self._surely(self._spools)))
        return exit.code

    def _end(self, exit: Exit) -> None:
        """The last word, in a new folder if somebody has removed that of the job."""
        if self._surely(self.folder.purged):
            exit = structs.replace(exit, reason=exit.reason or PURGED)
            say(f"{self.folder.path} was removed while the job ran")
        if self.placement.node_rank:
            self._kept(lambda: self.folder.write_node_exit(self.placement.node_rank, exit))
            return
        exit = self._surely(lambda: self._complete(exit))
        self._kept(lambda: self.folder.write_exit(exit))

    def _kept(self, write: Callable[[], None]) -> bool:
        """Whether something could be written: neither a full disk nor a folder that was removed ends a training."""
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            write()
        except OSError as error:
            say(f"{self.folder.path} cannot be written: {error.strerror}")
            return False
        return True

    def _surely(self, read: Callable[[], T]) -> T:
        """What is read, as soon as the file server gives it."""
        for _ in range(_PATIENT):
            with suppress(OSError):
                return read()
            self._wait(1.0)
        return read()

    def _tries(self, taken: ExitStack) -> Exit:
        try:
            with self._heard_meanwhile():
                self._settle(taken)
        except (NoriaError, OSError) as error:
            code = 128 + signal.SIGTERM if self._stopped() else 127
            what = f"{error.filename or 'something'}: {error.strerror}" if isinstance(error, OSError) else str(error)
            bad = error.node if isinstance(error, BadNode) else ""
            ended = self._ended(code, reason=f"{CANNOT}{what}", cause="bad_node" if bad else "cannot_start")
            self._fail(structs.replace(ended, host=bad))
            return self._agreed()
        while True:
            exit = self._try()
            if exit.next != "here" or self._is_replaced():
                return exit
            self.attempt += 1
            say(f"{exit.reason or _how(exit)}; try {self.attempt} begins")

    def _settle(self, taken: ExitStack) -> None:
        """What the tasks of this node need before the first of them is started."""
        spec = self.job.spec
        self.folder.reserve(_LAST + _EACH * (spec.world_size + spec.nodes))
        seen = [str(self.folder.path), self._user.get(CLIENT, ""), spec.cwd]
        found = settle(self.job, self.placement.node_rank, self._user, seen, taken, self._stopped)
        self._usual, self._user = found.usual, found.active
        self.job = structs.replace(self.job, spec=structs.replace(spec, command=found.command))
        if spec.check_nodes:
            sound(self.job, self.placement, self.folder.path, self.environment({}, {}), self.attempt)
        if spec.nodes > 1 and (spec.stage or spec.environment.packed):
            self._meet()

    @contextmanager
    def _heard_meanwhile(self) -> Iterator[None]:
        """A sign of life from time to time, however long a copy or a check takes."""
        over = threading.Event()

        def beat() -> None:
            self._tell()
            while not over.wait(_BEAT):
                self._tell()

        beating = threading.Thread(target=beat, name="noria-beat", daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()

    def _meet(self) -> None:
        """Wait for the other nodes: copies may take longer there than frameworks wait for each other."""
        self.folder.write(f"ready-{self.placement.node_rank}", "")
        while len([*self.folder.path.glob("ready-*")]) < self.job.spec.nodes:
            if self._stopped():
                return
            if other := self.folder.failed(self.attempt):
                raise Unavailable(other.reason.removeprefix(CANNOT))
            self._wait(_PEERS)

    def _stopped(self) -> bool:
        """Whether there is no point in starting any more."""
        return bool(self.asked_to_stop) or (self._deadline is not None and time.monotonic() > self._deadline)

    def _complete(self, exit: Exit) -> Exit:
        """With how much was logged on all nodes, which are waited for: nothing is said after the end is."""
        others = range(1, self.job.spec.nodes)
        until = time.monotonic() + GRACE + _PEERS_LAG
        while any(self.folder.node_exit(node) is None for node in others) and time.monotonic() < until and not self.lost:
            time.sleep(0.2)
        found = [each for node in others if (each := self.folder.node_exit(node))]
        if len(found) < len(others) or any(each.spools is None for each in (exit, *found)):
            return structs.replace(exit, spools=None)
        return structs.replace(exit, spools={name: size for each in (exit, *found) for name, size in (each.spools or {}).items()})

    def _spools(self) -> dict[str, int]:
        """What the tasks of this node, and its launcher, have logged."""
        return {
            path.name: path.stat().st_size for rank in self._writers() for path in self.folder.spool.glob(f"*-{rank}-*.spool")
        }

    def _writers(self) -> list[str]:
        """The ranks that log here, as names of spools have them; the launcher's own comes after all tasks'."""
        return [f"{rank:05d}" for rank in (*self.ranks, self.job.spec.world_size + self.placement.node_rank)]

    def _try(self) -> Exit:
        with suppress(OSError):
            self._mtbf = recover.mtbf([each.told() for each in self.folder.tries()], self.job.spec.nodes)
        self._first_exit, self.oom, self.drilled = None, oom_kills(), ""
        self._steps = Steps(time.monotonic())
        try:
            self._start()
        except OSError as error:
            what = error.filename or self.job.spec.command[0]
            cause: Cause = "missing_file" if isinstance(error, FileNotFoundError) else "cannot_start"
            self._fail(self._ended(127, reason=f"cannot start {what}: {error.strerror}", cause=cause))
        while self._running():
            self._wait(self.TICK)
            self._look()
        for child in self.processes():  # Whatever tasks have left behind goes with them.
            process.send_group(child.pid, signal.SIGKILL)
        return self._agreed()

    def _agreed(self) -> Exit:
        """What all nodes say of this try together, and what comes now: the first node writes it, and the others read."""
        self.node.over, self.node.oom_kills = True, oom_kills() - self.oom
        self._tell()
        if self.placement.node_rank:
            return self._heard()
        since = None
        while not self._all_over() and not self.replaced:
            since = since or (time.monotonic() if self._first_exit else None)
            if self.lost or (since and time.monotonic() > since + GRACE + _PEERS_LAG):
                break
            self._wait(0.2)
            self._look()
        exit = self._first_exit or self._ended(0)
        exit = self._surely(
            lambda: ending.concluded(self.folder, self.job, exit, self.placement.nodes, lost=self.lost,
                                     asked=self.asked_to_stop, warned=self.warned)
        )  # fmt: skip
        if not self._is_replaced():
            self._kept(lambda: self.folder.write_tried(exit))
        return exit

    def _all_over(self) -> bool:
        over = [each.node for each in self._surely(self.folder.nodes) if each.attempt == self.attempt and each.over]
        return len({*over, 0}) == self.job.spec.nodes  # A script of its own is one task, on however many nodes.

    def _heard(self) -> Exit:
        while (exit := self._surely(lambda: self.folder.tried(self.attempt))) is None:
            if self.lost or self.replaced:
                return self._first_exit or self._ended(0)
            self._wait(0.2)
            self._look()
        return exit

    def _start(self) -> None:
        self.ranks, self.node.ranks, self.node.attempt, self.node.over = {}, [], self.attempt, False
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        began = time.time()
        self._start_tasks()
        if self.attempt == 1 and self.placement.node_rank == 0:
            self._capsule = capsule.begin(self.folder, self.job, self.environment(*self._said(0)), began)
        tasks, me = [Task(rank, child.pid, process.born(child.pid)) for rank, child in self.ranks.items()], os.getpid()
        self._started = Started(self.attempt, socket.gethostname(), me, process.born(me), now(), tasks)
        self._said_start = self.placement.node_rank > 0
        self._tell()

    def _running(self) -> bool:
        """Whether a task lives; the first that failed decides the try, and ends the others."""
        for rank, child in self.ranks.items():
            self._reap(rank, child)
            if child.returncode and self._first_exit is None:
                self._fail(self._ended(process.exit_code(child.returncode), rank))
        return any(child.returncode is None for child in self.ranks.values())

    def _tell(self) -> None:
        """That this node lives, and once that the job has started; unless another try has taken its place."""
        if self._is_replaced():
            return
        self.node.seen, self._beat = now(), time.monotonic()
        self._kept(lambda: self.folder.write_node(self.node))
        self._said_start = self._said_start or self._kept(lambda: self.folder.write_started(self._started))

    def _is_replaced(self) -> bool:
        """Whether this job was submitted anew meanwhile, because somebody took this node for dead. Its tasks must write no more."""
        self._fenced = time.monotonic()
        with suppress(OSError):
            if not self.replaced and self.folder.current() > self.first and not self.folder.purged():
                self.replaced = True
                self._signal_all(signal.SIGKILL)
        return self.replaced

    def _fail(self, exit: Exit) -> None:
        self._first_exit = exit
        if not self._is_replaced():
            self._kept(lambda: self.folder.write_failed(exit))
        self._end_all()

    def _look(self) -> None:
        """The clock, whoever wants us to stop, what launchers on other nodes saw, and whether steps are made. What cannot be read just now
        is looked at the next time."""
        now = time.monotonic()
        self._limit(now)
        if self.asked_to_stop and self._told is None:
            self._told = now
            self._signal_all(signal.SIGTERM)
            if self.job.spec.nodes > 1:  # Not every scheduler tells all nodes.
                self._kept(lambda: self.folder.write(f"stop-{self.attempt}", str(self.asked_to_stop)))
        if self._told is not None and now > self._told + self.grace:
            self._signal_all(signal.SIGKILL)
        if now > self._beat + _BEAT:
            self._tell()
        if now > self._fenced + _FENCE:
            self._is_replaced()
        if now - self._looked > _PEERS:
            self._looked = now
            with suppress(OSError):
                drill.obey(self)
                self._hear(now)
                self._progress(now)

    def _limit(self, now: float) -> None:
        """A program that saves is told in time; then it has until the limit. One that does not has all of it."""
        if not self._deadline or self._first_exit is not None:
            return
        spec = self.job.spec
        with suppress(OSError):
            tells = spec.warn or self.folder.checkpoints.is_dir()
            self._lead = recover.lead(self._time, self.folder.cost(), spec.warn) if tells else 0.0
        if now > self._deadline - (_EARLY if self.asked_to_stop else 0):
            self._fail(self._ended(128 + signal.SIGTERM, reason=f"time limit of {self._time} s reached", cause="time_limit"))
        elif self._lead and now > self._deadline - self._lead and not self.warned and not self.asked_to_stop:
            self.warned = True
            say(f"the time limit is {self._deadline - now:.0f} s away: tasks are told to save")
            self._signal_all(signal.SIGTERM)

    def _hear(self, now: float) -> None:
        """What the other nodes say, and whether they still do."""
        if self.job.spec.nodes == 1:
            return
        stop = self.folder.path / f"stop-{self.attempt}"
        if not self.asked_to_stop and stop.exists():
            self.asked_to_stop = int(stop.read_text() or signal.SIGTERM)
        seen = {each.node: each.seen for each in self.folder.nodes()}
        wanted = seen if self.placement.node_rank == 0 else {0: seen.get(0, -1)}
        self.lost = self.lost or self._peers.silent(wanted, now)
        if self._first_exit is None:
            found = self.folder.failed(self.attempt)
            if found is None and self.lost:
                reason = f"{self.lost} has not been heard for a minute"
                self._fail(
                    structs.replace(self._ended(128 + signal.SIGKILL, reason=reason, cause="node_failure"), host=self.lost)
                )
            elif found is not None:
                self._first_exit = found
                self._end_all()

    def _progress(self, now: float) -> None:
        """Steps show in the spools of ranks and in checkpoints. The first node looks, since it sees those of all nodes."""
        stacks.wanted(self)
        if self.placement.node_rank or self._first_exit is not None or self.job.spec.script:
            return
        self._steps.look(stacks.sign(self.folder, self.job), now)
        hang = self.job.spec.hang or (min(10 * self._steps.usual + 10, 60) if self.drilled == "hang" else 0)
        if self._steps.stuck(now, hang) and (hang or self.folder.checkpoints.is_dir()):
            if not self._kept(lambda: stacks.take(self)):  # Where nothing can be written, no step shows.
                self._steps.since = now
                return
            pause, usual = now - self._steps.since, self._steps.usual
            culprit = stacks.culprit(self.folder)
            reason = f"no step for {pause:.0f} s, where {usual:.2g} s are usual"
            exit = self._ended(128 + signal.SIGKILL, culprit, reason, "hang")
            self._fail(exit)
        elif self._steps.suspicious(now) and not self._notified:
            self._notified = True
            self._kept(lambda: stacks.take(self))
            say(f"no step for {now - self._steps.since:.0f} s: where each task is lies in {self.folder.stacks}")

    def limit_now(self) -> None:
        """A drill: the time limit is as near as tasks are told before it. One that has none gets two minutes."""
        self._time = self._time or 120
        self._deadline = time.monotonic() + recover.lead(self._time, self.folder.cost(), self.job.spec.warn)

    def _on_signal(self, number: int, _: object) -> None:
        """A stop is only noted, for the loop to act on; other signals go to the tasks as they are."""
        if number in self.stops:
            self.asked_to_stop = self.asked_to_stop or number
        else:
            self._signal_all(number)

    def _ended(self, code: int, rank: int | None = None, reason: str = "", cause: Cause = "unknown") -> Exit:
        """The end of a try, by its first task that failed or without one."""
        record = next((each for each in self.node.ranks if each.rank == rank), None)
        if self.drilled == "preempt" and code and cause == "unknown":
            cause, reason = "preempted", "preempted, by a drill"
        if record is None:
            return Exit(code, now(), self.attempt, rank, reason, cause=cause)
        return Exit(code, record.ended or now(), self.attempt, rank, reason, self.node.host, record.last, cause=cause)


def _how(exit: Exit) -> str:
    who = f"rank {exit.rank}" if exit.rank is not None else "the job"
    if exit.code > 128:
        try:
            return f"{who} was ended by {signal.Signals(exit.code - 128).name}"
        except ValueError:
            pass
    return f"{who} exited with code {exit.code}"


def launcher(job: Job) -> type[Launcher]:
    """Who starts the tasks of a job."""
    kind = job.spec.env.get(KIND, "")
    if not kind:
        return Launcher
    if kind != "mpi":
        raise Invalid(f"{KIND} is '{kind}'.", "Write mpi, or leave it out.")
    from noria.jobs.mpi import Mpi

    return Mpi


@contextmanager
def _own_gpus(job: Job, folder: Folder, placement: Placement) -> Iterator[Placement]:
    """Where a scheduler counts GPUs and does not say which: some that no other job of ours on this node has."""
    here = gpus() if placement.gpus is None and job.spec.gpus else []
    if not here:
        yield placement
        return
    from noria import config  # Few jobs need these.
    from noria.jobs.neighbours import Ledger, claimed

    with claimed(Ledger(Path(config.load().machine), folder.path), job.spec.gpus, here) as mine:
        yield structs.replace(placement, gpus=mine)


def main(path: str, number: str = "") -> int:
    """number: the first try of the submission that this script belongs to."""
    folder, job, node = Folder(Path(path)), None, -1
    with suppress(OSError):
        if number and int(number) < folder.current():
            say(f"try {number} has been replaced by another one, and does not begin")
            return SAVED
    with ExitStack() as until:
        try:
            job = folder.job()
            dialect = SCHEDULERS.get(job.spec.scheduler)
            placement = dialect.placement(os.environ, lambda name: Path(name).read_text(), process.run)
            node = placement.node_rank
            placement = until.enter_context(_own_gpus(job, folder, placement))
            found = launcher(job)(folder, job, placement, dialect.STOPS, dialect.GRACE)
        except (NoriaError, OSError) as error:
            say(f"{CANNOT}{error}")
            with suppress(OSError):  # Its folder is gone or full: the scheduler alone can tell.
                _never_began(folder, job, node, f"{CANNOT}{error}")
            return 127
        return found.run()


def _never_began(folder: Folder, job: Job | None, node: int, reason: str) -> None:
    """The end of a try, by the first of its nodes; by another one, which may not know its number, a word to that."""
    if job is None or folder.current() > job.tries + 1:
        return
    exit = Exit(127, now(), job.tries + 1, reason=reason, cause="cannot_start")
    if node == 0 or job.spec.nodes == 1:
        folder.write_exit(exit)
    else:
        folder.write_failed(exit)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
