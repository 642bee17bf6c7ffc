"""Of `noria models`: copy, move and gc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import ModelVersion

_to_option = click.option(
    "--to",
    "url",
    metavar="SERVER_URL",
    help="Another server, or a registry of Databricks, which gets the files too.",
    show_default="this one",
)
_token_option = click.option(
    "--token", default="", envvar="NORIA_TO_TOKEN", metavar="TOKEN", help="The other server's token; better in NORIA_TO_TOKEN."
)


def _other(url: str | None, token: str) -> Server | None:
    from noria.client.http import Server

    return Server(url, token) if url else None


def _made(version: ModelVersion, what: str, as_json: bool) -> None:
    from noria.cli import show

    if as_json:
        show.as_json(version)
    else:
        click.echo(version.version)
    click.echo(f"noria: {what} is {version.name} {version.version} now.", err=True)


def _databricks(model_uri: str, name: str, url: str, as_json: bool) -> None:
    from noria.cli import show
    from noria.cli.local import connect
    from noria.databricks import names
    from noria.errors import Invalid
    from noria.models import databricks

    if names.is_ours(model_uri) and url:
        raise Invalid("Between two other places nothing is copied at once.", "Copy it here, and then from here.")
    server = connect()
    done, notes = (
        databricks.bring(server, model_uri, name) if names.is_ours(model_uri) else databricks.send(server, model_uri, name, url)
    )
    if as_json:
        show.as_json({"versions": done, "notes": notes})
    for each in done:
        if not as_json:
            click.echo(each.version)
        how = "was copied before: it is" if each.known else "is"
        click.echo(f"noria: {each.source} {how} {each.name} {each.version}{f' at {url}' if url else ''}", err=True)
    for note in notes:
        click.echo(f"noria: {note}", err=True)


@click.command()
@click.argument("model_uri")
@click.argument("name")
@_to_option
@_token_option
@json_option
def copy(model_uri: str, name: str, url: str | None, token: str, as_json: bool) -> None:
    """Make a version of NAME of another version, and print its number.

    MODEL_URI is models:/NAME/3, models:/NAME/Production or models:/NAME@alias. Tags and description come along; stage and aliases do
    not. With --to the files are sent to another server, read back and compared, before the version is made there.

    \b
    noria models copy models:/net-dev/7 net
    noria models copy models:/net/Production net --to https://noria.example.org
    noria models copy databricks://PROFILE/net/3 net              from the registry of a workspace of Databricks
    noria models copy models:/net main.ml.net --to databricks-uc://PROFILE

    From and to Databricks a model without a version means all of its versions, with stages and aliases as far as the other side has them, and what was copied before is not copied again.
    """
    from noria.cli.local import connect
    from noria.databricks import names

    if names.is_ours(model_uri) or names.is_ours(url or ""):
        _databricks(model_uri, name, url or "", as_json)
        return
    from noria.models.copy import copy

    _made(copy(connect(), model_uri, name, _other(url, token)), model_uri, as_json)


@click.command()
@click.argument("model_uri")
@click.argument("name")
@_to_option
@_token_option
@json_option
def move(model_uri: str, name: str, url: str | None, token: str, as_json: bool) -> None:
    """Copy a version, and delete the one that it was copied from.

    A version that stands in Staging or Production, has an alias or is served stays where it is. The files stay with the run that has
    them.
    """
    from noria.cli.local import connect
    from noria.models.copy import move

    _made(move(connect(), model_uri, name, _other(url, token)), model_uri, as_json)


@click.command()
@click.argument("name", required=False, default="")
@click.option("--keep", default=5, type=click.IntRange(0), show_default=True, help="Of each model, so many of the newest stay.")
@click.option(
    "--older-than", default="30d", show_default=True, metavar="TIME", help="Only what was not changed for so long: 12h, 30d."
)
@click.option("--stage", "stages", multiple=True, help="Only what stands there; repeat.", show_default="None and Archived")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def gc(name: str, keep: int, older_than: str, stages: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete old versions, of the model NAME or of all.

    What stands in Staging or Production, has an alias or is served never goes. Files go with a version only if no run and no other
    version has them. Each deletion is in the model's history.

    \b
    noria models gc --dry-run
    noria models gc net --keep 10 --older-than 90d --stage Archived
    """
    import time

    from noria import units
    from noria.automation.collect import Policy, collect
    from noria.cli import show
    from noria.cli.local import connect
    from noria.errors import Invalid
    from noria.wire.stages import stage_of

    wanted = tuple(stage_of(each) for each in stages) or ("None", "Archived")
    if busy := {"Staging", "Production"} & set(wanted):
        raise Invalid(f"What stands in {busy.pop()} is not collected.", "Archive it first.")
    policy = Policy(keep, int(time.time() * 1000) - units.seconds(older_than) * 1000, wanted)
    found = list(collect(connect(), policy, dry_run=dry_run, name=name))
    if as_json:
        show.as_json({"versions": found, "dry_run": dry_run})
        return
    rows = [(each.name, each.version, each.stage, "-" if each.kept else show.size(each.size), each.kept) for each in found]
    show.table(("MODEL", "VERSION", "STAGE", "FREES", "KEPT"), rows, "Nothing is old enough to go.")
    if found:
        gone = [each for each in found if not each.kept]
        said = f"{len(gone)} version{'s' * (len(gone) != 1)}, {show.size(sum(each.size for each in gone))} of files"
        click.echo(f"noria: {said} {'would go; nothing was changed.' if dry_run else 'are gone.'}", err=True)


COMMANDS = (copy, move, gc)
