"""A data set has content that no run read before by its name, or that somebody told the server of: `{dataset = "digits"}`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.automation.triggers import could, meant, plain, said
from noria.wire.rules import Event

FIELDS = ("name", "digest", "source", "run_id", "run_name", "experiment")


class When(Struct, frozen=True, forbid_unknown_fields=True):
    """experiment: read by a run of it. In both, `*` stands for any part of a name."""

    dataset: str
    experiment: str = ""


def listens(when: When) -> tuple[str, bytes] | None:
    return plain(when.dataset), b""


def matches(when: When, event: Event) -> bool:
    subject = event.subject
    return meant(when.dataset, subject["name"]) and meant(when.experiment, subject.get("experiment", ""))


def may(when: When, subject: Mapping[str, str]) -> bool:
    return could(when.dataset, subject.get("name")) and could(when.experiment, subject.get("experiment"))


def says(when: When) -> dict[str, str]:
    return said(name=when.dataset, experiment=when.experiment)
