"""noria submit"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Job, JobSpec

_RECORDED = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL",
             "NORIA_SYSTEM_METRICS_INTERVAL")  # fmt: skip


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("--on", "scheduler", default="local", show_default=True, help="Where: local, slurm, pbs or sge.")
@click.option("--nodes", default=1, type=click.IntRange(1), show_default=True, help="Nodes.")
@click.option("--tasks-per-node", default=1, type=click.IntRange(1), show_default=True, help="Processes on each node.")
@click.option("--gpus", default=0, type=click.IntRange(0), show_default=True, help="GPUs on each node.")
@click.option("--cpus", default=1, type=click.IntRange(1), show_default=True, help="CPUs for each task.")
@click.option("--mem", default="", help="Memory on each node, such as 8G.")
@click.option("--time", "limit", default="", help="Time limit, such as 30m, 2h or 1d.")
@click.option("--name", default="", help="Name of the job and its run.")
@click.option("--experiment", default="Default", show_default=True, help="Experiment of the run.")
@click.option(
    "--max-restarts", default=0, type=click.IntRange(0), show_default=True, help="Start again so often when a task dies."
)
@click.option("--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Pass a variable to the job; repeat.")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    scheduler: str, nodes: int, tasks_per_node: int, gpus: int, cpus: int, mem: str, limit: str, name: str, experiment: str,
    max_restarts: int, variables: tuple[str, ...], as_json: bool, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a command as a job.

    Such as: noria submit --tasks-per-node 2 -- python train.py. The job runs in this folder, with this PATH and virtual environment. What it logs with noria or mlflow goes to its run.
    """
    from noria.cli import show, units
    from noria.cli.local import connect
    from noria.jobs.launch import SCHEDULERS
    from noria.types import JobSpec

    spec = JobSpec(
        list(command), name, scheduler, nodes, tasks_per_node, gpus, cpus, units.size(mem) if mem else 0, units.seconds(limit) if limit else 0,
        max_restarts, os.getcwd(), environment(variables), experiment)  # fmt: skip
    SCHEDULERS.get(scheduler).check(spec)
    job = submit(connect(), spec)
    if as_json:
        show.as_json(job)
    else:
        click.echo(job.id)
        click.echo(f"noria: submitted; run {job.run_id[:8]}. Follow it with: noria logs -f {job.id[:6]}", err=True)


def environment(variables: tuple[str, ...]) -> dict[str, str]:
    """The environment that a job is given: what makes the same programs run, and what was asked for by name."""
    from noria.errors import Invalid

    env = {name: os.environ[name] for name in _RECORDED if name in os.environ}
    for variable in variables:
        name, given, value = variable.partition("=")
        if not given and name not in os.environ:
            raise Invalid(f"--env {name}: there is no such variable here.", f"Write --env {name}=VALUE.")
        env[name] = value if given else os.environ[name]
    return env


def submit(server: Server, spec: JobSpec) -> Job:
    from noria.process import whoami
    from noria.wire import jobs

    return server.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job
