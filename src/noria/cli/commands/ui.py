"""noria ui"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server


@click.command()
@click.option("--host", help="Address to listen on, if the local server is not running yet.", show_default="127.0.0.1")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on, likewise.", show_default="the last one, or a free one"
)
@click.option("--home", help="Folder of the local server.", show_default="~/.noria")
@click.option("--open/--no-open", "wanted", default=None, help="Open a browser.", show_default="where there is a screen")
@json_option
def command(host: str | None, port: int | None, home: str | None, wanted: bool | None, as_json: bool) -> None:
    """Open the page: runs, curves, jobs and models.

    Finds the team's server (NORIA_SERVER), or starts the local one in the background, and prints the page's address, which carries the token. `noria server stop` ends the local server.
    """
    from noria import config
    from noria.cli import show
    from noria.cli.local import connect

    settings = config.load({"host": host, "port": port, "home": home})
    server = connect(settings)
    _check(server, host, port)
    address = f"{server.url}/#token={server.token}" if server.token else f"{server.url}/"
    if as_json:
        show.as_json({"url": address})
    else:
        click.echo(address)
    if wanted or (wanted is None and _has_screen()):
        _open(address)
    elif "SSH_CONNECTION" in os.environ and "//127.0.0.1:" in server.url:
        number, here = server.url.rpartition(":")[2], os.environ["SSH_CONNECTION"].split()[2]
        click.echo(f"noria: to see it on your own machine, run there: ssh -L {number}:127.0.0.1:{number} {here}", err=True)


def _check(server: Server, host: str | None, port: int | None) -> None:
    """Who asks for an address gets that one, or a sentence."""
    from urllib.parse import urlsplit

    from noria.errors import Conflict

    at = urlsplit(server.url)
    if (port and at.port != port) or (host and host not in ("0.0.0.0", "::", at.hostname)):  # noqa: S104 (compared, not bound)
        raise Conflict(
            f"The server answers at {server.url} already.", "Leave --host and --port out, or `noria server stop` it first."
        )


def _has_screen() -> bool:
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        click.echo("noria: no browser could be started here; open the address above", err=True)
