"""A shelf: one file is one action, and its name is what a step of a rule says: `{run = "…"}` is `run.py`.

What follows is the contract of `act`, which an engine calls for a step of a firing:
- It is given a key that is the same each time this step of this firing is tried, by whichever engine, and that no other step has. An engine
  may die between the deed and its report, so a deed is done by this key: done before, it is not done again.
- It answers `done` with a result, which later steps may name (`{steps.0.run_id}`). `waiting` says that it is under way elsewhere: it
  is asked again later, with what it said last in `ask.result`, so it should begin something and come back, not wait for it. `stopped` ends the
  chain here on purpose, with the note as its record.
- It raises a NoriaError where it fails. One that may pass (`Unavailable`, or anything else with a status of 500 or more but `Unsupported`) is
  tried again as the rule says; any other ends the firing with its message as the record.
- `check` is asked when a rule is added: settings that can never work raise Invalid, in a sentence. Texts may hold fields (`{event.name}`).
- `causes` names the kinds of events that the deed may lead to, with what is known of their subject; an action without it leads to none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from noria.client.http import Server
from noria.plugins import Kind
from noria.wire.rules import Event


class Act(Struct, frozen=True):
    """A step to do. client: the server. settings: the step's, with the fields in its texts filled in; the one that the action is named after
    is among them. before: the results of the steps before this one, in order. result: what it said itself when it last answered
    `waiting`, {} if it has not. failed: what went wrong, in a step of `otherwise`. rule, firing: whose step it is."""

    client: Server
    key: str
    event: Event
    settings: dict[str, Any]
    before: Sequence[dict[str, Any]] = ()
    result: dict[str, Any] = {}
    failed: str = ""
    rule: str = ""
    firing: str = ""

    @property
    def cause(self) -> list[str]:
        """What an event that this step posts says of where it comes from."""
        return [*self.event.cause, f"{self.rule}/{self.firing}"]


class Acted(Struct, frozen=True):
    """result: plain JSON. note: one sentence for the history."""

    state: Literal["done", "waiting", "stopped"] = "done"
    result: dict[str, Any] = {}
    note: str = ""


class Causes(Struct, frozen=True):
    """An event that a step may lead to: its kind, and of its subject what the settings say ("" or missing: any)."""

    kind: str
    subject: Mapping[str, str] = {}


class Action(Protocol):
    """SETTINGS: the names that a step of it may have besides its own. An action may also have `check(settings)`, which raises Invalid, and
    `causes(settings) -> list[Causes]`; see above."""

    SETTINGS: Sequence[str]

    def act(self, ask: Act) -> Acted: ...


ACTIONS: Kind[Action] = Kind("noria.automation.actions")
