"""noria agent"""

from __future__ import annotations

import click


@click.command()
@click.option("--server", help="URL of the server to work for.", show_default="the local one")
@click.option("--token", help="What the server asks for.", show_default="NORIA_TOKEN, or the local server's")
@click.option("--home", help="Folder for jobs and spools, shared with the nodes.", show_default="~/.noria")
def command(server: str | None, token: str | None, home: str | None) -> None:
    """Submit, watch and relay this user's jobs in the foreground, for a server elsewhere.

    A local server has an agent of its own; this one is for the login node of a cluster.
    """
    from noria import config
    from noria.agent.agent import Agent
    from noria.cli.local import connect

    settings = config.load({"server": server, "token": token, "home": home})
    there = connect(settings)
    agent = Agent(there.url, there.token, settings.folder)
    click.echo(f"noria: agent of {agent.user} for {there.url}, with {', '.join(agent.schedulers)}", err=True)
    agent.run()
