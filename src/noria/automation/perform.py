"""One step of a firing: its texts filled in, its action asked, and what came of it as a report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from noria.automation import fields, settings
from noria.automation.actions import ACTIONS, Act, Acted
from noria.client.http import Server
from noria.errors import NoriaError, Unsupported
from noria.wire.rules import Report, StepState, Work


def perform(work: Work, client: Server, engine: str) -> Report:
    """Never raises for what a step does: that is its record."""
    begun = time.monotonic()
    state: StepState
    acted = Acted()
    try:
        acted = _act(work, client)
        state, note = acted.state, acted.note
    except NoriaError as error:
        state, note = "again" if passes(error) else "failed", error.message
    except OSError as error:  # A disk or a network in trouble, seen past our own sentences.
        state, note = "again", f"{type(error).__name__}: {error}"
    except Exception as error:  # A defect of an action, which may be somebody else's, ends its firing and not the engine.
        state, note = "failed", f"The action broke: {type(error).__name__}: {error}"
    seconds = round(time.monotonic() - begun, 3)
    return Report(engine, work.firing.id, work.turn, work.key, state, acted.result, note[:4000], seconds=seconds)


def passes(error: NoriaError) -> bool:
    """Whether the same may succeed later."""
    return (error.status >= 500 and not isinstance(error, Unsupported)) or error.status in (408, 429)


def _act(work: Work, client: Server) -> Acted:
    firing, rule = work.firing, work.rule
    step = _steps(work)[firing.step]
    _, action = settings.one(ACTIONS, step, f"Step {firing.step + 1}", "action")
    failed = firing.note if firing.phase == "otherwise" else ""
    context = fields.known(firing.event, steps=firing.steps, rule=rule.name, firing=firing.id, failed=failed)
    filled = fields.fill(step, context)
    client.cause = [*firing.event.cause, f"{rule.name}/{firing.id}"]
    try:
        return action.act(Act(client, work.key, firing.event, filled, firing.steps, firing.result, failed, rule.name, firing.id))
    finally:
        client.cause = ()


def _steps(work: Work) -> list[Mapping[str, Any]]:
    return [*(work.rule.otherwise if work.firing.phase == "otherwise" else work.rule.then)]
