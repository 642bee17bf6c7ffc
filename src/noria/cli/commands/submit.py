"""noria submit"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.projects.asks import Asked
    from noria.wire.jobs import Submitted


@click.command(context_settings={"ignore_unknown_options": False})
@click.option(
    "--on",
    "scheduler",
    help="Where: slurm, pbs, sge, local, or a cluster that noria.toml names.  [default: the scheduler that answers here]",
)
@click.option("--nodes", default=1, type=click.IntRange(1), show_default=True, help="Nodes.")
@click.option("--tasks-per-node", default=1, type=click.IntRange(1), show_default=True, help="Processes on each node.")
@click.option("--gpus", metavar="[TYPE:]N", help="GPUs on each node: 4, a100:4, or by their memory 24GB..80GB:4.")
@click.option("--cpus", default=1, type=click.IntRange(1), show_default=True, help="CPUs for each task.")
@click.option("--mem", help="Memory on each node, such as 8G.")
@click.option("--time", help="Time limit, such as 30m, 2h or 1d.")
@click.option("--queue", help="Queue, or partition; `noria queues` lists them.")
@click.option("--account", help="Account, or project, that pays.")
@click.option("--qos", help="Quality of service.")
@click.option("--constraint", help="What nodes must have: features at Slurm, NAME=VALUE at PBS and Grid Engine.")
@click.option("--reservation", help="A reservation of the site's.")
@click.option("--exclusive", is_flag=True, help="Share the nodes with nobody.")
@click.option("--exclude", metavar="NODE[,NODE]", help="Not on these nodes: n1,n2 or n[1-3].")
@click.option("--nice", type=click.IntRange(0), help="Let others go first; the more, the more of them.")
@click.option("--priority", type=int, help="Priority on the scheduler's own scale.")
@click.option("--begin", metavar="TIME", help="Not before: 2h (from now), 16:30, 2026-12-01T16:30.")
@click.option("--after", metavar="JOB[,JOB]", help="Only after these jobs or arrays have succeeded.")
@click.option("--array", metavar="N-M[:STEP][%K]", help="So many jobs, K at once; each finds its number in NORIA_TASK_ID.")
@click.option("--raw", multiple=True, metavar="OPTIONS", help="Options of the site's own submit command, as they are; repeat.")
@click.option("--name", help="Name of the job and its run.")
@click.option("--key", default="", help="Submit once: again with the same key, and it is the same job that is told.")
@click.option("--experiment", default="Default", show_default=True, help="Experiment of the run.")
@click.option(
    "--max-restarts",
    default=0,
    type=click.IntRange(0),
    show_default=True,
    help="Start again so often after a failure that nobody explains.",
)
@click.option("--retry", type=click.Choice(["auto", "never"]), default="auto", show_default=True,
              help="Go on by itself after preemption, time limit and node failure, or end.")  # fmt: skip
@click.option("--total-time", "total", metavar="TIME", help="Go on in slices of at most --time until so much is used up: 5d.")
@click.option("--warn", metavar="TIME", help="Tell tasks so long before the time limit.  [default: by what a checkpoint costs]")
@click.option(
    "--hang", metavar="TIME", help="Without a step for so long it hangs, and is started again.  [default: by its steps]"
)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Pass a variable to the job; repeat.")
@click.option("--image", metavar="FILE", help="Run the tasks in this Apptainer image.")
@click.option(
    "--stage",
    multiple=True,
    metavar="PATH[:NAME]",
    help="Copy this to each node's own disk first; it is at $NORIA_STAGE_NAME. Repeat.",
)
@click.option("--pack", is_flag=True, help="Take the active environment along as one file, which each node unpacks once.")
@click.option("--launcher", type=click.Choice(["mpi"]), help="Start the tasks by mpirun, for programs that speak MPI.")
@click.option("--check-nodes", is_flag=True, help="Find out first, in ten seconds, whether the nodes are sound.")
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
        _show(wanted, as_json)
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
        _reach(wanted.spec.agent)
    return server.call(jobs.SUBMIT, jobs.Submit(wanted.spec, whoami(), wanted.members, wanted.task, key))


def _reach(cluster: str) -> None:
    """Make sure that an agent is there, where it is ours to start."""
    from noria.cli.reach import connect
    from noria.jobs import clusters

    if clusters.named(cluster).profile.ssh:
        connect(cluster)


def _show(wanted: Asked, as_json: bool) -> None:
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
