"""A step in the job that asks for it: a run of its own, in the job's own allocation, with or without a server to ask.

A job that waited for another one in the same queue could wait for ever, and a node without a network could submit none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from msgspec import Struct

from noria import config, process
from noria.client.fluent import spool_folder
from noria.client.http import Server
from noria.client.spool import Spool, now
from noria.errors import Invalid
from noria.jobs.folder import Folder
from noria.projects import built, code, inputs, mlproject, parameters, steps
from noria.projects.environments import active
from noria.projects.fetch import Fetched, fetch
from noria.projects.start import ENVIRONMENT, Report, Request, described, tags_of
from noria.types import Param, RunStatus, Tag
from noria.wire import runs
from noria.wire import spools as wire


class Ran(Struct, frozen=True):
    """A step that is over. cached: a run that had finished before stands for it."""

    run_id: str
    exit_code: int = 0
    cached: bool = False


def run(server: Server | None, request: Request, env: Mapping[str, str] = os.environ, report: Report = lambda line: None) -> Ran:
    """Run a step to its end; what it prints goes where this process's does. server: None where there is no network.

    Raises what `start.prepared` raises, before a run is made.
    """
    found = fetch(request.uri, request.version, config.load().folder / "projects" / "sources")
    folder = Path(found.folder)
    project = mlproject.read(folder)
    entry = project.entry(request.entry)

    def download(uri: str, place: int) -> str:
        if server is None:
            raise Invalid(f"{uri}: no server can be asked on this node.", "Give a path that the node sees.")
        return inputs.download(server, uri, spool_folder().parent / "inputs" / f"{uuid4().hex[:12]}-{place}")

    filled = parameters.filled(entry, request.parameters, Path.cwd(), folder, download)
    need = built.needed(folder) if request.env_manager == "auto" else None
    had = (
        built.build(need, config.load().environments_folder, report) if need and described(need) != env.get(ENVIRONMENT) else None
    )
    digest = steps.digest(folder, entry, filled, had.digest if had else steps.active(active(env)), _came(folder, env))
    experiment = request.experiment or env.get("MLFLOW_EXPERIMENT_NAME", "Default")
    if request.cache and server is not None and (done := steps.finished(server, experiment, digest)):
        return Ran(done, cached=True)
    tags = {**_tags(request, found, digest), **request.tags}
    begin = _at_server if server is not None else _in_spool
    run_id, end = begin(server, request.run_name, experiment, tags, filled.logged)
    mine = {**env, "MLFLOW_RUN_ID": run_id, "NORIA_RUN_ID": run_id}
    if had and had.python:
        mine["PATH"] = f"{Path(had.python).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    status: RunStatus = "FAILED"
    try:
        exit_code = process.exit_code(process.within(["bash", "-c", filled.command], env=mine, cwd=str(folder)))
        status = "FINISHED" if exit_code == 0 else "FAILED"
    finally:  # Whoever interrupts this ends the step as well.
        end(status)
    return Ran(run_id, exit_code)


def _came(folder: Path, env: Mapping[str, str]) -> code.Tree | None:
    """What of a folder came with the job, if it is in the job's copy of the code: what its steps have written there since is not code."""
    job = Folder(Path(env.get("NORIA_JOB_FOLDER", "")))
    copy, frozen = job.path / "code", job.job().spec.code if (job.path / "job.json").exists() else None
    if frozen is None or not os.path.exists(frozen.file) or not folder.resolve().is_relative_to(copy.resolve()):
        return None
    return code.thawed(frozen, copy)


def _tags(request: Request, found: Fetched, digest: str) -> dict[str, str]:
    return {**tags_of(request, found), "mlflow.user": process.whoami(), **({steps.TAG: digest} if digest else {})}


End = Callable[[RunStatus], None]


def _at_server(
    server: Server | None, name: str, experiment: str, tags: Mapping[str, str], params: Mapping[str, str]
) -> tuple[str, End]:
    from noria.projects.start import experiment_id

    assert server is not None
    asked = runs.Create(experiment_id(server, experiment), process.whoami(), name, now(), [Tag(*pair) for pair in tags.items()])
    made = server.call(runs.CREATE, asked).run.info.run_id
    server.call(runs.LOG_BATCH, runs.LogBatch(made, params=[Param(*pair) for pair in params.items()]))

    def end(status: RunStatus) -> None:
        server.call(runs.UPDATE, runs.Update(made, status=status, end_time=now()))

    return made, end


def _in_spool(
    _: Server | None, name: str, experiment: str, tags: Mapping[str, str], params: Mapping[str, str]
) -> tuple[str, End]:
    made, me = uuid4().hex, os.getpid()
    header = wire.Header(wire.FORMAT, uuid4().hex, made, "", 0, 0, socket.gethostname(), me, process.born(me), now())
    spool = Spool(spool_folder(), header)
    spool.append(wire.Begin(experiment, name, process.whoami(), now(), dict(tags)))
    spool.append(wire.Params(dict(params)))

    def end(status: RunStatus) -> None:
        spool.append(wire.End(status, now()))
        spool.close()

    return made, end
