"""noria demo"""

from __future__ import annotations

import click


@click.command()
@click.option("--home", help="Folder of the local server.", show_default="~/.noria")
def command(home: str | None) -> None:
    """Show the whole life of a model in a minute.

    All real and on this machine: trains a network on 5,000 handwritten digits with two processes, kills one of them on the way, searches for better
    parameters, promotes the best model through a gate, serves it, and asks it 1,000 digits that it has never seen.
    """
    from noria import config
    from noria.cli.demo import run

    run(config.load({"home": home}))
