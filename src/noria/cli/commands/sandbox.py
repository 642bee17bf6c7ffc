"""noria sandbox"""

from __future__ import annotations

import click

from noria.sandbox import KINDS


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("kind", type=click.Choice(KINDS), metavar="slurm|pbs|sge")
@click.option("--nodes", default=4, show_default=True, type=click.IntRange(1, 254), help="Emulated nodes.")
@click.option("--cpus", default=4, show_default=True, type=click.IntRange(1), help="CPUs of each, whatever this machine has.")
@click.option("--gpus", default=2, show_default=True, type=click.IntRange(0), help="Fake GPUs of each.")
@click.option("--mem", default="4G", show_default=True, help="Memory of each; it is counted, not enforced.")
@click.option("--dir", "folder", type=click.Path(file_okay=False), help="Keep the queue here.  [default: a temporary folder]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND]")
def command(kind: str, nodes: int, cpus: int, gpus: int, mem: str, folder: str | None, words: tuple[str, ...]) -> None:
    """A cluster to rehearse on: a shell in which Slurm's, PBS's or Grid Engine's commands work.

    \b
    noria sandbox slurm                              a shell; `exit` ends it, and its jobs
    noria sandbox sge -- noria submit --on sge -- …  one command
    noria sandbox pbs --dir box -- qstat -f          a queue that stays

    The jobs really run, on this machine. Nothing is installed, and nothing needs root.
    """
    import os
    import shutil
    import sys
    import tempfile
    from pathlib import Path

    from noria import process, sandbox
    from noria.units import size

    mebibytes = -(-size(mem) // 2**20)
    place = Path(folder or tempfile.mkdtemp(prefix="noria-sandbox-")).absolute()
    env = os.environ | sandbox.open_(place, kind, nodes=nodes, cpus=cpus, mem=mebibytes, gpus=gpus)
    shell = os.environ.get("SHELL", "/bin/sh")
    if not words:
        click.echo(f"noria: {nodes} nodes of {cpus} CPUs and {gpus} GPUs; `exit` ends them. {sandbox.hint(kind)}", err=True)
    try:
        code = process.exit_code(process.within(list(words) or [shell], env=env))
    except OSError as error:
        click.echo(f"noria: {words[0] if words else shell} cannot be started: {error.strerror}.", err=True)
        code = 127
    finally:
        if folder is None:
            sandbox.end(place)
            shutil.rmtree(place, ignore_errors=True)
    sys.exit(code)
