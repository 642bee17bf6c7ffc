"""What a rule would have done: the same judgement as at work, on events of the past, with nothing done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from noria.automation import fields, rules
from noria.errors import Invalid
from noria.wire.rules import Event, Rule, Would, pace, span

MOST = 20_000
"""Times of a schedule that are looked at."""


def scheduled(rule: Rule, since: int, until: int) -> tuple[list[Event], bool]:
    """The times of a rule's schedule after one time and up to another, as its events, and whether there are more."""
    schedule = rules.schedule_of(rule)
    times = schedule.between(since, until, MOST + 1) if schedule else []
    said = [Event(f"schedule/{rule.name}/{time}", "schedule", time, rules.at_hand(rule, time)) for time in times[:MOST]]
    return said, len(times) > MOST


def rehearse(rule: Rule, events: Sequence[Event]) -> list[Would]:
    """Those of some events, in order of their times, that the rule waits for: when each would have started, and with which steps."""
    most, within = pace(rule.rate)
    starts: deque[int] = deque(maxlen=most or 1)
    told: dict[str, int] = {}
    found: list[Would] = []
    for event in events:
        same = rules.judge(rule, event)
        if same is None:
            continue
        if same and event.time - told.get(same, -(1 << 62)) < span(rule.dedupe_within):
            found.append(Would(event, 0, [], f"Skipped: the same as one before, '{same[:200]}'."))
            continue
        told[same] = event.time
        start = max(event.time, starts[0] + within if most and len(starts) == most else 0, starts[-1] if starts else 0)
        starts.append(start)
        note = f"Held back by its rate of {rule.rate}." if start > event.time else ""
        found.append(Would(event, start, _steps(rule, event), note))
    return found


def _steps(rule: Rule, event: Event) -> list[dict[str, Any]]:
    """Steps with what is known of the event filled in; what earlier steps would have answered stays a field."""
    context = fields.known(event, rule=rule.name)
    return [{name: _known(value, context) for name, value in step.items()} for step in rule.then]


def _known(value: Any, context: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _known(part, context) for name, part in value.items()}
    if isinstance(value, list):
        return [_known(part, context) for part in value]
    for path in dict.fromkeys(fields.paths(value)):
        if path.partition(".")[0] in ("event", "rule"):
            try:
                said = fields.fill(f"{{{path}}}", context)
            except Invalid:
                said = f"{{{path}: not there}}"
            value = (
                said if value == f"{{{path}}}" else value.replace(f"{{{path}}}", str(said)) if isinstance(value, str) else value
            )
    return value
