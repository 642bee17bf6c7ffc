"""What actions share: their settings, what earlier steps found, and jobs that a step stands for."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from noria import units
from noria.automation import settings
from noria.automation.actions import Act
from noria.automation.evaluations import How
from noria.automation.measures import Task
from noria.errors import Conflict, Invalid, NoriaError
from noria.jobs import clusters
from noria.jobs.why import ended
from noria.models.fetch import resolve
from noria.projects.asks import asked
from noria.types import Job, JobSpec, ModelVersion
from noria.wire import jobs, registry

S = TypeVar("S", bound=Struct)
Text = str | int | float
"""A text that people like to write as a number, such as a version's, or that is one once its field is filled in."""
_FIELD = re.compile(r"\{[a-z]+(?:\.[\w-]+)*\}")


class Place(Struct, frozen=True, kw_only=True):
    """Where a step's jobs run, and what they ask for, in the words of `noria submit`: `on = "slurm"`, `gpus = "a100:2"`, `time = "2h"`.
    env: variables, by name."""

    on: str = ""
    nodes: int = 1
    tasks_per_node: int = 1
    gpus: Text = ""
    cpus: int = 1
    mem: str = ""
    time: str = ""
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False
    exclude: str = ""
    nice: int = 0
    priority: int = 0
    raw: list[str] = []
    env: dict[str, Text] = {}

    def flags(self) -> dict[str, Any]:
        """As `noria submit` is given them."""
        usual = Place()
        said = {name: getattr(self, name) for name in Place.__struct_fields__ if name != "on"}
        given = {name: value for name, value in said.items() if value != getattr(usual, name)}
        if self.gpus != "":
            given["gpus"] = str(self.gpus)
        return {**given, "env": [f"{name}={value}" for name, value in self.env.items()]}


class Measured(Place, frozen=True, kw_only=True):
    """How models are evaluated. task: classification or regression, if what `y` holds does not say it; allow_pickle: load models that may run
    code of their makers'."""

    task: Task | None = None
    seed: int = 0
    allow_pickle: bool = False

    def how(self) -> How:
        spec = asked([sys.executable], self.on or None, self.flags()).spec
        clusters.must_reach(spec)
        return How(lambda command: msgspec.structs.replace(spec, command=command), task=self.task, seed=self.seed,
                   allow_pickle=self.allow_pickle)  # fmt: skip


def names(kind: type[Struct], action: str) -> tuple[str, ...]:
    """The settings of an action but for the one that it is named after."""
    return tuple(each.encode_name for each in msgspec.structs.fields(kind) if each.encode_name != action)


def read(kind: type[S], given: Mapping[str, Any], action: str) -> S:
    """A step's settings. Raises Invalid, in a sentence, for what is missing, unknown or of another kind."""
    found = settings.struct(kind, given, f"The step '{action}'")
    _units(found, action)
    return found


def check(kind: type[S], given: Mapping[str, Any], action: str) -> S:
    """A step's settings when its rule is added: fields of texts are not filled in yet, and what they will be is not known."""
    fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    known = {
        name: value
        for name, value in given.items()
        if not (isinstance(value, str) and _FIELD.fullmatch(value) and name in fields and not fields[name].required)
    }
    return read(kind, known, action)


def _units(found: Struct, action: str) -> None:
    for name, parse in (("time", units.seconds), ("mem", units.size), ("exclude", units.nodes)):
        text = getattr(found, name, "")
        if text and not _FIELD.search(text):
            try:
                parse(text)
            except Invalid as error:
                raise Invalid(f"The step '{action}': '{name}': {error.message}") from None


def is_filled(text: object) -> bool:
    """Whether a setting has no fields that are still to be filled in."""
    return not (isinstance(text, str) and _FIELD.search(text))


def path(text: str, name: str, action: str) -> Path:
    """A file or folder that a step names. Raises Invalid for one that depends on where the engine was started."""
    found = Path(text).expanduser()
    if is_filled(text) and not found.is_absolute():
        raise Invalid(
            f"The step '{action}': {name} is '{text[:200]}', and nobody knows relative to what.",
            "Write the whole path; in a file of rules, ./PATH is relative to that file.",
        )
    return found


def before(ask: Act, name: str, **also: object) -> Any:
    """What the last of the steps before says by this name, of those that agree on the rest; None if none does."""
    for result in reversed(ask.before):
        if name in result and all(result.get(key) == value for key, value in also.items()):
            return result[name]
    return None


def version(ask: Act, model: str, given: Text) -> ModelVersion:
    """The version that a step means: by its number, a stage or @alias; else the one that a step before made or judged, or that the event is
    of; else the newest. Raises NotFound."""
    which = str(given) or str(before(ask, "version", model=model) or _of_event(ask, model))
    if which.isdigit():
        return ask.client.call(registry.GET_VERSION, registry.VersionKey(model, which)).model_version
    uri = f"models:/{model}{which}" if which.startswith("@") else f"models:/{model}/{which or 'latest'}"
    _, number, _ = resolve(ask.client, uri)
    return ask.client.call(registry.GET_VERSION, registry.VersionKey(model, number)).model_version


def _of_event(ask: Act, model: str) -> str:
    subject = ask.event.subject
    return str(subject.get("version", "")) if ask.event.kind == "model_version" and subject.get("name") == model else ""


def key(ask: Act, *parts: str) -> str:
    """What a part of a step is submitted by: of a length that the server takes, whatever the rule is called."""
    text = "\n".join([ask.key, *parts])
    return f"rule/{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def tags(ask: Act) -> dict[str, str]:
    """By which the runs of a rule are found: `noria runs list --filter "tags.noria.rule = 'NAME'"`."""
    return {"noria.rule": ask.rule, "noria.firing": ask.firing}


def job(ask: Act, job_id: str) -> Job:
    return ask.client.call(jobs.GET, jobs.Key(job_id)).job


def failed(ask: Act, found: Job) -> NoriaError:
    """Why a job that was to succeed did not, as `noria why` says it. Not to be tried again: the same key would give the same job."""
    short = found.id[:8]
    try:
        why = ended.explain(found, ask.client.call(jobs.TRIES, jobs.Key(found.id)).tries)
        reason, cure = why.reason, why.cure
    except NoriaError:  # Its place does not answer: what the server knows is told.
        reason, cure = found.reason, ""
    word = "was cancelled" if found.state == "CANCELLED" else "failed"
    kind = Conflict if found.state == "CANCELLED" else Invalid
    return kind(f"Job {short} {word}: {reason or 'nobody has said why'}", f"{cure} `noria why {short}` shows more.".strip())


def place_of(spec: JobSpec, found: Job) -> str:
    """A sentence on where a job is by now."""
    state = {"QUEUED": "waits", "SUBMITTED": f"waits in the queue of {spec.place}", "RUNNING": f"runs on {spec.place}"}
    why = f": {found.reason}" if found.reason and found.state != "RUNNING" else ""
    return f"job {found.id[:8]} {state.get(found.state, found.state.lower())}{why}"
