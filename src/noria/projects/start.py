"""From a project's URI to a job: fetched, checked, filled in, its environment built, its code frozen, submitted once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from noria import config, process
from noria.client.http import Server
from noria.client.spool import EXPERIMENT
from noria.errors import Invalid, NotFound
from noria.jobs import clusters
from noria.projects import built, check, code, environments, inputs, mlproject, parameters, steps
from noria.projects.fetch import Fetched, fetch
from noria.projects.mlproject import Project
from noria.projects.parameters import Filled
from noria.types import Environment, Job, JobSpec
from noria.wire import experiments, jobs

Report = Callable[[str], None]
"""Told in a line what is being done, where that takes long."""
_MANAGERS = {"image": "docker"}
"""What MLflow calls otherwise than we do."""
ENVIRONMENT = "NORIA_PROJECT_ENVIRONMENT"
"""In a job: the digest of the file that describes its environment, by which steps that MLflow starts know that they have it."""

NO_CACHE = "NORIA_NO_CACHE"
"""In a job: its steps are not to be taken over either."""


class Request(Struct, frozen=True):
    """What is to be run. parameters: values by name; texts are taken as they are. resources: where it runs and what it asks for; its
    command, code, environment and working directory are filled in here (`at` makes one).

    env_manager: "auto" builds what the project describes, "local" takes what is active. cache: take over a finished run of the same step.
    freeze: run in a copy of the code as it is now. check: look first whether the program can run. key: a second start with the same one
    submits nothing, and has the first one's job. parent: the run that this one is a part of. experiment: "" is that of the resources.
    """

    uri: str
    entry: str = mlproject.MAIN
    parameters: Mapping[str, object] = {}
    version: str = ""
    experiment: str = ""
    resources: JobSpec = JobSpec([])
    run_name: str = ""
    env_manager: Literal["auto", "local"] = "auto"
    cache: bool = False
    freeze: bool = True
    check: bool = False
    key: str = ""
    parent: str = ""
    tags: dict[str, str] = {}


class Started(Struct, frozen=True):
    """What was started. job_id: "" if a finished run was taken over (cached). known: it was there already, by its key. command: as its
    shell gets it. environment: the folder that was built for it, or "". built: the seconds that took."""

    run_id: str
    job_id: str = ""
    job: Job | None = None
    cached: bool = False
    known: bool = False
    command: str = ""
    environment: str = ""
    built: float = 0.0


class Ready(Struct, frozen=True):
    """All that a submission needs. digest: what makes it the same step."""

    spec: JobSpec
    tags: dict[str, str]
    params: dict[str, str]
    digest: str
    command: str
    environment: str = ""
    built: float = 0.0


def at(on: str = "", **asks: object) -> JobSpec:
    """Resources on the cluster of this name, or the one that is usual here: fields of a JobSpec, in its units."""
    where = clusters.chosen(on or None)
    profile = where.profile
    place = JobSpec([], scheduler=where.scheduler, cluster=where.name if where.is_named else "", variables=profile.variables,
                    agent=where.name if where.is_elsewhere else "", site=profile.site, home="" if where.is_elsewhere else profile.home)  # fmt: skip
    return replace(place, **asks)


def start(connection: Server, request: Request, report: Report = lambda line: None) -> Started:
    """Submit an entry point of a project as a job, and come back once that is recorded.

    Raises Invalid or NotFound for what is wrong with the project, its parameters or its environment, before anything is queued, and
    Unavailable where trying again may help.
    """
    ready = prepared(connection, request, report)
    if request.cache and (done := steps.finished(connection, ready.spec.experiment, ready.digest)):
        return Started(done, cached=True, command=ready.command, environment=ready.environment, built=ready.built)
    number = experiment_id(connection, ready.spec.experiment)
    told = {"MLFLOW_EXPERIMENT_ID": number, EXPERIMENT: f"{number} {ready.spec.experiment}"}
    spec = replace(ready.spec, env={**ready.spec.env, **told})
    if spec.agent and spec.code is not None:
        packed = Path(spec.code.file)
        connection.upload(code.ROOT, packed.name, packed)
    submitted = connection.call(
        jobs.SUBMIT, jobs.Submit(spec, process.whoami(), key=request.key, tags=ready.tags, params=ready.params)
    )
    job = submitted.job
    return Started(
        job.run_id, job.id, job, known=submitted.known, command=ready.command, environment=ready.environment, built=ready.built
    )


def prepared(connection: Server, request: Request, report: Report = lambda line: None) -> Ready:
    """All that is done before the submission."""
    cache = config.load().folder / "projects"
    found = fetch(request.uri, request.version, cache / "sources")
    folder = Path(found.folder)
    project = mlproject.read(folder)
    entry = project.entry(request.entry)

    def download(uri: str, place: int) -> str:
        report(f"downloading {uri}")
        return inputs.download(connection, uri, cache / "inputs" / f"{uuid4().hex[:12]}-{place}")

    moved = bool(request.resources.agent)
    filled = parameters.filled(entry, request.parameters, Path.cwd(), folder, download, moved=moved)
    for line in parameters.passed_on(entry, request.parameters):
        report(line)
    spec, need, had = _surrounded(request, project, report)
    spec = _in_code(spec, folder, request, report)
    if request.check:
        _checked(spec, folder, filled)
    env = {**spec.env, ENVIRONMENT: described(need)}
    spec = replace(spec, command=["bash", "-c", filled.command], env=env, experiment=request.experiment or spec.experiment,
                   name=request.run_name or spec.name)  # fmt: skip
    digest = steps.digest(folder, entry, filled, had.digest if had else steps.active(spec.environment))
    tags = tags_of(request, found) | {"mlflow.project.backend": spec.place}
    tags |= {"mlflow.project.env": _MANAGERS.get(had.manager, had.manager)} if had else {}
    tags |= {steps.TAG: digest} if digest else {}
    return Ready(spec, {**tags, **request.tags}, filled.logged, digest, filled.command,
                 had.folder if had else "", had.seconds if had and not had.cached else 0.0)  # fmt: skip


def _surrounded(request: Request, project: Project, report: Report) -> tuple[JobSpec, built.Need | None, built.Built | None]:
    """The resources with what the project's programs find around them: what is active here, or what was built for it."""
    spec, need = request.resources, built.needed(Path(project.folder))
    if spec.environment.image or request.env_manager == "local" or need is None:
        return _as_here(spec), need, None
    if spec.agent:
        raise Invalid(f"{spec.place} is elsewhere, and what is built here is not seen there.",
                      "Say --env-manager local to take what logging in there sets, or --image.")  # fmt: skip
    had = built.build(need, config.load().environments_folder, report)
    return _within(_as_here(spec), had), need, had


def _as_here(spec: JobSpec) -> JobSpec:
    """With what is active in this process, where the nodes have it too; what the resources say goes first."""
    if spec.agent:
        return spec
    active = spec.environment if spec.environment != Environment() else environments.active(os.environ)
    return replace(spec, env={**environments.recorded(os.environ, active), **spec.env}, environment=active)


def _within(spec: JobSpec, had: built.Built) -> JobSpec:
    """With an environment in front of what is active here."""
    place = replace(built.environment(had), modules=spec.environment.modules)
    if place.image:
        return replace(spec, environment=place, env={name: value for name, value in spec.env.items() if name != "PYTHONPATH"})
    path = os.pathsep.join([str(Path(had.python).parent), spec.env.get("PATH", os.defpath)])
    return replace(spec, environment=place, env={**spec.env, "PATH": path})


def _in_code(spec: JobSpec, folder: Path, request: Request, report: Report) -> JobSpec:
    """To run in a copy of the code; a folder that is too large to copy is run in as it is, where the nodes see it."""
    try:
        if request.freeze or spec.agent:
            return replace(spec, code=code.freeze(folder, config.load().folder / "code"), cwd=str(folder))
    except Invalid as error:
        if spec.agent:
            raise
        report(f"{error.message.partition(',')[0]}, too much to copy: it runs in the folder itself, so leave that as it is")
    return replace(spec, cwd=str(folder))


def _checked(spec: JobSpec, folder: Path, filled: Filled) -> None:
    """Raise Invalid if the program cannot run; of a command that only a shell understands nothing is known."""
    words = parameters.plain_words(filled.command)
    if words:
        check.check(replace(spec, command=words, cwd=str(folder)))


def experiment_id(connection: Server, name: str) -> str:
    """The id of an experiment, which is made if there is none."""
    try:
        return connection.call(experiments.GET_BY_NAME, experiments.GetByName(name)).experiment.experiment_id
    except NotFound:
        return connection.call(experiments.CREATE, experiments.Create(name)).experiment_id


def described(need: built.Need | None) -> str:
    """What a job knows its environment by: see ENVIRONMENT. Of an image its name, since it may have many gigabytes."""
    if need is None:
        return "none"
    text = Path(need.file).read_bytes() if need.file and need.kind != "image" else f"{need.kind} {need.image}".encode()
    return hashlib.sha256(text).hexdigest()[:32]


def tags_of(request: Request, found: Fetched) -> dict[str, str]:
    """What MLflow says of a project's run, under its names."""
    said = {
        "mlflow.source.name": found.source, "mlflow.source.type": "PROJECT", "mlflow.project.entryPoint": request.entry,
        "mlflow.source.git.commit": found.commit, "mlflow.source.git.branch": found.branch,
        "mlflow.source.git.repoURL": found.repository, "mlflow.parentRunId": request.parent,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value}
