"""Rules: when something happens, do this. What happened is an event, and an event that a rule waits for is a firing of that rule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from noria.types import Name
from noria.wire.endpoint import OWN, Empty, Endpoint  # noqa: F401

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
