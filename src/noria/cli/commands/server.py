"""noria server"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from noria.config import Settings


@click.group(invoke_without_command=True)
@click.option("--host", help="Address to listen on; 127.0.0.1 is this machine alone.", show_default="127.0.0.1")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.", show_default="a free one, the same every time")
@click.option("--home", help="Folder for all of the server's state, on a local disk.", show_default="~/.noria")
@click.option(
    "--db", metavar="URL", help="A PostgreSQL for the state, as postgresql://user@host/name.", show_default="SQLite in the home"
)
@click.option(
    "--artifacts",
    metavar="PLACE",
    help="Where artifacts are kept: a folder, or a URL such as s3://bucket/prefix.",
    show_default="in the home",
)
@click.option(
    "--durability",
    type=click.Choice(["power", "process"]),
    help="What an answer survives: a power cut, or just the death of the server (faster).",
    show_default="power",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that serve the address; more than one needs --db.", show_default="1"
)
@click.option("--no-auth", is_flag=True, help="Ask for no token: for a machine of one's own.")
@click.pass_context
def command(ctx: click.Context, /, no_auth: bool, **flags: object) -> None:
    """Serve tracking, registry and the web page.

    In the foreground, with an agent for this machine's jobs. Other commands start a server in the background when they need one, with the same settings; `noria server stop` ends it.

    \b
    noria server                                     SQLite, this machine alone
    noria server --host 0.0.0.0 --port 5000          for a team; each needs the token
    noria server --db postgresql://noria@db/noria --workers 4
    """
    from noria import config

    settings = config.load({**flags, "auth": False if no_auth else None})
    ctx.obj = settings
    if ctx.invoked_subcommand is None:
        from noria.cli.beside import beside
        from noria.server.run import serve

        serve(settings, lambda url, token: beside(url, token, settings.folder), lambda url: _announce(url, settings))


def _announce(url: str, settings: Settings) -> None:
    from noria.jobs.say import say  # A server whose log can take nothing serves all the same.

    say(f"serving at {url} from {settings.folder}; `noria ui` opens the page")
    if settings.durability == "process":
        say("what is answered survives the death of this process, and not a power cut")


@command.command()
@click.pass_obj
def stop(settings: Settings) -> None:
    """Stop the server of this home. Jobs go on without it."""
    from noria.server.run import stop

    url = stop(settings)
    click.echo(f"noria: stopped the server at {url}" if url else f"noria: no server runs for {settings.folder}", err=True)


@command.command()
@click.pass_obj
def check(settings: object) -> None:
    """Read all of this home's state, and say what is wrong with it.

    One line for each finding, and exit code 1 if there is any. A server may be at work meanwhile; nothing is changed.
    """
    import sys

    from noria.config import Settings
    from noria.server import home
    from noria.store.check import database_at, leftovers

    assert isinstance(settings, Settings)
    folder, count = settings.folder, 0
    who = home.holder(folder)
    parts = () if who is not None and who.here else leftovers(folder / "artifacts")
    for finding in (*database_at(settings.db or folder / "noria.db"), *parts):
        click.echo(finding)
        count += 1
    click.echo(f"noria: {count or 'no'} finding{'' if count == 1 else 's'} in {folder}", err=True)
    sys.exit(1 if count else 0)
