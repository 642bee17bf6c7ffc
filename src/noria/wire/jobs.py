"""Jobs: submitted by a person, claimed and reported by an agent."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from noria.types import Job, JobSpec, JobState
from noria.wire.endpoint import OWN, Empty, Endpoint


class Submit(Struct, frozen=True):
    spec: JobSpec
    user: str


class Key(Struct, frozen=True):
    id: str


class Got(Struct, frozen=True):
    job: Job


class List(Struct, frozen=True):
    open: bool = False
    limit: int = 1000


class Listed(Struct, frozen=True):
    jobs: list[Job]


class Cancel(Struct, frozen=True):
    id: str
    reason: str = ""


class Claim(Struct, frozen=True):
    """An agent asks for the work of one Unix user on the schedulers that it can reach. One without a name gets no new jobs."""

    user: str
    schedulers: list[str]
    agent: str
    all_open: bool = False


class Work(Struct, frozen=True):
    """New jobs for the agent to submit, the ids among its open ones that people want cancelled, and, if it asks, all open ones."""

    claimed: list[Job]
    cancel: list[str]
    open: list[Job] = []


class Report(Struct, frozen=True):
    """What an agent saw. Fields that are UNSET did not change. A job that has ended is never opened again."""

    id: str
    state: JobState
    folder: str | UnsetType = UNSET
    scheduler_id: str | UnsetType = UNSET
    started: int | UnsetType = UNSET
    ended: int | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    tries: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


SUBMIT = Endpoint("POST", f"{OWN}/jobs", Submit, Got)
LIST = Endpoint("GET", f"{OWN}/jobs", List, Listed)
GET = Endpoint("GET", f"{OWN}/jobs/{{id}}", Key, Got)
CANCEL = Endpoint("POST", f"{OWN}/jobs/{{id}}/cancel", Cancel, Got)
CLAIM = Endpoint("POST", f"{OWN}/agent/claim", Claim, Work)
REPORT = Endpoint("POST", f"{OWN}/agent/report", Report, Empty)
