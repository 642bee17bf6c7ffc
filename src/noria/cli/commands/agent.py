"""noria agent"""

from __future__ import annotations

import click


@click.command()
@click.option("--server", help="URL of the server to work for.", show_default="the local one")
@click.option("--token", help="What the server asks for.", show_default="NORIA_TOKEN, or the local server's")
@click.option("--home", help="Folder for jobs and spools, shared with the nodes.", show_default="~/.noria")
def command(server: str | None, token: str | None, home: str | None) -> None:
    """Run this user's jobs for a server elsewhere.

    In the foreground: submits them, watches them, and relays what they say. A local server has an agent of its own; this one is for the login node of a cluster.
    """
    from noria import config
    from noria.agent.agent import Agent
    from noria.cli.local import connect

    settings = config.load({"server": server, "token": token, "home": home})
    there = connect(settings)
    agent = Agent(there.url, there.token, settings.folder)
    click.echo(f"noria: agent of {agent.user} for {there.url}, with {', '.join(agent.schedulers)}", err=True)
    agent.run()
