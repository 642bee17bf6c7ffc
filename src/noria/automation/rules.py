"""What a rule means: every mistake in it is said in a sentence before it is kept, and what the store asks of rules is answered here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from noria.automation import cycles, fields, settings
from noria.automation.actions import ACTIONS
from noria.automation.schedule import Schedule, at, due, time_of
from noria.automation.triggers import TRIGGERS, Trigger
from noria.errors import Invalid, NoriaError
from noria.store.rules import Fresh, Want
from noria.store.settling import Time
from noria.wire.rules import Event, Rule, pace, span

_NAME = re.compile(r"[A-Za-z0-9][\w .-]{0,99}")
_MOST_STEPS = 100


def check(rule: Rule, others: Sequence[Rule], now: int) -> Fresh:
    """All that must be known to keep a rule. others: those that are there. Raises Invalid with what can never work, and for a cycle."""
    what = f"Rule '{rule.name[:80]}'"
    try:
        found = _check(rule, now)
    except Invalid as error:
        raise Invalid(error.message if error.message.startswith(what) else f"{what}: {error.message}") from None
    cycles.refuse(rule, [each for each in others if each.name != rule.name])
    return found


def _check(rule: Rule, now: int) -> Fresh:
    if not _NAME.fullmatch(rule.name):
        raise Invalid("Its name is no name.", "Use letters, digits, spaces, dots, dashes and underscores, 100 at most.")
    name, trigger, when = trigger_of(rule)
    if not rule.then:
        raise Invalid("It does nothing.", 'Give steps: then = [{note = "…"}].')
    if len(rule.then) + len(rule.otherwise) > _MOST_STEPS:
        raise Invalid(
            f"It has {len(rule.then) + len(rule.otherwise)} steps, and a rule may have {_MOST_STEPS}.", "Write two rules."
        )
    for number, step in enumerate(rule.then):
        _check_step(step, f"step {number + 1}", trigger, number)
    for number, step in enumerate(rule.otherwise):
        _check_step(step, f"step {number + 1} of otherwise", trigger, len(rule.then))
    pace(rule.rate)
    for text in (rule.retry.wait, rule.retry.most, rule.dedupe_within):
        span(text)
    fields.check(rule.dedupe, trigger.FIELDS, 0)
    listens = trigger.listens(when)
    return Fresh(rule, [Want(name, *listens)] if listens else [], first(rule, now))


def _check_step(step: Mapping[str, Any], what: str, trigger: Trigger, before: int) -> None:
    name, action = settings.one(ACTIONS, step, what.capitalize(), "action")
    names = [name, *action.SETTINGS]
    for each in step:
        if each not in names:
            raise settings.unknown(each, names, f"{what.capitalize()}, {name},", "setting")
    fields.check(step, trigger.FIELDS, before)
    if hasattr(action, "check"):
        action.check(step)


def trigger_of(rule: Rule) -> tuple[str, Trigger, Struct]:
    """A rule's trigger: its name, its file, and what the rule says to it. Raises Invalid."""
    name, trigger = settings.one(TRIGGERS, rule.when, "Its 'when'", "trigger")
    when = settings.struct(trigger.When, rule.when, f"Trigger {name}")
    if hasattr(trigger, "check"):
        trigger.check(when)
    return name, trigger, when


# What the store asks of rules.


def judge(rule: Rule, event: Event) -> str | None:
    """Whether a rule waits for this event: None if it does not, else the text by which the event is the same as others, "" for none."""
    if event.kind == "manual":
        return ""
    try:
        name, trigger, when = trigger_of(rule)
        if name != event.kind or not trigger.matches(when, event):
            return None
    except (
        NoriaError,
        KeyError,
    ):  # A trigger that has gone since, or an event that lacks what this one looks at: it is not meant.
        return None
    return str(fields.fill(rule.dedupe, fields.known(event, rule=rule.name), missing="")) if rule.dedupe else ""


def schedule_of(rule: Rule) -> Schedule | None:
    return at(str(rule.when["schedule"]), str(rule.when.get("zone", "UTC"))) if "schedule" in rule.when else None


def plan(rule: Rule, following: int, now: int) -> tuple[list[Time], int | None]:
    """See store/settling.Plan."""
    schedule = schedule_of(rule)
    return due(schedule, rule.missed, following, now) if schedule else ([], None)


def at_hand(rule: Rule, now: int) -> dict[str, Any]:
    """What the event of a rule that is fired by hand says of itself: for a schedule, as if it were time."""
    schedule = schedule_of(rule)
    return time_of(schedule, now, late=False).subject if schedule else {}


def first(rule: Rule, now: int) -> int | None:
    """The first time of a rule's schedule after now; None without one."""
    schedule = schedule_of(rule)
    return schedule.after(now) if schedule else None


def upcoming(rule: Rule, following: int, count: int = 3) -> list[int]:
    """The next times of a rule's schedule, from the first one on."""
    schedule = schedule_of(rule)
    return [following, *schedule.between(following, 1 << 62, count - 1)] if schedule else []
