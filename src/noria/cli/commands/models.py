"""noria models"""

from __future__ import annotations

import sys

import click

from noria.cli.group import Group
from noria.cli.predict import predict
from noria.cli.show import json_option

_INSTEAD = {
    "serve": "noria serve models:/NAME/Production",
    "search": "noria models list",
    "create": "noria models register runs:/RUN/model NAME",
    "transition": "noria models promote NAME VERSION --to Staging",
}


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """The registry: models, their versions and stages."""


command.add_command(predict)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List registered models."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import registry

    found = connect().call(registry.SEARCH, registry.Search(max_results=1000)).registered_models
    if as_json:
        show.as_json({"models": found})
        return
    show.table(
        ("MODEL", "LATEST", "STAGES", "UPDATED"),
        [
            (model.name, max((v.version for v in model.latest_versions), key=int, default="-"),
             " ".join(f"{v.current_stage}={v.version}" for v in model.latest_versions if v.current_stage != "None"),
             show.ago(model.last_updated_timestamp))
            for model in found
        ],
        "No models yet: noria models register runs:/RUN/model NAME, or try noria demo.",
    )  # fmt: skip


@command.command()
@click.argument("name")
@click.argument("version", required=False)
@json_option
def show(name: str, version: str | None, as_json: bool) -> None:
    """Show a model's versions, newest first; or what one VERSION is: its flavor, size, signature and digest.

    VERSION is a number, a stage or @alias. Its files are fetched and looked at; nothing of the model is run.
    """
    from noria.cli import show
    from noria.cli.card import print_version
    from noria.cli.local import connect
    from noria.wire import registry

    server = connect()
    if version:
        print_version(server, name, version, as_json)
        return
    model = server.call(registry.GET, registry.Name(name)).registered_model
    quoted = name.replace("'", "\\'")
    search = registry.SearchVersions(f"name='{quoted}'", order_by=["version_number DESC"])
    versions = server.call(registry.SEARCH_VERSIONS, search).model_versions
    if as_json:
        show.as_json({"model": model, "versions": versions})
        return
    show.table(
        ("VERSION", "STAGE", "ALIASES", "RUN", "CREATED", "SOURCE"),
        [
            (v.version, v.current_stage, " ".join(v.aliases), v.run_id[:8], show.ago(v.creation_timestamp), v.source)
            for v in versions
        ],
        f"{name} has no versions yet.",
    )


@command.command()
@click.argument("model_uri")
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the version; repeat.")
@json_option
def register(model_uri: str, name: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Make a version of a run's model, and print its number.

    MODEL_URI is runs:/RUN/model, a RUN alone for its only model, or models:/m-… for a logged model. NAME is made if there is no such model.
    """
    from noria.cli import show
    from noria.cli.notebook import register_model

    made = register_model(model_uri, name, tags=dict(tag.partition("=")[::2] for tag in tags))
    if as_json:
        show.as_json(made)
    else:
        click.echo(made.version)
    click.echo(
        f"noria: {made.name} {made.version} is registered. Promote it with: noria models promote {made.name} {made.version}",
        err=True,
    )


@command.command()
@click.argument("name")
@click.argument("version")
@click.option("--to", "stage", default="Production", show_default=True, help="Stage: Staging, Production or Archived.")
@click.option(
    "--held-out", type=click.Path(exists=True, dir_okay=False), help="An .npz with arrays x and y: the gate compares on it."
)
@json_option
def promote(name: str, version: str, stage: str, held_out: str | None, as_json: bool) -> None:
    """Promote a version; with --held-out only if it is not worse than the version that stands there now.

    Exit code 3 says that the gate refused.
    """
    from noria.automation.promote import promote
    from noria.cli import show
    from noria.cli.local import connect

    verdict = promote(connect(), name, version, stage, held_out)
    if as_json:
        show.as_json(verdict)
    click.echo(f"noria: {verdict.sentence}", err=True)
    sys.exit(0 if verdict.passed else 3)
