"""A registered model has a new version, or one that has come to a stage or an alias: `{model_version = "digits", stage = "Staging"}`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.automation.triggers import could, meant, plain, said
from noria.errors import Invalid
from noria.types import STAGES
from noria.wire.rules import Event

FIELDS = ("name", "version", "action", "stage", "before", "alias", "user", "reason", "run_id")


class When(Struct, frozen=True, forbid_unknown_fields=True):
    """stage: that it has come to; alias: that stands for it now. With neither, a version that is new."""

    model_version: str
    stage: str = ""
    alias: str = ""


def check(when: When) -> None:
    if when.stage and when.stage not in STAGES:
        raise Invalid(f"There is no stage '{when.stage[:40]}'.", f"There are: {', '.join(STAGES)}.")
    if when.stage and when.alias:
        raise Invalid("A version comes to a stage or to an alias, and not to both at once.", "Write two rules.")


def listens(when: When) -> tuple[str, bytes] | None:
    return plain(when.model_version), b""


def matches(when: When, event: Event) -> bool:
    return meant(when.model_version, event.subject["name"]) and _there(when, event.subject)


def _there(when: When, subject: Mapping[str, str]) -> bool:
    if when.alias:
        return meant(when.alias, subject.get("alias") or "")
    if when.stage:
        return subject.get("stage") == when.stage
    return subject.get("action") == "created"


def may(when: When, subject: Mapping[str, str]) -> bool:
    """An event of which neither stage nor alias is known is taken for a new version."""
    known = {"action": "created", **subject} if not (subject.get("stage") or subject.get("alias")) else subject
    return could(when.model_version, subject.get("name")) and _there(when, known)


def says(when: When) -> dict[str, str]:
    return said(name=when.model_version, stage=when.stage, alias=when.alias)
