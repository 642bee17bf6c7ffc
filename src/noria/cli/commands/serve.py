"""noria serve"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model_uri")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), show_default="a free one", help="Port to listen on.")
@click.option("--home", help="Home of the local server.", show_default="~/.noria")
@click.option("--no-auth", is_flag=True, help="Ask for no token: for a machine of one's own.")
@click.option(
    "--allow-pickle", is_flag=True, help="Load a model that may run code of its maker's, in a process without credentials."
)
@click.option("--log-predictions", is_flag=True, help="Write down what is answered; see noria predictions.")
@click.option("--log-inputs", is_flag=True, help="With --log-predictions: what was asked, too, and not its digest alone.")
@click.option(
    "--log-sample",
    default=1.0,
    type=click.FloatRange(0, 1, min_open=True),
    show_default=True,
    help="The share of requests that is logged.",
)
@click.option("--log-size", default="1G", show_default=True, help="Room for the log; the oldest go when there is more.")
def command(
    model_uri: str,
    host: str,
    port: int,
    home: str | None,
    no_auth: bool,
    allow_pickle: bool,
    log_predictions: bool,
    log_inputs: bool,
    log_sample: float,
    log_size: str,
) -> None:
    """Serve a model over HTTP.

    In the foreground, with MLflow's scoring protocol at /invocations. MODEL_URI is models:/NAME/Production, models:/NAME/3, models:/NAME@alias, runs:/RUN/model or a folder. The address
    is printed on stdout once it answers. Requests carry the same token as those to the tracking server.

    Of a stage or an alias it follows: when another version stands there, that one is loaded beside the old one and takes over without a failed request.
    """
    from noria import config, units
    from noria.cli.local import connect
    from noria.models.fetch import fetch
    from noria.serve.log import Keep
    from noria.serve.run import serve

    if not log_predictions and (log_inputs or log_sample != 1):
        raise click.UsageError("--log-inputs and --log-sample say how to log predictions; write --log-predictions as well.")
    settings = config.load({"home": home})
    log = Keep(settings.folder / "predictions", log_sample, log_inputs, units.size(log_size)) if log_predictions else None
    server = connect(settings)
    token = _of_server(server.token, settings.folder)
    serve(
        server,
        fetch(server, model_uri),
        host,
        port,
        click.echo,
        auth=not no_auth,
        allow_pickle=allow_pickle,
        log=log,
        token=token,
    )


def _of_server(shown: str, folder: Path) -> str:
    """The server's own token, where this process has that of a job: whoever is to ask this endpoint knows the other. "" if it is not at hand."""
    from noria.door import job_token

    job, dot, _ = shown.partition(".")
    try:
        own = (folder / "token").read_text().strip() if dot else ""
    except OSError:  # The home is not to be seen from this node.
        return ""
    return own if own and job_token(own, job) == shown else ""
