"""Jobs: submitted by a person, claimed and reported by an agent."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from noria.types import Job, JobSpec, JobState, Try
from noria.wire.endpoint import OWN, Endpoint


class Submit(Struct, frozen=True):
    """A job, or an array of jobs: `members` are their numbers, and `task` the variable by which each finds its own.

    key: a user's second submission with the same one submits nothing, and has the first one's answer, whatever else it asks for. At most
    255 characters; "" is none. tags, params: of its run, besides what every job's run has.
    """

    spec: JobSpec
    user: str
    members: list[int] = []
    task: str = "NORIA_TASK_ID"
    key: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}


class Submitted(Struct, frozen=True):
    """The job, or the first one of the array. known: it was there already, by the submission's key."""

    job: Job
    known: bool = False


class Key(Struct, frozen=True):
    """A job: the beginning of its id. A member of an array: the same of the array's id, an underscore and its number."""

    id: str


class Got(Struct, frozen=True):
    job: Job


class List(Struct, frozen=True):
    """`id`: this job alone, or the members of this array."""

    open: bool = False
    limit: int = 1000
    id: str = ""


class Listed(Struct, frozen=True):
    jobs: list[Job]


class Tries(Struct, frozen=True):
    """Of one job, in their order."""

    tries: list[Try]


class Cancel(Struct, frozen=True):
    """Like the other verbs, for a job or for all members of an array that have not ended."""

    id: str
    reason: str = ""


class Drill(Struct, frozen=True):
    """A job that runs, and the trouble to fake for it: preempt, timeout, node-failure, hang or oom."""

    id: str
    kind: str


class Claim(Struct, frozen=True):
    """An agent asks for the work of one user: `takes` are the schedulers that it can reach, or the name of its own cluster. One
    without a name gets no new jobs."""

    user: str
    takes: list[str]
    agent: str
    all_open: bool = False


class Work(Struct, frozen=True):
    """New jobs for the agent to submit, the ids among its open ones that people want cancelled, held, released and requeued, and, if
    it asks, all open ones. `drill` are troubles to fake, by job. A verb is repeated until the agent reports it as done, or the job's end."""

    claimed: list[Job]
    cancel: list[str]
    open: list[Job] = []
    hold: list[str] = []
    release: list[str] = []
    requeue: list[str] = []
    drill: dict[str, str] = {}


class Report(Struct, frozen=True):
    """What an agent saw; the answer is what the job is now. Fields that are UNSET did not change; `started` is of the try `tries`, `done` is the verb that it carried out, `tried` are tries that are
    over now, and `again` that it is to be
    submitted anew. A job that has ended is never opened again; one that is to be requeued has not ended when its try did."""

    id: str
    state: JobState
    folder: str | UnsetType = UNSET
    scheduler_id: str | UnsetType = UNSET
    started: int | UnsetType = UNSET
    ended: int | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    tries: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    done: str | UnsetType = UNSET
    tried: list[Try] = []
    again: bool = False


SUBMIT = Endpoint("POST", f"{OWN}/jobs", Submit, Submitted)
LIST = Endpoint("GET", f"{OWN}/jobs", List, Listed)
GET = Endpoint("GET", f"{OWN}/jobs/{{id}}", Key, Got)
CANCEL = Endpoint("POST", f"{OWN}/jobs/{{id}}/cancel", Cancel, Listed)
HOLD = Endpoint("POST", f"{OWN}/jobs/{{id}}/hold", Key, Listed)
RELEASE = Endpoint("POST", f"{OWN}/jobs/{{id}}/release", Key, Listed)
REQUEUE = Endpoint("POST", f"{OWN}/jobs/{{id}}/requeue", Key, Listed)
DRILL = Endpoint("POST", f"{OWN}/jobs/{{id}}/drill", Drill, Listed)
TRIES = Endpoint("GET", f"{OWN}/jobs/{{id}}/tries", Key, Tries)
CLAIM = Endpoint("POST", f"{OWN}/agent/claim", Claim, Work)
REPORT = Endpoint("POST", f"{OWN}/agent/report", Report, Got)
