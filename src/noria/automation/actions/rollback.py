"""Put the version back that stood in a stage before; endpoints that serve the stage follow.

    {rollback = "digits"}
    {rollback = "digits", stage = "Staging", reason = "drift of {event.name}"}

Gives model, version (which stands there now) and archived. Where no version stood before, the step fails.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.automation import steps
from noria.automation.actions import Act, Acted, Causes
from noria.errors import Invalid
from noria.process import whoami
from noria.wire import registry
from noria.wire.stages import stage_of


class Settings(Struct, frozen=True, kw_only=True):
    rollback: str
    stage: str = "Production"
    reason: str = ""


SETTINGS = steps.names(Settings, "rollback")


def check(settings: dict[str, Any]) -> None:
    wanted = steps.check(Settings, settings, "rollback")
    if steps.is_filled(wanted.stage) and stage_of(wanted.stage) not in ("Production", "Staging"):
        raise Invalid(
            f"The step 'rollback': {wanted.stage} is no stage that a version stands in alone.", "Write Production or Staging."
        )


def causes(settings: dict[str, Any]) -> list[Causes]:
    return [Causes("model_version", {"name": str(settings["rollback"]), "stage": str(settings.get("stage", "Production"))})]


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "rollback")
    asked = registry.History(wanted.rollback, "", "rolled_back", 100)
    for change in ask.client.call(registry.HISTORY, asked).changes:
        if change.evidence.get("key") == ask.key:  # Done before the engine died: once more would lead one version further back.
            return _said(change.name, change.version, change.after, [str(change.evidence.get("from", ""))])
    why = f"{wanted.reason} (rule {ask.rule})".strip() if ask.rule else wanted.reason
    request = registry.Rollback(wanted.rollback, stage_of(wanted.stage), whoami(), why, {"key": ask.key})
    done = ask.client.call(registry.ROLLBACK, request)
    return _said(wanted.rollback, done.model_version.version, done.model_version.current_stage, done.archived)


def _said(model: str, version: str, stage: str, archived: list[str]) -> Acted:
    gone = [each for each in archived if each]
    instead = f" instead of {', '.join(gone)}" if gone else ""
    return Acted(
        "done", {"model": model, "version": version, "archived": gone}, f"{model} {version} is in {stage} again{instead}."
    )
