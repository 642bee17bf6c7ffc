"""A job has ended: `{job_ended = "train-*", state = "FAILED"}`; `*` is any name."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.automation.triggers import could, meant, plain, said
from noria.errors import Invalid
from noria.types import ENDED
from noria.wire.rules import Event

FIELDS = ("name", "job_id", "state", "exit_code", "reason", "user", "run_id", "experiment")


class When(Struct, frozen=True, forbid_unknown_fields=True):
    """state: how it ended, one or several; [] is any."""

    job_ended: str
    state: str | list[str] = []
    experiment: str = ""
    user: str = ""

    @property
    def states(self) -> list[str]:
        return [self.state] if isinstance(self.state, str) else self.state


def check(when: When) -> None:
    for each in when.states:
        if each not in ENDED:
            raise Invalid(f"No job ends as '{each[:40]}'.", f"It is one of: {', '.join(sorted(ENDED))}.")


def listens(when: When) -> tuple[str, bytes] | None:
    return plain(when.job_ended), b""


def matches(when: When, event: Event) -> bool:
    subject = event.subject
    names = (("job_ended", "name"), ("experiment", "experiment"), ("user", "user"))
    fits = all(meant(getattr(when, ours), subject.get(theirs, "")) for ours, theirs in names)
    return fits and (not when.states or subject["state"] in when.states)


def may(when: When, subject: Mapping[str, str]) -> bool:
    names = could(when.job_ended, subject.get("name")) and could(when.experiment, subject.get("experiment"))
    return names and (not when.states or subject.get("state", when.states[0]) in when.states)


def says(when: When) -> dict[str, str]:
    return said(name=when.job_ended, experiment=when.experiment)
