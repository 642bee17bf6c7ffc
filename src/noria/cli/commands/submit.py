"""noria submit"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.cli.asks import Asked
    from noria.client.http import Server
    from noria.types import Job


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("--on", "scheduler", help="Where: local, slurm, pbs or sge.  [default: local; of a job script its own scheduler]")
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
@click.option("--nice", type=click.IntRange(0), help="Let others go first; the more, the more of them.")
@click.option("--priority", type=int, help="Priority on the scheduler's own scale.")
@click.option("--begin", metavar="TIME", help="Not before: 2h (from now), 16:30, 2026-12-01T16:30.")
@click.option("--after", metavar="JOB[,JOB]", help="Only after these jobs or arrays have succeeded.")
@click.option("--array", metavar="N-M[:STEP][%K]", help="So many jobs, K at once; each finds its number in NORIA_TASK_ID.")
@click.option("--raw", multiple=True, metavar="OPTIONS", help="Options of the site's own submit command, as they are; repeat.")
@click.option("--name", help="Name of the job and its run.")
@click.option("--experiment", default="Default", show_default=True, help="Experiment of the run.")
@click.option(
    "--max-restarts", default=0, type=click.IntRange(0), show_default=True, help="Start again so often when a task dies."
)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Pass a variable to the job; repeat.")
@click.option("--launcher", type=click.Choice(["mpi"]), help="Start the tasks by mpirun, for programs that speak MPI.")
@click.option("--freeze", is_flag=True, help="Run in a copy of the code as it is now, with what is not committed.")
@click.option("--dry-run", is_flag=True, help="Print the script and the command that submits it, and submit nothing.")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context, /, scheduler: str | None, array: str | None, dry_run: bool, as_json: bool, command: tuple[str, ...], **flags: Any
) -> None:  # fmt: skip
    """Run a command, or a job script, as a job.

    Such as: noria submit --tasks-per-node 2 -- python train.py. The job runs in this folder, with this PATH and virtual environment. What it logs with noria or mlflow goes to its run.

    A script with #SBATCH, #PBS or #$ lines (noria submit train.sbatch) goes to its own scheduler as it is. With --on another one, its lines are translated, and what cannot be is an error.
    """
    from click.core import ParameterSource

    from noria.cli import show
    from noria.cli.asks import asked
    from noria.cli.local import connect
    from noria.jobs.launch import SCHEDULERS

    given = {name: value for name, value in flags.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    wanted = asked(command, scheduler, given, array or "")
    if dry_run:
        _show(wanted, as_json)
        return
    SCHEDULERS.get(wanted.spec.scheduler).check(wanted.spec)
    job = submit(connect(), wanted)
    stem = job.id.partition("_")[0]
    if as_json:
        show.as_json(job)
    elif wanted.members:
        click.echo(stem)
        click.echo(f"noria: submitted {len(wanted.members)} jobs. See them with: noria ps {stem[:6]}", err=True)
    else:
        click.echo(job.id)
        click.echo(f"noria: submitted; run {job.run_id[:8]}. Follow it with: noria logs -f {job.id[:6]}", err=True)


def submit(server: Server, wanted: Asked) -> Job:
    """The job, or the first one of the array."""
    from noria.process import whoami
    from noria.wire import jobs

    return server.call(jobs.SUBMIT, jobs.Submit(wanted.spec, whoami(), wanted.members, wanted.task)).job


def _show(wanted: Asked, as_json: bool) -> None:
    """What an agent on this machine would do."""
    import shlex

    from msgspec.structs import replace

    from noria import config, process
    from noria.cli import show
    from noria.jobs.launch import SCHEDULERS
    from noria.jobs.submit import folder_of, rendered
    from noria.types import Job

    dialect = SCHEDULERS.get(wanted.spec.scheduler)
    spec = replace(wanted.spec, site={**dialect.learn(process.run), **wanted.spec.site})
    job = Job("JOB", "RUN", spec, "QUEUED", process.whoami(), 0)
    script, command = rendered(job, folder_of(config.load().folder, job.id), dialect)
    if as_json:
        show.as_json({"script": script, "command": command, "jobs": len(wanted.members) or 1})
        return
    click.echo(script, nl=False)
    click.echo(f"# {shlex.join(command)}")
    click.echo("noria: nothing was submitted. JOB stands for the id of the job.", err=True)
