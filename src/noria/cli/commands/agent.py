"""noria agent"""

from __future__ import annotations

import click


@click.command()
@click.option("--server", help="URL of the server to work for.", show_default="the local one")
@click.option("--token", help="What the server asks for.", show_default="NORIA_TOKEN, or the local server's")
@click.option(
    "--cluster", default="", help="Take the jobs of this cluster alone: its name, as [profiles.NAME] in noria.toml has it."
)
@click.option("--user", help="Whose jobs to run, if the server knows you by another name.")
@click.option("--once", is_flag=True, help="Do what there is to do and exit, as cron wants it where a site ends what stays.")
@click.option("--home", help="Folder for jobs and spools, shared with the nodes.", show_default="~/.noria")
def command(server: str | None, token: str | None, cluster: str, user: str | None, once: bool, home: str | None) -> None:
    """Run this user's jobs for a server elsewhere.

    In the foreground: submits them, watches them, and relays what they say. A local server has an agent of its own; this one is for the login node of a cluster.
    """
    from noria import config
    from noria.agent.agent import Agent
    from noria.cli.local import connect
    from noria.errors import Conflict

    settings = config.load({"server": server, "token": token, "home": home})
    there = connect(settings)
    agent = Agent(there.url, there.token, settings.folder, user, cluster)
    click.echo(f"noria: agent of {agent.user} for {there.url}, with {', '.join(agent.takes)}", err=True)
    if once:
        if not agent.name:
            raise Conflict("Another agent works for this home.", "It does what there is to do; nothing is missing.")
        agent.once()
        return
    agent.run()
