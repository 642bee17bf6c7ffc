"""noria env"""

from __future__ import annotations

import sys
from shlex import quote

import click


@click.command()
def command() -> None:
    """Print the exports that mlflow scripts need.

    Use it as: eval "$(noria env)"
    """
    from noria.cli.local import connect

    if sys.stdout.isatty():
        click.echo('noria: to set these, run: eval "$(noria env)"', err=True)
    server = connect()
    for name, value in {
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_TOKEN": server.token,
        "NORIA_SERVER": server.url,
        "NORIA_TOKEN": server.token,
    }.items():
        click.echo(f"export {name}={quote(value)}")
