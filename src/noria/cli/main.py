"""The command line. A command is a file in commands/: its name is the file's, and it is imported when it is asked for."""

from __future__ import annotations

import os
import sys

import click

from noria.cli.group import Group
from noria.errors import NoriaError
from noria.plugins import Kind
from noria.version import __version__

COMMANDS: Kind[object] = Kind("noria.cli.commands")


_INSTEAD = {
    "experiment": "noria experiments list",
    "artifacts": "noria runs show RUN, which lists its files",
    "gc": "nothing: what `noria runs delete` and `noria experiments delete` take away can be restored",
    "db": "nothing: a server that opens an older database brings it up to date",
    "deployments": "noria serve models:/NAME/Production",
    "import": "noria runs import SOURCE",
    "export": "noria runs export TARGET",
    "help": "noria --help",
    **dict.fromkeys(("sbatch", "srun", "qsub", "batch"), "noria submit -- python train.py, or noria submit train.sbatch"),
    **dict.fromkeys(("squeue", "qstat", "jobs", "status"), "noria ps"),
    **dict.fromkeys(("scancel", "qdel", "kill", "stop"), "noria cancel JOB"),
    **dict.fromkeys(("sinfo", "pbsnodes", "qhost"), "noria nodes, or noria queues"),
}


class Commands(Group):
    """The shelf as a click group."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return COMMANDS.own()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS.own():
            return None
        command: click.Command = COMMANDS.module(name).command
        return command


@click.command(cls=Commands, instead=_INSTEAD, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="noria")
def noria() -> None:
    """The deep-learning platform that lives in the queue.

    \b
    noria demo                                the whole life of a model, in about a minute
    noria submit --gpus 1 -- python train.py  train on this machine or a cluster
    noria run . -P alpha=0.5 --on slurm       an MLproject: a folder, a git URL or an archive
    noria ps; noria logs -f JOB               see how it goes
    noria why JOB                             why it failed, waits, stands still or is slow
    noria runs list; noria runs watch RUN     what was measured, and what is being measured
    noria ui                                  the same in a browser
    noria serve models:/NAME/Production       answer over HTTP

    Data goes to stdout, messages to stderr; listings take --json. Settings: NORIA_HOME, NORIA_SERVER, NORIA_TOKEN.
    """


def main() -> None:
    """The entry point: errors become one sentence on stderr and exit code 1 (2 for a wrong call)."""
    try:
        noria(prog_name="noria")
    except NoriaError as error:
        click.echo(f"noria: {error.message}", err=True)
        sys.exit(1)
    except BrokenPipeError:  # Whoever read our output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
