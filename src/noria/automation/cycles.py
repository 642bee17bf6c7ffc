"""Rules that would fire each other for ever, as far as it can be seen from what they say.

What a step may lead to is what its action says (`causes`); what a trigger waits for is what its settings say. A name that is only known when
it happens, such as `{event.name}`, is what the trigger of its rule says of it. Where that says nothing, nothing can be seen here: events carry
what led to them, and a cycle is stopped when it closes (see store/settling.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from noria.automation import fields, settings
from noria.automation.actions import ACTIONS, Causes
from noria.automation.triggers import TRIGGERS, said
from noria.errors import Invalid
from noria.wire.rules import Rule

_UNKNOWN = "\0"


def refuse(rule: Rule, others: Sequence[Rule]) -> None:
    """Raises Invalid if this rule would fire itself, at once or by way of others."""
    rules = [rule, *others]
    way = _way(rule, rules)
    if way:
        names = " → ".join([*(each.name for each in way), rule.name])
        raise Invalid(f"Rule '{rule.name}' would fire itself for ever: {names}.",
                      "Have one of them wait for something narrower, or do something else.")  # fmt: skip


def _way(start: Rule, rules: Sequence[Rule]) -> list[Rule]:
    """The rules from this one back to itself, by as few steps as there are; [] if there is no such way."""
    came: dict[str, list[Rule]] = {}
    at = [[start]]
    for way in at:  # It grows: the next rules are put behind.
        for follower in rules:
            if not _fires(way[-1], follower):
                continue
            if follower.name == start.name:
                return way
            if follower.name not in came:
                came[follower.name] = [*way, follower]
                at.append(came[follower.name])
    return []


def _fires(rule: Rule, follower: Rule) -> bool:
    if not any(name in follower.when for name in TRIGGERS.own()):
        return False
    name, trigger = settings.one(TRIGGERS, follower.when, "", "trigger")
    when = msgspec.convert(follower.when, trigger.When)
    return any(each.kind == name and trigger.may(when, each.subject) for step in [*rule.then, *rule.otherwise] for each in _causes(rule, step))  # fmt: skip


def _causes(rule: Rule, step: Mapping[str, Any]) -> list[Causes]:
    _, action = settings.one(ACTIONS, step, "", "action")
    if not hasattr(action, "causes"):
        return []
    _, trigger = settings.one(TRIGGERS, rule.when, "", "trigger")
    context = {"event": said(**trigger.says(msgspec.convert(rule.when, trigger.When))), "rule": rule.name}
    found: list[Causes] = action.causes(fields.fill(step, context, missing=_UNKNOWN))
    return [each for each in found if not any(_UNKNOWN in value for value in each.subject.values())]
