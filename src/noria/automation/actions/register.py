"""Make a version of a registered model of what a run has kept.

    {register = "digits"}                                         the model of the run of the step before
    {register = "digits", run_id = "{event.run_id}", model = "best"}

run_id: the run; left out, it is that of the last step that gives one, or of the event. model: the name of its model, if it has kept several. tags: of the
version. What is a version of that name already, because the training registered it or this was done before, is taken as it is.

Gives model, version and run_id. A run that has kept no model fails the step.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.automation import steps
from noria.automation.actions import Act, Acted, Causes
from noria.automation.steps import Text
from noria.errors import Invalid
from noria.models.register import register


class Settings(Struct, frozen=True, kw_only=True):
    register: str
    run_id: str = ""
    model: str = ""
    tags: dict[str, Text] = {}


SETTINGS = steps.names(Settings, "register")


def check(settings: dict[str, Any]) -> None:
    steps.check(Settings, settings, "register")


def causes(settings: dict[str, Any]) -> list[Causes]:
    return [Causes("model_version", {"name": str(settings["register"]), "action": "created"})]


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "register")
    run_id = wanted.run_id or steps.before(ask, "run_id") or ask.event.subject.get("run_id", "")
    if not run_id:
        raise Invalid(f"No step before this one has a run whose model could be a version of {wanted.register}.",
                      'Put a step run before it, or write run_id = "…".')  # fmt: skip
    uri = f"runs:/{run_id}/{wanted.model}" if wanted.model else str(run_id)
    made = register(ask.client, uri, wanted.register, {**wanted.tags, **steps.tags(ask)}, once=True)
    result = {"model": made.name, "version": made.version, "run_id": made.run_id}
    return Acted("done", result, f"{made.name} {made.version} is the model of run {made.run_id[:8]}")
