"""What a scheduler file is: pure functions that return commands and read answers. Nothing here runs anything.

To add a scheduler, copy schedulers/pbs.py (the shortest), change its words, and let tests/jobs/test_dialects.py write the
golden files. What several of them say alike is in idioms.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from noria.plugins import Kind
from noria.process import Answer
from noria.types import Cause, Job, JobSpec, JobState


class Placement(Struct, frozen=True):
    """Where a launcher finds itself. `nodes` are in rank order and nodes[node_rank] is this one.

    `gpus` are ids as CUDA_VISIBLE_DEVICES has them; None if the scheduler does not hand them out, so the launcher must choose.
    """

    nodes: list[str]
    node_rank: int
    gpus: list[str] | None


class Seen(Struct, frozen=True):
    """One job as its scheduler sees it. `exit_code` is 128 + n after signal n, None if the scheduler cannot say.

    `reason` is a sentence for the person who waits, or empty. `cause` is why it ended, where the scheduler knows. `tag` is what `tag(job)` was at submission, where the scheduler
    repeats it: it finds a job whose submission was answered too late.
    """

    state: JobState
    exit_code: int | None = None
    reason: str = ""
    tag: str = ""
    cause: Cause = "unknown"


class Queue(Struct, frozen=True):
    """One queue, or partition. `limit` is in seconds; None is what the scheduler does not say."""

    name: str
    state: str
    is_default: bool = False
    limit: int | None = None
    nodes: int | None = None
    free_nodes: int | None = None
    cpus: int | None = None
    free_cpus: int | None = None
    running: int | None = None
    waiting: int | None = None


class Node(Struct, frozen=True):
    """One node: what it has and what is free of it. Memory in bytes; `state` and `reason` in the scheduler's own words."""

    name: str
    state: str
    cpus: int
    free_cpus: int
    mem: int
    free_mem: int
    gpus: int | None = 0
    free_gpus: int = 0
    gpu_types: list[str] = []
    queues: list[str] = []
    reason: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it takes jobs now, by what its state says."""
        return not re.search(_OUT, self.state.lower())

    def serves(self, spec: JobSpec) -> bool:
        """Whether it is one of those that the job may go to."""
        return (not spec.queue or not self.queues or spec.queue in self.queues) and self.name not in spec.exclude

    def carries(self, spec: JobSpec) -> bool:
        """Whether it could carry a node's part of the job, were it free."""
        typed = not spec.gpu_type or not self.gpu_types or spec.gpu_type in self.gpu_types
        gpus = self.gpus is None or self.gpus >= spec.gpus
        return typed and gpus and self.cpus >= spec.tasks_per_node * spec.cpus and self.mem >= spec.mem

    def has_room(self, spec: JobSpec) -> bool:
        """Whether it could do so now."""
        room = self.free_cpus >= spec.tasks_per_node * spec.cpus and self.free_mem >= spec.mem and self.free_gpus >= spec.gpus
        return self.carries(spec) and room and (not spec.exclusive or self.free_cpus == self.cpus)


_OUT = r"down|drain|fail|off|unk|error|maint|disabled|stale|power|reserv"
"""What a node's state says that takes no jobs now."""


class Other(Struct, frozen=True):
    """A job of anybody's, as its scheduler shows it to all. `left`: seconds that it may still run, or may run once it starts; None if
    nobody says.

    Of what its scheduler does not say, 0 and "" stand for none.
    """

    id: str
    user: str
    is_running: bool
    nodes: int = 0
    cpus: int = 0
    gpus: int = 0
    left: int | None = None
    name: str = ""
    queue: str = ""


class Wait(Struct, frozen=True):
    """Why a job waits. `reason` is a sentence, `words` are the scheduler's own lines; `is_never`: it cannot start as it is.

    `at`: its scheduler's own estimate of its start, in milliseconds since 1970.
    """

    reason: str
    words: list[str] = []
    others: list[Other] = []
    is_never: bool = False
    at: int | None = None


class Dialect(Protocol):
    """A module that speaks one scheduler's language. Pure text but for `learn` and `placement`, which get their I/O handed in.

    Every function may be called at any time, by any process of the user, any number of times: none keeps state.
    """

    PROBE: list[str]
    """The command whose success says that this scheduler can be reached from here. Read by the agent when it starts."""

    STOPS: frozenset[int]
    """Signals by which the scheduler says that it will kill; the launcher turns them into TERM, time to save, and KILL."""

    GRACE: float
    """Seconds between such a signal and our own KILL: a bit less than it waits itself, so that the launcher can still say how it ended."""

    QUEUES: list[str]
    NODES: list[str]
    CROWD: list[str]
    """The commands whose answers `queues`, `nodes` and `crowd` read. Run where people ask, who need no agent for it."""

    def learn(self, run: Callable[[Sequence[str]], Answer]) -> dict[str, str]:
        """What this site names as it likes and can be asked for, as `spec.site` has it; an empty name is one that it has not.

        Called by the agent once, before its first submission. What a profile says goes before it. Never raises.
        """

    def check(self, spec: JobSpec) -> None:
        """Raise Invalid, naming the flag and the cure, if this scheduler cannot express `spec`; nothing is left out silently.

        Called before a job is recorded and again before it is submitted; so `script` and `submit` may rely on it. Dependencies,
        arrays and restarts are no concern of a dialect: every job that it is handed may start at once.
        """

    def script(self, job: Job, folder: str, python: str) -> str:
        """The whole script of one try. It starts `{python} -m noria.jobs.launch {folder} {try}` exactly once on each node, and where
        `alone(spec)` on the first alone.

        `folder` and `python` are absolute paths on the shared file system; Invalid if a directive cannot hold such a path.
        The scheduler's own log goes to {folder}/logs/scheduler.log; the caller makes logs/ first, because no scheduler does.
        The script carries no values of the job's environment, which the launcher reads from {folder}/env.json.
        """

    def submit(self, script: str, job: Job) -> list[str]:
        """The command that submits `script`, an absolute path in the job's folder. Run by the agent as the job's user.

        A submission may be repeated only after the answer was read as Unavailable and no open job has this job's tag:
        the scheduler may have taken the job and lost the answer.
        """

    def submitted(self, answer: Answer) -> str:
        """The scheduler's id of the job, as `states` and `finals` will name it.

        Unavailable: not now, or nobody knows; look for the tag, then try again. Invalid: refused; do not try again.
        Both carry the scheduler's own words.
        """

    def query(self, user: str) -> list[str]:
        """One command for all open jobs of this user. Run by one watcher per user every few seconds, whatever the number of jobs."""

    def states(self, answer: Answer) -> dict[str, Seen]:
        """The jobs in the queue, by id; the answer may hold jobs that are not Noria's. Raises Unavailable if it cannot be used.

        A missing id is not an ended job: the queue may not show it yet or no longer. Ask `final`, and look in the folder first.
        """

    def final(self, ids: Sequence[str]) -> list[str] | None:
        """One command for how jobs ended that left the queue; None if this scheduler keeps no accounts. `ids` is not empty."""

    def finals(self, answer: Answer) -> dict[str, Seen]:
        """The jobs that ended, by id; never raises. A missing id is unknown: accounting lags, is off, or lost the job.

        The caller asks again for a grace period and then relies on the folder. Ids that were not asked for may be there.
        """

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """The command that ends these jobs. May be repeated; its exit code says nothing, since ended jobs may count as errors.

        Schedulers tell a cancelled job from a killed one badly, so the caller remembers what it cancelled.
        """

    def hold(self, ids: Sequence[str]) -> list[str]:
        """The command that keeps these waiting jobs from starting. May be repeated; it may come too late, and then fails."""

    def release(self, ids: Sequence[str]) -> list[str]:
        """The command that lets these jobs start again. May be repeated."""

    def inquiry(self, id: str, user: str) -> list[list[str]]:
        """The commands by which this scheduler says why a job of this user waits. Run for a person who asks, seldom."""

    def wait(self, id: str, answers: Sequence[Answer]) -> Wait:
        """What they answered, in their order; never raises. Each but the first may have failed: then less is known."""

    def queues(self, answer: Answer) -> list[Queue]:
        """The queues, as `QUEUES` answered. Raises Unavailable if it cannot be used."""

    def nodes(self, answer: Answer) -> list[Node]:
        """The nodes, as `NODES` answered. Raises Unavailable if it cannot be used."""

    def crowd(self, answer: Answer) -> list[Other]:
        """All jobs that run, and those that wait in their order, as `CROWD` answered; [] if it cannot be used."""

    def placement(self, env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
        """Where this launcher runs. Called once, on the node, by the launcher with its own environment.

        `read` returns a file's text and `run` runs a command; both only when the environment does not say enough.
        Unavailable if the scheduler does not say.
        """


SCHEDULERS: Kind[Dialect] = Kind("noria.jobs.schedulers")
