"""noria env"""

from __future__ import annotations

import sys
from shlex import quote

import click

from noria.cli.show import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Print the exports that mlflow scripts need.

    Use it as: eval "$(noria env)"
    """
    from noria.cli import show
    from noria.cli.local import connect

    server = connect()
    variables = {
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_TOKEN": server.token,
        "NORIA_SERVER": server.url,
        "NORIA_TOKEN": server.token,
    }
    if as_json:
        show.as_json(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={quote(value)}")
    if sys.stdout.isatty():
        click.echo('noria: to set these, run: eval "$(noria env)"', err=True)
