"""noria serve"""

from __future__ import annotations

import click


@click.command()
@click.argument("model_uri")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), show_default="a free one", help="Port to listen on.")
@click.option("--home", help="Home of the local server.", show_default="~/.noria")
@click.option("--no-auth", is_flag=True, help="Ask for no token: for a machine of one's own.")
@click.option(
    "--allow-pickle", is_flag=True, help="Load a model that may run code of its maker's, in a process without credentials."
)
def command(model_uri: str, host: str, port: int, home: str | None, no_auth: bool, allow_pickle: bool) -> None:
    """Serve a model over HTTP.

    In the foreground, with MLflow's scoring protocol at /invocations. MODEL_URI is models:/NAME/Production, models:/NAME/3, models:/NAME@alias, runs:/RUN/model or a folder. The address
    is printed on stdout once it answers. Requests carry the same token as those to the tracking server.
    """
    from noria import config
    from noria.cli.local import connect
    from noria.models.fetch import fetch
    from noria.serve.run import serve

    server = connect(config.load({"home": home}))
    serve(server, fetch(server, model_uri), host, port, click.echo, auth=not no_auth, allow_pickle=allow_pickle)
