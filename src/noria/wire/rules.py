"""Rules: when something happens, do this. What happened is an event, and an event that a rule waits for is a firing of that rule."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from noria.errors import Invalid
from noria.types import Name
from noria.wire.endpoint import OWN, Empty, Endpoint

Kind = Literal["schedule", "dataset", "model_version", "metric", "drift", "job_ended", "manual"]
Missed = Literal["once", "all", "skip"]
FiringState = Literal["waiting", "running", "done", "failed", "stopped", "skipped"]
OPEN: tuple[FiringState, ...] = ("waiting", "running")
StepState = Literal["done", "waiting", "stopped", "again", "failed"]
"""Of one step, once: it did its work; is under way, ask again later; ends the chain on purpose; is to be tried again; has failed."""
DEEPEST = 8
"""So many firings may follow from one another. What would be one more is stopped: the rules that it went through fire each other."""


class Event(Struct, frozen=True):
    """Something that happened. id: the same for the same happening, whoever tells of it. time: milliseconds since 1970. subject: what there
    is to know of it, as texts and numbers, which steps may name: `{event.name}`. cause: the firings that led to it, the first one first,
    as `RULE/FIRING`; none if a person or the world did it."""

    id: str
    kind: Kind
    time: int
    subject: dict[str, Any] = {}
    cause: list[str] = []


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """A step whose failure may pass is tried so many times again, after `wait`, then twice that, and so on up to `most`."""

    times: Annotated[int, Meta(ge=0, le=100)] = 3
    wait: str = "30s"
    most: str = "1h"


class Rule(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a person writes. when: one trigger, by its name: `{"schedule": "0 3 * * *", "zone": "Europe/Berlin"}`. then: steps in order, each
    one action by its name: `{"run": "…"}`. otherwise: steps if one of those fails or stops. rate: how many firings may start within how
    long: `10/m`; "" is no limit. at_once: how many firings may be under way. missed: what becomes of scheduled times that nobody was up
    for. dedupe: a text with fields of the event; of those that are equal within `dedupe_within`, the first alone fires."""

    name: Name
    when: dict[str, Any]
    then: list[dict[str, Any]]
    otherwise: list[dict[str, Any]] = []
    description: str = ""
    retry: Retry = Retry()
    rate: str = ""
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 1
    missed: Missed = "once"
    dedupe: str = ""
    dedupe_within: str = "1d"


class Firing(Struct, frozen=True):
    """One event and one rule. id: of it alone, anywhere. step: which of `steps` is under way or was the last. steps: the results so far, in
    order. note: why it ended as it did, or what it waits for. tries: of the step that is under way. due: when something is to be done
    about it. skipped: how many scheduled times this one stands for besides its own."""

    id: str
    rule: str
    event: Event
    state: FiringState
    created: int
    started: int = 0
    ended: int = 0
    due: int = 0
    phase: Literal["then", "otherwise"] = "then"
    step: int = 0
    tries: int = 0
    steps: list[dict[str, Any]] = []
    note: str = ""
    result: dict[str, Any] = {}
    skipped: int = 0


class Line(Struct, frozen=True, omit_defaults=True):
    """What happened at a step. tries: which try it was. seconds: how long it took."""

    time: int
    state: StepState
    phase: Literal["then", "otherwise"] = "then"
    step: int = 0
    tries: int = 0
    note: str = ""
    result: dict[str, Any] = {}
    engine: str = ""
    seconds: float = 0.0


class Kept(Struct, frozen=True):
    """A rule as the server has it. upcoming: the next times of its schedule. counts: its firings by state. last: the one that began last.
    Times in milliseconds since 1970."""

    rule: Rule
    state: Literal["active", "paused"]
    user: str
    created: int
    changed: int
    upcoming: list[int] = []
    counts: dict[str, int] = {}
    last: Firing | None = None


class Add(Struct, frozen=True):
    """All of them, or none. replace: a rule of that name may be there, and keeps its history."""

    rules: list[Rule]
    replace: bool = False


class Got(Struct, frozen=True):
    rule: Kept


class Key(Struct, frozen=True):
    name: Name


class List(Struct, frozen=True):
    pass


class Listed(Struct, frozen=True):
    rules: list[Kept]


class Pause(Struct, frozen=True):
    """A paused rule hears nothing and starts nothing; what it has begun goes on."""

    name: Name
    paused: bool = True


class Fire(Struct, frozen=True):
    """Have a rule fire, whatever it waits for. subject: what the event says."""

    name: Name
    subject: dict[str, Any] = {}


class Fired(Struct, frozen=True):
    firing: Firing


class Posted(Struct, frozen=True):
    """Something that somebody's own monitor has seen: a drift, or a data set that no run has read yet, whose subject has its `digest`. name:
    of what drifts, or of the data set. id: the same for the same happening, so that what is sent twice is there once; "" makes one. time:
    0 is now."""

    name: Name
    kind: Literal["drift", "dataset"] = "drift"
    id: str = ""
    time: int = 0
    subject: dict[str, Any] = {}
    cause: list[str] = []


class Post(Struct, frozen=True):
    events: list[Posted]


class Ids(Struct, frozen=True):
    """Of what was posted, in that order."""

    ids: list[str]


class History(Struct, frozen=True):
    """Firings, the newest first. name: of one rule, "" for all."""

    name: str = ""
    state: str = ""
    max_results: int = 100
    page_token: str = ""


class Firings(Struct, frozen=True):
    firings: list[Firing]
    next_page_token: str = ""


class One(Struct, frozen=True):
    """id: a firing's, or how it begins."""

    id: Name


class Told(Struct, frozen=True):
    firing: Firing
    lines: list[Line]


class Test(Struct, frozen=True):
    """What a rule would have done between two times, in milliseconds since 1970; until 0 is now."""

    rule: Rule
    since: int
    until: int = 0


class Would(Struct, frozen=True):
    """One event of the past. starts: when its firing would have started, as `rate` has it; 0 if not at all, with the reason as note."""

    event: Event
    starts: int
    steps: list[dict[str, Any]]
    note: str = ""


class Tested(Struct, frozen=True):
    """looked: how many events of that kind there were. cut: there were more than are looked at."""

    would: list[Would]
    looked: int
    cut: bool = False


class Work(Struct, frozen=True):
    """A step to do. turn: to be said with what became of it. lease: milliseconds after which another engine may take it, unless this one
    renews it."""

    firing: Firing
    rule: Rule
    turn: int
    key: str
    lease: int


class Claim(Struct, frozen=True):
    """An engine asks for work. room: how many steps it can take."""

    engine: Name
    room: Annotated[int, Meta(ge=0, le=1000)] = 1


class Claimed(Struct, frozen=True):
    """again: milliseconds after which there may be more, if nobody wakes the engine before."""

    work: list[Work]
    again: int


class Report(Struct, frozen=True):
    """What became of a step, by its key. wait: milliseconds after which to ask again for one that waits; 0 leaves it to the server. room: whether the
    engine would go on with this rule at once."""

    engine: Name
    id: Name
    turn: int
    key: Name
    state: StepState
    result: dict[str, Any] = {}
    note: str = ""
    wait: int = 0
    seconds: float = 0.0
    room: bool = True


class Lease(Struct, frozen=True):
    id: Name
    turn: int


class Renew(Struct, frozen=True):
    """An engine still works on these."""

    leases: list[Lease]


class Renewed(Struct, frozen=True):
    """lost: what others have taken meanwhile, or nobody has any more."""

    lost: list[str]


_SPAN = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span(text: str, what: str = "time") -> int:
    """`90s`, `30m`, `2h`, `1d`, `1h30m` in milliseconds. Raises Invalid."""
    parts = re.findall(r"(\d+)(ms|min|[smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f"'{text[:40]}' is no {what}.", "Write 90s, 30m, 2h or 1d12h.")
    return sum(int(number) * _SPAN[unit] for number, unit in parts)


def pace(text: str) -> tuple[int, int]:
    """`10/m`, `1/30s` as how many within how many milliseconds; (0, 0) for "". Raises Invalid."""
    if not text:
        return 0, 0
    count, slash, per = text.partition("/")
    if not slash or not count.strip().isdigit() or not int(count):
        raise Invalid(f"'{text[:40]}' is no rate.", "Write 10/m for ten a minute, or 1/30s for one in thirty seconds.")
    per = per.strip()
    return int(count), span(per if per[:1].isdigit() else f"1{per}", "rate")


ADD = Endpoint("POST", f"{OWN}/rules", Add, Listed)
LIST = Endpoint("GET", f"{OWN}/rules", List, Listed)
GET = Endpoint("GET", f"{OWN}/rules/get", Key, Got)
REMOVE = Endpoint("POST", f"{OWN}/rules/remove", Key, Empty)
PAUSE = Endpoint("POST", f"{OWN}/rules/pause", Pause, Got)
FIRE = Endpoint("POST", f"{OWN}/rules/fire", Fire, Fired)
TEST = Endpoint("POST", f"{OWN}/rules/test", Test, Tested)
HISTORY = Endpoint("GET", f"{OWN}/rules/firings", History, Firings)
FIRING = Endpoint("GET", f"{OWN}/rules/firing", One, Told)
POST = Endpoint("POST", f"{OWN}/events", Post, Ids)
CLAIM = Endpoint("POST", f"{OWN}/rules/claim", Claim, Claimed)
REPORT = Endpoint("POST", f"{OWN}/rules/report", Report, Claimed)
RENEW = Endpoint("POST", f"{OWN}/rules/renew", Renew, Renewed)
