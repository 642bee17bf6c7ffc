"""What jobs may ask for, as options of the commands that submit some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_ASKS = [
    click.option(
        "--on",
        "scheduler",
        help="Where: slurm, pbs, sge, local, or a cluster that noria.toml names.  [default: the scheduler that answers here]",
    ),
    click.option("--nodes", default=1, type=click.IntRange(1), show_default=True, help="Nodes."),
    click.option("--tasks-per-node", default=1, type=click.IntRange(1), show_default=True, help="Processes on each node."),
    click.option("--gpus", metavar="[TYPE:]N", help="GPUs on each node: 4, a100:4, or by their memory 24GB..80GB:4."),
    click.option("--cpus", default=1, type=click.IntRange(1), show_default=True, help="CPUs for each task."),
    click.option("--mem", help="Memory on each node, such as 8G."),
    click.option("--time", help="Time limit, such as 30m, 2h or 1d."),
    click.option("--queue", help="Queue, or partition; `noria queues` lists them."),
    click.option("--account", help="Account, or project, that pays."),
    click.option("--qos", help="Quality of service."),
    click.option("--constraint", help="What nodes must have: features at Slurm, NAME=VALUE at PBS and Grid Engine."),
    click.option("--reservation", help="A reservation of the site's."),
    click.option("--exclusive", is_flag=True, help="Share the nodes with nobody."),
    click.option("--exclude", metavar="NODE[,NODE]", help="Not on these nodes: n1,n2 or n[1-3]."),
    click.option("--nice", type=click.IntRange(0), help="Let others go first; the more, the more of them."),
    click.option("--priority", type=int, help="Priority on the scheduler's own scale."),
    click.option("--begin", metavar="TIME", help="Not before: 2h (from now), 16:30, 2026-12-01T16:30."),
    click.option("--after", metavar="JOB[,JOB]", help="Only after these jobs or arrays have succeeded."),
    click.option(
        "--raw", multiple=True, metavar="OPTIONS", help="Options of the site's own submit command, as they are; repeat."
    ),
    click.option(
        "--max-restarts",
        default=0,
        type=click.IntRange(0),
        show_default=True,
        help="Start again so often after a failure that nobody explains.",
    ),
    click.option(
        "--retry",
        type=click.Choice(["auto", "never"]),
        default="auto",
        show_default=True,
        help="Go on by itself after preemption, time limit and node failure, or end.",
    ),
    click.option("--total-time", "total", metavar="TIME", help="Go on in slices of at most --time until so much is used up: 5d."),
    click.option(
        "--warn", metavar="TIME", help="Tell tasks so long before the time limit.  [default: by what a checkpoint costs]"
    ),
    click.option(
        "--hang", metavar="TIME", help="Without a step for so long it hangs, and is started again.  [default: by its steps]"
    ),
    click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Pass a variable to the job; repeat."),
    click.option("--image", metavar="FILE", help="Run the tasks in this Apptainer image."),
    click.option(
        "--stage",
        multiple=True,
        metavar="PATH[:NAME]",
        help="Copy this to each node's own disk first; it is at $NORIA_STAGE_NAME. Repeat.",
    ),
    click.option("--check-nodes", is_flag=True, help="Find out first, in ten seconds, whether the nodes are sound."),
]


def asks(function: F) -> F:
    """The options that say where a job goes, and what it asks for there: `scheduler`, and those that `projects.asks` reads."""
    for option in reversed(_ASKS):
        function = option(function)
    return function
