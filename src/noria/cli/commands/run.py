"""noria run"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from noria.cli.options import asks
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.projects.start import Request, Started


@click.command(context_settings={"allow_extra_args": True})
@click.argument("uri")
@click.option("-e", "--entry-point", "entry", default="main", show_default=True, help="Entry point, or a .py or .sh file.")
@click.option("-P", "--param-list", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter; repeat.")
@click.option("-v", "--version", default="", help="Branch, tag or commit of a git repository.")
@click.option(
    "--experiment",
    "--experiment-name",
    default="Default",
    envvar="MLFLOW_EXPERIMENT_NAME",
    show_default=True,
    help="Experiment of the run.",
)
@click.option("--run-name", default="", help="Name of the run.")
@click.option(
    "--env-manager",
    type=click.Choice(["auto", "local"]),
    default="auto",
    show_default=True,
    help="Build the environment that the project describes, or take what is active.",
)
@asks
@click.option(
    "--wait/--no-wait", default=None, help="Print what it prints until it ends.  [default: where it runs on this machine]"
)
@click.option(
    "--cache/--no-cache",
    default=None,
    help="Take over a finished run of the same, or run it again.  [default: --cache but for main]",
)
@click.option(
    "--freeze/--no-freeze", default=True, help="Run in a copy of the code as it is now, or in the folder.  [default: freeze]"
)
@click.option("--key", default="", help="Start once: again with the same key, and it is the same job that is told.")
@click.option(
    "--check/--no-check", default=True, help="Look first whether the program is there and finds its modules.  [default: check]"
)
@click.option("--dry-run", is_flag=True, help="Print the script and the command that submits it, and submit nothing.")
@click.option("--profile", default="", help="With --on databricks: the profile of ~/.databrickscfg.", show_default="environment")
@click.option(
    "--cluster",
    default="",
    metavar="JSON|ID",
    help="With --on databricks: a new cluster, or one that runs.",
    show_default="serverless",
)
@click.option("--backend-config", default="", metavar="FILE", help="With --on databricks: its settings as JSON.")
@json_option
@click.pass_context
def command(
    context: click.Context, /, uri: str, scheduler: str | None, wait: bool | None, dry_run: bool, as_json: bool, **flags: Any
) -> None:
    """Run an entry point of a project as a job.

    \b
    noria run .                                         a folder with an MLproject file, or without
    noria run https://github.com/mlflow/mlflow-example -P alpha=0.5
    noria run git@host:team/repo.git#models/first -v v1.2 --on slurm --gpus 1
    noria run project.tar.gz -e train.py --env-manager local
    noria run . --on databricks --profile team --wait   a job there; its run comes here at its end

    What is wrong with a parameter, the entry point or the environment is said before anything is queued. The environment is built once and kept; a step (any entry point but main) that has finished, and that nothing has changed of since, is taken over instead of run again.
    """
    from click.core import ParameterSource

    from noria.cli.local import connect
    from noria.errors import Invalid
    from noria.jobs import clusters
    from noria.projects.asks import resources

    if context.args:
        raise Invalid(f"`noria run` takes one project, and {context.args[0]} is a second one.",
                      f"A command becomes a job by `noria submit -- {' '.join([uri, *context.args])}`; parameters are given by -P NAME=VALUE.")  # fmt: skip
    given = {name: value for name, value in flags.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if scheduler == "databricks":
        _at_databricks(uri, given, flags, bool(wait), dry_run, as_json)
        return
    if alone := next((name for name in _DATABRICKS if given.get(name)), ""):
        raise Invalid(f"--{alone.replace('_', '-')} is for Databricks.", "Add --on databricks.")
    spec = resources(scheduler, {name: value for name, value in given.items() if name not in _OWN})
    clusters.must_reach(spec)
    request = _request(uri, spec, flags)
    if dry_run:
        _show(connect(), request, as_json)
        return
    server = connect()
    done = _start(server, request)
    waits = spec.scheduler == "local" and not spec.agent if wait is None else wait
    _follow(server, done, as_json, waits)


_DATABRICKS = ("profile", "cluster", "backend_config")
_OWN = (
    "entry",
    "parameters",
    "version",
    "experiment",
    "run_name",
    "env_manager",
    "cache",
    "freeze",
    "key",
    "check",
    *_DATABRICKS,
)
"""Options that are no asks of a job."""


def _at_databricks(uri: str, given: dict[str, Any], flags: dict[str, Any], wait: bool, dry_run: bool, as_json: bool) -> None:
    from noria import units
    from noria.cli import databricks
    from noria.errors import Invalid
    from noria.types import JobSpec

    asked = [name for name in given if name not in _OWN and name not in databricks.TAKES]
    if asked or dry_run or given.get("cache"):
        name = "--dry-run" if dry_run else f"--{(asked or ['cache'])[0].replace('_', '-')}"
        raise Invalid(f"{name} means nothing to Databricks.", "What a job gets there is said by --cluster or --backend-config.")
    import os

    pairs = (text.partition("=") for text in flags["env"])
    variables = {name: value if equals else os.environ.get(name, "") for name, equals, value in pairs}
    seconds = units.seconds(flags["time"]) if flags.get("time") else 0
    request = _request(uri, JobSpec([], env=variables), flags)
    databricks.run(request, flags["profile"], flags["cluster"], flags["backend_config"], seconds, wait, as_json)


def _request(uri: str, spec: Any, flags: dict[str, Any]) -> Request:
    import os

    from noria.projects import parameters
    from noria.projects.start import NO_CACHE, Request

    told = {name: flags[name] for name in ("entry", "version", "experiment", "run_name", "env_manager", "freeze", "key", "check")}
    cache = flags["cache"]
    if cache is False:  # Nor are the steps of this one taken over.
        spec = _with(spec, {NO_CACHE: "1"})
    wanted = flags["entry"] != "main" and not os.environ.get(NO_CACHE) if cache is None else cache
    return Request(uri, parameters=parameters.given(flags["parameters"]), resources=spec, cache=wanted, **told)


def _with(spec: Any, variables: dict[str, str]) -> Any:
    from msgspec.structs import replace

    return replace(spec, env={**spec.env, **variables})


def _start(server: Server, request: Request) -> Started:
    from noria.cli.commands.submit import reach
    from noria.projects.start import start

    if request.resources.agent:
        reach(request.resources.agent)
    return start(server, request, lambda line: click.echo(f"noria: {line}", err=True))


def _follow(server: Server, done: Started, as_json: bool, waits: bool) -> None:
    """Say what was started, and what becomes of it."""
    from noria.cli import show
    from noria.cli.commands import logs
    from noria.cli.commands.wait import wait

    if done.cached:
        line = f"nothing has changed since run {done.run_id[:8]} finished, which is taken over; --no-cache runs it again"
        show.as_json(_told(done)) if as_json else click.echo(done.run_id)
        click.echo(f"noria: {line}", err=True)
        return
    name = f"job {show.job_id(done.job_id)}, run {done.run_id[:8]}"
    click.echo(f"noria: {'started before with this key' if done.known else 'submitted'}: {name}", err=True)
    if not waits:
        show.as_json(_told(done)) if as_json else click.echo(done.job_id)
        return
    try:
        if not as_json:
            logs.printed(server, done.job_id)
        (job,) = wait(server, done.job_id)
    except KeyboardInterrupt:
        click.echo(f"noria: {name} goes on; `noria cancel {show.job_id(done.job_id)}` ends it", err=True)
        sys.exit(130)
    if as_json:
        show.as_json(_told(done) | {"job": job})
    if job.exit_code != 0:
        click.echo(f"noria: {name} {job.state.lower()}: {job.reason}", err=True)
        sys.exit(1 if job.exit_code is None else job.exit_code)
    click.echo(f"noria: {name} succeeded", err=True)


def _told(done: Started) -> dict[str, object]:
    return {"run_id": done.run_id, "job_id": done.job_id, "cached": done.cached, "known": done.known, "job": done.job,
            "command": done.command, "environment": done.environment, "built_seconds": round(done.built, 3)}  # fmt: skip


def _show(server: Server, request: Request, as_json: bool) -> None:
    """What would be submitted. An environment is not built for it."""
    from pathlib import Path

    from msgspec.structs import replace

    from noria import config
    from noria.cli.commands.submit import show_script
    from noria.projects.asks import Asked
    from noria.projects.built import needed
    from noria.projects.fetch import fetch
    from noria.projects.start import prepared

    ready = prepared(server, replace(request, env_manager="local", check=False))
    show_script(Asked(ready.spec), as_json)
    found = fetch(request.uri, request.version, config.load().folder / "projects" / "sources")
    need = needed(Path(found.folder)) if request.env_manager == "auto" else None
    if need is not None and not as_json:
        click.echo(f"# in the environment that {need.file or need.image} describes")
