"""noria submit"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria.cli.options import asks
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.projects.asks import Asked
    from noria.wire.jobs import Submitted


@click.command(context_settings={"ignore_unknown_options": False})
@asks
@click.option("--array", metavar="N-M[:STEP][%K]", help="So many jobs, K at once; each finds its number in NORIA_TASK_ID.")
@click.option("--name", help="Name of the job and its run.")
@click.option("--key", default="", help="Submit once: again with the same key, and it is the same job that is told.")
@click.option("--experiment", default="Default", show_default=True, help="Experiment of the run.")
@click.option("--pack", is_flag=True, help="Take the active environment along as one file, which each node unpacks once.")
@click.option("--launcher", type=click.Choice(["mpi"]), help="Start the tasks by mpirun, for programs that speak MPI.")
@click.option("--freeze", is_flag=True, help="Run in a copy of the code as it is now, with what is not committed.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Look first whether a Python program compiles and finds its modules.  [default: check]",
)
@click.option("--dry-run", is_flag=True, help="Print the script and the command that submits it, and submit nothing.")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context, /, scheduler: str | None, array: str | None, key: str, check: bool, dry_run: bool, as_json: bool, command: tuple[str, ...], **flags: Any
) -> None:  # fmt: skip
    """Run a command, or a job script, as a job.

    Such as: noria submit --tasks-per-node 2 -- python train.py. The job runs in this folder, with this PATH and virtual environment. What it logs with noria or mlflow goes to its run.

    A script with #SBATCH, #PBS or #$ lines (noria submit train.sbatch) goes to its own scheduler as it is. With --on another one, its lines are translated, and what cannot be is an error.
    """
    from click.core import ParameterSource

    from noria.cli import show
    from noria.cli.local import connect
    from noria.jobs import clusters
    from noria.projects import check as program
    from noria.projects.asks import asked

    given = {name: value for name, value in flags.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    wanted = asked(command, scheduler, given, array or "")
    if dry_run:
        show_script(wanted, as_json)
        return
    clusters.must_reach(wanted.spec)
    if check:
        program.check(wanted.spec)
    done = submit(connect(), wanted, key)
    job, stem = done.job, done.job.id.partition("_")[0]
    if as_json:
        show.as_json(job)
    elif done.known:
        click.echo(stem if "_" in job.id else job.id)
        click.echo(f"noria: submitted before with this key; {job.state.lower()} by now. noria ps {stem[:6]}", err=True)
    elif wanted.members:
        click.echo(stem)
        click.echo(f"noria: submitted {len(wanted.members)} jobs. See them with: noria ps {stem[:6]}", err=True)
    else:
        click.echo(job.id)
        click.echo(f"noria: submitted; run {job.run_id[:8]}. Follow it with: noria logs -f {job.id[:6]}", err=True)


def submit(server: Server, wanted: Asked, key: str = "") -> Submitted:
    """The job, or the first one of the array. key: see wire.jobs.Submit."""
    from pathlib import Path

    from noria.process import whoami
    from noria.projects import code
    from noria.wire import jobs

    if wanted.spec.agent and wanted.spec.code is not None:
        packed = Path(wanted.spec.code.file)
        server.upload(code.ROOT, packed.name, packed)
        reach(wanted.spec.agent)
    return server.call(jobs.SUBMIT, jobs.Submit(wanted.spec, whoami(), wanted.members, wanted.task, key))


def reach(cluster: str) -> None:
    """Make sure that an agent is there, where it is ours to start."""
    from noria.cli.reach import connect
    from noria.jobs import clusters

    if clusters.named(cluster).profile.ssh:
        connect(cluster)


def show_script(wanted: Asked, as_json: bool) -> None:
    """What an agent on this machine would do."""
    import os
    import shlex
    from functools import partial

    from msgspec.structs import replace

    from noria import config, process
    from noria.cli import show
    from noria.jobs.dialect import SCHEDULERS
    from noria.jobs.submit import folder_of, rendered
    from noria.projects.environments import described
    from noria.types import Job

    dialect = SCHEDULERS.get(wanted.spec.scheduler)
    learned = {} if wanted.spec.agent else dialect.learn(partial(process.run, env={**os.environ, **wanted.spec.variables}))
    spec = replace(wanted.spec, site={**learned, **wanted.spec.site})
    job = Job("JOB", "RUN", spec, "QUEUED", process.whoami(), 0)
    script, command = rendered(job, folder_of(config.load().folder, job.id), dialect)
    if as_json:
        said = {"script": script, "command": command, "jobs": len(wanted.members) or 1, "environment": spec.environment}
        show.as_json(said)
        return
    click.echo(script, nl=False)
    if active := described(spec.environment):
        click.echo(f"# with {active}")
    click.echo(f"# {shlex.join(command)}")
    click.echo("noria: nothing was submitted. JOB stands for the id of the job.", err=True)
