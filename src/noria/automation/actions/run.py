"""Run a project or a command as a job, and wait for its end.

    {run = "/srv/digits", entry = "train", parameters = {data = "{event.source}"}, on = "slurm", gpus = 1, time = "2h"}
    {run = ["python", "train.py", "--data", "{event.source}"], folder = "/srv/digits", on = "slurm"}

A text is a project, as `noria run` takes it: a folder, an archive, or the URL of a git repository, of which `version` is a commit, branch or
tag; `env_manager = "local"` takes the environment that is active where the engine runs, and `freeze = false` has it run in the folder itself instead of in a copy of
its code. A list is a command, begun in `folder`; there `freeze = true` makes that copy. `name` and `experiment` are the
run's. on, gpus, cpus, mem, time and their like are the options of `noria submit`. within: how long it may take, waiting in the queue
included; then it is cancelled, and the step has failed.

Gives job_id, run_id, state and metrics: `{steps.0.metrics.accuracy}`. A job that fails fails the step, with what `noria why` says.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from noria import units
from noria.automation import steps
from noria.automation.actions import Act, Acted, Causes
from noria.automation.steps import Place, Text
from noria.errors import Conflict, Invalid
from noria.jobs import clusters
from noria.process import whoami
from noria.projects import check as program
from noria.projects.asks import asked, resources
from noria.projects.mlproject import MAIN
from noria.projects.start import Request, start
from noria.types import ENDED, Job
from noria.wire import jobs, runs


class Settings(Place, frozen=True, kw_only=True):
    run: str | list[Text]
    entry: str = ""
    parameters: dict[str, Any] = {}
    version: str = ""
    env_manager: Literal["auto", "local"] = "auto"
    folder: str = ""
    name: str = ""
    experiment: str = ""
    freeze: bool | None = None
    within: str = ""


SETTINGS = steps.names(Settings, "run")
_OF_PROJECTS = ("entry", "parameters", "version")


def check(settings: dict[str, Any]) -> None:
    _understood(steps.check(Settings, settings, "run"))


def causes(settings: dict[str, Any]) -> list[Causes]:
    """The end of its job, if that has a name. What its program does besides nobody knows beforehand: such events say whom they follow from."""
    return [Causes("job_ended", {"name": str(settings["name"])})] if settings.get("name") else []


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "run")
    _understood(wanted)
    known = ask.result.get("job_id")
    job = steps.job(ask, str(known)) if known else _begin(ask, wanted)
    said = {"job_id": job.id, "run_id": job.run_id, "state": job.state}
    if job.state == "COMPLETED":
        return Acted("done", {**said, "metrics": _metrics(ask, job)}, f"job {job.id[:8]} has ended as it should")
    if job.state in ENDED:
        raise steps.failed(ask, job)
    _late(ask, wanted, job)
    return Acted("waiting", said, steps.place_of(job.spec, job))


def _understood(wanted: Settings) -> None:
    """Raise Invalid for settings that cannot mean anything."""
    if not wanted.run:
        raise Invalid(
            "The step 'run' has nothing to run.", 'Write a project, or a command as a list: run = ["python", "train.py"].'
        )
    if wanted.within and steps.is_filled(wanted.within):
        units.seconds(wanted.within)
    if isinstance(wanted.run, str):
        if wanted.folder:
            raise Invalid("The step 'run' has a folder, which only a command has.", "Name the project's folder in run itself.")
        if "://" not in wanted.run and not wanted.run.startswith("git@"):
            steps.path(wanted.run, "run", "run")
        return
    odd = next((name for name in _OF_PROJECTS if getattr(wanted, name)), "")
    if odd:
        raise Invalid(f"The step 'run' has {odd}, which only a project has.", "Write what the command takes into the list.")
    if not wanted.folder:
        raise Invalid("The step 'run' has a command and no folder to begin it in.", 'Write folder = "/the/whole/path".')
    steps.path(wanted.folder, "folder", "run")


def _begin(ask: Act, wanted: Settings) -> Job:
    return _project(ask, wanted, wanted.run) if isinstance(wanted.run, str) else _command(ask, wanted, wanted.run)


def _project(ask: Act, wanted: Settings, uri: str) -> Job:
    place = resources(wanted.on or None, wanted.flags())
    clusters.must_reach(place)
    request = Request(uri, wanted.entry or MAIN, parameters=wanted.parameters, version=wanted.version, experiment=wanted.experiment, resources=place,
                      run_name=wanted.name, env_manager=wanted.env_manager, freeze=wanted.freeze is not False, check=True,
                      key=steps.key(ask), tags=steps.tags(ask))  # fmt: skip
    started = start(ask.client, request)
    return started.job or steps.job(ask, started.job_id)


def _command(ask: Act, wanted: Settings, words: list[Text]) -> Job:
    folder = steps.path(wanted.folder, "folder", "run")
    if not folder.is_dir():
        raise Invalid(f"The step 'run' begins in {folder}, and there is no such folder here.", "Write one that the engine sees.")
    named = {name: getattr(wanted, name) for name in ("name", "experiment", "freeze") if getattr(wanted, name)}
    spec = asked([str(each) for each in words], wanted.on or None, {**wanted.flags(), **named}, "", folder).spec
    clusters.must_reach(spec)
    program.check(spec)
    request = jobs.Submit(spec, whoami(), key=steps.key(ask), tags=steps.tags(ask))
    return ask.client.call(jobs.SUBMIT, request).job


def _metrics(ask: Act, job: Job) -> dict[str, Any]:
    """The last value of each metric of its run."""
    return {each.key: each.value for each in ask.client.call(runs.GET, runs.Get(job.run_id)).run.data.metrics}


def _late(ask: Act, wanted: Settings, job: Job) -> None:
    if wanted.within and time.time() * 1000 - job.created > units.seconds(wanted.within) * 1000:
        ask.client.call(jobs.CANCEL, jobs.Cancel(job.id, f"its rule gave it {wanted.within}"))
        raise Conflict(f"Job {job.id[:8]} has not ended within {wanted.within} ({job.reason or job.state.lower()}), so it was cancelled.",
                       f"Give it longer with within, or see `noria why {job.id[:8]}`.")  # fmt: skip
