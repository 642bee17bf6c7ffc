"""`noria.run`: an entry point of a project from Python, as a job, or as a step of the job that this is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from msgspec import Struct

from noria.cli.local import connect
from noria.client import fluent
from noria.client.http import Server
from noria.errors import Invalid, Unavailable
from noria.jobs.say import say
from noria.projects import start, within
from noria.projects.asks import resources, told
from noria.types import RunStatus

_STATUS: dict[str, RunStatus] = {"COMPLETED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED", "RUNNING": "RUNNING"}


class Ran(Struct, frozen=True):
    """What became of it. job_id: "" of a step within a job, and of a finished run that was taken over (cached)."""

    run_id: str
    status: RunStatus
    job_id: str = ""
    cached: bool = False


def run(
    uri: str = ".",
    entry_point: str = "main",
    parameters: Mapping[str, object] | None = None,
    *,
    version: str = "",
    experiment_name: str = "",
    run_name: str = "",
    on: str = "",
    env_manager: str = "auto",
    wait: bool = True,
    cache: bool | None = None,
    **asks: Any,
) -> Ran:
    """Run an entry point of a project, and come back when it is over, or at once with wait=False.

    In a job, and without `on`, it runs as a step of that job: with a run of its own, below the job's, in what the job was given. Elsewhere
    it is a job. asks: those of `noria submit`, by the names of its options, such as gpus=1 or time="2h". cache: take over a finished run
    whose code, parameters, environment and data are the same; by default for every entry point but main, unless NORIA_NO_CACHE is set.

    Raises Invalid for what is wrong with it, and Unavailable if it failed.
    """
    if env_manager not in ("auto", "local"):
        raise Invalid(f"There is no env_manager {env_manager!r}.", 'Write "auto" or "local".')
    takes_over = entry_point != "main" and not os.environ.get(start.NO_CACHE) if cache is None else cache
    active = fluent.active_run()
    asked = start.Request(
        uri, entry_point, parameters or {}, version, experiment_name, run_name=run_name, env_manager="auto" if env_manager == "auto" else "local",
        cache=takes_over, parent=active.run_id if active else os.environ.get("NORIA_RUN_ID", ""))  # fmt: skip
    if os.environ.get("NORIA_JOB_ID") and not on:
        if asks or not wait:
            raise Invalid(
                "In a job a step has what the job has, and is waited for.", "Name a place with on= to start another job."
            )
        return _within(asked)
    with closing(connect()) as server:
        return _as_job(server, asked, on, asks, wait)


def _within(asked: start.Request) -> Ran:
    """A server is asked where the job knows of one; others have spools."""
    server = connect(start=False) if os.environ.get("NORIA_SERVER") else None
    done = within.run(server, asked, report=say)
    return _judged(
        Ran(done.run_id, "FINISHED" if done.exit_code == 0 else "FAILED", cached=done.cached),
        f"it exited with {done.exit_code}",
        asked,
    )


def _as_job(server: Server, asked: start.Request, on: str, asks: Mapping[str, Any], wait: bool) -> Ran:
    from msgspec.structs import replace

    from noria.cli.commands.submit import reach  # Commands need click, which the environment of a job may lack.
    from noria.cli.commands.wait import wait as wait_for
    from noria.jobs import clusters

    spec = resources(on or None, told(asks))
    clusters.must_reach(spec)
    if spec.agent:
        reach(spec.agent)
    experiment = asked.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    done = start.start(server, replace(asked, resources=spec, experiment=experiment), say)
    if done.cached or not wait:
        return _judged(Ran(done.run_id, "FINISHED" if done.cached else "RUNNING", done.job_id, done.cached), "", asked)
    (job,) = wait_for(server, done.job_id)
    return _judged(Ran(done.run_id, _STATUS[job.state], done.job_id), job.reason, asked)


def _judged(ran: Ran, reason: str, asked: start.Request) -> Ran:
    if ran.cached:
        say(f"{asked.entry}: nothing has changed since run {ran.run_id[:8]} finished, which is taken over")
    if ran.status in ("FAILED", "KILLED"):
        raise Unavailable(f"Run {ran.run_id} of {asked.entry} failed: {reason}.", "Its log says more.")
    return ran
