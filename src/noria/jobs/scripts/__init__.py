"""Job scripts that people have already, with directives for a scheduler: one file for each scheduler, named like its dialect.

At its own scheduler a script's directives become words of the submit command, as they are; for another one they are translated
into fields of a JobSpec. Pure text.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from noria.errors import Invalid
from noria.plugins import Kind

Table = Mapping[str, tuple[str, Callable[[str], Any]]]
"""By an option's name, the field of JobSpec, and what makes its value of the text: None where it cannot."""


class Option(Struct, frozen=True):
    """One option of a directive: as it is written, its name as the table of its scheduler has it, and its value."""

    words: list[str]
    name: str
    value: str = ""

    def refused(self, mark: str, why: str, cure: str) -> Invalid:
        return Invalid(f"{mark} {shlex.join(self.words)}: {why}.", cure)


class Script(Protocol):
    """A module that reads one scheduler's directives."""

    MARK: str
    """With what a line of directives begins."""

    KEPT_OUT: dict[str, str]
    """The options that its own scheduler is not told, and why they cannot be in a script here; empty: Noria says it itself."""

    NAME: str
    CWD: str
    ARRAY: frozenset[str]
    """The options for the job's name, its folder and its array, which Noria says itself."""

    TASK: str
    SUBMITTED_FROM: str
    """The variables by which a member of an array knows its number, and a job the folder that it was submitted from."""

    def options(self, words: Sequence[str]) -> list[Option]:
        """The options that the words of one line are, in order."""

    def array(self, options: Sequence[Option]) -> str:
        """The array as --array has it; "" if there is none."""

    def told(self, options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
        """What `theirs` leaves as fields of a JobSpec. `given` are the fields that the person has given by Noria's flags, which
        stand. Raises Invalid, naming the directive, for what has no such field."""


SCRIPTS: Kind[Script] = Kind("noria.jobs.scripts")


def owner(text: str) -> str:
    """The scheduler whose directives this text has; "" if it is no job script."""
    for name in SCRIPTS.own():
        if any(True for _ in _directives(text, SCRIPTS.get(name).MARK)):
            return name
    return ""


def read(text: str, name: str) -> list[Option]:
    """All options of a script of this scheduler's, in order."""
    script = SCRIPTS.get(name)
    return [option for words in _directives(text, script.MARK) for option in script.options(words)]


def _directives(text: str, mark: str) -> Iterator[list[str]]:
    """The words of each line of directives, up to the first command, where schedulers stop looking."""
    for line in text.splitlines():
        if re.match(re.escape(mark) + r"\s+\S", line):
            try:
                yield shlex.split(line[len(mark) :], comments=True)
            except ValueError as error:
                raise Invalid(f"{line.strip()}: {error}.", "Quote it as in a shell.") from None
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def kept(options: Sequence[Option], name: str) -> list[str]:
    """The words for the script's own scheduler. Raises Invalid for what cannot be in a script here."""
    return [word for option in theirs(options, SCRIPTS.get(name)) for word in option.words]


def translated(options: Sequence[Option], name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a JobSpec for another scheduler. Raises Invalid, naming the directive, for what cannot be translated."""
    script = SCRIPTS.get(name)
    return {**script.told(theirs(options, script), given), **given}


def theirs(options: Sequence[Option], script: Script) -> list[Option]:
    """The options without those that Noria says itself."""
    ours = {script.NAME, script.CWD, *script.ARRAY}
    for option in options:
        if script.KEPT_OUT.get(option.name):
            raise option.refused(script.MARK, script.KEPT_OUT[option.name], "Take it out of the script.")
    return [option for option in options if option.name not in script.KEPT_OUT and option.name not in ours]


def said(options: Sequence[Option], name: str) -> str:
    """The value of an option, "" if it is not there. The last one stands, as it does at the scheduler."""
    return next((option.value for option in reversed(options) if option.name == name), "")


def getopt(words: Sequence[str], short: Mapping[str, str], bare: frozenset[str]) -> list[Option]:
    """Options as sbatch and qsub of PBS read them: `--name=value`, `--name value`, `-n value` or `-nvalue`.

    short: the long name of each letter, if it has one. bare: the names that take no value, or one after `=` alone.
    """
    left, found = list(words), []
    while left:
        word = left.pop(0)
        name, given, value = word.partition("=") if word.startswith("--") else (short.get(word[:2], word[:2]), word[2:], word[2:])
        taken = [word]
        if not given and name not in bare and left and not (left[0].startswith("-") and not left[0][1:2].isdecimal()):
            value = left.pop(0)
            taken.append(value)
        found.append(Option(taken, name, value))
    return found


def fields(options: Sequence[Option], mark: str, table: Table, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Option]]:
    """The fields that options say by themselves, and the options that are left. Names of the site are not carried to another."""
    known: dict[str, Any] = {}
    left = []
    for option in options:
        field, make = table.get(option.name, ("", str))
        if not field:
            left.append(option)
        elif field not in given:
            if field in FLAGS_OF_NAMES:
                flag = FLAGS_OF_NAMES[field]
                raise option.refused(mark, "that is a name of its own cluster", f"Say {flag} NAME, or {flag} '' for none.")
            known[field] = make(option.value)
            if known[field] is None:
                raise option.refused(mark, "Noria cannot translate this value", "Say it with Noria's own flag.")
    return known, left


FLAGS_OF_NAMES = {
    "queue": "--queue", "account": "--account", "qos": "--qos", "constraint": "--constraint", "reservation": "--reservation",
}  # fmt: skip


def untold(option: Option, mark: str) -> Invalid:
    return option.refused(
        mark, "Noria cannot translate it for another scheduler", "Take it out, or say it with Noria's own flags."
    )


def whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def divided(option: Option, mark: str, total: int, by: int) -> int:
    """A total as so many for each."""
    if total % by:
        raise option.refused(mark, f"{total} do not divide among {by}", "Say it with Noria's own flags.")
    return total // by


def moment(text: str, *forms: str) -> int | None:
    """A local time as milliseconds since 1970; None if it has none of these forms."""
    for form in forms:
        try:
            return int(time.mktime(time.strptime(text, form))) * 1000
        except ValueError:
            continue
    return None
