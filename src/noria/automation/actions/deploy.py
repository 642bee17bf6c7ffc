"""Have an endpoint answer with a version, and check that it does.

    {deploy = "digits"}                                              what serves models:/digits/Production has followed
    {deploy = "digits", alias = "live", version = "{steps.1.version}", start = true, on = "slurm", time = "7d"}

Endpoints are processes of `noria serve`, and those of a stage or an alias follow it by themselves. With `alias`, that is set to the version
first; with `stage` (Production), a step before has put it there. Then all that serve it have to answer with it `within` (2m): each is asked whether it lives, and
with `probe`, a batch of inputs, what it predicts. If it cannot be loaded, the endpoints stay with what they have, the alias goes back, and the step
fails.

start = true: if nothing serves it, a job does: `host`, `port`, `allow_pickle` are those of `noria serve`; on, gpus, cpus, mem, time and their like those of `noria submit`. It
serves until its time is over.

Gives model, version, uri, endpoints (their addresses) and job_id.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
from msgspec import Struct

from noria import units
from noria.automation import steps, telling
from noria.automation.actions import Act, Acted, Causes
from noria.automation.steps import Place, Text
from noria.errors import Conflict, Invalid, NoriaError, NotFound, Unavailable
from noria.jobs import clusters
from noria.process import whoami
from noria.projects.asks import asked
from noria.types import ENDED, Endpoint
from noria.wire import jobs, registry, serving
from noria.wire.stages import stage_of


class Settings(Place, frozen=True, kw_only=True):
    deploy: str
    version: Text = ""
    stage: str = "Production"
    alias: str = ""
    within: str = "2m"
    probe: list[Any] = []
    start: bool = False
    host: str = "0.0.0.0"  # noqa: S104 (others are to reach it; it asks for the token)
    port: int = 0
    allow_pickle: bool = False


SETTINGS = steps.names(Settings, "deploy")


class Seen(Struct, frozen=True):
    """What was found out of the endpoints: those that answer with the version, those that do not yet, and why not."""

    ready: list[str]
    late: list[str]
    problem: str = ""


def check(settings: dict[str, Any]) -> None:
    wanted = steps.check(Settings, settings, "deploy")
    if steps.is_filled(wanted.within):
        units.seconds(wanted.within)
    if not wanted.alias and steps.is_filled(wanted.stage):
        stage_of(wanted.stage)
    if wanted.version != "" and not wanted.alias:
        raise Invalid(
            "The step 'deploy' has a version, and no alias to set to it.", 'Write alias = "live", or leave the version out.'
        )


def causes(settings: dict[str, Any]) -> list[Causes]:
    return (
        [Causes("model_version", {"name": str(settings["deploy"]), "alias": str(settings["alias"])})]
        if settings.get("alias")
        else []
    )


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "deploy")
    uri = f"models:/{wanted.deploy}@{wanted.alias}" if wanted.alias else f"models:/{wanted.deploy}/{stage_of(wanted.stage)}"
    if not ask.result:  # What the alias was is told before it is set, for whoever goes on from here.
        version = steps.version(ask, wanted.deploy, wanted.version if wanted.alias else stage_of(wanted.stage)).version
        said = {"model": wanted.deploy, "version": version, "uri": uri, "before": _aliased(ask, wanted), "since": time.time()}
        return Acted("waiting", said, f"{uri} is to be {version}")
    if wanted.alias:
        ask.client.call(registry.SET_ALIAS, registry.SetAlias(wanted.deploy, wanted.alias, ask.result["version"]))
    try:
        return _look(ask, wanted, uri)
    except Unavailable:
        raise
    except NoriaError as error:
        raise _back(ask, wanted, error) from None


def _aliased(ask: Act, wanted: Settings) -> str:
    """The version that the alias is now; "" if there is none."""
    try:
        found = ask.client.call(registry.GET_ALIAS, registry.AliasName(wanted.deploy, wanted.alias)) if wanted.alias else None
    except NoriaError as error:
        if isinstance(error, Unavailable):
            raise
        return ""  # MLflow says Invalid of an alias that is not there.
    return found.model_version.version if found else ""


def _back(ask: Act, wanted: Settings, error: NoriaError) -> NoriaError:
    """What went wrong, once the alias is what it was."""
    before = ask.result["before"]
    if not wanted.alias or before == ask.result["version"]:
        return error
    if before:
        ask.client.call(registry.SET_ALIAS, registry.SetAlias(wanted.deploy, wanted.alias, before))
    else:
        ask.client.call(registry.DELETE_ALIAS, registry.AliasName(wanted.deploy, wanted.alias))
    back = f"The alias {wanted.alias} is {before} again." if before else f"The alias {wanted.alias} is gone again."
    return type(error)(f"{error.message} {back}")


def _look(ask: Act, wanted: Settings, uri: str) -> Acted:
    said, version = ask.result, ask.result["version"]
    known = [
        each
        for each in ask.client.call(serving.LIST, serving.List()).endpoints
        if each.state == "RUNNING" and each.model_uri == uri
    ]
    seen = _seen(ask, wanted, known, version)
    if seen.problem:
        raise Invalid(seen.problem, f"`noria models show {wanted.deploy} {version}` says what it is.")
    if seen.ready and not seen.late:
        result = {key: said[key] for key in ("model", "version", "uri")} | {
            "endpoints": seen.ready,
            "job_id": said.get("job_id", ""),
        }
        return Acted("done", result, f"{', '.join(seen.ready)} answers with {wanted.deploy} {version}")
    if not seen.ready and not seen.late:
        said = _started(ask, wanted, uri)
    if time.time() - said["since"] > units.seconds(wanted.within):
        raise Conflict(_overdue(wanted, seen, uri, version), "Look at its log, or give it longer with within.")
    return Acted("waiting", said, _waits(seen, said))


def _overdue(wanted: Settings, seen: Seen, uri: str, version: str) -> str:
    if seen.late:
        return f"{', '.join(seen.late)} does not answer with {wanted.deploy} {version} within {wanted.within}."
    return f"Nothing that serves {uri} has answered within {wanted.within}."


def _waits(seen: Seen, said: dict[str, Any]) -> str:
    if seen.late:
        return f"{', '.join(seen.late)} has not followed yet"
    return f"job {said['job_id'][:8]} begins to serve" if said.get("job_id") else "nothing serves it yet"


def _seen(ask: Act, wanted: Settings, known: list[Endpoint], version: str) -> Seen:
    """Those that do not answer at all are no endpoints any more: their process has died without a word."""
    alive = [each for each in known if _lives(each)]
    late = [each for each in alive if each.version != version]
    problem = next((each.problem for each in late if each.problem), "")
    ready = [each.url for each in alive if each.version == version]
    if wanted.probe and not problem:
        problem = next(filter(None, (_probed(ask, each, wanted.probe) for each in ready)), "")
    return Seen(ready, [each.url for each in late], problem)


def _lives(each: Endpoint) -> bool:
    return telling.answers(f"{each.url}/ping")


def _probed(ask: Act, url: str, inputs: list[Any]) -> str:
    """Why an endpoint cannot answer this; "" if it can."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ask.client.token}"}
    try:
        telling.post(f"{url}/invocations", msgspec.json.encode({"inputs": inputs}), headers)
    except (Invalid, Unavailable) as error:  # It lived a moment ago.
        return f"The probe failed: {error.message}"
    return ""


def _started(ask: Act, wanted: Settings, uri: str) -> dict[str, Any]:
    """What is known, with the job that is to serve. Raises NotFound if nothing serves and nothing is to be started."""
    if not wanted.start:
        raise NotFound(f"No endpoint that answers serves {uri}.", f"Start one with `noria serve {uri}`, or write start = true.")
    if known := ask.result.get("job_id"):
        job = steps.job(ask, known)
        if job.state in ENDED:
            raise steps.failed(ask, job)
        since = time.time() if job.state != "RUNNING" else ask.result["since"]  # What waits in a queue is not late yet.
        return {**ask.result, "since": since}
    words = [sys.executable, "-m", "noria.cli.main", "serve", uri, "--host", wanted.host, "--port", str(wanted.port),
             *(["--allow-pickle"] if wanted.allow_pickle else [])]  # fmt: skip
    spec = asked(words, wanted.on or None, {**wanted.flags(), "name": f"serve-{wanted.deploy}"[:60]}).spec
    clusters.must_reach(spec)
    request = jobs.Submit(spec, whoami(), key=steps.key(ask), tags=steps.tags(ask))
    return {**ask.result, "job_id": ask.client.call(jobs.SUBMIT, request).job.id}
